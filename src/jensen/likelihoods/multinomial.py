"""Multinomial likelihood, for the words of documents."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.errors import ConfigError
from jensen.likelihoods.base import Likelihood
from jensen.nn.word_features import WordFeatures

__all__ = ["Multinomial", "WordCounts"]

LENGTH = 100
"""Words of a document that is drawn."""


class WordCounts(Distribution):
    """How often each of V words stands in a document of N words: N! prod_v p_v^x_v / x_v!.

    N is that of the document that is scored; `mean` and `sample` are of documents of `length` words. The batch shape is
    (..., V): `log_prob` gives each word x_v log p_v - log x_v! and its share x_v / N of log N!, so that it is the sum
    over words that means something, and it can be no sum over some of them.

    Args:
        logits: log p but for a constant, (..., V).
        length: words of a document that is drawn.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.nonnegative_integer

    def __init__(self, logits: Tensor, length: int = LENGTH) -> None:
        self.logits, self.length = logits, length
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats, of counts that broadcast against the batch.

        Raises:
            ValueError: a count is negative or no whole number (looked at on the CPU only).
        """
        if value.device.type == "cpu" and value.numel() and bool(((value < 0) | (value != value.round())).any()):
            raise ValueError("word counts should be 0, 1, 2, ...")
        words = value.sum(-1, keepdim=True)
        ways = value * (torch.lgamma(words + 1) / words.clamp_min(1)) - torch.lgamma(value + 1)
        return value * self.logits.log_softmax(-1) + ways

    @property
    def probabilities(self) -> Tensor:
        """p, (..., V)."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        """Expected counts in `length` words, (..., V)."""
        return self.length * self.probabilities

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Counts of `length` words each, (*sample_shape, ..., V)."""
        probabilities = self.probabilities.reshape(-1, self.logits.shape[-1])
        draws = math.prod(sample_shape)
        drawn = torch.multinomial(probabilities, draws * self.length, replacement=True)
        drawn = drawn.view(len(probabilities), draws, self.length).transpose(0, 1)
        counts = torch.zeros(draws, *probabilities.shape, dtype=self.logits.dtype, device=self.logits.device)
        counts.scatter_add_(-1, drawn, torch.ones_like(drawn, dtype=counts.dtype))
        return counts.view(*sample_shape, *self.logits.shape)


class Multinomial(Likelihood):
    """`WordCounts` with the decoder giving a logit of each word (Miao, Yu & Blunsom 2016; Liang et al. 2018).

    Args:
        words: V, of which an encoder then sees `WordFeatures`; None: it sees the counts as they are.
    """

    channels = 1

    def __init__(self, words: int | None = None) -> None:
        super().__init__()
        self.words = words

    @property
    def discrete(self) -> bool:
        return True

    def distribution(self, *parameters: Tensor) -> WordCounts:
        (logits,) = parameters
        return WordCounts(logits)

    def features(self) -> WordFeatures | None:
        return None if self.words is None else WordFeatures(self.words)

    def check_data(self, levels: int | None, transform: str) -> None:
        if levels is not None or transform != "none":
            raise ConfigError("likelihood multinomial is about counts of words, not about values on levels")
