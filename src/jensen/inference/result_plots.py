"""Pictures of a black-box fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import Tensor

from jensen.inference.posterior_summary import scalars
from jensen.plots.posterior import elbo_trace, pairs, prior_posterior

if TYPE_CHECKING:
    from jensen.inference.fit_result import FitResult

__all__ = ["KINDS", "draw"]

KINDS = ("trace", "pairs", "prior")
_DRAWS = 2_000


def draw(result: FitResult, kind: str, names: Sequence[str] = ()) -> Figure:
    """One of KINDS of a fit; see `FitResult.plot`."""
    if kind == "trace":
        if not result.ascent.trace:
            raise ValueError("the fit has no trace: its method does not climb the bound step by step")
        where = "point of the path" if result.method == "pathfinder" else "step"
        trace, final, error = result.ascent.trace, result.elbo, result.elbo_se
        return elbo_trace(trace, final=final, error=error, converged=result.converged, x=where)
    if kind == "pairs":
        drawn = _chosen(scalars(result.model, result.sample(_DRAWS)), names)
        usable = not result.without_data and result.pareto_k.usable
        corrected = scalars(result.model, result.sample(_DRAWS, reweighted=True)) if usable else None
        return pairs(drawn, corrected, labels=("q", "importance-reweighted"))
    if kind == "prior":
        before = _chosen(scalars(result.model, result.prior(_DRAWS)), names)
        return prior_posterior(before, scalars(result.model, result.sample(_DRAWS)))
    raise ValueError(f"kind should be one of {', '.join(KINDS)}, but is {kind!r}")


def _chosen(found: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"there are no {unknown}; there are: {', '.join(list(found)[:40])}")
    return {name: found[name].cpu() for name in names or found}
