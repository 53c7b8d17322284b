"""The model of Burda et al. 2016 on MNIST, and one estimator of its test log-likelihood for everybody."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.autoencoders import NeuralModel
from jensen.config import NetConfig
from jensen.data import load_data
from jensen.data.transform import binarise
from jensen.metrics import importance_weighted_log_likelihood

__all__ = ["LATENT", "NET", "SHAPE", "TEST_SEED", "VALIDATION", "Score", "binarised_test", "say", "score"]

SHAPE = (1, 28, 28)
LATENT = 50
NET = NetConfig(kind="mlp", width=200, depth=2, activation="tanh")
VALIDATION = 1 / 60
"""share of the 60,000 training images that choose the epoch: 1,000"""
TEST_SEED = 2016
SCORE_SEED = 7
IMAGES_AT_ONCE = 250
SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Score:
    """Of a model on test images; nats an image, errors are standard errors over images."""

    images: int
    samples: int
    log_likelihood: float
    log_likelihood_error: float
    elbo: float
    elbo_error: float


def binarised_test(images: int | None = None) -> Tensor:
    """The test images of MNIST, or the first of them, (n, 1, 28, 28), 0 or 1: one Bernoulli draw of each pixel."""
    grey = load_data("mnist", transform="none", validation=VALIDATION).test
    x = grey.batch(torch.arange(len(grey))).x
    return binarise(x, torch.Generator().manual_seed(TEST_SEED))[:images]


@torch.no_grad()
def score(model: NeuralModel, x: Tensor, samples: int, name: str) -> Score:
    """Importance-weighted log-likelihood with `samples` draws, and the ELBO with one, of images (n, 1, 28, 28)."""
    model.eval()
    weighted: list[Tensor] = []
    bounds: list[Tensor] = []
    start = shown = time.monotonic()
    with torch.random.fork_rng([]):
        torch.manual_seed(SCORE_SEED)
        for some in x.split(IMAGES_AT_ONCE):
            weighted.append(importance_weighted_log_likelihood(model, some, samples=samples))
            output = model(some)
            bounds.append((output.log_likelihood() - output.rate()).mean(0).double())
            now, done = time.monotonic(), sum(map(len, weighted))
            if now - shown > SECONDS_BETWEEN_LINES:
                shown = now
                left = (now - start) * (len(x) - done) / done
                say(f"{name}: scored {done:,} of {len(x):,} images, about {left:.0f} s left")
    log_likelihood, elbo = torch.cat(weighted), torch.cat(bounds)
    return Score(
        images=len(x),
        samples=samples,
        log_likelihood=log_likelihood.mean().item(),
        log_likelihood_error=_standard_error(log_likelihood),
        elbo=elbo.mean().item(),
        elbo_error=_standard_error(elbo),
    )


def say(text: str) -> None:
    """A line about the progress, on standard error, so that standard output holds the table alone."""
    print(text, file=sys.stderr, flush=True)


def _standard_error(values: Tensor) -> float:
    return (values.std() / math.sqrt(len(values))).item()
