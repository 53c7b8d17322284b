"""Networks that are told something beside their input: a class, attributes, or an image.

The condition is first embedded (for concatenation: flattened at most), and the embedding then either stands beside the
input or modulates the hidden layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Beside", "Conditional", "Film", "Layers", "Modulated", "Through", "film"]


class Modulated:
    """Mark of a layer that is called with (x, embedding), embedding None where there is no condition."""


class Layers(nn.Sequential, Modulated):
    """Layers one after the other; those that are `Modulated` get the embedding too, (batch, features) or None."""

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        if embedding is None:
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return out
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, Modulated) else layer(x)
        return x


class Film(nn.Module, Modulated):
    """scale(c) x + shift(c) for each feature or channel (Perez et al. 2018, FiLM, eq. 2); at first the identity.

    Args:
        embedding: size of the condition's embedding, of which scale and shift are linear functions.
        features: size of dimension 1 of what is modulated.
    """

    def __init__(self, embedding: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, 2 * features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(batch, features, ...) and (batch, embedding) to (batch, features, ...)."""
        excess, shift = self.linear(embedding)[(...,) + (None,) * (x.ndim - 2)].chunk(2, 1)
        out: Tensor = x * (1 + excess) + shift
        return out


def film(embedding: int, features: int) -> list[nn.Module]:
    """What stands before a nonlinearity: a `Film` layer, or nothing where the embedding has size 0."""
    return [Film(embedding, features)] if embedding else []


class Conditional(nn.Module):
    """Base of networks of an input and a condition.

    Called with an input of (repeats x batch) rows, the batch running fastest, and a condition of (batch) rows: what is
    made of the condition is made once and repeated.

    Args:
        embed: (batch, *condition_shape) to what `net` is to see of it.
        net: the network.
    """

    def __init__(self, embed: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.net = net

    def embedding(self, condition: Tensor, rows: int) -> Tensor:
        """The embedded condition, repeated to `rows` rows."""
        embedded: Tensor = self.embed(condition)
        if len(embedded) == rows:
            return embedded
        return embedded.repeat(rows // len(embedded), *[1] * (embedded.ndim - 1))


class Beside(Conditional):
    """The embedding beside the input: as more channels of an image (a vector as constant planes), else both flattened.

    Args:
        embed: (batch, *condition_shape) to a vector or, with `planes`, also to an image of the input's size.
        net: from the two together.
        planes: whether the input is an image for a convolutional net.
    """

    def __init__(self, embed: nn.Module, net: nn.Module, planes: bool) -> None:
        super().__init__(embed, net)
        self.planes = planes

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        embedding = self.embedding(condition, len(x))
        if not self.planes:
            x, embedding = x.flatten(1), embedding.flatten(1)
        elif embedding.ndim == 2:
            embedding = embedding[:, :, None, None].expand(-1, -1, *x.shape[2:])
        out: Tensor = self.net(torch.cat([x, embedding.to(x.dtype)], 1))
        return out


class Through(Conditional):
    """The embedding goes to the `Modulated` layers of the net, which is called with (x, embedding)."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.net(x, self.embedding(condition, len(x)))
        return out
