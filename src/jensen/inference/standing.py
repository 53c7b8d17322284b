"""Where a deterministic ascent stands, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from jensen.inference.fixed_draws import factor_of, model_parameters
from jensen.inference.linear_response import Response
from jensen.inference.objective import Bound

__all__ = ["APART", "Standing"]

APART = 0.5
"""nats between the ends of two starts that count as different"""
_RAN_OFF, _FAR = 40.0, 1e6
_UNBOUNDED = 1e100
"""nats that no bound reaches on the way to a maximum"""


@dataclass
class Standing:
    """The best start's way, from round to round."""

    x: Tensor
    draws: int
    elbo: float
    settled: bool
    reason: str
    trace: list[float] = field(default_factory=list)
    starts: list[tuple[float, bool]] = field(default_factory=list)
    level: int = 0
    notes: list[str] = field(default_factory=list)
    spread: float = float("inf")
    remaining: float = float("inf")
    moves: Tensor | None = None
    together: Tensor | None = None
    hessian: Tensor | None = None
    response: Response | None = None
    advice: str | None = None

    def note_disagreement(self) -> None:
        """Say which starts ended elsewhere."""
        values = [elbo for elbo, converged in self.starts if converged]
        lower = [v for v in values if v < max(values) - APART]
        if lower:
            ends = dict.fromkeys(f"{max(values) - v:.1f}" for v in (max(lower), min(lower)))
            self.notes.append(
                f"{len(lower)} of {len(values)} starts ended at other optima of the bound, "
                f"{' to '.join(ends)} nats lower"
            )
        if self.level:
            self.notes.append(
                f"{self.level} of {len(self.starts)} starts ended at other optima of the bound that are as high: the "
                "posterior has several modes, or labels that can be swapped, and q covers one of them"
            )

    def explain(self, bound: Bound, reach: Tensor) -> None:
        """Say why it has not settled, and what to try."""
        if self.settled:
            return
        if self.elbo > _UNBOUNDED:
            self.reason = f"the bound has no maximum: it is unbounded above, and passed {self.elbo:.1e} nats"
            self.advice = "Check the sign of each term of the log joint, and whether a latent has no prior."
            return
        logs = torch.where(reach.isfinite(), self.x, 0.0)
        worst = int(logs.abs().argmax())
        if abs(float(logs[worst])) > _RAN_OFF:
            self.reason = (
                f"{factor_of(bound, worst)} ran off to {float(logs[worst]):.0f}: the bound has no maximum, the "
                "posterior is improper or so nearly"
            )
            self.advice = "Give that latent a proper prior, or remove what the data do not identify."
            return
        own = torch.where(model_parameters(bound), self.x, 0.0)
        worst = int(own.abs().argmax())
        if abs(float(own[worst])) > _FAR:
            what = factor_of(bound, worst).replace("target.theta.", "")
            self.reason = f"{what} ran off to {float(own[worst]):.1e}: the bound has no maximum"
            self.advice = "Hold that parameter by a penalty among the terms, or make it a latent with a prior."
        elif self.advice is None:
            self.advice = (
                "Allow more evaluations; if that does not help, some direction may be left free by prior and data, or "
                'the log joint may have kinks, for which method="stochastic" is made.'
            )
