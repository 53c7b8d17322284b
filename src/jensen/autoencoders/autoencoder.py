"""The plain auto-encoder."""

from __future__ import annotations

from typing import Literal, NoReturn

from torch import Tensor

from jensen.autoencoders.base import EncoderDecoder
from jensen.bound import Level, Output
from jensen.likelihoods import at_least_float32

__all__ = ["AutoEncoder"]


class AutoEncoder(EncoderDecoder):
    """z = f(x), p(x | z): a code without a distribution, so no prior to sample from and no bound.

    Trained on `Elbo`, which is its reconstruction log-likelihood. With corrupted input and clean target it is a
    denoising auto-encoder (Vincent et al. 2008), with another target an encoder-decoder. Arguments: `EncoderDecoder`.
    """

    kind: Literal["vae", "autoencoder"] = "autoencoder"

    def forward(self, x: Tensor, target: Tensor | None = None, samples: int = 1) -> Output:
        expected = self._checked(x, target)
        z = self.encode(x).unsqueeze(0)
        return Output(expected, self.decoder(z), (Level(z, None, None),))

    def encode(self, x: Tensor) -> Tensor:
        self._check_input(x)
        return at_least_float32(self.encoder(x))

    def sample(self, n: int, temperature: float = 1.0) -> NoReturn:
        """Raises TypeError: nothing says where the codes of an auto-encoder lie."""
        raise TypeError(
            "an auto-encoder has no prior over its codes, so there is nothing to sample from: a random code decodes to "
            "nonsense. Train a VAE to generate (model vae)"
        )
