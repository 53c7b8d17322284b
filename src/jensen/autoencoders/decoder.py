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
            (batch, likelihood.channels x shape[0], *shape[1:]).
        likelihood: what the network's outputs are parameters of.
        shape: shape of a datum.
        condition_shape: shape of a condition; None: there is none.
    """

    def __init__(
        self,
        net: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        condition_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood
        self.shape = shape
        self.condition_shape = condition_shape

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Distribution:
        """p(x | z, c), batch shape (..., *shape).

        Args:
            z: codes, (..., latent).
            condition: (*lead, *condition_shape), lead broadcastable to the leading dimensions of z.
        """
        lead = z.shape[:-1]
        rows = z.reshape(-1, z.shape[-1])
        out = self.net(rows) if condition is None else self.net(rows, self._rows(condition, lead))
        if self.likelihood.channels == 1:  # the same as below without its copy in the backward pass
            return self.likelihood(out.view(*lead, *self.shape))
        return self.likelihood(*out.view(*lead, self.likelihood.channels, *self.shape).unbind(len(lead)))

    def _rows(self, condition: Tensor, lead: tuple[int, ...]) -> Tensor:
        """The condition as rows for the network: of each row of z, or fewer where the network repeats them itself."""
        shape = self.condition_shape or ()
        own = condition.shape[: condition.ndim - len(shape)]
        if not isinstance(self.net, Conditional) or own != lead[len(lead) - len(own) :]:
            condition = condition.expand(*lead, *shape)
        return condition.reshape(-1, *shape)
