"""Pathwise gradients: through draws written as a function of the parameters."""

from __future__ import annotations

from torch import Generator, Tensor

from jensen.gradients.estimator import Estimator, Part
from jensen.gradients.posterior import FactorPosterior

__all__ = ["Pathwise"]


class Pathwise(Estimator):
    """The reparameterisation gradient (Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014).

    The gradient of the mean over draws z = T(noise; phi) of log p(x, z) - log q(z; phi). Gamma, Beta and Dirichlet
    factors are differentiated implicitly (Figurnov, Mohamed & Mnih 2018) by their own `rsample`. q's entropy is exact
    where the factor knows it.

    Args:
        sticking_the_landing: evaluate -log q at the draws with its parameters held fixed, which leaves out the score,
            of expectation zero (Roeder, Wu & Duvenaud 2017). The variance vanishes where q is the exact posterior; far
            from it, it can be larger than that with the exact entropy.
    """

    def __init__(self, sticking_the_landing: bool = False) -> None:
        self.sticking_the_landing = sticking_the_landing

    def __repr__(self) -> str:
        return "Pathwise(sticking_the_landing=True)" if self.sticking_the_landing else "Pathwise()"

    def objection(self, factor: FactorPosterior) -> str | None:
        return None if factor.has_rsample else "its draws are not differentiable in the parameters"

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        draw = factor.rsample(samples, generator) if noise is None else factor.from_noise(noise)
        if self.sticking_the_landing:
            return Part(factor, draw, -factor.detach().log_prob(draw))
        entropy = factor.entropy()
        own = -factor.log_prob(draw) if entropy is None else entropy + draw.log_jacobian
        return Part(factor, draw, own if own.dim() > len(factor.elements) else own.unsqueeze(0))
