"""Each factor of q its own estimator, in one surrogate."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Generator, Tensor

from jensen.gradients.configurations import evaluations
from jensen.gradients.enumeration import Enumeration
from jensen.gradients.estimator import Estimator, Part
from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import FactorPosterior, Posterior
from jensen.gradients.score_function import ScoreFunction
from jensen.gradients.signal import DependenceMap, Signal

__all__ = ["Mixed", "automatic"]


class Mixed(Estimator):
    """One estimator for each factor: continuous latents pathwise, say, and discrete ones enumerated or scored.

    Args:
        estimators: by the name of a latent of the factor.
        default: of factors that are not named; without it they are refused.
    """

    def __init__(self, estimators: Mapping[str, Estimator], default: Estimator | None = None) -> None:
        self.estimators = dict(estimators)
        self.default = default

    def __repr__(self) -> str:
        default = "" if self.default is None else f", default={self.default!r}"
        return f"Mixed({self.estimators!r}{default})"

    def way(self, factor: FactorPosterior) -> Estimator:
        named = [self.estimators[name] for name in factor.names if name in self.estimators]
        if any(other is not named[0] for other in named[1:]):
            raise ValueError(f"{', '.join(factor.names)} are one factor of q, but have several estimators: {named}")
        chosen = named[0] if named else self.default
        if chosen is None:
            raise ValueError(f"no estimator for {', '.join(factor.names)}: name it, or give a default")
        return chosen.way(factor)

    def objection(self, factor: FactorPosterior) -> str | None:
        return self.way(factor).objection(factor)

    def needs_dependence(self, q: Posterior) -> bool:
        return any(self.way(factor).needs_dependence(q) for factor in q.factors)

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        return self.way(factor).part(factor, samples, generator, noise)

    def score(self, part: Part, signal: Signal) -> Tensor | None:
        return self.way(part.factor).score(part, signal)


def automatic(q: Posterior, dependence: DependenceMap | None = None, limit: int = 64) -> Estimator:
    """The estimator of least variance for each factor that is cheap.

    Pathwise where draws can be differentiated; discrete factors enumerated, those with fewest values first, while that
    takes no more than `limit` evaluations of the log joint; what remains scored, Rao-Blackwellised, with leave-one-out
    baselines (two draws at least).

    Args:
        q: the posterior.
        dependence: which term depends on which latent; without it all elements would be enumerated jointly.
        limit: evaluations of the log joint for each draw.
    """
    ways: dict[str, Estimator] = {}
    pathwise, enumeration = Pathwise(), Enumeration(limit)
    scored = ScoreFunction(rao_blackwell=True, control_variate="leave_one_out")
    enumerated: list[FactorPosterior] = []
    finite = [f for f in q.factors if not f.has_rsample and f.support_size is not None]
    for factor in sorted(finite, key=lambda f: evaluations([f], dependence)):
        if evaluations([*enumerated, factor], dependence) <= limit:
            enumerated.append(factor)
    for factor in q.factors:
        chosen: Estimator = pathwise if factor.has_rsample else scored
        chosen = enumeration if any(factor is other for other in enumerated) else chosen
        ways.update(dict.fromkeys(factor.names, chosen))
    kinds = list(dict.fromkeys(ways.values()))
    return kinds[0] if len(kinds) == 1 else Mixed(ways)
