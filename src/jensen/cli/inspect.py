"""`jensen data inspect`: what is in data of one's own, before anything is trained on it."""

from __future__ import annotations

import inspect as signatures
import math
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from jensen.cli.flags import section_parameters
from jensen.cli.options import DataDirectory, Force, whole
from jensen.cli.outputs import claim, put
from jensen.cli.screen import hint, say, table
from jensen.config import DataConfig
from jensen.errors import ConfigError, DataError, JensenError

if TYPE_CHECKING:
    from jensen.cli.survey import Survey
    from jensen.data import Dataset

__all__ = ["inspect"]

Rows = list[tuple[str, str]]

SIGNALS = 10
"""on a sheet, at most: each takes a line"""
SHOWN = 12
"""classes, sizes or columns that are listed one by one"""
SIDE = 64
"""of images of many sizes, if nothing else is asked for"""
OWN = ("layout", "size", "fit", "colour", "skip_bad", "class_column", "categorical", "counts", "ignore", "missing")
"""Keys of `DataConfig` that say how own data are read."""


def inspect(
    path: Annotated[str, Parameter(name="PATH", help="a folder of images, a file .npz, .npy, .csv, ..., or a name")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=("--output", "-o"), metavar="FILE", help="draw images or signals there, .png"),
    ] = None,
    number: Annotated[
        int, Parameter(name=("--number", "-n"), converter=whole(1), metavar="INT", help="images on the sheet")
    ] = 100,
    force: Force = False,
    data_directory: DataDirectory = None,
    **given: Any,
) -> None:
    """Shapes, ranges, classes, faults and duplicates of data, and the command that trains on them.

    jensen data inspect photos -o sheet.png
    jensen data inspect measurements.csv --class-column species
    """
    from jensen.cli.survey import survey
    from jensen.data.own import is_own

    target = None if output is None else claim(output, output, (".png",), force)
    config = DataConfig(name=path, directory=data_directory, **given)
    rows: Rows = []
    if is_own(path):
        rows, config = _files(config)
    try:
        dataset = _load(config)
    except (DataError, ConfigError) as error:
        if not rows:
            raise
        table(rows)
        raise JensenError(f"cannot be trained on as it is: {error}") from None
    found = survey(dataset)
    table([*rows, *_facts(dataset), *_values(dataset, found), *_classes(dataset), *_columns(dataset, found)])
    if target is not None:
        _draw(dataset, target, number)
    say("")
    say(_command(config, given))


def _load(config: DataConfig) -> Dataset:
    from jensen.data import load_data

    return load_data(config.model_copy(update={"transform": "none"})).dataset


def _files(config: DataConfig) -> tuple[Rows, DataConfig]:
    """What is in the folder or file, and how to load what can be loaded of it."""
    from jensen.data.own import own_path

    path = own_path(config)
    if path.is_dir():
        return _folder(path, config)
    rows = [("file", f"{path}, {path.stat().st_size:,} bytes")]
    if path.suffix.lower() in (".npz", ".npy"):
        from jensen.data.memory_map import headers

        shapes = ((key, header.shape, header.dtype) for key, header in headers(path).items())
        rows += [(key or "array", f"{shape} {dtype}") for key, shape, dtype in shapes]
    return rows, config


def _folder(path: Path, config: DataConfig) -> tuple[Rows, DataConfig]:
    """Sizes, modes, faults and equal files of a folder of images; the size to bring them to where they differ."""
    from jensen.cli.survey import equal_files
    from jensen.data.folder import asked_of, images_in
    from jensen.data.image_cache import decoded, look_at_all

    found = images_in(path)
    looks, _ = look_at_all(path, [name for name, _ in found])
    sizes = Counter((look.width, look.height) for look in looks.values()).most_common()
    rows = [("folder", f"{path}, {len(found):,} image{'s' * (len(found) != 1)}")]
    rows += [("size", f"{width} x {height}: {count:,}") for (width, height), count in sizes[:SHOWN]]
    if len(sizes) > SHOWN:
        rest = sum(count for _, count in sizes[SHOWN:])
        rows.append(("", f"{len(sizes) - SHOWN} other sizes: {rest:,}"))
        rows += [(side, _spread([size[place] for size, _ in sizes])) for place, side in ((0, "width"), (1, "height"))]
    modes = Counter(look.mode for look in looks.values()).most_common()
    rows.append(("mode", ", ".join(f"{mode}: {count:,}" for mode, count in modes)))
    if len(sizes) > 1 and config.size is None:
        config = config.model_copy(update={"size": str(SIDE)})
        rows.append(("looked at", f"as {SIDE} x {SIDE} pixels, {config.fit} (--size, --fit)"))
    images = decoded(path, found, asked_of(config), skip_bad=config.skip_bad)
    rows += [("cannot be read", f"{name}: {why}") for name, why in list(images.bad.items())[:SHOWN]]
    if len(images.bad) > SHOWN:
        rows.append(("", f"and {len(images.bad) - SHOWN:,} more"))
    if images.transparent:
        rows.append(("transparent", f"{images.transparent:,} may have transparent pixels, which are put on black"))
    rows += [("equal files", " = ".join(names)) for names in equal_files(path, found)[:SHOWN]]
    return rows, config.model_copy(update={"skip_bad": bool(images.bad) or config.skip_bad})


def _spread(sizes: list[int]) -> str:
    """Lowest, middle and highest."""
    ordered = sorted(sizes)
    return f"{ordered[0]} to {ordered[-1]}, of half the sizes at most {ordered[len(ordered) // 2]}"


def _facts(dataset: Dataset) -> Rows:
    shape = " x ".join(map(str, dataset.shape))
    levels = "real numbers" if dataset.levels is None else f"{dataset.levels:,} levels"
    parts = ", ".join(f"{name} {len(index):,}" for name, index in dataset.splits.items())
    rows = [("taken as", f"{dataset.kind} {shape}, {levels}")]
    rows += [("", dataset.description)] if dataset.description else []
    return [*rows, ("examples", f"{len(dataset):,} ({parts})")]


def _values(dataset: Dataset, found: Survey) -> Rows:
    rows = [("range", f"{found.low:g} to {found.high:g}, mean {found.mean:.4g}")]
    if found.missing:
        rows.append(("NaN", f"{found.missing:,} of {len(dataset) * math.prod(dataset.shape):,} values"))
    unit = {"image": "pixels", "signal": "places", "table": "columns"}[dataset.kind]
    constant = int(found.constant.sum())
    if constant:
        places = found.constant.flatten().nonzero()[:SHOWN, 0].tolist()
        named = [dataset.columns[place].name for place in places] if dataset.columns else []
        which = f": {', '.join(named)}" if named else ""
        rows.append(("constant", f"{constant:,} of {math.prod(dataset.shape):,} {unit} never vary{which}"))
    if found.grey and dataset.shape[0] == 3:
        rows.append(("colour", "none: all three channels are equal, so --colour grey loses nothing"))
    if found.equal:
        leak = f", {found.leaked:,} of the test split are in the training split" if found.leaked else ""
        rows.append(("duplicates", f"{found.equal:,} examples equal an earlier one{leak}"))
    if found.compared < len(dataset):
        rows.append(("", f"duplicates among the first {found.compared:,} examples"))
    return rows


def _classes(dataset: Dataset) -> Rows:
    if dataset.labels is None:
        return []
    counts = dataset.labels.bincount(minlength=len(dataset.class_names)).tolist()
    named = list(zip(dataset.class_names or map(str, range(len(counts))), counts, strict=False))
    if len(named) <= 2 * SHOWN:
        return [("classes", ", ".join(f"{name} {count:,}" for name, count in named))]
    few, many = min(named, key=lambda item: item[1]), max(named, key=lambda item: item[1])
    return [("classes", f"{len(named):,}, from {few[0]} with {few[1]:,} to {many[0]} with {many[1]:,} examples")]


def _columns(dataset: Dataset, found: Survey) -> Rows:
    """A line a column of a table that says what its columns are."""
    rows: Rows = []
    if dataset.kind != "table" or dataset.vocabulary:
        return rows
    for place, column in enumerate(dataset.columns):
        gaps = f", {int(found.gaps[place]):,} missing" if int(found.gaps[place]) else ""
        if column.kind == "categorical":
            more = f", ... ({len(column.categories)})" if len(column.categories) > SHOWN else ""
            said = f"categorical: {', '.join(map(_quoted, column.categories[:SHOWN]))}{more}"
        else:
            said = f"{column.kind}: {float(found.lowest[place]):g} to {float(found.highest[place]):g}"
        rows.append((f"  {column.name}", said + gaps))
    return rows


def _quoted(category: str) -> str:
    """As it is, or in quotes where it holds a comma or what would break the line."""
    return category if category.isprintable() and "," not in category else repr(category)


def _draw(dataset: Dataset, target: Path, number: int) -> None:
    """The first training examples; images are spread over classes as they come in their random order."""
    import torch

    from jensen.plots import image_grid, save, signals

    if dataset.kind == "table":
        hint(f"a {dataset.kind} has no picture: --output {target} is not written")
        return
    some = dataset.train[: min(number, len(dataset.train), number if dataset.kind == "image" else SIGNALS)]
    values = dataset.values[some].to(torch.float32)
    if dataset.kind == "image":
        figure = image_grid(values / ((dataset.levels or 2) - 1), title=dataset.name)
    else:
        figure = signals(values, title=dataset.name)
    put(target, lambda temporary: save(figure, temporary))
    say(f"picture: {target}")


def _command(config: DataConfig, given: dict[str, Any]) -> str:
    """`jensen train` with these data and what had to be said of them."""
    words = ["jensen", "train", "--data", config.name]
    if config.directory is not None:
        words += ["--data-dir", str(config.directory)]
    for key in OWN:
        value = getattr(config, key)
        if value != DataConfig.model_fields[key].default or key in given:
            flag = f"--{key.replace('_', '-')}"
            words += [flag] if value is True else [] if value is False else [flag, _word(value)]
    return shlex.join(words)


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


_FLAGS = [each for each in section_parameters(DataConfig, lambda _: Group("Data", sort_key=10)) if each.name in OWN]
_PLAIN = [part for part in signatures.signature(inspect, eval_str=True).parameters.values() if part.name != "given"]
inspect.__signature__ = signatures.Signature([*_PLAIN, *_FLAGS])  # type: ignore[attr-defined]
