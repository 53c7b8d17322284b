"""A fit as ArviZ knows posteriors, for its plots, loo and compare."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.inference.pointwise import NoPointwise, log_likelihood, simulated

if TYPE_CHECKING:
    from jensen.inference.fit_result import FitResult

__all__ = ["inference_data"]

Array = npt.NDArray[Any]


def inference_data(result: FitResult, n: int, seed: int, reweighted: bool = False) -> Any:
    """See `FitResult.to_arviz`: one chain of n draws.

    sample_stats hold `lp` (log joint) and `log_q`, nats; its attributes ELBO, k-hat and how the fit ended. Variables of
    a plate have the plate as their dimension. A fit that was loaded without data has only the posterior and the prior.
    """
    try:
        import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ: pip install 'jensen[arviz]'") from error
    if n < 1:
        raise ValueError(f"n should be at least 1, but is {n}")
    groups: dict[str, Any] = {}
    if result.without_data:
        groups["posterior"] = _chain(result.sample(n, seed, reweighted=reweighted))
    else:
        drawn = result._evaluated(n, seed, reweighted)
        groups["posterior"] = _chain(drawn.values)
        groups["sample_stats"] = _chain({"lp": drawn.log_joint, "log_q": drawn.log_q})
        groups |= _with_data(result, drawn.values, seed)
    if result.model.prior is not None:
        groups["prior"] = _chain(result.prior(n, seed))
        if result.model.simulate is not None and not result.without_data:
            groups["prior_predictive"] = _chain(result.prior_predictive(n, seed))
    attributes = {"posterior_attrs": {"inference_library": "jensen", "method": result.method}}
    if "sample_stats" in groups:
        attributes["sample_stats_attrs"] = _attributes(result)
    options: dict[str, Any] = {**groups, **attributes}
    return arviz.from_dict(**options, dims=_dimensions(result, groups))


def _with_data(result: FitResult, values: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    if result.model.simulate is not None:
        groups["posterior_predictive"] = _chain(simulated(result.target, values, seed))
    with suppress(NoPointwise):
        groups["log_likelihood"] = _chain(log_likelihood(result.target, values))
    data = result.target.data
    entries = {"data": data} if isinstance(data, Tensor) else dict(data)
    numbers = {name: _array(value) for name, value in entries.items() if isinstance(value, Tensor | float | int)}
    # What is simulated is what was observed; without a simulator there is nothing to tell inputs from outcomes by.
    observed = groups.get("posterior_predictive", numbers)
    groups["observed_data"] = {name: value for name, value in numbers.items() if name in observed}
    groups["constant_data"] = {name: value for name, value in numbers.items() if name not in observed}
    return {name: group for name, group in groups.items() if group}


def _attributes(result: FitResult) -> dict[str, Any]:
    """NetCDF knows no booleans."""
    diagnosis = result.pareto_k
    return {
        "elbo": result.elbo,
        "elbo_se": result.elbo_se,
        "converged": int(result.converged),
        "reason": result.reason,
        "pareto_k": diagnosis.value,
        "pareto_k_threshold": diagnosis.threshold,
    }


def _dimensions(result: FitResult, groups: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the dimensions that are plates; ArviZ names the others."""
    model = result.model
    found = {name: [v.plate] for name, v in model.latents.items() if v.plate is not None}
    for name, value in groups.get("log_likelihood", {}).items():
        found[name] = list(result.target._plates_of(name, value.shape[2:], None))
    rows = model.rows
    if rows is not None:
        for group in ("posterior_predictive", "observed_data", "constant_data"):
            lead = 2 if group == "posterior_predictive" else 0
            for name, value in groups.get(group, {}).items():
                if value.shape[lead : lead + 1] == (model.plates[rows],):
                    found.setdefault(name, [rows])
    return found


def _chain(draws: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name or "value": _array(value)[None] for name, value in draws.items()}


def _array(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
