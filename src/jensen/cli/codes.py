"""`jensen encode` and `jensen decode`: compression by the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jensen.cli.beside import kept, told_before
from jensen.cli.conditions import Attributes, Label, Other, condition_for, filled
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
from jensen.cli.options import DataDirectory, Force, RunPath, SplitName
from jensen.cli.outputs import claim, psnr, write_arrays, write_images
from jensen.cli.screen import say, table
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import EncoderDecoder

__all__ = ["decode", "encode"]


def encode(
    run: RunPath,
    /,
    *files: Annotated[Path, Parameter(name="FILES", help="images (.png, .jpg) or arrays (.npz, .npy)")],
    output: Annotated[Path, Parameter(name=("--output", "-o"), metavar="FILE", help="where to write the codes, .npz")],
    split: Annotated[SplitName | None, Parameter(help="encode this part of the run's data instead of files")] = None,
    half: Annotated[bool, Parameter(negative="", help="16 bits a number instead of 32")] = False,
    label: Label = None,
    attributes: Attributes = None,
    other: Other = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Compress images to their codes; prints what it saves and what it costs.

    Where the model is conditioned, what it was told is kept beside the codes
    (decoding needs it), and counted in the ratio. An unknown label is guessed.

    jensen encode runs/digits-vae --split test -o codes.npz
    jensen encode runs/mnist-vae a.png b.png -o codes.npz --half
    """
    import torch

    from jensen.training import Run

    if bool(files) == (split is not None):
        raise JensenError("encode: give either files or --split, e.g. --split test")
    opened = Run.open(run)
    path = claim(output, output, (".npz",), force)
    scale = Scale.of(opened, data_directory)
    if split:
        own_condition("encode", label, attributes, other)
        inputs = examples(opened, split, None, data_directory)
    else:
        inputs = conditioned(opened, read(files, opened.facts.shape, scale), label, attributes, other)
    model = opened.model()
    told_each = _with_guesses(model, inputs.values, inputs.condition)
    with torch.no_grad():
        codes = torch.cat([model.encode(x, condition=known) for x, known in pieces(inputs.values, told_each)])
    stored = codes.half() if half else codes.float()
    if not torch.isfinite(stored).all():
        raise JensenError("the codes do not fit 16 bits; leave --half away")
    beside = {} if told_each is None else kept(opened, told_each)
    write_arrays(path, {"codes": stored.numpy(), **beside, **_named(files, inputs.names)})
    say(f"{len(codes)} codes: {path}")
    rows = _sizes(inputs.values, stored, beside, path)
    if opened.config.data.target is None:
        restored = filled(opened, _decoded(model, stored.float(), told_each), told_each)
        rows.append(_quality(inputs.values, restored, image=inputs.values.ndim == 4))
    table(rows)


def decode(
    run: RunPath,
    codes: Annotated[Path, Parameter(name="CODES", help="the .npz file that `jensen encode` wrote")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), metavar="PATH", help="a .npz file, or a folder for one .png an image")
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
    from jensen.training import Run

    opened = Run.open(run)
    folder = output.suffix.lower() != ".npz"
    if output.suffix.lower() in IMAGES:
        raise JensenError(f"--output {output}: give a folder for one .png an image, or a .npz file")
    if folder:
        require_images(opened, "no PNG files; write .npz")
    else:
        claim(output, output, (".npz",), force)
    arrays = load_npz(codes)
    stored, names = _codes(arrays, codes)
    latent = opened.config.model.latent
    if stored.shape[1] != latent:
        raise DataError(f"{codes} holds codes of {stored.shape[1]} numbers, {run} has {latent}: from another run?")
    if label is not None or attributes is not None:
        condition = condition_for(opened, label, attributes, len(stored))
    else:
        condition = told_before(opened, arrays, codes, len(stored))
    values = filled(opened, _decoded(opened.model(), stored, condition), condition)
    if folder:
        write_images(output, values, names, force)
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


def _decoded(model: EncoderDecoder, codes: Tensor, condition: Tensor | None) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.cat([model.decode(part, condition=known) for part, known in pieces(codes, condition)])


def _codes(arrays: Mapping[str, Any], path: Path) -> tuple[Tensor, list[str]]:
    """Codes (B, latent) float32 and a name for each."""
    import numpy as np
    import torch

    codes: Any = arrays.get("codes")
    if codes is None or codes.ndim != 2 or codes.dtype.kind != "f" or len(codes) == 0:
        raise DataError(f"{path} holds no codes (an array 'codes', a row an image); `jensen encode` writes such files")
    tensor = torch.from_numpy(codes.astype("float32"))
    if not torch.isfinite(tensor).all():
        raise DataError(f"{path} has codes that are not finite")
    stored = arrays.get("names", np.array([], "S"))
    names = [name.decode("utf-8", "replace") for name in stored.tolist()] if stored.dtype.kind == "S" else []
    safe = len(set(names)) == len(codes) and all(name and Path(name).name == name for name in names)
    return tensor, names if safe else [f"{place:05d}" for place in range(len(codes))]


def _named(files: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    """Names of image files, to be given back by `decode`; nothing for arrays, whose rows go by their place."""
    import numpy as np

    images = bool(files) and all(path.suffix.lower() in IMAGES for path in files)
    return {"names": np.array([name.encode("utf-8") for name in names])} if images else {}


def _sizes(values: Tensor, codes: Tensor, beside: Mapping[str, Any], path: Path) -> list[tuple[str, str, str]]:
    """Bytes in and out. Values count as they are usually kept: a byte a pixel, four a number of a table."""
    width = 1 if values.ndim == 4 else 4
    before, after = values.numel() * width, codes.numel() * codes.element_size()
    shape = " x ".join(str(size) for size in values.shape[1:])
    rows = [
        ("in", f"{before:,} bytes", f"{len(values)} of {shape}, {8 * width} bits a value"),
        ("out", f"{after:,} bytes", f"{len(codes)} of {codes.shape[1]}, {8 * codes.element_size()} bits a number"),
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


def _quality(values: Tensor, restored: Tensor, image: bool) -> tuple[str, str, str]:
    if image:
        return "PSNR", f"{psnr(values, restored):.2f} dB", "of the restored images"
    error = math.sqrt((values - restored).square().mean().item())
    return "error", f"{error:.4f}", "root mean square, in standard deviations of a column"
