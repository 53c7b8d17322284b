"""`jensen reconstruct` and `jensen denoise`: images through the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.conditions import Attributes, Label, Other, filled, own_told
from jensen.cli.deep import at_once, require_levels
from jensen.cli.denoised import image_files, print_comparison
from jensen.cli.document_words import document_lines, perplexity, usual_words, vocabulary_of
from jensen.cli.drawing import positive
from jensen.cli.inputs import (
    Scale,
    clean_data,
    conditioned,
    examples,
    own_condition,
    pieces,
    read,
    require_images,
    require_same,
)
from jensen.cli.models import coder, require_code
from jensen.cli.options import DataDirectory, Force, Output, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import claim, free, put, write_arrays, write_images, write_words
from jensen.cli.screen import say
from jensen.cli.table_inputs import columns_of, how_well, read_told, write_rows
from jensen.cli.words import right, symbols_of, texts
from jensen.config import Corruption
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import EncoderDecoder
    from jensen.training import Run

__all__ = ["denoise", "reconstruct", "through"]

Number = Annotated[
    int, Parameter(name=("--number", "-n"), converter=whole(1), metavar="INT", help="how many of the split")
]

Top = Annotated[
    int | None,
    Parameter(
        converter=whole(0),
        metavar="INT",
        help="hvae, ladder, nvae: keep so many of the top levels of the code only, to see what they carry",
    ),
]
Lower = Annotated[
    float | None,
    Parameter(
        converter=positive("temperature"),
        metavar="NUMBER",
        help="with --top: draw the levels below with this spread [default: the mean that the levels above expect]",
    ),
]


def through(
    model: EncoderDecoder,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    top: int | None = None,
    temperature: float = 0.0,
) -> Tensor:
    """Reconstructions of x, (B, *shape), in pieces, by a model that is told `condition`, (B, *condition_shape).

    `top` levels of a `DeepVAE` are kept (None: all), and those below drawn from their prior at this temperature.
    """
    import torch

    from jensen.autoencoders import DeepVAE

    own = {"top": top, "temperature": temperature} if isinstance(model, DeepVAE) else {}
    with torch.no_grad():
        return torch.cat(
            [model.reconstruct(part, condition=known, **own) for part, known in pieces(x, condition, at_once(model))]
        )


def reconstruct(
    run: RunPath,
    /,
    *files: Annotated[
        Path, Parameter(name="FILES", help="images (.png, .jpg), arrays (.npz, .npy), a table (.csv); none: the split")
    ],
    number: Number = 20,
    split: Annotated[SplitName, Parameter(help="which part of the data")] = "test",
    top: Top = None,
    temperature: Lower = None,
    seed: Seed = 0,
    label: Label = None,
    attributes: Attributes = None,
    other: Other = None,
    output: Output = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Encode images, decode them again, and show both beside each other.

    With --top, what the top levels of several carry: those below are taken
    from what the model expects given them, or drawn.

    jensen reconstruct runs/digits-vae
    jensen reconstruct runs/digits-ladder --top 2
    jensen reconstruct runs/mnist-vae mine.png -o mine-again.png
    jensen reconstruct runs/mnist-conditional three.png --label 3
    """
    import torch

    from jensen.metrics.image_quality import psnr
    from jensen.plots import reconstructions, save, table_reconstructions
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "reconstruct")
    require_same(opened, "reconstruct")
    _require_top(opened, top, temperature)
    image, symbols, vocabulary = len(opened.facts.shape) == 3, symbols_of(opened), vocabulary_of(opened)
    path = _claimed(opened, output, force)
    scale = Scale.of(opened, data_directory)
    if files:
        inputs = read_told(opened, files, scale, label, attributes, other)
    else:
        own_condition("reconstruct", label, attributes, other)
        inputs = examples(opened, split, _first(opened, number, split, data_directory), data_directory)
    model = coder(opened, "reconstruct")
    torch.manual_seed(seed)  # where what is decoded is a draw
    made = through(model, inputs.values, inputs.condition, top=top, temperature=temperature or 0.0)
    made = filled(opened, made, inputs.condition)
    columns = columns_of(opened)
    if columns:
        quality = how_well(columns, inputs.values, made)
    elif vocabulary:
        quality = f"perplexity {perplexity(inputs.values, made):,.0f} of words that were seen"
    elif symbols:
        quality = f"{right(inputs.values, made, symbols):.2%} of the symbols as they were"
    else:
        error = (inputs.values - made).square().mean().item()
        quality = (f"PSNR {psnr(inputs.values, made):.2f} dB, " if image else "") + f"mean squared error {error:.5f}"
    if path is None or path.suffix == ".txt":
        names = [name for each in inputs.names for name in (each, f"{each}, restored")]
        pairs = torch.stack([inputs.values, made], 1).flatten(0, 1)
        if vocabulary:
            text = document_lines(pairs, vocabulary, usual_words(opened, inputs.condition, seed), names)
        else:
            text = texts(pairs, symbols, names)
        say(text) if path is None else write_words(path, text)
    elif path.suffix == ".npz":
        originals, copies = scale.to_own(inputs.values), scale.to_own(made)
        write_arrays(path, {"originals": originals.numpy(), "reconstructions": copies.numpy()})
    elif path.suffix == ".csv":
        write_rows(path, columns, scale.to_own(made))
    elif columns:
        own = scale.to_own(inputs.values), scale.to_own(made)
        names, categories = [column.name for column in columns], [column.categories for column in columns]
        figure = table_reconstructions(*own, names, unit="", categories=categories)
        put(path, lambda temporary: save(figure, temporary))
    else:
        figure = (reconstructions if image else table_reconstructions)(inputs.values, made)
        put(path, lambda temporary: save(figure, temporary))
    say(f"{len(made)} reconstructions, {quality}" + ("" if path is None else f": {path}"))


def _require_top(run: Run, top: int | None, temperature: float | None) -> None:
    """Raise `JensenError` unless the run's model has the levels that are to be kept."""
    if top is None:
        if temperature is not None:
            raise JensenError("--temperature is about the levels that --top leaves away: give that too")
        return
    levels = require_levels(run, "--top")
    if top > levels:
        raise JensenError(f"--top {top}: {run.path} has {levels} level{'s' * (levels > 1)}")


def _claimed(run: Run, output: Path | None, force: bool) -> Path | None:
    """Where to write; None: text, on the screen."""
    if symbols_of(run) or vocabulary_of(run):
        return None if output is None else claim(output, output, (".txt", ".npz"), force)
    drawn = len(run.facts.shape) != 2
    suffixes = (".png", ".npz") if drawn else (".npz",)
    suffixes = (*suffixes, ".csv") if columns_of(run) else suffixes
    return claim(output, run.path / "figures" / f"reconstructions{suffixes[0]}", suffixes, force)


def denoise(
    run: RunPath,
    /,
    *files: Annotated[
        Path,
        Parameter(
            name="FILES", help="noisy images, or folders of them; none: images of the test split, corrupted here"
        ),
    ],
    output: Annotated[
        Path | None,
        Parameter(
            name=("--output", "-o"), metavar="PATH", help="with FILES a folder for the clean images, else a picture"
        ),
    ] = None,
    number: Number = 20,
    corruption: Annotated[
        Corruption | None, Parameter(help="how to corrupt test images, if not as the run was trained")
    ] = None,
    strength: Annotated[
        float | None,
        Parameter(
            converter=positive("strength", 1.0),
            metavar="NUMBER",
            help="standard deviation (of a blur in units of 4 pixels), or share of values hit, if not as trained",
        ),
    ] = None,
    seed: Seed = 0,
    label: Label = None,
    attributes: Attributes = None,
    other: Other = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Clean noisy images.

    Without files: corrupt test images and show what the model makes of them,
    with PSNR and SSIM on the clean images beside those of a median filter and
    non-local means, whose settings are chosen on validation images.
    The run should have been trained for it: jensen train --corruption gaussian

    jensen denoise runs/digits-vae
    jensen denoise runs/digits-vae --corruption blur --strength 0.2
    jensen denoise runs/mnist-vae noisy -o clean
    """
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "denoise")
    require_same(opened, "denoise")
    require_images(opened, "nothing to denoise here")
    if files:
        folder = free(run / "denoised") if output is None else output
        given = read(image_files(files), opened.facts.shape, Scale.of(opened, data_directory))
        inputs = conditioned(opened, given, label, attributes, other)
        write_images(folder, through(coder(opened, "denoise"), inputs.values, inputs.condition), inputs.names, force)
        say(f"{len(inputs.names)} images: {folder}")
        return
    own_condition("denoise", label, attributes, other)
    trained = opened.config.data
    kind = corruption or trained.corruption
    if kind == "none":
        raise JensenError(
            f"{run} was not trained to denoise: train with --corruption, or say here how to corrupt the images, "
            "e.g. --corruption gaussian"
        )
    path = claim(output, run / "figures" / "denoised.png", (".png",), force)
    amount = trained.corruption_strength if strength is None else strength
    changes = {"corruption": kind, "corruption_strength": amount}
    _before_and_after(opened, path, number, seed, data_directory, changes)


def _before_and_after(
    run: Run, path: Path, number: int, seed: int, directory: Path | None, changes: Mapping[str, object]
) -> None:
    import torch

    from jensen.plots import reconstructions, save

    torch.manual_seed(seed)
    data = clean_data(run, directory, **changes)
    batch = data.test.batch(torch.arange(min(number, len(data.test))))
    made = through(coder(run, "denoise"), batch.x, None if own_told(run) is None else batch.condition)
    figure = reconstructions(batch.target, made, corrupted=batch.x)
    put(path, lambda temporary: save(figure, temporary))
    say(f"{len(made)} test images, corruption {changes['corruption']} {changes['corruption_strength']}: {path}")
    print_comparison(batch, made, data.valid, run.config.model.kind)


def _first(run: Run, number: int, split: str, directory: Path | None) -> range:
    return range(min(number, len(getattr(clean_data(run, directory), split))))
