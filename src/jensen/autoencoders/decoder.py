"""The decoder as what it stands for: a conditional distribution over the target."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.likelihoods import Likelihood
from jensen.nn import Conditional

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """p(x | z) or p(x | z, c): a network and a likelihood.

    z of shape (..., latent) to a distribution over (..., *shape).

    Args:
        net: (batch, latent), and (batch, *condition_shape) where there is a condition, to
            (batch, likelihood.planes(shape), *shape[1:]).
        likelihood: what the network's outputs are parameters of.
        shape: shape of a datum.
        condition_shape: shape of a condition; None: there is none.
        code_dims: dimensions of a code: 1 for a vector, more for embeddings on a grid (z is then (..., channels,
            *grid), and the network takes (batch, channels, *grid)).
    """

    def __init__(
        self,
        net: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        condition_shape: tuple[int, ...] | None = None,
        code_dims: int = 1,
    ) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood
        self.shape = shape
        self.condition_shape = condition_shape
        self.code_dims = code_dims

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Distribution:
        """p(x | z, c), batch shape (..., *shape).

        Args:
            z: codes, (..., latent), or of more dimensions (`code_dims`).
            condition: (*lead, *condition_shape), lead broadcastable to the leading dimensions of z.
        """
        behind = z.ndim - self.code_dims
        lead = z.shape[:behind]
        rows = z.reshape(-1, *z.shape[behind:])
        out = self.net(rows) if condition is None else self.net(rows, self._rows(condition, lead))
        planes = out.view(*lead, self.likelihood.planes(self.shape), *self.shape[1:])
        return self.likelihood.of_planes(planes, self.shape)

    def _rows(self, condition: Tensor, lead: tuple[int, ...]) -> Tensor:
        """The condition as rows for the network: of each row of z, or fewer where the network repeats them itself."""
        shape = self.condition_shape or ()
        own = condition.shape[: condition.ndim - len(shape)]
        if not isinstance(self.net, Conditional) or own != lead[len(lead) - len(own) :]:
            condition = condition.expand(*lead, *shape)
        return condition.reshape(-1, *shape)
