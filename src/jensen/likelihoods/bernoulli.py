"""Bernoulli likelihood, for binary images and yes/no targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli

from jensen.likelihoods.base import Likelihood

__all__ = ["Bernoulli"]


class _FromLogits(TorchBernoulli):
    """torch's Bernoulli with half the passes over memory in `log_prob`, where most of a small VAE's time goes."""

    def log_prob(self, value: Tensor) -> Tensor:
        # x l - softplus(l), with softplus(l) = l - logsigmoid(l); the target is not expanded over samples.
        return torch.addcmul(F.logsigmoid(self.logits), value - 1, self.logits)


class Bernoulli(Likelihood):
    """p(x | z) = sigmoid(l)^x (1 - sigmoid(l))^(1 - x), the decoder giving the logit l of each value.

    x is 0 or 1. On grey levels in between, `log_prob` is minus the cross-entropy: a usual loss, but no probability of
    the grey level; binarise the data to have one.
    """

    channels = 1
    levels = 2
    between = True

    def distribution(self, *parameters: Tensor) -> TorchBernoulli:
        (logits,) = parameters
        return _FromLogits(logits=logits, validate_args=False)
