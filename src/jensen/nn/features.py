"""What an encoder sees of values that are no plain numbers: categories, gaps, counts of words."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

__all__ = ["Features", "Seen"]


class Features(nn.Module, ABC):
    """Turns values (batch, *shape) into numbers (batch, size) that a network can start from.

    Attributes:
        size: numbers of a datum.
    """

    size: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, size), finite wherever x is finite or a gap (NaN) that is allowed."""


class Seen(nn.Module):
    """A network that sees x through `features`; what else it is called with goes to the network as it is."""

    def __init__(self, features: Features, net: nn.Module) -> None:
        super().__init__()
        self.features, self.net = features, net

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        out: Tensor = self.net(self.features(x), *condition)
        return out
