"""The plain auto-encoder."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from jensen.autoencoders.base import EncoderDecoder
from jensen.autoencoders.condition import checked_mask
from jensen.bound import Level, Output
from jensen.config import ModelKind
from jensen.likelihoods import at_least_float32

__all__ = ["AutoEncoder"]


class AutoEncoder(EncoderDecoder):
    """z = f(x), p(x | z): a code without a distribution, so no prior to sample from and no bound.

    Trained on `Elbo`, which is its reconstruction log-likelihood. With corrupted input and clean target it is a
    denoising auto-encoder (Vincent et al. 2008), with another target an encoder-decoder. Arguments: `EncoderDecoder`.
    """

    kind: ModelKind = "autoencoder"

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        expected = self._checked(x, target)
        observed = checked_mask(mask, len(x), self.target_shape)
        condition = self._condition(condition, len(x))
        z = self._code(x, condition).unsqueeze(0)
        return Output(expected, self.decoder(z, condition), (Level(z, None, None),), mask=observed)

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        self._check_input(x)
        return self._code(x, self._condition(condition, len(x)))

    def _code(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return at_least_float32(self.encoder(x) if condition is None else self.encoder(x, condition))

    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> NoReturn:
        """Raises TypeError: nothing says where the codes of an auto-encoder lie."""
        raise TypeError(
            "an auto-encoder has no prior over its codes, so there is nothing to sample from: a random code decodes to "
            "nonsense. Train a VAE to generate (model vae)"
        )
