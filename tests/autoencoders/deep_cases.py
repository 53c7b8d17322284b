"""Deep VAEs for tests, and their densities written out: from the networks alone, without the walk of the models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jensen.autoencoders import NVAE, DeepVAE, HierarchicalVAE, LadderVAE
from jensen.bound import Output
from jensen.config import NetConfig

KINDS: dict[str, type[DeepVAE]] = {"hvae": HierarchicalVAE, "ladder": LadderVAE, "nvae": NVAE}
NETS = ("mlp", "conv", "cells")
PAIRS = [(kind, net) for kind in KINDS for net in NETS]

SHAPE = (1, 6, 7)
SCALES = ("2x2@4", "2@6")


def made(kind: str, net: str | NetConfig = "mlp", shape: tuple[int, ...] = SHAPE, **choices: Any) -> DeepVAE:
    """A small one of three levels on two scales; ELU, as of so few ReLUs all may be dead."""
    own = {} if net == "cells" or (net == "auto" and kind == "nvae") else {"activation": "elu"}
    net = NetConfig.model_validate({"kind": net, **own}) if isinstance(net, str) else net
    vectors = net.kind == "mlp" or (net.kind == "auto" and len(shape) != 3)
    sizes = {} if vectors else {"downsampling": 2}
    return KINDS[kind](shape, **{"scales": SCALES, "net": net, **sizes, **choices})


def lively(model: DeepVAE, scale: float = 1.5) -> DeepVAE:
    """In float64 and evaluation mode, all weights redrawn, so that nothing is 0 and every level says something of x."""
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(scale * torch.randn_like(parameter) / math.sqrt(fan))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.abs_().add_(0.5)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2.0)
    return model


def binary(rows: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(rows, *shape).round().double()


def codes_of(output: Output) -> list[Tensor]:
    """z of each level, the top first, (samples x batch, *dims)."""
    return [level.z.flatten(0, 1) for level in output.levels]


def mean_and_log_sd(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Of a Gaussian, from the output of a head: log sd is 5 tanh(. / 5)."""
    mean, log_sd = parameters.chunk(2, 1)
    return mean, 5 * torch.tanh(log_sd / 5)


def log_normal(z: Tensor, mean: Tensor | float, log_sd: Tensor) -> Tensor:
    """Summed over all but rows."""
    of_each = -0.5 * ((z - mean) * torch.exp(-log_sd)) ** 2 - log_sd - 0.5 * math.log(2 * math.pi)
    return of_each.flatten(1).sum(1)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    of_each = x * nn.functional.logsigmoid(logits) + (1 - x) * nn.functional.logsigmoid(-logits)
    return of_each.flatten(1).sum(1)


class Down:
    """p(z) and the decoder's output for codes z of all levels, the top first, (rows, *dims)."""

    def __init__(self, model: DeepVAE, codes: Sequence[Tensor], condition: Tensor | None = None) -> None:
        way = model.way_down
        told = None if condition is None or way.embedding is None else way.embedding(condition)
        rows = len(codes[-1])
        self.states: list[Tensor | None] = [None if way.start is None else way.start.repeat(rows, 1, 1, 1)]
        self.priors = [(torch.zeros_like(codes[0]), torch.zeros_like(codes[0]))]
        for i, (step, z) in enumerate(zip(way.steps, codes, strict=True)):
            state = self.states[-1]
            if i > 0:
                self.priors.append(mean_and_log_sd(way.heads[i - 1].out(state)))
            seen = z if state is None or step.join is None else step.join(torch.cat([state, z], 1))
            self.states.append(step.blocks(seen, told))
        out = self.states[-1]
        assert out is not None
        self.out = out
        pairs = zip(codes, self.priors, strict=True)
        self.log_p = torch.stack([log_normal(z, *prior) for z, prior in pairs])


def posteriors(
    model: DeepVAE, x: Tensor, codes: Sequence[Tensor], down: Down, condition: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Mean and log sd of q of each level, the top first, given all codes; x is of as many rows as these."""
    up = model.way_up
    told = None if condition is None or up.embedding is None else up.embedding(condition)
    below, features = x, []
    for step, z in zip(up.steps, list(codes)[::-1], strict=True):
        features.append(step(below, told))
        below = z if isinstance(model, HierarchicalVAE) else features[-1]
    found = []
    for i in range(len(codes)):  # from the top
        level = len(codes) - 1 - i
        head, seen, state = up.heads[level], features[level], down.states[i]
        if isinstance(model, NVAE) and head.merge is not None and state is not None:
            seen = seen + head.merge(state)
        mean, log_sd = mean_and_log_sd(head.out(seen))
        prior_mean, prior_log_sd = down.priors[i]
        if isinstance(model, NVAE):
            mean, log_sd = prior_mean + 5 * torch.tanh(mean / 5), prior_log_sd + log_sd
        elif isinstance(model, LadderVAE) and i > 0:
            evidence, prior = torch.exp(-2 * log_sd), torch.exp(-2 * prior_log_sd)
            mean = (evidence * mean + prior * prior_mean) / (evidence + prior)
            log_sd = -0.5 * torch.log(evidence + prior)
        found.append((mean, log_sd))
    return found


def log_weights_by_hand(model: DeepVAE, x: Tensor, output: Output, condition: Tensor | None = None) -> Tensor:
    """log p(x, z) - log q(z | x) of a Bernoulli x at the codes of an output, (samples, batch)."""
    codes, lead = codes_of(output), output.levels[0].z.shape[:2]
    rows = x.repeat(lead[0], *[1] * (x.ndim - 1))
    told = None if condition is None else condition.repeat(lead[0], *[1] * (condition.ndim - 1))
    down = Down(model, codes, told)
    of_q = posteriors(model, rows, codes, down, told)
    log_q = torch.stack([log_normal(z, *q) for z, q in zip(codes, of_q, strict=True)])
    total = log_bernoulli(rows, down.out.view_as(rows)) + (down.log_p - log_q).sum(0)
    return total.unflatten(0, lead)
