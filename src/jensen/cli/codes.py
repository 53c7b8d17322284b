"""`jensen encode` and `jensen decode`: compression by the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jensen.cli.beside import kept, told_before
from jensen.cli.conditions import Attributes, Label, Other, condition_for, filled
from jensen.cli.deep import as_levels, at_once, chosen_levels, completed, from_levels
from jensen.cli.inputs import (
    IMAGES,
    Scale,
    conditioned,
    examples,
    load_npz,
    own_condition,
    pieces,
    read,
    require_images,
)
from jensen.cli.integers import as_arrays, bits_under_prior, from_arrays, size_rows
from jensen.cli.models import coder, load_model, require_code
from jensen.cli.options import DataDirectory, Force, RunPath, SplitName
from jensen.cli.outputs import claim, psnr, write_arrays, write_images, write_words
from jensen.cli.screen import hint, say, table
from jensen.cli.words import right, symbols_of, texts
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import DeepVAE, EncoderDecoder
    from jensen.training import Run

__all__ = ["decode", "encode"]

MOST_SHAPES = 6
"""Of arrays, told one by one."""


def encode(
    run: RunPath,
    /,
    *files: Annotated[Path, Parameter(name="FILES", help="images (.png, .jpg) or arrays (.npz, .npy)")],
    output: Annotated[Path, Parameter(name=("--output", "-o"), metavar="FILE", help="where to write the codes, .npz")],
    split: Annotated[SplitName | None, Parameter(help="encode this part of the run's data instead of files")] = None,
    half: Annotated[
        bool, Parameter(negative="", help="16 bits a number instead of 32; not for codes that are integers")
    ] = False,
    levels: Annotated[
        list[str] | None,
        Parameter(
            metavar="INT",
            negative="",
            consume_multiple=False,
            help="hvae, ladder, nvae: keep these levels only, 1 nearest the data, with commas [default: all]",
        ),
    ] = None,
    label: Label = None,
    attributes: Attributes = None,
    other: Other = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Compress images to their codes; prints what it saves and what it costs.

    Where the model is conditioned, what it was told is kept beside the codes
    (decoding needs it), and counted in the ratio. An unknown label is guessed.

    Codes of a vqvae are integers on a grid, (images, rows, columns), of the
    smallest type that holds them; of two levels codes_top and codes_bottom.

    Models with several levels of latents write an array each, level_1 nearest
    the data; with --levels some of them. What is decoded of the top ones alone
    has what the model expects below.

    jensen encode runs/digits-vae --split test -o codes.npz
    jensen encode runs/digits-ladder --split test --levels 4,5 -o top.npz
    jensen encode runs/mnist-vae a.png b.png -o codes.npz --half
    jensen encode runs/mnist-vqvae --split test -o codes.npz
    """
    import torch

    from jensen.autoencoders import VQVAE, DeepVAE, EncoderDecoder
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "encode")
    kept_levels = None if levels is None else chosen_levels(opened, levels)
    if bool(files) == (split is not None):
        raise JensenError("encode: give either files or --split, e.g. --split test")
    path = claim(output, output, (".npz",), force)
    if half and opened.config.model.kind == "vqvae":
        raise JensenError(f"--half is for codes of real numbers; those of {run} are integers: leave it away")
    scale = Scale.of(opened, data_directory)
    if split:
        own_condition("encode", label, attributes, other)
        inputs = examples(opened, split, None, data_directory)
    else:
        inputs = conditioned(opened, read(files, opened.facts.shape, scale), label, attributes, other)
    model = load_model(opened)
    assert isinstance(model, EncoderDecoder)
    torch.manual_seed(0)  # where what is decoded is a draw
    told_each = _with_guesses(model, inputs.values, inputs.condition)
    codes = _encoded(model, inputs.values, told_each)
    if isinstance(model, VQVAE):
        arrays = as_arrays(model, codes)
    elif isinstance(model, DeepVAE):
        parts = as_levels(model, codes, kept_levels)
        arrays = {name: _narrow(part, half) for name, part in parts.items()}
    else:
        arrays = {"codes": _narrow(codes, half)}
    beside = {} if told_each is None else kept(opened, told_each)
    write_arrays(path, {**arrays, **beside, **_named(files, inputs.names)})
    say(f"{len(codes)} codes: {path}")
    rows = _sizes(_bytes(opened, inputs.values), inputs.values, arrays, beside, path)
    if isinstance(model, VQVAE):
        rows += size_rows(opened, model, bits_under_prior(model, codes, inputs.of_prior))
        stored: Tensor | None = codes
    elif isinstance(model, DeepVAE):
        stored = _from_top(model, arrays, told_each)
    else:
        stored = torch.from_numpy(arrays["codes"]).float()
    if opened.config.data.target is None and stored is not None:
        restored = filled(opened, _decoded(model, stored, told_each), told_each)
        rows.append(_quality(opened, inputs.values, restored))
    table(rows)


def decode(
    run: RunPath,
    codes: Annotated[Path, Parameter(name="CODES", help="the .npz file that `jensen encode` wrote")],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            metavar="PATH",
            help="a .npz file, a folder for one .png an image, or .txt for text",
        ),
    ],
    label: Label = None,
    attributes: Attributes = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Restore images from their codes.

    A conditional model is told what the file keeps beside the codes, or what
    is said here: with another label, the same code in another class.

    jensen decode runs/digits-vae codes.npz -o restored
    jensen decode runs/digits-vae codes.npz -o restored.npz
    """
    import torch

    from jensen.autoencoders import VQVAE, DeepVAE
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "decode")
    symbols = symbols_of(opened)
    files = (".txt", ".npz") if symbols else (".npz",)
    folder = output.suffix.lower() not in files
    if output.suffix.lower() in IMAGES:
        raise JensenError(f"--output {output}: give a folder for one .png an image, or a .npz file")
    if folder:
        require_images(opened, f"no PNG files; write {' or '.join(files)}")
    else:
        claim(output, output, files, force)
    model = coder(opened, "decode")
    arrays = load_npz(codes)
    parts = from_levels(model, arrays, codes, run) if isinstance(model, DeepVAE) else []
    if isinstance(model, VQVAE):
        stored = from_arrays(model, arrays, codes, run)
    else:
        stored = parts[0] if parts else _codes(opened, arrays, codes)
    names = _names(arrays, len(stored))
    if label is not None or attributes is not None:
        condition = condition_for(opened, label, attributes, len(stored))
    else:
        condition = told_before(opened, arrays, codes, len(stored))
    if isinstance(model, DeepVAE):
        stored = completed(model, parts, condition)
        if len(parts) < len(model.level_shapes):
            hint(_expected(len(model.level_shapes) - len(parts), codes))
    torch.manual_seed(0)  # where what is decoded is a draw
    values = filled(opened, _decoded(model, stored, condition), condition)
    if folder:
        write_images(output, values, names, force)
    elif output.suffix.lower() == ".txt":
        write_words(output, texts(values, symbols, names))
    else:
        own = values if opened.config.data.target is not None else Scale.of(opened, data_directory).to_own(values)
        write_arrays(output, {"images" if values.ndim == 4 else "values": own.numpy(), "names": names})
    say(f"{len(values)} decoded: {output}")


def _with_guesses(model: EncoderDecoder, values: Tensor, condition: Tensor | None) -> Tensor | None:
    """The condition, an unknown label replaced by the likeliest class: without one a code would not say which it is."""
    import torch

    from jensen.autoencoders.semi_supervised import SemiSupervisedVAE

    if condition is None or not isinstance(model, SemiSupervisedVAE):
        return condition
    with torch.no_grad():
        likeliest = torch.cat([model.classify(x).argmax(-1) for x, _ in pieces(values, None)])
    guesses = torch.nn.functional.one_hot(likeliest, condition.shape[1]).to(condition.dtype)
    return torch.where(condition.any(1, keepdim=True), condition, guesses)


def _encoded(model: EncoderDecoder, values: Tensor, condition: Tensor | None) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.cat([model.encode(x, condition=known) for x, known in pieces(values, condition, at_once(model))])


def _decoded(model: EncoderDecoder, codes: Tensor, condition: Tensor | None) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.cat(
            [model.decode(part, condition=known) for part, known in pieces(codes, condition, at_once(model))]
        )


def _from_top(model: DeepVAE, arrays: Mapping[str, Any], condition: Tensor | None) -> Tensor | None:
    """What decoding makes of the levels that were kept, (B, latent); None where one is missing above another."""
    import torch

    count = len(model.level_shapes)
    kept_levels = [level for level in range(count, 0, -1) if f"level_{level}" in arrays]
    if kept_levels != list(range(count, count - len(kept_levels), -1)):
        return None
    return completed(model, [torch.from_numpy(arrays[f"level_{i}"]).float() for i in kept_levels], condition)


def _expected(missing: int, path: Path) -> str:
    which = "level 1 is" if missing == 1 else f"levels 1 to {missing} are"
    return f"{path} holds the top levels only: {which} what the model expects given them (the mean of their prior)"


def _narrow(codes: Tensor, half: bool) -> Any:
    """Codes as an array of 32 or 16 bits a number."""
    import torch

    stored = codes.half() if half else codes.float()
    if not torch.isfinite(stored).all():
        raise JensenError("the codes do not fit 16 bits; leave --half away")
    return stored.numpy()


def _codes(run: Run, arrays: Mapping[str, Any], path: Path) -> Tensor:
    """Codes of real numbers, (B, latent) float32."""
    import torch

    codes: Any = arrays.get("codes")
    if codes is None or codes.ndim < 2 or codes.dtype.kind not in "fiu" or len(codes) == 0:
        raise DataError(f"{path} holds no codes (an array 'codes', a row an image); `jensen encode` writes such files")
    if codes.dtype.kind in "iu":
        raise DataError(f"{path} holds integers, but the codes of {run.path} are real numbers: from another run?")
    latent = run.config.model.latent
    if codes.shape[1:] != (latent,):
        size = " x ".join(map(str, codes.shape[1:]))
        raise DataError(f"{path} holds codes of {size} numbers, {run.path} has {latent}: from another run?")
    tensor = torch.from_numpy(codes.astype("float32"))
    if not torch.isfinite(tensor).all():
        raise DataError(f"{path} has codes that are not finite")
    return tensor


def _names(arrays: Mapping[str, Any], count: int) -> list[str]:
    """A name for each of so many codes, one that a file can have."""
    import numpy as np

    stored = arrays.get("names", np.array([], "S"))
    names = (
        [name.decode("utf-8", "replace") for name in stored.tolist()]
        if stored.dtype.kind == "S" and stored.ndim == 1
        else []
    )
    safe = len(set(names)) == count and all(name and Path(name).name == name for name in names)
    return names if safe else [f"{place:05d}" for place in range(count)]


def _named(files: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    """Names of image files, to be given back by `decode`; nothing for arrays, whose rows go by their place."""
    import numpy as np

    images = bool(files) and all(path.suffix.lower() in IMAGES for path in files)
    return {"names": np.array([name.encode("utf-8") for name in names])} if images else {}


def _bytes(run: Run, values: Tensor) -> int:
    """Bytes that a value is usually kept in: one of a pixel, as few as its levels take of a signal, else four."""
    if values.ndim == 4:
        return 1
    levels = run.own_facts.levels if values.ndim == 3 and run.config.data.target is None else None
    return 4 if levels is None else 1 if levels <= 256 else 2


def _sizes(
    width: int, values: Tensor, arrays: Mapping[str, Any], beside: Mapping[str, Any], path: Path
) -> list[tuple[str, str, str]]:
    """Bytes in and out; `width`: bytes a value of what goes in."""
    before, after = values.numel() * width, sum(array.nbytes for array in arrays.values())
    shape = " x ".join(str(size) for size in values.shape[1:])
    each = " and ".join(" x ".join(str(size) for size in array.shape[1:]) for array in arrays.values())
    if len(arrays) > MOST_SHAPES:
        each = f"{sum(math.prod(array.shape[1:]) for array in arrays.values()):,} numbers in {len(arrays)} levels"
    (first, *_) = arrays.values()
    unit = "code" if first.dtype.kind in "iu" else "number"
    rows = [
        ("in", f"{before:,} bytes", f"{len(values)} of {shape}, {8 * width} bits a value"),
        ("out", f"{after:,} bytes", f"{len(values)} of {each}, {8 * first.itemsize} bits a {unit}"),
    ]
    size = ("file", f"{path.stat().st_size:,} bytes", "with its header")
    if not beside:
        return [*rows, size, ("ratio", f"{before / after:.2f}", "in / out")]
    more = sum(array.nbytes for array in beside.values())
    return [
        *rows,
        ("condition", f"{more:,} bytes", "what the model was told (or guessed), which decoding needs"),
        size,
        ("ratio", f"{before / (after + more):.2f}", "in / (out + condition)"),
        ("codes alone", f"{before / after:.2f}", "in / out, for whoever has the condition already"),
    ]


def _quality(run: Run, values: Tensor, restored: Tensor) -> tuple[str, str, str]:
    if symbols := symbols_of(run):
        return "right", f"{right(values, restored, symbols):.2%}", "of the symbols are restored as they were"
    if values.ndim == 4 or run.own_facts.levels is not None:
        return (
            "PSNR",
            f"{psnr(values, restored):.2f} dB",
            f"of the restored {'images' if values.ndim == 4 else 'signals'}",
        )
    error = math.sqrt((values - restored).square().mean().item())
    return "error", f"{error:.4f}", "root mean square, in standard deviations of the training data"
