"""Priors p(z) that are learned: a mixture of normals, and VampPrior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.distributions import Normal

from jensen.chained import FullNormal, NormalMixture
from jensen.likelihoods import soft_clamp

__all__ = ["LearnedPrior", "MixturePrior", "Posterior", "VampPrior"]

LOG_SIGMA_LIMIT = 7.0
JITTER = 0.01


Posterior = Callable[[Tensor], Normal | FullNormal]
"""from what an encoder starts from, (K, *shape), to q(z | u), batch shape (K, D)"""


class LearnedPrior(nn.Module, ABC):
    """Base of priors that do not depend on what a model is told."""

    @abstractmethod
    def forward(self, posterior: Posterior) -> NormalMixture:
        """The prior as its parameters are now, in a model with this posterior."""

    def begin(self, x: Tensor) -> None:
        """Look at what the encoder starts from in a first batch of training data, (batch, *shape)."""


class MixturePrior(LearnedPrior):
    """p(z) = sum_k w_k N(z; mu_k, diag sigma_k^2), all learned (Dilokthanakul et al. 2016, without their classes).

    It starts as K narrow normals with means drawn from N(0, I), so that together they are about N(0, I).

    Args:
        latent: D.
        components: K.
    """

    def __init__(self, latent: int, components: int = 10) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent) if components > 1 else torch.zeros(1, latent))
        self.log_scales = nn.Parameter(torch.zeros(components, latent))

    def forward(self, posterior: Posterior) -> NormalMixture:
        scales = soft_clamp(self.log_scales, LOG_SIGMA_LIMIT).exp()
        return NormalMixture(self.logits.log_softmax(0), Normal(self.means, scales, validate_args=False))


class VampPrior(LearnedPrior):
    """p(z) = 1/K sum_k q(z | u_k), the posterior's mixture over K learned inputs (Tomczak & Welling 2018, eq. 9).

    The best prior for a given encoder is the mean of its posteriors over the data; this is one over few inputs, and
    costs an encoding of K inputs a step. The inputs start as data of the first batch (drawn with replacement, with a
    little noise) and are then free: they are not kept within the range of data.

    Args:
        shape: of what the encoder starts from.
        components: K.
    """

    begun: Tensor

    def __init__(self, shape: tuple[int, ...], components: int = 500) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.zeros(components, *shape))
        self.register_buffer("begun", torch.tensor(False))
        self._looked: int | None = None
        """how often `begun` had been written when it was looked at, which would make a GPU wait in every step"""

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        # Steps that are tried and undone, or left out, put `begun` back: these data were not the first then.
        if not self.begun.is_cpu and self._looked == self.begun._version:
            return
        if not bool(self.begun):
            chosen = x[torch.randint(len(x), (len(self.inputs),), device=x.device)]
            self.inputs.copy_(chosen + JITTER * torch.randn_like(self.inputs))
            if distributed.is_available() and distributed.is_initialized():
                distributed.broadcast(self.inputs.data, 0)
            self.begun.fill_(True)
        self._looked = self.begun._version

    def forward(self, posterior: Posterior) -> NormalMixture:
        log_weights = self.inputs.new_full((len(self.inputs),), -math.log(len(self.inputs)), dtype=torch.float32)
        return NormalMixture(log_weights, posterior(self.inputs))
