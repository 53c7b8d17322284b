"""Held-out evaluation: the bound, the importance-weighted likelihood, rate and distortion, active units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from jensen.autoencoders import EncoderDecoder
from jensen.bound import Level, Output, importance_weighted_bound, log_weights
from jensen.data import Batch

__all__ = ["Evaluation", "active_units", "bits_per_dim", "evaluate", "importance_weighted_log_likelihood"]

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a unit is active if its mean varies more than this over the data
VALUES_AT_ONCE = 2**20  # values of x decoded together: a few MB, which stay in the processor's cache
CODES_AT_ONCE = 2**14  # codes decoded together, however small x is: a hidden layer of 400 takes 26 MB


class SplitLike(Protocol):
    """Held-out data: what `evaluate` needs of `jensen.data.Split`."""

    def __len__(self) -> int: ...
    @property
    def levels(self) -> int | None: ...
    @property
    def transform(self) -> str: ...
    def batch(self, index: Tensor) -> Batch: ...


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Nats per example, summed over dimensions, unless said; errors are standard errors.

    None where a number has no meaning for the model (an auto-encoder has no bound, a density no bits). `dims` counts
    the values that are scored: all of the target, or those of the mask. `latent` and `kl_per_dimension` are about
    continuous latents; what a discrete one (an unknown class) costs is `discrete_rate`, and a part of `rate`.
    """

    examples: int
    samples: int
    dims: int
    elbo: float | None
    elbo_error: float | None
    log_likelihood: float | None
    log_likelihood_error: float | None
    bits_per_dim: float | None
    rate: float | None
    distortion: float
    active_units: int | None
    latent: int
    kl_per_dimension: list[float]
    reconstruction_error: float
    psnr: float | None
    discrete_rate: float | None = None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning)."""

        def value(number: float | None, error: float | None = None) -> str:
            if number is None:
                return "-"
            return f"{number:.3f}" if error is None else f"{number:.3f} ± {error:.3f}"

        largest = sorted(self.kl_per_dimension, reverse=True)[:5]
        active = "-" if self.active_units is None else f"{self.active_units} of {self.latent}"
        rows = [
            ("ELBO", value(self.elbo, self.elbo_error), "nats, lower bound of log p(x); higher is better"),
            (
                "log-likelihood",
                value(self.log_likelihood, self.log_likelihood_error),
                f"nats, importance-weighted with {self.samples} samples: a tighter bound",
            ),
            ("bits per dimension", value(self.bits_per_dim), "of the importance-weighted bound; lower is better"),
            ("rate", value(self.rate), "nats, KL(q(z|x) || p(z)): what the code says of x"),
            ("rate of the class", value(self.discrete_rate), "nats, KL(q(y|x) || p(y)), a part of the rate"),
            ("distortion", value(self.distortion), "nats, -E log p(x|z): what it leaves unsaid"),
            ("active units", active, f"dimensions whose mean varies over the data (variance > {ACTIVE_VARIANCE})"),
            ("reconstruction error", f"{self.reconstruction_error:.5f}", "mean squared error a value"),
            ("KL per dimension", " ".join(f"{kl:.2f}" for kl in largest) or "-", f"nats, the {len(largest)} largest"),
            ("PSNR", value(self.psnr), "dB, of the reconstructions"),
        ]
        return [row for row in rows if row[1] != "-"]


@torch.no_grad()
def evaluate(
    model: EncoderDecoder,
    data: SplitLike,
    *,
    samples: int = 5000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on held-out data; the same seed gives the same numbers.

    The importance-weighted log-likelihood (Burda et al. 2016) uses `samples` draws a datum, in chunks whose memory does
    not grow with `samples`; the distortion is averaged over the same draws, and the KL is analytic where it can be.
    Where the data are binarised at random, each example is drawn once. A conditional model is told the batch's
    condition, so that all is about p(x | c) (of a semi-supervised model about p(x, y) where the label is known, p(x)
    where not); a masked value is neither scored nor counted.

    Args:
        model: any `EncoderDecoder`.
        data: a split.
        samples: importance samples a datum; 1 makes the log-likelihood an ELBO of one sample.
        seed: of all noise; torch's global generator is left as it was.
        progress: called as progress(examples done, examples).

    Raises:
        ValueError: no data, or samples not positive.
    """
    if samples < 1 or len(data) == 0:
        raise ValueError(f"evaluate needs samples >= 1 and some data, got {samples} samples and {len(data)} examples")
    device = next(model.parameters()).device
    was_training = model.training
    parts: list[_Part] = []
    size = max(1, min(500, 4 * VALUES_AT_ONCE // (math.prod(model.target_shape) * codes_a_draw(model))))
    try:
        model.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for start in range(0, len(data), size):
                batch = data.batch(torch.arange(start, min(start + size, len(data))))
                parts.append(_evaluate_batch(model, batch_on(batch, device), samples))
                if progress is not None:
                    progress(min(start + size, len(data)), len(data))
    finally:
        model.train(was_training)
    return _summarise(model, data, parts, samples)


def batch_on(batch: Batch, device: torch.device) -> Batch:
    """The batch with what a model takes on `device`."""

    def moved(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.to(device)

    return batch._replace(
        x=batch.x.to(device),
        target=batch.target.to(device),
        condition=moved(batch.condition),
        mask=moved(batch.mask),
    )


@dataclass(frozen=True)
class _Part:
    """Of one batch: numbers a datum (batch,), KL (batch, units), posterior means (batch, units).

    `error` is the sum of squared errors over the `scored` values of a datum.
    """

    log_likelihood: Tensor
    rate: Tensor
    weighted: Tensor | None
    kl: Tensor | None
    means: Tensor | None
    discrete: Tensor | None
    error: Tensor
    scored: Tensor


def _evaluate_batch(model: EncoderDecoder, batch: Batch, samples: int) -> _Part:
    x, target, condition, mask = batch.x, batch.target, batch.condition, batch.mask
    output = model(x, target, condition=condition, mask=mask)
    scored = torch.ones_like(target) if mask is None else (mask != 0).to(target.dtype).expand_as(target)
    # What is not scored may be a NaN.
    error = (model.reconstruct(x, condition=condition) - target).masked_fill(scored == 0, 0.0).square()
    errors, counts = error.flatten(1).sum(1), scored.flatten(1).sum(1)
    if not output.probabilistic:
        log_likelihood = output.expectation(output.log_likelihood())
        return _Part(log_likelihood, torch.zeros_like(log_likelihood), None, None, None, None, errors, counts)
    weighted, log_likelihood = _by_importance_sampling(model, batch, samples)
    continuous = [level for level in output.levels if level.z.is_floating_point()]
    discrete = [level for level in output.levels if not level.z.is_floating_point()]
    return _Part(
        log_likelihood,
        output.expectation(output.rate()),
        weighted,
        torch.cat([_mean_kl(output, level) for level in continuous], 1),
        torch.cat([output.expectation(_posterior_mean(level)).flatten(1) for level in continuous], 1),
        torch.cat([_mean_kl(output, level) for level in discrete], 1).sum(1) if discrete else None,
        errors,
        counts,
    )


def _mean_kl(output: Output, level: Level) -> Tensor:
    return output.expectation(level.kl()).flatten(1)


def _posterior_mean(level: Level) -> Tensor:
    assert level.posterior is not None
    return level.posterior.mean


@torch.no_grad()
def importance_weighted_log_likelihood(
    model: EncoderDecoder,
    x: Tensor,
    target: Tensor | None = None,
    samples: int = 5000,
    *,
    condition: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """log 1/k sum_k p(x, z_k) / q(z_k | x) of each datum in nats, (batch,), in float64.

    A discrete latent that the model enumerates is summed over exactly. With a condition it is log p(x | c); of a
    semi-supervised model log p(x, y).

    Args:
        model: a model with a posterior at every level.
        x: inputs, (batch, *shape).
        target: what the likelihood is about; None: x.
        samples: k.
        condition: what a conditional model is told, (batch, *condition_shape).
        mask: 1 where the target is scored and 0 where not, (1 or batch, *target_shape); None: everywhere.

    Raises:
        ValueError: a level of the model is deterministic.
    """
    batch = Batch(x, x if target is None else target, None, torch.arange(len(x)), condition=condition, mask=mask)
    return _by_importance_sampling(model, batch, samples)[0]


def _by_importance_sampling(model: EncoderDecoder, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
    """The importance-weighted log-likelihood and, from the same samples, E_q[log p(x | z)]: (batch,) each, float64."""
    total = torch.full((len(batch.x),), -torch.inf, dtype=torch.float64, device=batch.x.device)
    mean = torch.zeros_like(total)
    for rows, draws, output in output_chunks(model, batch, samples):
        log_likelihood = output.log_likelihood()
        weights = log_weights(output, log_likelihood).double()
        bound = importance_weighted_bound(weights, output.log_weights) + math.log(draws / samples)
        total[rows] = torch.logaddexp(total[rows], bound)
        mean[rows] += output.expectation(log_likelihood.double()) * (draws / samples)
    return total, mean


def codes_a_draw(model: EncoderDecoder) -> int:
    """How many codes one draw of the model decodes: the values of a discrete latent that it enumerates, or 1."""
    enumerated: int = getattr(model, "enumerated", 1)
    return enumerated


def output_chunks(model: EncoderDecoder, batch: Batch, samples: int) -> Iterator[tuple[slice, int, Output]]:
    """The model's output for some rows of a batch and some of `samples` draws at a time: (rows, draws, output).

    Together they are all rows and all draws; memory is bounded whatever their numbers.
    """
    codes = max(1, min(CODES_AT_ONCE, VALUES_AT_ONCE // math.prod(model.target_shape)))
    enumerated = codes_a_draw(model)
    # Few data and many samples at a time: the encoder runs once for each datum and chunk.
    size = max(1, codes // (50 * enumerated))
    for first in range(0, len(batch.x), size):
        rows = slice(first, min(first + size, len(batch.x)))
        x, target = batch.x[rows], batch.target[rows]
        condition = None if batch.condition is None else batch.condition[rows]
        mask = batch.mask
        if mask is not None and len(mask) > 1:
            mask = mask[rows]
        chunk = max(1, codes // (len(x) * enumerated))
        for start in range(0, samples, chunk):
            draws = min(chunk, samples - start)
            yield rows, draws, model(x, target, samples=draws, condition=condition, mask=mask)


def active_units(means: Tensor) -> int:
    """How many columns of posterior means, (examples, units), vary over the data (variance > 0.01)."""
    return int((means.var(0) > ACTIVE_VARIANCE).sum()) if len(means) > 1 else 0


def bits_per_dim(
    log_likelihood: float, dims: float, *, likelihood_levels: int | None, data_levels: int | None, transform: str
) -> float | None:
    """Bits per dimension of the stored data, or None where the log-likelihood is not that of stored values.

    Args:
        log_likelihood: nats per example.
        dims: values an example that are scored (their mean, where it varies).
        likelihood_levels: number of values of the likelihood; None for a density.
        data_levels: number of values that the target can take; None: real numbers.
        transform: how stored values become those that the model sees.
    """
    if likelihood_levels is None:
        if transform != "dequantise" or data_levels is None:
            return None
        # p(x) of a grey level is the density on [0, 1] averaged over a bin of width 1 / levels.
        log_likelihood -= dims * math.log(data_levels)
    elif likelihood_levels != data_levels or transform == "dequantise":
        return None
    return -log_likelihood / (dims * math.log(2.0))


def _summarise(model: EncoderDecoder, data: SplitLike, parts: list[_Part], samples: int) -> Evaluation:
    def joined(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values).double()

    def mean(values: Tensor | None) -> float | None:
        return None if values is None else values.mean().item()

    def error(values: Tensor | None) -> float | None:
        return None if values is None or len(values) < 2 else (values.std() / math.sqrt(len(values))).item()

    log_likelihood, rate, kl, means = joined("log_likelihood"), joined("rate"), joined("kl"), joined("means")
    weighted, squared, scored = joined("weighted"), joined("error"), joined("scored")
    assert log_likelihood is not None
    assert rate is not None
    assert squared is not None
    assert scored is not None
    bound = None if kl is None else log_likelihood - rate
    mse = (squared.sum() / scored.sum()).item()
    dims = scored.mean().item()
    per_dimension = [] if kl is None else kl.mean(0).tolist()
    units = None if means is None else active_units(means)
    levels = model.likelihood.levels
    bits = None
    if weighted is not None and dims > 0:
        bits = bits_per_dim(
            weighted.mean().item(),
            dims,
            likelihood_levels=levels,
            data_levels=data.levels,
            transform=data.transform,
        )
    grey = data.levels is not None and data.levels > 2  # PSNR says nothing of yes and no
    return Evaluation(
        examples=len(data),
        samples=samples,
        dims=round(dims),
        elbo=mean(bound),
        elbo_error=error(bound),
        log_likelihood=mean(weighted),
        log_likelihood_error=error(weighted),
        bits_per_dim=bits,
        rate=None if kl is None else mean(rate),
        distortion=-log_likelihood.mean().item(),
        active_units=units,
        latent=len(per_dimension) or model.latent,
        kl_per_dimension=per_dimension,
        reconstruction_error=mse,
        psnr=10 * math.log10(1 / mse) if grey and mse > 0 else None,
        discrete_rate=mean(joined("discrete")),
        warnings=_warnings(units, len(per_dimension), mean(rate) if kl is not None else None, levels, data),
    )


def _warnings(
    units: int | None, latent: int, rate: float | None, likelihood_levels: int | None, data: SplitLike
) -> list[str]:
    found = []
    if rate is not None and units is not None and (units == 0 or rate < 0.1):
        found.append(
            f"The posterior has collapsed: {units} of {latent} latent dimensions are active and the code carries "
            f"{rate:.2f} nats, so the decoder ignores z. Try a lower price of the code, its warm-up (kl_weight "
            "linear), a weaker decoder, or more epochs; to predict a property of x, model autoencoder does without "
            "the KL."
        )
    elif units is not None and latent >= 4 and units < latent / 4:
        found.append(
            f"Only {units} of {latent} latent dimensions are active: the others equal the prior. That may be all "
            "the data need; if reconstructions are poor, try a lower price of the code or its warm-up."
        )
    if likelihood_levels == 2 and data.levels not in (None, 2) and data.transform == "none":
        found.append(
            "The Bernoulli likelihood was given grey levels: its log-likelihood is a cross-entropy, not the "
            "probability of the grey levels. Use transform binarise, or the discretised logistic likelihood."
        )
    return found
