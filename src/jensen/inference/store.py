"""Posteriors on disk: natural parameters as safetensors, settings beside them. Loading runs no code.

FOLDER/
    posterior.safetensors    every family's natural parameters, further tensors, the settings: enough to load
    config.yaml              settings, families and versions for people to read

One file holds all that is loaded, so that a kill at any moment leaves the old posterior or the new one; config.yaml is
written after it and only read by people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jensen import families
from jensen.errors import CheckpointError
from jensen.families.base import ExponentialFamily
from jensen.families.tied_normal_wishart import TiedNormalWishart
from jensen.files import clear_unfinished, write_atomically, write_text

__all__ = ["POSTERIOR_FILE", "StoredPosterior", "is_posterior", "load_posterior", "save_posterior"]

POSTERIOR_FILE = "posterior.safetensors"
_SETTINGS_FILE = "config.yaml"
_FORMAT = "jensen-posterior"
_VERSION = 1


class StoredPosterior(NamedTuple):
    """What a folder holds: families by name, plain settings, further tensors by name."""

    posterior: dict[str, ExponentialFamily[Any, Any, Any]]
    settings: dict[str, Any]
    extras: dict[str, Tensor]


def save_posterior(
    folder: Path | str,
    posterior: Mapping[str, ExponentialFamily[Any, Any, Any]],
    settings: Mapping[str, Any],
    extras: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a posterior into `folder`, which is made if need be, atomically over one that is there.

    Args:
        folder: other files in it are left alone.
        posterior: families by name; their natural parameters keep shape and precision.
        settings: what else is to be known, e.g. an estimator's arguments: None, booleans, numbers, texts, and lists
            and dictionaries (keys are texts) of those. Tuples and arrays come back as lists.
        extras: tensors by name that are no family's.

    Raises:
        TypeError: a family that `jensen.families` does not have, or a setting of another type; named.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    plain_settings = {str(key): _plain(value, str(key)) for key, value in settings.items()}
    described = {name: _describe(name, family) for name, family in posterior.items()}
    tensors = {f"extra.{name}": tensor for name, tensor in (extras or {}).items()}
    for name, family in posterior.items():
        for field, tensor in zip(family.natural_parameters._fields, family.natural_parameters, strict=True):
            tensors[f"posterior.{name}.{field}"] = tensor
        if described[name]["lengths"]:
            tensors[f"posterior.{name}.lengths"] = family.lengths  # type: ignore[attr-defined]
    # A copy each: expanded fields share memory, which safetensors refuses.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "families": json.dumps(described),
        "settings": json.dumps(plain_settings),
    }
    metadata["sha256"] = _digest(own, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    write_atomically(folder / POSTERIOR_FILE, lambda temporary: save_file(own, temporary, metadata=metadata))
    write_text(folder / _SETTINGS_FILE, _for_people(plain_settings, posterior))


def load_posterior(folder: Path | str) -> StoredPosterior:
    """What `save_posterior` wrote into `folder`, on the CPU.

    Raises:
        CheckpointError: there is none, it is damaged, was written by something else or by a newer version.
    """
    path = Path(folder) / POSTERIOR_FILE
    if not path.is_file():
        what = f"holds no posterior (no {POSTERIOR_FILE})" if Path(folder).is_dir() else "does not exist"
        raise CheckpointError(f"{folder} {what}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            _check_origin(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())[:200]})") from None
    expected = metadata.pop("sha256", "")
    if _digest(tensors, metadata) != expected:
        raise CheckpointError(f"{path} is damaged: its contents are not those that were written")
    try:
        settings = json.loads(metadata["settings"])
        described = json.loads(metadata["families"])
        posterior = {name: _rebuilt(name, entry, tensors) for name, entry in described.items()}
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or of another version of Jensen ({error})") from None
    extras = {name.removeprefix("extra."): tensor for name, tensor in tensors.items() if name.startswith("extra.")}
    return StoredPosterior(posterior, settings, extras)


def is_posterior(folder: Path | str) -> bool:
    """Whether `folder` holds what `save_posterior` writes (whole or damaged)."""
    return (Path(folder) / POSTERIOR_FILE).is_file()


def _registry() -> dict[str, type[ExponentialFamily[Any, Any, Any]]]:
    """The families that may be in a file: those of `jensen.families`, and no others."""
    exported = {name: getattr(families, name) for name in families.__all__}
    exported["TiedNormalWishart"] = TiedNormalWishart
    return {name: kind for name, kind in exported.items() if _is_family(kind)}


def _is_family(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ExponentialFamily) and hasattr(kind, "Natural")


def _describe(name: str, family: ExponentialFamily[Any, Any, Any]) -> dict[str, Any]:
    kind = type(family)
    if _registry().get(kind.__name__) is not kind:
        raise TypeError(f"posterior {name!r} is a {kind.__name__}, which is no family of jensen.families")
    lengths = getattr(family, "lengths", None) is not None  # a Markov chain of chains that end early
    return {"family": kind.__name__, "fields": list(family.natural_parameters._fields), "lengths": lengths}


def _rebuilt(name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ExponentialFamily[Any, Any, Any]:
    kind = _registry().get(entry["family"])
    if kind is None:
        raise ValueError(f"{name!r} is of family {entry['family']!r}, which this version does not have")
    if list(entry["fields"]) != list(kind.Natural._fields):
        raise ValueError(f"{name!r}: {entry['family']} has parameters {list(kind.Natural._fields)}, not these")
    natural = kind.Natural(*(tensors[f"posterior.{name}.{field}"] for field in entry["fields"]))
    if entry["lengths"]:
        return kind(natural, tensors[f"posterior.{name}.lengths"])  # type: ignore[call-arg]
    return kind(natural)


def _check_origin(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is no posterior of Jensen; `jensen infer` and an estimator's save() write them")
    written = metadata.get("version", "")
    if not written.isdigit() or int(written) > _VERSION:
        raise CheckpointError(f"{path} was written by a newer version of Jensen (format {written!r}): update Jensen")


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """A checksum of everything: a flipped bit in a number would go unnoticed otherwise."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON knows it; raises TypeError that names where it stands."""
    if isinstance(value, np.generic):  # before the rest: some of them are Python's numbers too
        return _plain(value.item(), where)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | Tensor):
        return _plain(value.tolist(), where)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{where}[{place}]") for place, entry in enumerate(value)]
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise TypeError(f"setting {where}: keys should be texts, but one is {wrong!r}")
        return {key: _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    raise TypeError(
        f"setting {where} is a {type(value).__name__}, which cannot be stored: only numbers, texts, lists and "
        "dictionaries can; give tensors as extras"
    )


def _for_people(settings: Mapping[str, Any], posterior: Mapping[str, ExponentialFamily[Any, Any, Any]]) -> str:
    shapes = {
        name: f"{type(q).__name__}{tuple(q.batch_shape)} of {tuple(q.event_shape)}" for name, q in posterior.items()
    }
    content = {
        "settings": dict(settings),
        "posterior": shapes,
        "versions": {"jensen": _installed(), "torch": str(torch.__version__), "format": _VERSION},
    }
    head = f"# What {POSTERIOR_FILE} holds. For people: it is read from there, not from here.\n"
    return head + yaml.safe_dump(content, sort_keys=False, explicit_end=True)


def _installed() -> str:
    """The version of Jensen; the package's top knows higher floors and cannot be asked from here."""
    try:
        return version("jensen")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
