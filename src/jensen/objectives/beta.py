"""beta-VAE."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from jensen.bound import Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Beta"]


class Beta(Elbo):
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)) (Higgins et al. 2017, beta-VAE, eq. 4).

    Both terms are sums over dimensions, so that beta = 1 is the ELBO, whatever the size of the image. Papers that
    average over pixels and latents speak of the normalised beta, beta x latents / pixels.

    Args:
        beta: weight of the KL; above 1 a code of fewer nats, whose dimensions are to be independent.
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: beta is negative or not finite.
    """

    def __init__(self, beta: float = 4.0, **elbo: Any) -> None:
        super().__init__(**elbo)
        self.beta = check_weight("beta", beta)

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        return Price(self.beta * rate, {})

    def describe(self, latent: int, dims: int) -> str:
        normalised = self.beta * latent / dims
        return f"beta {self.beta:g}; normalised (x {latent} latents / {dims} values of a datum): {normalised:.4g}"
