"""The Ladder VAE."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders.hierarchy import Choose, DeepVAE, gaussian, repeated
from jensen.config import ModelKind

__all__ = ["LadderVAE", "precision_weighted"]


def precision_weighted(evidence: Normal, prior: Normal) -> Normal:
    """The normalised product of two Gaussian densities: precisions add up, and means are weighted by them.

    sigma_q^2 = 1 / (sigma_hat^-2 + sigma_p^-2) and mu_q = (mu_hat sigma_hat^-2 + mu_p sigma_p^-2) sigma_q^2 (Sønderby
    et al. 2016, eqs. 17-19).

    Args:
        evidence: N(mu_hat, sigma_hat^2), what the way up says of z_l.
        prior: p(z_l | z_>l) = N(mu_p, sigma_p^2), broadcastable to it.
    """
    precise, usual = evidence.scale.pow(-2), prior.scale.pow(-2)
    variance = 1.0 / (precise + usual)
    mean = (evidence.loc * precise + prior.loc * usual) * variance
    return Normal(mean, variance.sqrt(), validate_args=False)


class LadderVAE(DeepVAE):
    """q(z_l | x, z_>l) is what the data say of z_l, merged with what the levels above say of it (`precision_weighted`).

    A deterministic way up gives N(mu_hat_l, sigma_hat_l^2) for every level; at the top that is q(z_L | x) itself. The
    walk down is then that of p, whose p(z_l | z_>l) enters q (Sønderby et al. 2016, "Ladder variational autoencoders",
    section 2.2). Arguments: `DeepVAE`.
    """

    kind: ModelKind = "ladder"

    def _inference(self, x: Tensor, condition: Tensor | None, samples: int, draw: Callable[[Normal], Tensor]) -> Choose:
        features = self.way_up(x, condition)
        heads = reversed(self.way_up.heads)
        evidence = [gaussian(repeated(head(each), samples)) for head, each in zip(heads, features, strict=True)]

        def choose(i: int, prior: Normal, _: Tensor | None) -> tuple[Tensor, Normal]:
            posterior = evidence[i] if i == 0 else precision_weighted(evidence[i], prior)
            return draw(posterior), posterior

        return choose
