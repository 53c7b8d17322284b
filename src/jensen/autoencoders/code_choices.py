"""What a VQ-VAE is to be, and the parts that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from jensen.autoencoders.code_nets import CodeNets, code_nets, quantisers_of
from jensen.config import AutoregressiveConfig, ModelConfig, NetConfig, QuantiserConfig
from jensen.likelihoods import Likelihood, make_likelihood
from jensen.nn import Conditioning
from jensen.nn.quantiser.base import Quantiser

__all__ = ["CodeChoices"]


@dataclass(frozen=True, kw_only=True)
class CodeChoices:
    """The choices of a `VQVAE`, which says what each means, checked against each other.

    Raises:
        ValueError: hierarchy is not 1 or 2, symbols have no `levels`, or `autoregressive` stands beside another
            likelihood.
    """

    shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    downsampling: int
    hierarchy: int
    quantiser: QuantiserConfig | Quantiser
    net: NetConfig
    likelihood: Likelihood | str
    levels: int | None
    sigma: float
    autoregressive: AutoregressiveConfig | None
    conditioning: Conditioning
    symbols: bool | None

    def __post_init__(self) -> None:
        if self.hierarchy not in (1, 2):
            raise ValueError(f"hierarchy should be 1 or 2 levels of codes, got {self.hierarchy}")
        if self.autoregressive is not None and self.likelihood != "autoregressive":
            raise ValueError("autoregressive is the network of likelihood autoregressive: choose that, by its name")
        if self.symbols and self.levels is None:
            raise ValueError("symbols are one of so many: give levels, the number of them")

    @property
    def are_symbols(self) -> bool:
        """Whether the data are symbols: as said, or else signals on levels with a likelihood that knows no order."""
        if self.symbols is not None:
            return self.symbols
        unordered = self.likelihood in ("categorical", "autoregressive")
        return self.levels is not None and len(self.shape) == 2 and unordered

    def config(self) -> ModelConfig | None:
        """The configuration that says the same; None where quantiser or likelihood are own ones, without a name."""
        if not isinstance(self.likelihood, str) or not isinstance(self.quantiser, QuantiserConfig):
            return None
        names = ("downsampling", "hierarchy", "quantiser", "net", "likelihood", "sigma", "conditioning")
        own = {} if self.autoregressive is None else {"autoregressive": self.autoregressive}
        return ModelConfig(kind="vqvae", **{name: getattr(self, name) for name in names}, **own)

    def made_likelihood(self) -> Likelihood:
        """The likelihood of that name, or the own one."""
        if not isinstance(self.likelihood, str):
            return self.likelihood
        return make_likelihood(
            self.likelihood,
            levels=self.levels,
            sigma=self.sigma,
            shape=self.target_shape,
            autoregressive=self.autoregressive,
        )

    def nets(
        self,
        likelihood: Likelihood,
        encoder: nn.Module | None,
        decoder: nn.Module | None,
        condition_shape: tuple[int, ...] | None,
    ) -> CodeNets:
        """Encoder, quantisers and decoder; see `code_nets`.

        Args:
            likelihood: what the decoder's output are parameters of.
            encoder: own network; None: it is made.
            decoder: own network; None: it is made.
            condition_shape: of what both are told; None: nothing.
        """
        return code_nets(
            self.shape,
            (likelihood.planes(self.target_shape), *self.target_shape[1:]),
            quantisers_of(self.quantiser, self.hierarchy),
            self.downsampling,
            self.net,
            encoder=encoder,
            decoder=decoder,
            condition_shape=condition_shape,
            conditioning=self.conditioning,
            symbols=self.levels if self.are_symbols else None,
        )
