"""`jensen data`: the data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from jensen.cli.inspect import inspect
from jensen.cli.options import DataDirectory, Force, whole
from jensen.cli.outputs import claim, put
from jensen.cli.screen import say, table
from jensen.errors import JensenError

__all__ = ["app"]

Name = Annotated[str, Parameter(name="NAME", help="data set, e.g. digits")]

app = App(
    name="data",
    help="The data sets: list, show, fetch; your own data: inspect.",
    usage="Usage: jensen data COMMAND ...",
    group_commands=Group("Commands", sort_key=1),
    group_parameters=Group("Options", sort_key=50),
)
app.command(inspect)


@app.command(name="list")
def list_() -> None:
    """What there is: shape, numbers of examples, where it comes from.

    jensen data list
    """
    from jensen.data import list_datasets

    rows = []
    for info in list_datasets():
        shape = " x ".join(str(size) for size in info.shape)
        origin = f"{info.origin}, {info.megabytes:.1f} MB" if info.megabytes else info.origin
        sizes = (f"{size:,}" for size in info.sizes)
        rows.append((info.name, shape, *sizes, origin, info.description))
    table(rows, ("name", "shape", "train", "valid", "test", "origin", ""))


@app.command
def show(
    name: Name,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), metavar="FILE", help="draw a contact sheet there, .png")
    ] = None,
    number: Annotated[
        int, Parameter(name=("--number", "-n"), converter=whole(1), metavar="INT", help="images on the sheet")
    ] = 100,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """A data set's facts, and a contact sheet of its first training images.

    jensen data show digits -o digits.png
    """
    from jensen.data import load_data

    path = None if output is None else claim(output, output, (".png",), force)
    data = load_data(name, transform="none", directory=data_directory)
    if path is not None and len(data.shape) != 3:
        raise JensenError(f"{name} is a {data.dataset.kind}, no image; there is no picture of it")
    if path is not None:
        import torch

        from jensen.plots import image_grid, save

        images = data.train.batch(torch.arange(min(number, len(data.train)))).x
        put(path, lambda temporary: save(image_grid(images, title=name), temporary))
        say(f"contact sheet: {path}")
    table(data.describe())


@app.command
def fetch(name: Name, /) -> None:
    """Download a data set, check it, and keep it for later; says where it is.

    jensen data fetch mnist
    """
    from jensen.data import fetch as download

    files = download(name)
    say("\n".join(str(file) for file in files) if files else f"{name} needs no download")
