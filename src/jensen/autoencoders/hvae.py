"""The naive hierarchical VAE."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders.hierarchy import Choose, DeepVAE, gaussian, repeated
from jensen.bound import Level
from jensen.config import ModelKind

__all__ = ["HierarchicalVAE"]


class _DrawnBelow(Level):
    """A level whose prior depends on a z above that was itself drawn given this level's z."""

    def kl(self, analytic: bool = True, *, learning: bool = False) -> Tensor:
        """log q - log p at the draws, always.

        E_q[log p(z_l | z_l+1)] is over both z together: a closed form over z_l alone would take them as independent.
        """
        return self.log_q() - self.log_p()


class HierarchicalVAE(DeepVAE):
    """q(z | x) = q(z_1 | x) prod_l q(z_l | z_l-1): the posterior goes up from the data, each level from the one below.

    It shares nothing with p, which goes down, and without help leaves the upper levels unused: batch normalisation and
    a KL weight that rises from 0 (Sønderby et al. 2016, "Ladder variational autoencoders", eqs. 4-6, figure 1a).
    """

    kind: ModelKind = "hvae"
    from_codes = True
    level_below = _DrawnBelow

    def _inference(self, x: Tensor, condition: Tensor | None, samples: int, draw: Callable[[Normal], Tensor]) -> Choose:
        told = self.way_up.told(condition)
        codes: list[Tensor] = []
        posteriors: list[Normal] = []
        below = x
        for i, (step, head) in enumerate(zip(self.way_up.steps, self.way_up.heads, strict=True)):
            parameters = head(step(below, told))
            if i == 0:  # only from here on do the draws of a datum differ
                parameters = repeated(parameters, samples)
                told = None if told is None else repeated(told, samples)
            posteriors.append(gaussian(parameters))
            below = draw(posteriors[-1])
            codes.append(below)
        found = list(zip(codes, posteriors, strict=True))[::-1]
        return lambda i, *_: found[i]
