"""What holds for a whole network with Bayesian layers: its KL, its bound, and the network at its mean weights.

log p(data) >= sum over data of E_q[log p(y | x, W)] - KL(q(W) || p(W))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from jensen.nn.weight_noise import BayesianLayer

__all__ = ["BayesianElbo", "bayesian_elbo", "kl_divergence", "posterior_mean"]


class BayesianElbo(NamedTuple):
    """Terms of the bound, scalars in nats per example: the bound on log p(data) is N times `elbo`.

    Attributes:
        elbo: log_likelihood - rate; minus this is the loss.
        log_likelihood: the batch's mean of log p(y | x, W).
        rate: KL(q(W) || p(W)) / N.
    """

    elbo: Tensor
    log_likelihood: Tensor
    rate: Tensor


def kl_divergence(module: nn.Module) -> Tensor:
    """KL(q || prior) in nats, summed over the Bayesian layers of `module`, each once however often it is used.

    Divided by the number of training examples it is also a penalty as `jensen.bound.Output` takes them: nats per
    example, added to the loss.

    Raises:
        ValueError: there is no Bayesian layer.
    """
    first, *others = [layer.kl_divergence() for layer in _layers(module)]
    for divergence in others:
        first = first + divergence
    return first


def bayesian_elbo(log_likelihood: Tensor, module: nn.Module, dataset_size: int) -> BayesianElbo:
    """The bound from a minibatch: likelihood scaled up to the data set, the weights' KL counted once.

    Args:
        log_likelihood: log p(y | x, W) of each example, (batch,) or (samples, batch), nats.
        module: the network whose layers drew W.
        dataset_size: N, number of training examples (not of batches).

    Raises:
        ValueError: the log-likelihood was summed or averaged already, N is smaller than the batch, or `module` has no
            Bayesian layer.
    """
    if log_likelihood.ndim not in (1, 2) or log_likelihood.numel() == 0:
        shape = tuple(log_likelihood.shape)
        raise ValueError(f"log_likelihood should be (batch,) or (samples, batch), one number an example, got {shape}")
    if dataset_size < log_likelihood.shape[-1]:
        raise ValueError(
            f"dataset_size should count all training examples, but {dataset_size} is less than the batch's"
            f" {log_likelihood.shape[-1]}; the length of a loader counts batches"
        )
    mean = log_likelihood.mean()
    rate = kl_divergence(module) / dataset_size
    return BayesianElbo(mean - rate, mean, rate)


@contextmanager
def posterior_mean(module: nn.Module) -> Iterator[None]:
    """Inside the `with`, the Bayesian layers of `module` have the means of their weights and draw no noise.

    One pass in place of an average over many: usually nearly as accurate, but without the weights' uncertainty.

    Raises:
        ValueError: there is no Bayesian layer.
    """
    before = [(layer, layer.noisy) for layer in _layers(module)]
    try:
        for layer, _ in before:
            layer.noisy = False
        yield
    finally:
        for layer, noisy in before:
            layer.noisy = noisy


def _layers(module: nn.Module) -> list[BayesianLayer]:
    found = [layer for layer in module.modules() if isinstance(layer, BayesianLayer)]
    if not found:
        raise ValueError(f"{type(module).__name__} has no Bayesian layer: build it with BayesianLinear or the like")
    return found
