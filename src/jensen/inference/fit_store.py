"""Black-box fits on disk: q's parameters as safetensors with a checksum. Loading runs no code.

FOLDER/
    fit.safetensors    parameters of q and of the model, how the fit ended, the diagnosis: all that is loaded
    config.yaml        the same in short for people to read

The model is Python, and comes from the user again; the file says what its latents were, so that another model is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jensen import families
from jensen.errors import CheckpointError
from jensen.files import clear_unfinished, write_atomically, write_text
from jensen.gradients import ScoreFunction
from jensen.inference.climb import Ascent
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.store import _digest
from jensen.inference.target import Target
from jensen.inference.variational.base import Factor, Family
from jensen.inference.variational.exponential import ExponentialFactor
from jensen.inference.variational.full_rank import FullRankNormal
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.low_rank import LowRankNormal
from jensen.inference.variational.path_mixture import PathMixture
from jensen.inference.verdict import ParetoK

if TYPE_CHECKING:
    from jensen.inference.fit_result import FitResult

__all__ = ["FIT_FILE", "is_fit", "load_fit", "save_fit"]

FIT_FILE = "fit.safetensors"
_FORMAT, _VERSION = "jensen-fit", 1
_PLAIN = ("elbo", "elbo_se", "trace", "converged", "reason", "advice", "evaluations", "starts", "notes")
_ARRAYS = ("linear_response", "spread", "monte_carlo")
_DIAGNOSIS = ("value", "threshold", "draws", "effective_draws", "invalid", "impossible")


def save_fit(result: FitResult, folder: Path | str) -> None:
    """See `FitResult.save`.

    Raises:
        OSError: the folder cannot be written.
    """
    folder, ascent = Path(folder), result.ascent
    tensors = {f"family.{name}": value for name, value in result.family.state_dict().items()}
    if result.target.theta is not None:
        tensors |= {f"theta.{name}": value for name, value in result.target.theta.state_dict().items()}
    ascent.spread = result.spread()
    tensors |= {f"ascent.{name}": t for name in _ARRAYS if (t := getattr(ascent, name)) is not None}
    diagnosis = result._diagnosis if result.without_data else result.pareto_k
    if diagnosis is not None:
        tensors["diagnosis.log_weights"] = diagnosis.log_weights
    described = {
        "latents": _latents(result.model),
        "plates": dict(result.model.plates),
        "data": result.without_data or not _empty(result.target.data),
        "family": [_describe(factor) for factor in _factors(result.family)],
        "method": result.method,
        "ascent": {name: getattr(ascent, name) for name in _PLAIN},
        "diagnosis": None if diagnosis is None else {name: getattr(diagnosis, name) for name in _DIAGNOSIS},
    }
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    metadata = {"format": _FORMAT, "version": str(_VERSION), "fit": json.dumps(described)}
    metadata["sha256"] = _digest(own, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    write_atomically(folder / FIT_FILE, lambda temporary: save_file(own, temporary, metadata=metadata))
    write_text(folder / "config.yaml", _for_people(described))


def load_fit(
    folder: Path | str, model: Model, data: Any = None, family: Family | Callable[[Model], Family] | None = None
) -> FitResult:
    """The fit that `FitResult.save` wrote, on the CPU.

    Args:
        folder: that it was written into.
        model: the same model again. Where its parameters are a module, that module gets the learned values.
        data: the same data again; without them the fit can be sampled and summed up, but not evaluated.
        family: q as it was before the fit, where it cannot be known from the file: flows, amortised families and the
            user's own.

    Raises:
        CheckpointError: there is none, it is damaged, was written by something else or by a newer version, or belongs
            to another model or family.
        DataError: the data have another number of rows.
    """
    from jensen.inference.fit_result import FitResult

    path = Path(folder) / FIT_FILE
    described, tensors = _read(path)
    if (found := _latents(model)) != described["latents"] or dict(model.plates) != described["plates"]:
        raise CheckpointError(
            f"{path} is of a model with latents {_words(described['latents'], described['plates'])}, but this one has "
            f"{_words(found, model.plates)}"
        )
    target = Target(model, data)
    made = _family(path, model, described["family"], family)
    _fill(path, "family", made, tensors)
    if target.theta is not None or any(name.startswith("theta.") for name in tensors):
        _fill(path, "theta", target.theta, tensors)
    # Any q can be scored; a loaded fit is not climbed with.
    bound = Bound(target, made, ScoreFunction())
    plain: dict[str, Any] = {**described["ascent"], **{n: tensors.get(f"ascent.{n}") for n in _ARRAYS}}
    ascent = Ascent(flat=bound.flat(), **plain)
    ascent.starts = [(float(elbo), bool(converged)) for elbo, converged in ascent.starts]
    diagnosis = None
    if described["diagnosis"] is not None:
        diagnosis = ParetoK(**described["diagnosis"], log_weights=tensors["diagnosis.log_weights"])
    missing = bool(described["data"]) and data is None
    return FitResult(bound, ascent, described["method"], diagnosis=diagnosis, without_data=missing)


def is_fit(folder: Path | str) -> bool:
    """Whether `folder` holds what `FitResult.save` writes (whole or damaged)."""
    return (Path(folder) / FIT_FILE).is_file()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors, checked."""
    if not path.is_file():
        what = f"holds no fit (no {FIT_FILE})" if path.parent.is_dir() else "does not exist"
        raise CheckpointError(f"{path.parent} {what}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())[:200]})") from None
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is no fit of Jensen: FitResult.save() writes them")
    version = metadata.get("version", "")
    if not version.isdigit() or int(version) > _VERSION:
        raise CheckpointError(f"{path} was written by a newer version of Jensen (format {version!r}): update Jensen")
    expected = metadata.pop("sha256", "")
    if _digest(tensors, metadata) != expected:
        raise CheckpointError(f"{path} is damaged: its contents are not those that were written")
    described: dict[str, Any] = json.loads(metadata["fit"])
    return described, tensors


def _latents(model: Model) -> dict[str, dict[str, Any]]:
    """What a model's latents are, as JSON keeps it."""
    return {
        name: {
            "shape": list(variable.shape),
            "support": variable.family or str(variable.support),
            "plate": variable.plate,
            "size": variable.size,
        }
        for name, variable in model.latents.items()
    }


def _words(latents: Mapping[str, Mapping[str, Any]], plates: Mapping[str, int]) -> str:
    each = [
        f"{name} {v['support']}{v['shape']}" + (f" on {v['plate']}" if v["plate"] else "")
        for name, v in latents.items()
    ]
    return ", ".join(each) + (f" and plates {dict(plates)}" if plates else "")


def _empty(data: Any) -> bool:
    return not isinstance(data, Tensor) and len(data) == 0


# --- families ---------------------------------------------------------------------------------------------------------


def _factors(family: Family) -> list[Factor]:
    return [factor for factor in family.factors if isinstance(factor, Factor)]


def _describe(factor: Factor) -> dict[str, Any]:
    """Enough to make the factor again, where it is one of these; else its name alone."""
    entry: dict[str, Any] = {"kind": type(factor).__name__, "names": list(factor.names)}
    match factor:
        case ExponentialFactor():
            entry["family"] = factor.family.__name__
        case FullRankNormal():
            entry["rowwise"] = factor.plate is not None
        case LowRankNormal():
            entry |= {"rowwise": factor.plate is not None, "rank": factor.rank}
        case PathMixture():
            entry |= {"rank": factor.rank, "count": len(factor.components)}
    return entry


def _family(
    path: Path, model: Model, described: list[dict[str, Any]], given: Family | Callable[[Model], Family] | None
) -> Family:
    if given is not None:
        family = given if isinstance(given, Family) else given(model)
        kinds = [type(factor).__name__ for factor in _factors(family)]
        if kinds != [entry["kind"] for entry in described]:
            raise CheckpointError(f"{path} holds a q of {[e['kind'] for e in described]}, but the family has {kinds}")
        return family
    return Family([_factor(path, model, entry) for entry in described])


def _factor(path: Path, model: Model, entry: Mapping[str, Any]) -> Factor:
    variables = {name: model.latents[name] for name in entry["names"]}
    first, sizes = entry["names"][0], model.plates
    match entry["kind"]:
        case "DiagonalNormal":
            return DiagonalNormal(first, variables[first], sizes)
        case "ExponentialFactor" if entry["family"] in families.__all__:
            return ExponentialFactor(first, variables[first], sizes, getattr(families, entry["family"]))
        case "FullRankNormal":
            return FullRankNormal(variables, sizes, entry["rowwise"])
        case "LowRankNormal":
            return LowRankNormal(variables, sizes, entry["rank"], entry["rowwise"])
        case "PathMixture":
            return PathMixture(variables, sizes, entry["rank"], entry["count"])
    raise CheckpointError(
        f"{path}: q has a factor {entry['kind']} of {', '.join(entry['names'])}, which cannot be made from the file "
        "alone: give the family as it was given to fit, load_fit(folder, model, data, family=...)"
    )


def _fill(path: Path, what: str, module: torch.nn.Module | None, tensors: Mapping[str, Tensor]) -> None:
    """Put the stored values into a module, every one of them."""
    stored = {name.removeprefix(f"{what}."): t for name, t in tensors.items() if name.startswith(f"{what}.")}
    there = {} if module is None else module.state_dict()
    shapes = [{name: tuple(t.shape) for name, t in values.items()} for values in (stored, there)]
    if shapes[0] != shapes[1] or module is None:
        raise CheckpointError(f"{path}: {what} has parameters {shapes[0]} in the file, but {shapes[1]} in this model")
    module.load_state_dict(stored)


def _for_people(described: Mapping[str, Any]) -> str:
    ascent, diagnosis = described["ascent"], described["diagnosis"]
    content = {
        "latents": _words(described["latents"], described["plates"]),
        "family": [f"{entry['kind']} of {', '.join(entry['names'])}" for entry in described["family"]],
        "method": described["method"],
        "elbo": ascent["elbo"],
        "converged": ascent["converged"],
        "reason": ascent["reason"],
        "pareto_k": None if diagnosis is None or not math.isfinite(diagnosis["value"]) else diagnosis["value"],
    }
    head = f"# What {FIT_FILE} holds, in short. For people: it is read from there, not from here.\n"
    return head + yaml.safe_dump(content, sort_keys=False, explicit_end=True)
