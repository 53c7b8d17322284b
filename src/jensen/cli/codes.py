"""`jensen encode` and `jensen decode`: compression by the model."""

from __future__ import annotations

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
    examples,
    load_npz,
    own_condition,
    pieces,
    require_images,
)
from jensen.cli.integers import as_arrays, bits_under_prior, from_arrays
from jensen.cli.integers import size_rows as integer_rows
from jensen.cli.models import coder, load_model, require_code
from jensen.cli.options import DataDirectory, Force, RunPath, SplitName
from jensen.cli.outputs import claim, write_arrays, write_images, write_words
from jensen.cli.screen import hint, say, table
from jensen.cli.sizes import quality_rows, size_rows
from jensen.cli.stored import Precision, chosen_precision, kept_as, numbers
from jensen.cli.table_inputs import columns_of, how_well, read_told, write_rows
from jensen.cli.words import symbols_of, texts
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import DeepVAE, EncoderDecoder
    from jensen.training import Run

__all__ = ["decode", "decoded", "encode", "encoded", "with_guesses"]


def encode(
    run: RunPath,
    /,
    *files: Annotated[Path, Parameter(name="FILES", help="images (.png, .jpg), arrays (.npz, .npy) or a table (.csv)")],
    output: Annotated[Path, Parameter(name=("--output", "-o"), metavar="FILE", help="where to write the codes, .npz")],
    split: Annotated[SplitName | None, Parameter(help="encode this part of the run's data instead of files")] = None,
    half: Annotated[
        bool, Parameter(negative="", help="16 bits a number instead of 32; not for codes that are integers")
    ] = False,
    int8: Annotated[
        bool,
        Parameter(
            negative="", help="8 bits a number, on 256 equal steps of each dimension's range; not for integers either"
        ),
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
    jensen encode runs/mnist-vae --split test -o codes.npz --int8
    jensen encode runs/mnist-vqvae --split test -o codes.npz
    """
    from jensen.autoencoders import VQVAE, EncoderDecoder
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "encode")
    kept_levels = None if levels is None else chosen_levels(opened, levels)
    if bool(files) == (split is not None):
        raise JensenError("encode: give either files or --split, e.g. --split test")
    path = claim(output, output, (".npz",), force)
    precision = chosen_precision(half, int8)
    if precision != "float32" and opened.config.model.kind == "vqvae":
        flag = "--half" if half else "--int8"
        raise JensenError(f"{flag} is for codes of real numbers; those of {run} are integers: leave it away")
    scale = Scale.of(opened, data_directory)
    if split:
        own_condition("encode", label, attributes, other)
        inputs = examples(opened, split, None, data_directory)
    else:
        inputs = read_told(opened, files, scale, label, attributes, other)
    model = load_model(opened)
    assert isinstance(model, EncoderDecoder)
    told_each = with_guesses(model, inputs.values, inputs.condition)
    codes = encoded(model, inputs.values, told_each)
    arrays = _as_arrays(model, codes, kept_levels, precision)
    beside = {} if told_each is None else kept(opened, told_each)
    write_arrays(path, {**arrays, **beside, **_named(files, inputs.names)})
    say(f"{len(codes)} codes: {path}")
    rows = size_rows(opened, inputs.values, arrays, beside, path)
    if isinstance(model, VQVAE):
        rows += integer_rows(opened, model, bits_under_prior(model, codes, inputs.of_prior))
    stored = _as_stored(model, codes, arrays, path, told_each)
    if opened.config.data.target is None and stored is not None:
        restored = filled(opened, decoded(model, stored, told_each), told_each)
        if columns := columns_of(opened):
            rows.append(("error", how_well(columns, inputs.values, restored), "of the restored rows"))
        else:
            rows += quality_rows(opened, inputs.values, restored)
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
            help="a .npz file, a folder for one .png an image, .txt for text, .csv for a table",
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
    from jensen.autoencoders import VQVAE, DeepVAE
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "decode")
    symbols = symbols_of(opened)
    columns = columns_of(opened)
    files = (".txt", ".npz") if symbols else (".csv", ".npz") if columns else (".npz",)
    folder = output.suffix.lower() not in files
    if output.suffix.lower() in IMAGES:
        raise JensenError(f"--output {output}: give a folder for one .png an image, or a .npz file")
    if folder:
        require_images(opened, f"no PNG files; write {' or '.join(files)}")
    else:
        claim(output, output, files, force)
    model = coder(opened, "decode")
    arrays = load_npz(codes)
    arrays = arrays if isinstance(model, VQVAE) else numbers(arrays, codes)
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
    values = filled(opened, decoded(model, stored, condition), condition)
    if folder:
        write_images(output, values, names, force)
    elif output.suffix.lower() == ".txt":
        write_words(output, texts(values, symbols, names))
    else:
        own = values if opened.config.data.target is not None else Scale.of(opened, data_directory).to_own(values)
        if output.suffix.lower() == ".csv":
            write_rows(output, columns, own)
        else:
            write_arrays(output, {"images" if values.ndim == 4 else "values": own.numpy(), "names": names})
    say(f"{len(values)} decoded: {output}")


def _as_arrays(
    model: EncoderDecoder, codes: Tensor, levels: Sequence[int] | None, precision: Precision
) -> dict[str, Any]:
    """Codes (B, latent) as arrays for a file; of a model with several levels those `levels` alone."""
    from jensen.autoencoders import VQVAE, DeepVAE

    if isinstance(model, VQVAE):
        return as_arrays(model, codes)
    parts = as_levels(model, codes, levels) if isinstance(model, DeepVAE) else {"codes": codes}
    return {key: array for name, part in parts.items() for key, array in kept_as(name, part, precision).items()}


def _as_stored(
    model: EncoderDecoder, codes: Tensor, arrays: Mapping[str, Any], path: Path, condition: Tensor | None
) -> Tensor | None:
    """The codes (B, latent) that decoding has of these arrays; None where a level is missing above another."""
    import torch

    from jensen.autoencoders import VQVAE, DeepVAE

    if isinstance(model, VQVAE):
        return codes
    plain = numbers(arrays, path)
    if isinstance(model, DeepVAE):
        return _from_top(model, plain, condition)
    return torch.from_numpy(plain["codes"]).float()


def with_guesses(model: EncoderDecoder, values: Tensor, condition: Tensor | None) -> Tensor | None:
    """The condition, an unknown label replaced by the likeliest class: without one a code would not say which it is."""
    import torch

    from jensen.autoencoders.semi_supervised import SemiSupervisedVAE

    if condition is None or not isinstance(model, SemiSupervisedVAE):
        return condition
    with torch.no_grad():
        likeliest = torch.cat([model.classify(x).argmax(-1) for x, _ in pieces(values, None)])
    guesses = torch.nn.functional.one_hot(likeliest, condition.shape[1]).to(condition.dtype)
    return torch.where(condition.any(1, keepdim=True), condition, guesses)


def encoded(model: EncoderDecoder, values: Tensor, condition: Tensor | None) -> Tensor:
    """Codes (B, latent) of data (B, *shape), in pieces, by a model that is told `condition` (B, *condition_shape)."""
    import torch

    torch.manual_seed(0)  # where what is encoded is a draw

    with torch.no_grad():
        return torch.cat([model.encode(x, condition=known) for x, known in pieces(values, condition, at_once(model))])


def decoded(model: EncoderDecoder, codes: Tensor, condition: Tensor | None) -> Tensor:
    """What codes (B, latent) decode to, (B, *target_shape), in pieces; the same again where that is a draw."""
    import torch

    torch.manual_seed(0)
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

    images = bool(files) and all(path.is_dir() or path.suffix.lower() in IMAGES for path in files)
    return {"names": np.array([name.encode("utf-8") for name in names])} if images else {}
