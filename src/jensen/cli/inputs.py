"""What commands read: runs, images and arrays from files, and examples of a run's own data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.conditions import condition_for, own_told, part_shown
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import Tensor

    from jensen.data import Data
    from jensen.data.picture import Fit
    from jensen.training import Run

__all__ = [
    "IMAGES",
    "Inputs",
    "Scale",
    "clean_data",
    "condition_for",
    "conditioned",
    "examples",
    "load_npy",
    "load_npz",
    "own_condition",
    "pieces",
    "read",
    "require_images",
    "require_same",
]

ARRAYS = (".npz", ".npy")
IMAGES = (".png", ".jpg", ".jpeg")
AT_ONCE = 500
"""Examples on their way through a model together: bounds memory, however many there are."""


@dataclass(frozen=True)
class Inputs:
    """Data from files or a split: values as the model sees them, and a name for each."""

    values: Tensor
    """(B, *shape) float32"""
    names: list[str]
    condition: Tensor | None = None
    """what encoder and decoder are told of each, (B, *condition_shape) float32; None: nothing"""
    of_prior: Tensor | None = None
    """what a prior over codes is told of each; None: nothing, or nobody knows"""


@dataclass(frozen=True)
class Scale:
    """Between a table's own units and the standardised ones that a model sees; values in [0, 1] are left alone."""

    mean: Tensor | None = None
    sd: Tensor | None = None
    levels: int | None = None
    """of a signal in [0, 1]: integers are levels from 0 to `levels` - 1"""
    fit: Fit | None = None
    """how an image file of any size comes to that of the model, as the run's own images did; None: it must have it"""

    @classmethod
    def of(cls, run: Run, directory: Path | None = None) -> Scale:
        """That of a run; of one that does not keep it, by reading its data."""
        facts = run.own_facts
        if facts.mean and facts.sd:
            import torch

            size = (len(facts.mean), *[1] * (len(facts.shape) - 1))  # a number a column, or a channel
            return cls(torch.tensor(facts.mean).view(size), torch.tensor(facts.sd).view(size))
        if len(facts.shape) == 3:
            return cls(fit=None if run.config.data.size is None else run.config.data.fit)
        if len(facts.shape) == 2 and facts.levels is not None and run.config.data.target is None:
            return cls(levels=facts.levels)
        transform = clean_data(run, directory).test.transform_function
        return cls(transform.mean, transform.sd)

    def to_model(self, values: Tensor) -> Tensor:
        """From own units."""
        return values if self.mean is None or self.sd is None else (values - self.mean) / self.sd

    def to_own(self, values: Tensor) -> Tensor:
        """To own units."""
        return values if self.mean is None or self.sd is None else values * self.sd + self.mean


def clean_data(run: Run, directory: Path | None = None, **changes: Any) -> Data:
    """The run's data in its splits, without the noise of training: grey values, no corruption unless in `changes`."""
    return run.data(directory, **{"transform": "none", "corruption": "none", **changes})


def examples(run: Run, split: str, places: Sequence[int] | None, directory: Path | None = None) -> Inputs:
    """Examples of a split by place; None: all of them.

    Raises:
        DataError: a place that the split does not have.
    """
    import torch

    part = getattr(clean_data(run, directory), split)
    wanted = list(range(len(part))) if places is None else list(places)
    beyond = [place for place in wanted if not 0 <= place < len(part)]
    if beyond:
        raise DataError(f"there is no example {beyond[0]}: the {split} split has 0 to {len(part) - 1}")
    batch = part.batch(torch.tensor(wanted))
    names = [f"{split}-{place:05d}" for place in wanted]
    return Inputs(batch.x, names, None if own_told(run) is None else batch.condition, batch.condition)


def conditioned(
    run: Run, inputs: Inputs, label: str | None = None, attributes: str | None = None, other: Path | None = None
) -> Inputs:
    """`inputs` from files with what a conditional model is told of them.

    One label, or one set of attributes, holds for all; the visible part of an image is cut from it; `other` is a file
    with the other image of each, or one for all.

    Raises:
        JensenError: the run needs to be told something that is not given, or something else.
        DataError: `other` cannot be read, or does not fit.
    """
    kind, count = own_told(run), len(inputs.values)
    if other is not None and kind != "image":
        raise JensenError(f"{run.path} is conditioned on {run.config.data.condition or 'nothing'}; leave --other out")
    if kind not in ("image", "part") or label is not None or attributes is not None:
        return _told(inputs, condition_for(run, label, attributes, count))
    if kind == "part":
        return _told(inputs, part_shown(run, inputs.values))
    shape = run.facts.condition_shape
    if other is None or shape is None:
        raise JensenError(
            f"{run.path} is conditioned on {run.config.data.condition}, another image of {shape}: give it with --other"
        )
    images = read([other], shape).values
    if len(images) not in (1, count):
        raise DataError(f"{other} holds {len(images)} images for {count} files; give one for each, or one for all")
    return _told(inputs, images.expand(count, *shape))


def _told(inputs: Inputs, condition: Tensor | None) -> Inputs:
    """With what is told to encoder and decoder, and so to a prior over codes."""
    return replace(inputs, condition=condition, of_prior=condition)


def pieces(values: Tensor, condition: Tensor | None, at_once: int = AT_ONCE) -> Iterator[tuple[Tensor, Tensor | None]]:
    """`at_once` rows of `values` (B, ...) at a time, with what a model is told of each."""
    parts = values.split(at_once)
    told_parts: Sequence[Tensor | None] = [None] * len(parts) if condition is None else condition.split(at_once)
    return zip(parts, told_parts, strict=True)


def own_condition(command: str, *given: str | Path | None) -> None:
    """Raise `JensenError` if something is `given` that examples of a run's own data bring with them."""
    if any(value is not None for value in given):
        raise JensenError(
            f"{command}: --label, --attributes and --other are for files; examples of the run's data have their own"
        )


def read(paths: Sequence[Path], shape: tuple[int, ...], scale: Scale | None = None) -> Inputs:
    """Images from image files, or arrays from one .npz or .npy file, as a model of data `shape` sees them.

    A folder stands for all the images in it; each is called by its path there, with dashes between the folders.

    Raises:
        DataError: a file is missing, damaged, of another kind, or does not fit the shape.
    """
    import torch

    from jensen.data.declared import require_file
    from jensen.data.picture import SUFFIXES

    paths, called = _unfolded(paths)
    unknown = next((path for path in paths if path.suffix.lower() not in (*ARRAYS, *SUFFIXES)), None)
    if unknown is not None:
        raise DataError(f"{unknown}: cannot read this kind of file; give {', '.join(IMAGES + ARRAYS)}")
    values: list[Tensor] = []
    names: list[str] = []
    for path in paths:
        require_file(path)
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if path.suffix.lower() in ARRAYS:
            stored = _fitted(_array(path), shape, path, None if scale is None else scale.levels)
            values.append((scale or Scale()).to_model(torch.from_numpy(stored)))
            several = [f"{path.stem}-{place:05d}" for place in range(len(stored))]
            names.extend(several if len(stored) > 1 else [path.stem])
        else:
            values.append(torch.from_numpy(_image(path, shape, None if scale is None else scale.fit))[None])
            names.append(called.get(path, path.stem))
    twice = next((name for name in names if names.count(name) > 1), None) if len(paths) > 1 else None
    if twice is not None:
        raise DataError(f"two of the files are called {twice}; results would overwrite each other")
    return Inputs(torch.cat(values), names)


def _unfolded(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Files, and those in folders instead of these, which also have a name each."""
    from jensen.data.folder import images_in

    files: list[Path] = []
    called: dict[Path, str] = {}
    for path in paths:
        inside = [name for name, _ in images_in(path)] if path.is_dir() else []
        called |= {path / name: "-".join(Path(name).with_suffix("").parts) for name in inside}
        files.extend([path / name for name in inside] or [path])
    return files, called


def load_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a .npz file.

    Raises:
        DataError: it is missing, damaged, or holds pickled objects.
    """
    import numpy as np

    from jensen.data.declared import reading_arrays, require_file, require_sizes

    require_file(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with reading_arrays(f"{path} is damaged or no .npz file of plain arrays", path):
        require_sizes(path)
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} holds a single array (.npy), but a .npz file of named ones is needed")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    if bare := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path}: {bare[0]} in it is no array")  # NumPy gives its bytes
    return arrays


def load_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file.

    Raises:
        DataError: it is missing, damaged, an archive of several arrays, or holds pickled objects.
    """
    import numpy as np

    from jensen.data.declared import reading_arrays, require_file, require_sizes

    require_file(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with reading_arrays(f"{path} is damaged or no .npy file of a plain array", path):
        require_sizes(path)
        array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an archive of arrays, not one: call it .npz")
    return array


def require_images(run: Run, consequence: str) -> None:
    """Raise `JensenError`, telling the `consequence`, unless the run's model decodes images that PNG can hold."""
    shape = run.facts.target_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise JensenError(f"{run.path} decodes values of shape {shape}, no grey or colour images: {consequence}")


def require_same(run: Run, action: str) -> None:
    """Raise `JensenError` if the run predicts something other than its input, so that `action` has no meaning."""
    target = run.config.data.target
    if target is not None:
        raise JensenError(
            f"{run.path} predicts {target!r} from a datum, so there is nothing to {action}; "
            f"`jensen evaluate {run.path}` says how well"
        )


def _array(path: Path) -> npt.NDArray[Any]:
    """The array of the file: the only one of a .npz, or its 'images' or 'values'."""
    if path.suffix.lower() == ".npz":
        arrays = load_npz(path)
        found: list[str] = [name for name in ("images", "values") if name in arrays]
        found = found or (list(arrays) if len(arrays) == 1 else [])
        if not found:
            raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; call the array to read 'images'")
        return arrays[found[0]]
    return load_npy(path)


def _fitted(array: npt.NDArray[Any], shape: tuple[int, ...], path: Path, levels: int | None) -> npt.NDArray[np.float32]:
    """As (B, *shape) float32, images and signals on levels in [0, 1]; one example, or one channel left out, is fine."""
    import numpy as np

    accepted = [shape, shape[1:]] if len(shape) > 1 and shape[0] == 1 else [shape]
    if array.shape[1:] not in accepted and array.shape in accepted:
        array = array[None]
    if array.shape[1:] not in accepted or len(array) == 0:
        raise DataError(f"{path} has shape {array.shape}; the model needs (any number, {', '.join(map(str, shape))})")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {array.dtype}, not numbers")
    values = array.reshape(len(array), *shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{path} has values that are not finite; remove or replace them")
    if len(shape) == 3:
        values = values / np.float32(255) if array.dtype == np.uint8 else values
        _require_unit(values, path, "images should be uint8 (0 to 255) or in [0, 1]")
    elif levels is not None:
        values = values / np.float32(levels - 1) if array.dtype.kind in "iu" else values
        _require_unit(values, path, f"signals should be integers (0 to {levels - 1}) or in [0, 1]")
    return values


def _require_unit(values: npt.NDArray[np.float32], path: Path, wanted: str) -> None:
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"{path} has values from {values.min():g} to {values.max():g}; {wanted}")


def _image(path: Path, shape: tuple[int, ...], fit: Fit | None) -> npt.NDArray[np.float32]:
    """One image file as (channels, height, width) in [0, 1]."""
    import numpy as np
    from PIL import Image

    from jensen.data.picture import expect_bombs, pixels, readable, reason

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{path} is an image, but the model's data have shape {shape}; give .npz or .npy")
    try:
        if fit is not None:
            with expect_bombs():
                return pixels(path, shape[0], shape[1:], fit).astype(np.float32) / np.float32(255)
        with expect_bombs(), Image.open(path, formats=readable()) as image:
            image.load()
            return _pixels(image, shape, path)
    except DataError:
        raise
    except Exception as error:  # Pillow raises nearly anything of a damaged file
        raise DataError(f"{path} is damaged or no image ({reason(error)})") from None


def _pixels(image: Image, shape: tuple[int, ...], path: Path) -> npt.NDArray[np.float32]:
    import numpy as np

    channels, height, width = shape
    if image.size != (width, height):
        raise DataError(
            f"{path} is {image.width} x {image.height} pixels, the model needs {width} x {height}; resize it first"
        )
    if "A" in image.mode or "transparency" in image.info:
        if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{path} has transparent pixels; put it on a background first")
        image = image.convert("RGBA").convert("RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert("L") would clip
        grey = np.asarray(image).astype(np.float32) / np.float32(65535)
        return np.repeat(grey[None], channels, 0)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB")).astype(np.float32) / np.float32(255)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
