"""`jensen encode` and `jensen decode`: compression by the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jensen.cli.inputs import IMAGES, Scale, examples, load_npz, read, require_images
from jensen.cli.options import DataDirectory, Force, RunPath, SplitName
from jensen.cli.outputs import claim, psnr, write_arrays, write_images
from jensen.cli.screen import say, table
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import EncoderDecoder

__all__ = ["decode", "encode"]

AT_ONCE = 500
"""Examples in memory together on their way through the model."""


def encode(
    run: RunPath,
    /,
    *files: Annotated[Path, Parameter(name="FILES", help="images (.png, .jpg) or arrays (.npz, .npy)")],
    output: Annotated[Path, Parameter(name=("--output", "-o"), metavar="FILE", help="where to write the codes, .npz")],
    split: Annotated[SplitName | None, Parameter(help="encode this part of the run's data instead of files")] = None,
    half: Annotated[bool, Parameter(negative="", help="16 bits a number instead of 32")] = False,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Compress images to their codes; prints what it saves and what it costs.

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
    inputs = examples(opened, split, None, data_directory) if split else read(files, opened.facts.shape, scale)
    model = opened.model()
    with torch.no_grad():
        codes = torch.cat([model.encode(part) for part in inputs.values.split(AT_ONCE)])
    stored = codes.half() if half else codes.float()
    if not torch.isfinite(stored).all():
        raise JensenError("the codes do not fit 16 bits; leave --half away")
    write_arrays(path, {"codes": stored.numpy(), **_named(files, inputs.names)})
    say(f"{len(codes)} codes: {path}")
    rows = _sizes(inputs.values, stored, path)
    if opened.config.data.target is None:
        rows.append(_quality(inputs.values, _decoded(model, stored.float()), image=inputs.values.ndim == 4))
    table(rows)


def decode(
    run: RunPath,
    codes: Annotated[Path, Parameter(name="CODES", help="the .npz file that `jensen encode` wrote")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), metavar="PATH", help="a .npz file, or a folder for one .png an image")
    ],
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Restore images from their codes.

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
    stored, names = _read_codes(codes)
    latent = opened.config.model.latent
    if stored.shape[1] != latent:
        raise DataError(f"{codes} holds codes of {stored.shape[1]} numbers, {run} has {latent}: from another run?")
    values = _decoded(opened.model(), stored)
    if folder:
        write_images(output, values, names, force)
    else:
        own = values if opened.config.data.target is not None else Scale.of(opened, data_directory).to_own(values)
        write_arrays(output, {"images" if values.ndim == 4 else "values": own.numpy(), "names": names})
    say(f"{len(values)} decoded: {output}")


def _decoded(model: EncoderDecoder, codes: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.cat([model.decode(part) for part in codes.split(AT_ONCE)])


def _read_codes(path: Path) -> tuple[Tensor, list[str]]:
    """Codes (B, latent) float32 and a name for each."""
    import numpy as np
    import torch

    arrays = load_npz(path)
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


def _sizes(values: Tensor, codes: Tensor, path: Path) -> list[tuple[str, str, str]]:
    """Bytes in and out. Values count as they are usually kept: a byte a pixel, four a number of a table."""
    width = 1 if values.ndim == 4 else 4
    before, after = values.numel() * width, codes.numel() * codes.element_size()
    shape = " x ".join(str(size) for size in values.shape[1:])
    return [
        ("in", f"{before:,} bytes", f"{len(values)} of {shape}, {8 * width} bits a value"),
        ("out", f"{after:,} bytes", f"{len(codes)} of {codes.shape[1]}, {8 * codes.element_size()} bits a number"),
        ("file", f"{path.stat().st_size:,} bytes", "with its header"),
        ("ratio", f"{before / after:.2f}", "in / out"),
    ]


def _quality(values: Tensor, restored: Tensor, image: bool) -> tuple[str, str, str]:
    if image:
        return "PSNR", f"{psnr(values, restored):.2f} dB", "of the restored images"
    error = math.sqrt((values - restored).square().mean().item())
    return "error", f"{error:.4f}", "root mean square, in standard deviations of a column"
