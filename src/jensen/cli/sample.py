"""`jensen sample` and `jensen interpolate`: new images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jensen.cli.inputs import Inputs, Scale, examples, read, require_images, require_same
from jensen.cli.options import DataDirectory, Force, Output, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import claim, put, write_arrays
from jensen.cli.screen import say
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["interpolate", "sample"]


AT_ONCE = 500
"""Samples decoded together: bounds memory, however many are asked for."""


def sample(
    run: RunPath,
    /,
    *,
    number: Annotated[int, Parameter(name=("--number", "-n"), converter=whole(1), metavar="INT", help="how many")] = 64,
    temperature: Annotated[
        float, Parameter(metavar="NUMBER", help="spread of the codes; below 1 more typical and less varied")
    ] = 1.0,
    seed: Seed = 0,
    output: Output = None,
    force: Force = False,
) -> None:
    """Draw codes from the prior and decode them: data that never were.

    A .png shows images in a grid; a .npz holds images, or rows of a table in
    its own units, as an array.

    jensen sample runs/digits-vae
    jensen sample runs/digits-vae -n 1000 --temperature 0.8 -o new.npz
    """
    import torch

    from jensen.plots import image_grid, save
    from jensen.training import Run

    opened = Run.open(run)
    suffix = ".png" if len(opened.facts.target_shape) == 3 else ".npz"
    path = claim(output, run / "figures" / f"samples{suffix}", (".png", ".npz"), force)
    if path.suffix == ".png":
        require_images(opened, "no picture of samples; write .npz")
    model = opened.model()
    torch.manual_seed(seed)
    try:
        with torch.no_grad():
            sizes = [min(AT_ONCE, number - done) for done in range(0, number, AT_ONCE)]
            values = torch.cat([model.sample(size, temperature) for size in sizes])
    except (TypeError, ValueError) as error:
        raise JensenError(str(error)) from None
    if path.suffix == ".png":
        put(path, lambda temporary: save(image_grid(values), temporary))
    else:
        own = values if opened.config.data.target is not None else Scale.of(opened).to_own(values)
        write_arrays(path, {"images" if values.ndim == 4 else "values": own.numpy()})
    say(f"{number} samples: {path}")


def interpolate(
    run: RunPath,
    start: Annotated[str, Parameter(name="I", help="where to start: a place in the split, or an image file")],
    end: Annotated[str, Parameter(name="J", help="where to end")],
    /,
    *,
    steps: Annotated[int, Parameter(converter=whole(2), metavar="INT", help="images on the way, ends included")] = 9,
    path: Annotated[
        Literal["linear", "spherical"],
        Parameter(help="spherical keeps the length of the code, which a straight line shortens in the middle"),
    ] = "linear",
    split: Annotated[SplitName, Parameter(help="which part of the data I and J count in")] = "test",
    output: Output = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Walk from the code of one image to that of another, decoding on the way.

    jensen interpolate runs/digits-vae 0 1
    jensen interpolate runs/digits-vae a.png b.png --path spherical -o walk.png
    """
    import torch

    from jensen.plots import save, walk
    from jensen.training import Run

    opened = Run.open(run)
    require_same(opened, "interpolate")
    target = claim(output, run / "figures" / f"walk-{Path(start).stem}-{Path(end).stem}.png", (".png",), force)
    require_images(opened, "no walk to draw")
    first, last = (_one(opened, place, split, data_directory) for place in (start, end))
    with torch.no_grad():
        images = opened.model().interpolate(first, last, steps, path)
    names = [f"{split} example {place}" if place.isdigit() else Path(place).name for place in (start, end)]
    title = f"From {names[0]} to {names[1]}, {path}"
    put(target, lambda temporary: save(walk(images, (first, last), title=title), temporary))
    say(f"{steps} steps from {names[0]} to {names[1]}: {target}")


def _one(run: Run, place: str, split: str, directory: Path | None) -> Tensor:
    inputs: Inputs
    if place.isdigit():
        inputs = examples(run, split, [int(place)], directory)
    elif not Path(place).suffix:
        raise JensenError(f"{place!r} is neither a place in the split (0, 1, ...) nor an image file")
    else:
        inputs = read([Path(place)], run.facts.shape)
        if len(inputs.values) != 1:
            raise JensenError(f"{place} holds {len(inputs.values)} images; a walk needs one at each end")
    return inputs.values[0]
