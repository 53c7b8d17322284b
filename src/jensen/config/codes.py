"""Discrete codes, and autoregressive networks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jensen.config.names import Count, NonNegative, Positive
from jensen.sections import Section

__all__ = ["QUANTISER_KNOBS", "AutoregressiveConfig", "QuantiserConfig"]

QUANTISER_KNOBS: dict[str, dict[str, Any]] = {
    "vector": {
        "codes": 512,
        "codebook": "ema",
        "decay": 0.99,
        "commitment": 0.25,
        "initial": "k-means",
        "revival": 0.1,
        "cosine": False,
        "projection": None,
    },
    "residual": {
        "codes": 512,
        "books": 4,
        "codebook": "ema",
        "decay": 0.99,
        "commitment": 0.25,
        "initial": "k-means",
        "revival": 0.1,
        "cosine": False,
        "projection": None,
    },
    "gumbel": {"codes": 512, "temperature": 1.0},
    "finite-scalar": {"values": (8, 5, 5, 5)},
}
"""The knobs of each quantiser, with their defaults; any other knob is refused."""


class QuantiserConfig(Section):
    """How features become integers, and integers embeddings."""

    kind: Literal["vector", "residual", "gumbel", "finite-scalar"] = Field(
        "vector",
        description="vector (the nearest of K embeddings), residual (several codebooks, each of what the ones before "
        "left), gumbel (a code drawn from K, Gumbel-softmax gradient), finite-scalar (each number rounded)",
    )
    dim: Count = Field(64, description="dimension D of an embedding")
    codes: Annotated[int, Field(ge=2)] | None = Field(None, description="number K of embeddings (512)")
    books: Count | None = Field(None, description="residual: number of codebooks (4)")
    codebook: Literal["ema", "loss"] | None = Field(
        None, description="how embeddings are learned: moving averages of what they stand for (ema), or by gradient"
    )
    decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="ema: of the moving averages (0.99)")
    commitment: NonNegative | None = Field(
        None, description="weight of the squared distance from features to their embeddings, a sum (0.25)"
    )
    initial: Literal["k-means", "random"] | None = Field(
        None, description="first embeddings: k-means of the first batch's features, or random"
    )
    revival: NonNegative | None = Field(
        None,
        description="embeddings used less than this share of the average are put where features are; 0: never (0.1)",
    )
    cosine: bool | None = Field(None, description="nearest by angle: features and embeddings of length 1")
    projection: Count | None = Field(None, description="look codes up in a space of so few dimensions (cosine: 8)")
    temperature: Positive | None = Field(None, description="gumbel: of the relaxation in the gradient (1)")
    values: tuple[Annotated[int, Field(ge=2)], ...] | None = Field(
        None, description="finite-scalar: how many values each number of a code takes (8,5,5,5)"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = QUANTISER_KNOBS.get(str(values.get("kind", "vector")), {})
        return {**values, **{name: value for name, value in own.items() if values.get(name) is None}}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        every = {name for knobs in QUANTISER_KNOBS.values() for name in knobs}
        for name in sorted(every - set(QUANTISER_KNOBS[self.kind])):
            if getattr(self, name) is not None:
                kinds = ", ".join(kind for kind, knobs in QUANTISER_KNOBS.items() if name in knobs)
                raise ValueError(f"{name} has no meaning for {self.kind}; it is for kind {kinds}")
        if self.codebook == "loss" and self.decay != 0.99:
            raise ValueError("decay has no meaning for codebook loss, which learns embeddings by gradient: use ema")
        return self


class AutoregressiveConfig(Section):
    """A network that predicts one value after the other: of codes, or of pixels."""

    kind: Literal["pixelcnn", "transformer"] = Field(
        "pixelcnn", description="gated PixelCNN (masked convolutions), or a decoder-only transformer"
    )
    width: Count = Field(64, description="channels of a layer")
    depth: Count = Field(8, description="layers")
    heads: Count = Field(4, description="transformer: attention heads")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden values dropped in training")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(f"width {self.width} should be a multiple of heads {self.heads}")
        if self.kind == "pixelcnn" and self.heads != 4:
            raise ValueError("heads has no meaning for pixelcnn, which has no attention; use transformer")
        return self
