"""What a model draws for a picture: classes side by side, the hidden part of images, one latent at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.autoencoders.model import NeuralModel

__all__ = ["Traversal", "fill_in", "samples_by_row", "traverse"]

AT_ONCE = 500
"""Samples decoded together: bounds memory, however many are asked for."""
REACH = 3.0


@torch.no_grad()
def samples_by_row(
    model: NeuralModel, conditions: Tensor, columns: int, temperature: float = 1.0, *, seed: int = 0
) -> Tensor:
    """New data under each of some conditions (rows, *condition_shape), (rows, columns, *target_shape).

    The noise of z is the same in every row, so that rows differ by their condition alone: the same z where the prior
    is standard, the same place in p(z | c) where it is learned. Torch's global generator is left as it was.

    Raises:
        TypeError: the model has no prior.
        ValueError: columns or temperature are not positive, or the conditions have another shape than the model's.
    """
    if columns < 1:
        raise ValueError(f"columns should be at least 1, got {columns}")
    sizes = [min(AT_ONCE, columns - done) for done in range(0, columns, AT_ONCE)]
    rows = []
    for condition in conditions:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rows.append(torch.cat([model.sample(size, temperature, condition=condition) for size in sizes]))
    return torch.stack(rows)


@torch.no_grad()
def fill_in(model: NeuralModel, visible: Tensor, samples: int, temperature: float = 1.0) -> Tensor:
    """Images with the hidden part drawn from the model and the visible part as it is, (samples, batch, C, H, W).

    Each is the mean of p(x | z, c) for one draw of z. Noise comes from torch's global generator.

    Args:
        model: told the visible part of an image.
        visible: (batch, C + 1, H, W), the image and a last channel that is 1 where it is visible.
        samples: draws of z an image.
        temperature: standard deviation of z, in that of the prior.

    Raises:
        TypeError: the model has no prior.
        ValueError: samples or temperature are not positive, or `visible` has another shape than the model's condition.
    """
    if samples < 1:
        raise ValueError(f"samples should be at least 1, got {samples}")
    seen, image = visible[:, -1:] > 0.5, visible[:, :-1]
    drawn = []
    for _ in range(samples):
        made = [model.sample(len(part), temperature, condition=part) for part in visible.split(AT_ONCE)]
        drawn.append(torch.where(seen, image, torch.cat(made)))
    return torch.stack(drawn)


@dataclass(frozen=True)
class Traversal:
    """What `jensen.plots.traversals` draws."""

    images: Tensor
    """(rows, steps, *target_shape)"""
    captions: list[str]
    """"z3, 2.41 nats", a row"""
    values: list[float]
    """of the latent in each column, in standard deviations from the prior's mean, (steps,)"""
    start: Tensor
    """what the datum's own code decodes to, (*target_shape,)"""


@torch.no_grad()
def traverse(
    model: VAE, x: Tensor, kl: Tensor, condition: Tensor | None = None, *, rows: int = 10, steps: int = 7
) -> Traversal:
    """Decode the code of a datum with one latent at a time moved over three standard deviations of the prior.

    Args:
        model: a VAE.
        x: the datum, (*shape,).
        kl: of each latent in nats, (latent,): the most informative come first, and captions tell it.
        condition: what is known beside x, (*condition_shape,).
        rows: at most this many latents.
        steps: values from -3 to 3.
    """
    told = None if condition is None else condition[None]
    code = model.posterior(x[None], condition=told).mean[0]
    prior = model.prior(told)
    mean, sd = (value.expand(1, model.latent)[0] for value in (prior.mean, prior.stddev))
    order = kl.argsort(descending=True, stable=True)[:rows]
    values = torch.linspace(-REACH, REACH, steps, dtype=code.dtype, device=code.device)
    codes = code.repeat(len(order), steps, 1)
    for row, latent in enumerate(order.tolist()):
        codes[row, :, latent] = mean[latent] + values * sd[latent]
    every = torch.cat([codes.flatten(0, 1), code[None]])
    repeated = None if told is None else told.expand(len(every), *told.shape[1:])
    images = model.decode(every, condition=repeated)
    return Traversal(
        images[:-1].unflatten(0, (len(order), steps)),
        [f"z{latent}, {kl[latent]:.2f} nats" for latent in order.tolist()],
        values.tolist(),
        images[-1],
    )
