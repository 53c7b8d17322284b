"""What every way up the black-box bound returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Ascent"]


@dataclass
class Ascent:
    """Where a climb ended, and whether to believe it.

    Attributes:
        flat: the best parameters, (P,), as `Bound.flat` orders them.
        elbo: nats, at fresh draws and on all the data.
        elbo_se: its standard error.
        trace: nats; estimates of the bound along the way (of the best start).
        converged: whether the method's criterion was met.
        reason: why it stopped, in words.
        advice: what to try where it did not converge.
        evaluations: gradients of the bound that were taken, over all starts; a Hessian counts its columns.
        starts: ELBO and whether it converged, of each start.
        linear_response: covariance of the latents' real coordinates corrected by linear response, (D, D).
        response: how the optimum moves if the bound is tilted, `linear_response.Response`, where it is known.
        spread: standard deviations of the summary's numbers by linear response, of a fit that was stored.
        monte_carlo: standard deviation that the finite draws leave in E_q of the real coordinates, (D,).
        notes: what else is worth saying, such as starts that disagree.
    """

    flat: Tensor
    elbo: float
    elbo_se: float
    trace: list[float]
    converged: bool
    reason: str
    advice: str | None = None
    evaluations: int = 0
    starts: list[tuple[float, bool]] = field(default_factory=list)
    linear_response: Tensor | None = None
    response: Any = None
    spread: Tensor | None = None
    monte_carlo: Tensor | None = None
    notes: list[str] = field(default_factory=list)
