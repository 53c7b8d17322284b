"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from jensen.nn.blocks import activation, norm1d
from jensen.nn.condition import Layers, film

__all__ = ["MLP"]


class MLP(Layers):
    """Linear layers with a nonlinearity (and normalisation) after each but the last.

    Maps (batch, in_features) to (batch, out_features).

    Args:
        in_features: size of the input.
        hidden: sizes of the hidden layers.
        out_features: size of the output.
        nonlinearity: name of the activation.
        normalisation: none, batch or group (layer normalisation).
        embedding: size of a condition's embedding that modulates every hidden layer (`Film`), 0: there is none.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in zip([in_features, *hidden], hidden, strict=False):
            layers += [
                nn.Linear(before, after),
                *norm1d(normalisation, after),
                *film(embedding, after),
                activation(nonlinearity),
            ]
        last = hidden[-1] if hidden else in_features
        super().__init__(*layers, nn.Linear(last, out_features))
