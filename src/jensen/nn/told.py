"""What every step of a deep network is told of a condition, and how it enters where it stands beside the input."""

from __future__ import annotations

from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.nn.build import Conditioning, condition_embedding
from jensen.nn.condition import Modulated

__all__ = ["Embedding", "Shift"]


class Embedding(nn.Module):
    """What the blocks are told of a condition: (batch, *condition_shape) to (batch, size)."""

    def __init__(self, config: NetConfig, condition_shape: tuple[int, ...], conditioning: Conditioning) -> None:
        super().__init__()
        self.net: nn.Module
        if conditioning == "concat" and len(condition_shape) == 1:
            self.net, self.size = nn.Flatten(), condition_shape[0]
        else:
            net = NetConfig(activation=config.activation)
            self.net, self.size = condition_embedding(net, condition_shape, curved=conditioning == "film")

    def forward(self, condition: Tensor) -> Tensor:
        out: Tensor = self.net(condition)
        return out


class Shift(nn.Module, Modulated):
    """x + W c: what a linear layer or convolution sees of an embedding that stands beside its input."""

    def __init__(self, embedding: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, features, bias=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(batch, features, ...) and (batch, embedding) to (batch, features, ...)."""
        out: Tensor = x + self.linear(embedding)[(...,) + (None,) * (x.ndim - 2)]
        return out
