"""`jensen inpaint`: the hidden part of images, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.drawing import say_if_uniform
from jensen.cli.inputs import Inputs, Scale, clean_data, conditioned, examples, read, require_images
from jensen.cli.models import load_model
from jensen.cli.options import DataDirectory, Force, Output, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import claim, put, write_arrays
from jensen.cli.sample import Temperature
from jensen.cli.screen import say
from jensen.errors import JensenError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["inpaint"]


Files = Annotated[
    Path,
    Parameter(name="FILES", help="whole images (.png, .jpg, .npz, .npy), of which a part is hidden; none: the split"),
]
Number = Annotated[
    int, Parameter(name=("--number", "-n"), converter=whole(1), metavar="INT", help="how many images of the split")
]
Samples = Annotated[int, Parameter(converter=whole(1), metavar="INT", help="different ways to fill in each image")]


def inpaint(
    run: RunPath,
    /,
    *files: Files,
    number: Number = 8,
    samples: Samples = 6,
    split: Annotated[SplitName, Parameter(help="which part of the data")] = "test",
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    output: Output = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Fill in the hidden part of images, several times each.

    The run should be conditioned on a visible part:
    jensen train --data mnist --condition upper-half --prior learned

    A .png shows what was visible, the samples and the truth; pixels that were
    visible are shown as they were. A .npz holds them as arrays.

    jensen inpaint runs/mnist-upper-half
    jensen inpaint runs/mnist-upper-half mine.png --samples 10 -o filled.png
    """
    import torch

    from jensen.plots import inpainting, save
    from jensen.report.generate import fill_in
    from jensen.training import Run

    opened = Run.open(run)
    _require_part(opened)
    path = claim(output, run / "figures" / "inpainted.png", (".png", ".npz"), force)
    if path.suffix == ".png":
        require_images(opened, "no picture of them; write .npz")
    inputs = _inputs(opened, files, number, split, data_directory)
    assert inputs.condition is not None
    model = load_model(opened)
    say_if_uniform(opened, model)
    torch.manual_seed(seed)
    try:
        filled = fill_in(model, inputs.condition, samples, temperature)
    except (TypeError, ValueError) as error:
        raise JensenError(str(error)) from None
    if path.suffix == ".npz":
        arrays = {"visible": inputs.condition, "samples": filled, "truth": inputs.values}
        write_arrays(path, {name: values.numpy() for name, values in arrays.items()})
    else:
        figure = inpainting(inputs.condition, filled, inputs.values, title="The hidden part, filled in (means)")
        put(path, lambda temporary: save(figure, temporary))
    say(f"{len(inputs.values)} images, each filled in {samples} times: {path}")


def _require_part(run: Run) -> None:
    """Raise `JensenError` unless the run's model is told a visible part of an image."""
    if run.told != "part":
        said = run.config.data.condition
        what = "on nothing" if said is None else f"on {said}, no visible part of an image"
        raise JensenError(
            f"{run.path} is conditioned {what}, so it has no hidden part to fill in; train one with e.g. "
            "--condition upper-half"
        )


def _inputs(run: Run, files: Sequence[Path], number: int, split: str, directory: Path | None) -> Inputs:
    if files:
        return conditioned(run, read(files, run.facts.shape, Scale.of(run)))
    whole_split = len(getattr(clean_data(run, directory), split))
    return examples(run, split, range(min(number, whole_split)), directory)
