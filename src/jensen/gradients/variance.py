"""Bias, variance and cost of every estimator, on a user's own model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from jensen.gradients.configurations import evaluations
from jensen.gradients.enumeration import Enumeration
from jensen.gradients.estimator import Estimator
from jensen.gradients.mixed import automatic
from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import Posterior
from jensen.gradients.score_function import ScoreFunction
from jensen.gradients.signal import DependenceMap

__all__ = ["VarianceReport", "VarianceRow", "ladder", "variance_report"]

_WARM_UP = 20  # estimates before a running average is what it will be


class _Target(Protocol):
    """A model at its data, as `jensen.inference.target.Target`."""

    @property
    def whole(self) -> Any: ...

    def terms(self, values: Mapping[str, Tensor], batch: Any = None) -> dict[str, Tensor]: ...

    def dependence(self, values: Mapping[str, Tensor]) -> DependenceMap: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class _Model(Protocol):
    """A model that can be brought to its data, as `jensen.inference.Model`."""

    def target(self, data: Any = None) -> Any: ...


class _Family(Protocol):
    """q with its parameters, as `jensen.inference.variational.Family`."""

    def __call__(self, batch: Any = None) -> Posterior: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class VarianceRow:
    """What was measured of one estimator.

    Attributes:
        name: of the estimator.
        variance: of the gradient, summed over parameters (the trace of its covariance), of one estimate.
        bias: length of the difference between the mean gradient and the reference.
        z: root mean square, over parameters, of that difference in standard errors: about 1 without bias; NaN where no
            draw differed from another (a saturated q), so that there is no standard error.
        worst: the largest of them.
        seconds: for one gradient, the median.
        reason: why there is nothing to measure; None where there is.
    """

    name: str
    variance: float = math.nan
    bias: float = math.nan
    z: float = math.nan
    worst: float = math.nan
    seconds: float = math.nan
    reason: str | None = None


@dataclass(frozen=True)
class VarianceReport:
    """Bias and variance of the estimators of one gradient; `str` of it is a table.

    Attributes:
        rows: one for each estimator.
        reference: the name of the one whose mean gradient the others are compared with: that of least variance.
        gradient: its mean, (P,).
        samples: draws of one estimate.
        repeats: estimates.
    """

    rows: Sequence[VarianceRow]
    reference: str
    gradient: Tensor
    samples: int
    repeats: int

    def __getitem__(self, name: str) -> VarianceRow:
        """The row of an estimator; KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no estimator {name!r} in this report; there are: {', '.join(row.name for row in self.rows)}")

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"gradient of the ELBO, {len(self.gradient)} parameters: {self.repeats} estimates of {self.samples} draws",
            f"{'estimator':<{width}}  {'variance':>10}  {'bias':>9}  {'bias / se':>17}  {'ms':>8}",
        ]
        for row in self.rows:
            if row.reason is not None:
                lines.append(f"{row.name:<{width}}  {'-':>10}  {row.reason}")
                continue
            against = "all draws alike" if math.isnan(row.z) else f"{row.z:.2f}, worst {row.worst:.1f}"
            against = "reference" if row.name == self.reference else against
            bias = "" if row.name == self.reference else f"{row.bias:.2g}"
            lines.append(
                f"{row.name:<{width}}  {row.variance:>10.3g}  {bias:>9}  {against:>17}  {1e3 * row.seconds:>8.2f}"
            )
        return "\n".join([*lines, "bias / se: root mean square over the parameters, about 1 for an unbiased estimator"])

    __repr__ = __str__


def ladder(q: Posterior, dependence: DependenceMap | None = None) -> dict[str, Estimator]:
    """The estimators by name, from the plainest on; the automatic choice last, where it is none of the others."""
    steps: dict[str, Estimator] = {
        "score": ScoreFunction(),
        "score + RB": ScoreFunction(rao_blackwell=True),
        "score + RB + running average": ScoreFunction(rao_blackwell=True, control_variate="average"),
        "score + RB + regression": ScoreFunction(rao_blackwell=True, control_variate="regression"),
        "score + RB + leave-one-out": ScoreFunction(rao_blackwell=True, control_variate="leave_one_out"),
        "pathwise": Pathwise(),
        "sticking the landing": Pathwise(sticking_the_landing=True),
        "enumeration": Enumeration(),
    }
    chosen = automatic(q, dependence)
    if not isinstance(chosen, Pathwise | Enumeration | ScoreFunction):
        steps["automatic, each factor its own"] = chosen
    return steps


def variance_report(
    model: _Model | _Target,
    family: _Family,
    data: Any = None,
    *,
    samples: int = 10,
    repeats: int = 100,
    estimators: Mapping[str, Estimator] | None = None,
    seed: int = 0,
) -> VarianceReport:
    """Measure every estimator that applies, at the family's present parameters: print what this returns.

    Args:
        model: a model, or a `Target`, which has its data.
        family: q, at the parameters to look at (the start, or a fit's `family`).
        data: of the model.
        samples: draws of one estimate.
        repeats: estimates with each estimator, under seeds of their own.
        estimators: by name, instead of the `ladder`.
        seed: of all draws.

    Raises:
        ValueError: fewer than two repeats, or no estimator applies.
        TypeError: the model is neither.
    """
    if repeats < 2:
        raise ValueError(f"a variance needs at least two repeats, got {repeats}")
    bound = _Bound(_at_data(model, data), family, samples)
    measured: dict[str, _Measured] = {}
    rows: dict[str, VarianceRow] = {}
    for index, (name, estimator) in enumerate((estimators or ladder(bound.q, bound.dependence)).items()):
        reason = _objection(estimator, bound.q, bound.dependence, samples)
        found = bound.measure(estimator, repeats, 1_000_003 * seed + 100_000 * index) if reason is None else None
        if found is not None and found.lost:
            reason = f"the gradient was NaN or infinite in {found.lost} of {repeats} estimates"
        rows[name] = VarianceRow(name, reason=reason)
        if found is not None and reason is None:
            measured[name] = found
    if not measured:
        raise ValueError("no estimator applies: " + "; ".join(f"{row.name}: {row.reason}" for row in rows.values()))
    # Of equals the last one: where no draw differed, the plain ones have seen less than those that are exact.
    reference = min(reversed(measured), key=lambda name: float(measured[name].variance.sum()))
    best = measured[reference]
    rows.update({name: found.row(name, best) for name, found in measured.items()})
    return VarianceReport(list(rows.values()), reference, best.mean, samples, repeats)


def _at_data(model: Any, data: Any) -> _Target:
    """The target of a model, or the target that it is."""
    if not (hasattr(model, "target") or hasattr(model, "terms")):
        raise TypeError(f"model should be a jensen.inference.Model or a Target, got {type(model).__name__}")
    found: _Target = model.target(data) if hasattr(model, "target") else model
    return found


@dataclass(frozen=True)
class _Measured:
    """Mean and variance of one estimate's gradient, (P,) each."""

    mean: Tensor
    variance: Tensor
    repeats: int
    seconds: float
    lost: int

    def row(self, name: str, reference: _Measured) -> VarianceRow:
        gap = self.mean - reference.mean
        error = ((self.variance + reference.variance) / self.repeats).sqrt()
        rounding = 1e-9 * (1 + reference.mean.abs())  # two exact gradients differ by that much
        z = gap / error.maximum(rounding)
        # Draws that were all alike, though the exact gradient is another, missed what is rare: nothing to measure by.
        z = z[(error > rounding) | (gap.abs() <= rounding)]
        if not len(z):
            z = gap.new_full((1,), math.nan)
        return VarianceRow(
            name,
            float(self.variance.sum()),
            float(gap.norm()),
            float(z.square().mean().sqrt()),
            float(z.abs().max()),
            self.seconds,
        )


class _Bound:
    """The gradient of a bound as one vector."""

    def __init__(self, target: _Target, family: _Family, samples: int) -> None:
        self.target, self.family, self.samples = target, family, samples
        self.leaves = [p for owner in (family, target) for p in owner.parameters() if p.requires_grad]
        self.q = family(target.whole)
        with torch.no_grad():
            self.dependence = target.dependence(self.q.sample(1, torch.Generator().manual_seed(0)))

    def gradient(self, estimator: Estimator, generator: torch.Generator) -> Tensor:
        found = estimator.estimate(
            self.family(self.target.whole),
            lambda values: self.target.terms(values, self.target.whole),
            self.samples,
            generator,
            dependence=self.dependence,
        )
        parts = torch.autograd.grad(found.surrogate, self.leaves, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(self.leaves, parts, strict=True)]
        )

    def measure(self, estimator: Estimator, repeats: int, seed: int) -> _Measured:
        """Mean and variance by running sums, since repeats times parameters may be large."""
        generator = torch.Generator().manual_seed(seed)
        remembers = isinstance(estimator, ScoreFunction) and estimator.control_variate == "average"
        for _ in range(_WARM_UP if remembers else 1):
            self.gradient(estimator, generator)
        mean, squares, times, lost = torch.zeros(()), torch.zeros(()), [], 0
        for count in range(1, repeats + 1):
            start = time.perf_counter()
            gradient = self.gradient(estimator, generator)
            times.append(time.perf_counter() - start)
            lost += not bool(gradient.isfinite().all())
            step = gradient - mean
            mean = mean + step / count
            squares = squares + step * (gradient - mean)
        return _Measured(mean, squares / (repeats - 1), repeats, sorted(times)[repeats // 2], lost)


def _objection(estimator: Estimator, q: Posterior, dependence: DependenceMap | None, samples: int) -> str | None:
    """Why an estimator cannot be used for this q; None if it can."""
    ways = [(factor, estimator.way(factor)) for factor in q.factors]
    for factor, way in ways:
        objection = way.objection(factor)
        if objection is not None:
            return f"not for {', '.join(factor.names)}: {objection}"
        compares = isinstance(way, ScoreFunction) and way.control_variate in ("regression", "leave_one_out")
        if compares and samples < 2:
            return "compares draws: two at least"
    limits = [way.limit for _, way in ways if isinstance(way, Enumeration)]
    if limits:
        needed = evaluations([factor for factor, way in ways if isinstance(way, Enumeration)], dependence)
        if needed > min(limits):
            return f"{needed:.3g} evaluations of the log joint, more than the limit of {min(limits)}"
    return None
