"""k-hat in words: whether q may be believed, and what to do where not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from jensen.inference.psis import effective_size, khat_threshold, pareto_smooth

__all__ = ["ParetoK", "disagreement", "pareto_k"]

_GOOD = 0.5  # below it the ratios have a variance, and plain averages behave
_HOPELESS = 0.7  # above it no number of draws that can be afforded helps
_CLOSE = (
    0.8  # share of effective draws above which q is the posterior within about 0.1 nat: short tails alone say little
)
_RICHER = (
    "try a richer family than this one (full_rank, low_rank, a flow) or another parametrisation (non-centred), or take "
    "the result as a rough guide only"
)
_CORRECTED = " (where the summary has a column 'sd (LR)', that one is corrected)"


@dataclass(frozen=True)
class ParetoK:
    """How far q is from the posterior, seen from draws of q.

    It is a local check: a mode that q has no draws in leaves no trace in it. It compares with numbers, and
    with others of its kind, as its `value` does: `result.pareto_k < 0.7`.

    Attributes:
        value: k-hat, the shape of the tail of p / q. -inf where the largest ratios are equal: q is exact, or all that
            it can be (a discrete latent).
        threshold: up to here averages reweighted by these draws are usable, min(1 - 1 / log10 S, 0.7).
        draws: S.
        effective_draws: of the smoothed weights.
        invalid: draws at which the log joint was NaN or +inf; with any of them value is inf.
        impossible: draws at which the log joint was -inf: their weight is zero.
        log_weights: (S,), smoothed, the exponentials sum to one; empty with invalid or only impossible draws.
    """

    value: float
    threshold: float
    draws: int
    effective_draws: float
    invalid: int
    impossible: int
    log_weights: Tensor

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: object) -> bool:
        limit = _number(other)
        return NotImplemented if limit is None else self.value < limit

    def __le__(self, other: object) -> bool:
        limit = _number(other)
        return NotImplemented if limit is None else self.value <= limit

    def __gt__(self, other: object) -> bool:
        limit = _number(other)
        return NotImplemented if limit is None else self.value > limit

    def __ge__(self, other: object) -> bool:
        limit = _number(other)
        return NotImplemented if limit is None else self.value >= limit

    @property
    def usable(self) -> bool:
        """Whether importance-reweighted expectations are."""
        return self.value <= self.threshold

    @property
    def verdict(self) -> str:
        """What to think of q, and what to do."""
        if self.invalid:
            return (
                f"unusable: the log joint is NaN or infinite at {self.invalid:,} of {self.draws:,} draws of q; look "
                "for overflow or values outside of a distribution's support in the log joint"
            )
        rest = f" (the log joint is -inf at {self.impossible:,} of {self.draws:,} draws)" if self.impossible else ""
        return self._words() + rest

    def _words(self) -> str:
        if self.value == -math.inf and self.effective_draws > (1 - 1e-9) * self.draws:
            return "exact: q is the posterior up to rounding"
        if self.usable and self.value < _GOOD:
            share = self.effective_draws / self.draws
            if share >= _CLOSE:
                return "good: q is close to the posterior, and reweighted expectations are reliable"
            return (
                "good for reweighting: reweighted expectations are reliable, but q itself is not the posterior "
                f"({share:.0%} of its draws are effective); prefer them to q's own"
            )
        if self.usable:
            return "usable: q is off in its tails, and reweighted expectations correct that; prefer them to q's own"
        if self.value <= _HOPELESS:
            needed = 10 ** (1 / (1 - self.value))
            return (
                f"unusable with {self.draws:,} draws: reweighting needs about {needed:,.0f}; draw more, or make q "
                f"better: {_RICHER}"
            )
        if not self.value < 1:
            return (
                "unusable: q misses where much of the posterior is, its standard deviations and intervals are not to "
                f"be believed and its means may be off; {_RICHER}"
            )
        return (
            "unusable: q is too far from the posterior for reweighting to repair; means may be fair, standard "
            f"deviations and intervals are probably too narrow{_CORRECTED}; {_RICHER}"
        )

    def __str__(self) -> str:
        value = f"{self.value:.2f}" if math.isfinite(self.value) else str(self.value)
        return f"Pareto k-hat {value} (usable up to {self.threshold:.2f}): {self.verdict}"


def _number(other: object) -> float | None:
    """What k-hat is compared with; None for what is no number."""
    return float(other) if isinstance(other, ParetoK | Real) else None


def pareto_k(log_ratios: Tensor) -> ParetoK:
    """The diagnosis of draws of q with log p(x, z_s) - log q(z_s) (S,), nats, whatever is in them."""
    draws = len(log_ratios)
    ratios = log_ratios.detach()
    invalid = int((ratios.isnan() | (ratios == math.inf)).sum())
    impossible = int((ratios == -math.inf).sum())
    threshold = khat_threshold(draws)
    if invalid or impossible == draws:
        empty = torch.zeros(0, dtype=torch.float64)
        return ParetoK(math.inf, threshold, draws, 0.0, invalid, impossible, empty)
    log_weights, value = pareto_smooth(ratios)
    return ParetoK(value, threshold, draws, effective_size(log_weights), 0, impossible, log_weights)


_ALIKE = 0.5  # nats between starts that count as one optimum


def disagreement(starts: Sequence[tuple[float, bool]], error: float = 0.0, *, mixed: bool = False) -> str | None:
    """In words how several starts' ELBOs (nats) differ; None where they agree or there is only one.

    Args:
        starts: of each its ELBO and whether it converged; one that is not finite failed.
        error: standard error of an ELBO; differences below three of it (or half a nat) count as none.
        mixed: whether q is a mixture of what all starts found.
    """
    finite = [elbo for elbo, _ in starts if math.isfinite(elbo)]
    failed = len(starts) - len(finite)
    if len(starts) < 2 or not finite:
        return None
    best, room = max(finite), max(_ALIKE, 3 * error)
    lower = [best - elbo for elbo in finite if best - elbo > room]
    parts = []
    if lower:
        ends = list(dict.fromkeys(f"{gap:,.1f}" if gap < 1e6 else f"{gap:.1e}" for gap in (min(lower), max(lower))))
        reach = " to ".join(ends)
        covered = "of all of which q is a mixture" if mixed else "of which q covers one"
        parts.append(
            f"{len(lower)} of {len(starts)} starts ended {reach} nats below the best: the posterior may have several "
            f"modes, {covered}, or the climb can get stuck"
        )
    if failed:
        parts.append(f"{failed} of {len(starts)} starts failed (the ELBO is not finite)")
    return "; ".join(parts) or None
