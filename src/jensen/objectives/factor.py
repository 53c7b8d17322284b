"""FactorVAE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import leaky_relu, linear, softplus

from jensen.bound import Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import continuous_levels, flat
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Factor"]

SLOPE = 0.2


class Factor(Elbo):
    """E_q[log p(x | z)] - KL(q(z | x) || p(z)) - gamma TC(z) (Kim & Mnih 2018, Disentangling by factorising, eq. 2).

    The total correlation TC = KL(q(z) || prod_d q(z_d)) of the aggregate posterior is the mean over its draws of their
    log density ratio, which a discriminator learns meanwhile: its one logit tells codes of the batch from the same
    codes with each dimension permuted over the batch (within each sample; the levels of a model are put side by side).
    Early in training, and while codes move fast, it lags behind: it is an estimate of the TC, and no bound.

    With a prior p(z | c) of each datum's own, TC is that of q(z) over all conditions, and so has what the prior itself
    correlates: codes that are the prior, of rate 0, can have a price.

    Logged are `total_correlation`, the estimate in nats, and `discriminator`, its cross-entropy in nats a code: ln 2
    where the two cannot be told apart. One backward pass trains both: the gradient of TC ends at the codes, that of
    the cross-entropy at the discriminator's weights.

    Args:
        gamma: weight of TC.
        discriminator_lr: learning rate of its Adam (betas 0.5 and 0.9, as in the paper); a schedule of the learning
            rate scales it too.
        discriminator_width: units a hidden layer.
        discriminator_depth: hidden layers (leaky ReLU).
        latent: numbers of a code, of all levels together; None: those of the model that is trained (`prepare`).
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: a number is out of range; or, when called, the codes have another size than `latent`, or it is not
            known yet.
    """

    def __init__(
        self,
        gamma: float = 10.0,
        discriminator_lr: float = 1e-4,
        discriminator_width: int = 1000,
        discriminator_depth: int = 6,
        latent: int | None = None,
        **elbo: Any,
    ) -> None:
        super().__init__(**elbo)
        if not check_weight("discriminator_lr", discriminator_lr) > 0:
            raise ValueError("discriminator_lr should be positive, got 0")
        for name, number in (
            ("discriminator_width", discriminator_width),
            ("discriminator_depth", discriminator_depth),
            ("latent", latent),
        ):
            if number is not None and number < 1:
                raise ValueError(f"{name} should be at least 1, got {number}")
        self.gamma = check_weight("gamma", gamma)
        self.latent: int | None = None
        self.width, self.depth = discriminator_width, discriminator_depth
        self.optimiser = {"lr": discriminator_lr, "betas": (0.5, 0.9)}
        self.discriminator = nn.Sequential()
        if latent is not None:
            self.prepare(latent)

    def prepare(self, latent: int) -> None:
        if self.latent is None:
            self.latent = latent
            self.discriminator = _discriminator(latent, self.width, self.depth)

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        codes = self._codes(output)
        samples, batch, _ = codes.shape
        shuffled = _permuted(_drawn(codes.detach(), output, context.generator), context.generator)
        for_codes, for_weights = _LogRatio.apply(  # type: ignore[no-untyped-call]
            codes.flatten(0, 1), shuffled.flatten(0, 1), *self.discriminator.parameters()
        )
        total_correlation = output.average(for_codes.view(samples, batch))
        real, false = for_weights[: samples * batch].view(samples, batch), for_weights[samples * batch :]
        fixed = output if output.log_weights is None else replace(output, log_weights=output.log_weights.detach())
        entropy = 0.5 * (fixed.average(softplus(-real)) + softplus(false).mean())
        terms = {"total_correlation": total_correlation, "discriminator": entropy}
        return Price(rate + self.gamma * total_correlation, terms, auxiliary=entropy)

    def _codes(self, output: Output) -> Tensor:
        """Codes of all levels, (samples, batch, latent)."""
        levels = [flat(level.z) for level in continuous_levels(output)]
        samples = max(len(level) for level in levels)
        codes = torch.cat([level.expand(samples, -1, -1) for level in levels], -1)
        if self.latent is None:
            raise ValueError("there is no discriminator yet: call prepare(latent), as `train` does, or give latent")
        if codes.shape[-1] != self.latent:
            raise ValueError(
                f"the discriminator is for codes of {self.latent} numbers, but those of the model have "
                f"{codes.shape[-1]}: give latent={codes.shape[-1]}"
            )
        return codes


class _LogRatio(torch.autograd.Function):
    """The discriminator's logits of codes and of shuffled codes, for two losses in one backward pass.

    Gives the logits of the codes (n,), whose gradient goes to the codes alone, and those of both (n + m,), whose
    gradient goes to the weights alone. The rows of a net with one logit do not mix, so that either gradient is the
    derivative of the logit times a number a row: that derivative is propagated once, where autograd would take another
    pass forward and back for the codes.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, codes: Tensor, shuffled: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        device = codes.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else codes.dtype
        weights = [parameter.to(dtype) for parameter in parameters]
        hidden = torch.cat([codes, shuffled]).to(dtype)
        inputs = [hidden]
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            hidden = leaky_relu(linear(hidden, weight, bias), SLOPE)
            inputs.append(hidden)
        logits = linear(hidden, weights[-2], weights[-1])[:, 0].to(codes.dtype)
        ctx.save_for_backward(*inputs, *weights[::2])
        ctx.rows, ctx.kinds = len(codes), [parameter.dtype for parameter in parameters]  # type: ignore[attr-defined]
        return logits[: len(codes)].clone(), logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_codes: Tensor, for_weights: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        layers = len(saved) // 2
        inputs, weights = saved[:layers], saved[layers:]
        upstream = for_weights.unsqueeze(-1).to(inputs[0].dtype)
        derivative = inputs[0].new_ones(len(inputs[0]), 1)  # of the logit by the outputs of a layer, one row a code
        found: list[Tensor] = []
        for place in reversed(range(layers)):
            if place < layers - 1:
                derivative = torch.where(inputs[place + 1] > 0, derivative, SLOPE * derivative)
            scaled = upstream * derivative
            found[:0] = [scaled.mT @ inputs[place], scaled.sum(0)]
            if place == 0:
                derivative = derivative[: ctx.rows]
            derivative = derivative @ weights[place]
        gradients = [gradient.to(kind) for gradient, kind in zip(found, ctx.kinds, strict=True)]
        return for_codes.unsqueeze(-1) * derivative.to(for_codes.dtype), None, *gradients


def _discriminator(latent: int, width: int, depth: int) -> nn.Sequential:
    """Starts with a logit of 0 whatever the code, so that nothing pulls at the codes before something was learned."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layer = nn.Linear(latent if i == 0 else width, width)
        nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.LeakyReLU(SLOPE)]
    last = nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _permuted(codes: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each dimension of (samples, batch, D) permuted over the batch by itself, within each sample."""
    order = torch.rand(codes.shape, generator=generator, device=codes.device).argsort(1)
    return codes.gather(1, order)


def _drawn(codes: Tensor, output: Output, generator: torch.Generator | None) -> Tensor:
    """Codes that count equally: where samples are enumerated, one of each datum drawn by its weight, (1, batch, D)."""
    if output.log_weights is None:
        return codes
    picked = torch.multinomial(output.log_weights.exp().mT, 1, generator=generator)
    return codes.gather(0, picked.view(1, -1, 1).expand(1, -1, codes.shape[-1]))
