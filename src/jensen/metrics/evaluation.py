"""Held-out evaluation: the bound, the importance-weighted likelihood, rate and distortion, active units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from jensen.autoencoders import EncoderDecoder
from jensen.autoencoders.hierarchy import DeepVAE
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Level, Output
from jensen.data import Batch
from jensen.likelihoods import CategoricalOnLevels, Multinomial, TableLikelihood
from jensen.metrics.bits import bits_per_dim
from jensen.metrics.columns import ColumnError, column_rows, made_errors, rows_made
from jensen.metrics.heldout import SplitLike, batch_on, measuring
from jensen.metrics.importance import (
    VALUES_AT_ONCE,
    by_importance_sampling,
    codes_a_draw,
    codes_at_once,
    draws_that_tell,
    numbers_a_datum,
)
from jensen.metrics.levels import ACTIVE_KL, MOST_UNITS, LevelUse, UnitTally, drawn_below, level_rows, level_uses
from jensen.metrics.remarks import conditional, notes, warnings

__all__ = ["ACTIVE_VARIANCE", "Evaluation", "active_units", "evaluate"]

WITHOUT_ERROR = (TableLikelihood, Multinomial)
ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a unit is active if its mean varies more than this over the data
DRAWN = 32  # examples whose reconstruction is compared where it has to be drawn value after value


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Nats per example, summed over dimensions, unless said; errors are standard errors.

    An error is that of a mean over the examples, as if the split were a sample of more data. None where a number has no
    meaning for the model (an auto-encoder has no bound, a density no bits, an autoregressive model of x no code).
    `dims` counts the values that are scored: all of the target, or those of the mask. `latent` and `kl_per_dimension`
    are about continuous latents; what a discrete one (an unknown class) costs beside them is `discrete_rate`, and a
    part of `rate`. Where all latents are codes (VQ-VAE), their whole cost is `rate`.

    Attributes:
        samples: importance samples that were drawn for each datum: one where the model draws nothing.
        exact: whether `log_likelihood` is log p(x) itself: there is no latent to sum out.
        deterministic: whether the code is a function of x: the bound has no noise, and `log_likelihood` is the ELBO.
        code_prior: of a model all of whose latents are codes, the prior that `rate` is about: uniform or learned.
        accuracy: share of the scored values that are the most probable ones, for a categorical likelihood.
        notes: what the numbers are about, in words.
        conditional: whether all is about p(x | c), as the model or the prior over its codes is told a condition c.
        levels: of a model with several levels of latents, what each says, the top first. Its `active_units` are then
            the sum of theirs, and `kl_per_dimension`, in the order of a code, is empty beyond 1,024 latents.
        columns: of likelihood table, errors of each column in place of one `reconstruction_error`.
        log_likelihood_noise: the part of `log_likelihood_error` that is the noise of the samples, from two halves of
            them: by how much another seed would change the number, about.
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
    distortion: float | None
    active_units: int | None
    latent: int
    kl_per_dimension: list[float]
    reconstruction_error: float | None
    psnr: float | None
    discrete_rate: float | None = None
    warnings: list[str] = field(default_factory=list)
    exact: bool = False
    deterministic: bool = False
    code_prior: str | None = None
    accuracy: float | None = None
    notes: list[str] = field(default_factory=list)
    conditional: bool = False
    levels: list[LevelUse] = field(default_factory=list)
    log_likelihood_noise: float | None = None
    columns: list[ColumnError] = field(default_factory=list)

    def __post_init__(self) -> None:
        errors = [error if isinstance(error, ColumnError) else ColumnError(**error) for error in self.columns]
        object.__setattr__(self, "columns", errors)
        uses = [use if isinstance(use, LevelUse) else LevelUse(**use) for use in self.levels]  # plain ones from a file
        object.__setattr__(self, "levels", uses)

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning)."""

        def value(number: float | None, error: float | None = None, digits: int = 3) -> str:
            if number is None:
                return "-"
            return f"{number:.{digits}f}" if error is None else f"{number:.{digits}f} ± {error:.{digits}f}"

        largest = sorted(self.kl_per_dimension, reverse=True)[:5]
        each = " ".join(f"{kl:.2f}" for kl in largest)
        active = "-" if self.active_units is None else f"{self.active_units} of {self.latent}"
        meaning, bound = self._likelihood_meaning
        noise = ", without noise" if self.deterministic else ""
        varies = f"dimensions whose mean varies over the data (variance > {ACTIVE_VARIANCE})"
        prior = "" if self.code_prior is None else f" under a {self.code_prior} prior"
        rows = [
            (
                "ELBO",
                value(self.elbo, self.elbo_error),
                f"nats, lower bound of {self._density}{noise}; higher is better",
            ),
            ("log-likelihood", value(self.log_likelihood, self.log_likelihood_error), f"nats, {meaning}"),
            ("bits per dimension", value(self.bits_per_dim), f"of {bound}; lower is better"),
            ("rate", value(self.rate), f"nats, KL(q(z|x) || p(z)){prior}: what the code says of x"),
            ("rate of the class", value(self.discrete_rate), "nats, KL(q(y|x) || p(y)), a part of the rate"),
            ("distortion", value(self.distortion), "nats, -E log p(x|z): what it leaves unsaid"),
            *level_rows(self.levels),
            ("active units", active, f"dimensions whose KL is above {ACTIVE_KL} nats" if self.levels else varies),
            ("reconstruction error", value(self.reconstruction_error, digits=5), "mean squared error a value"),
            ("KL per dimension", "-" if self.levels else each or "-", f"nats, the {len(largest)} largest"),
            ("PSNR", value(self.psnr), "dB, of the reconstructions"),
            ("values right", value(self.accuracy), "share of values that p(x|z) finds the most probable"),
            *column_rows(self.columns),
        ]
        return [row for row in rows if row[1] != "-"]

    @property
    def _density(self) -> str:
        return "log p(x|c)" if self.conditional else "log p(x)"

    @property
    def _likelihood_meaning(self) -> tuple[str, str]:
        """What the log-likelihood is, and what its bits are of."""
        if self.exact:
            return f"{self._density} itself, exact; higher is better", self._density
        if self.deterministic:
            return "the ELBO: each x has one code, and more samples tell nothing new", "the ELBO"
        samples = f"importance-weighted with {self.samples} samples: a tighter bound"
        if self.log_likelihood_noise is not None:
            samples += f" (another seed changes it by {self.log_likelihood_noise:.1g})"
        return samples, "the importance-weighted bound"


@torch.no_grad()
def evaluate(
    model: NeuralModel,
    data: SplitLike,
    *,
    samples: int = 5000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on held-out data; the same seed gives the same numbers.

    The importance-weighted log-likelihood (Burda et al. 2016) uses `samples` draws a datum, in chunks whose memory does
    not grow with `samples`; the distortion is averaged over the same draws, and the KL is analytic where it can be.
    A model that draws nothing is asked once: without a code its log-likelihood is exact, and with a code that is a
    function of x (VQ-VAE) it is the ELBO, log p(x | code) + log p(code).

    Where the data are binarised at random, each example is drawn once. A conditional model is told the batch's
    condition, so that all is about p(x | c) (of a semi-supervised model about p(x, y) where the label is known, p(x)
    where not); a masked value is neither scored nor counted. Where p(x | z) has no mean in closed form (an
    autoregressive decoder), the reconstruction error is that of one draw, for the first examples only.

    Args:
        model: any `NeuralModel`.
        data: a split.
        samples: importance samples a datum; 1 makes the log-likelihood an ELBO of one sample.
        seed: of all noise; torch's global generator is left as it was.
        progress: called as progress(examples done, examples).

    Raises:
        ValueError: no data, or samples not positive.
    """
    if samples < 1 or len(data) == 0:
        raise ValueError(f"evaluate needs samples >= 1 and some data, got {samples} samples and {len(data)} examples")
    samples = draws_that_tell(model, samples)
    parts: list[_Part] = []
    tally = UnitTally()
    size = max(1, min(500, 4 * VALUES_AT_ONCE // (numbers_a_datum(model) * codes_a_draw(model))))
    with measuring(model, seed) as device:
        if isinstance(model, DeepVAE):
            size = min(size, codes_at_once(model, batch_on(data.batch(torch.arange(1)), device)))
        for start in range(0, len(data), size):
            batch = batch_on(data.batch(torch.arange(start, min(start + size, len(data)))), device)
            parts.append(_evaluate_batch(model, batch, samples, tally, first=start == 0))
            if progress is not None:
                progress(min(start + size, len(data)), len(data))
    return _summarise(model, data, parts, samples, tally)


@dataclass(frozen=True)
class _Part:
    """Of one batch, numbers a datum, (batch,).

    `scored` counts values. `error` is the sum of squared errors over the `compared` values of a datum, `right` counts
    scored values that are the most probable ones; `made` is `rows_made`.
    """

    log_likelihood: Tensor
    scored: Tensor
    rate: Tensor | None = None
    weighted: Tensor | None = None
    noise: Tensor | None = None
    discrete: Tensor | None = None
    error: Tensor | None = None
    compared: Tensor | None = None
    right: Tensor | None = None
    made: Tensor | None = None
    drawn: int = 0  # reconstructions that are draws


def _evaluate_batch(model: NeuralModel, batch: Batch, samples: int, tally: UnitTally, first: bool) -> _Part:
    output = model(batch.x, batch.target, condition=batch.condition, mask=batch.mask)
    scored = torch.ones_like(batch.target)
    if batch.mask is not None:
        scored = (batch.mask != 0).to(scored.dtype).expand_as(scored)
    error, compared = _reconstructed(model, batch, scored, output, first)
    drawn = 0 if error is None or not _is_drawn(output) else len(error)
    right, counts, noise = _right(output, scored), scored.flatten(1).sum(1), None
    if not output.probabilistic or not model.stochastic:
        log_likelihood = output.expectation(output.log_likelihood()).double()
        rate, weighted = None, None
        if output.probabilistic:
            rate = output.expectation(output.rate()).double()
            weighted = log_likelihood - rate
        elif not output.levels:
            weighted = log_likelihood
    else:
        weighted, log_likelihood, noise = by_importance_sampling(model, batch, samples)
        rate = output.expectation(output.rate())
    discrete = _counted(output, tally) if output.probabilistic else None
    made = rows_made(model, batch)
    return _Part(log_likelihood, counts, rate, weighted, noise, discrete, error, compared, right, made, drawn)


def _counted(output: Output, tally: UnitTally) -> Tensor | None:
    """Count KL and posterior mean of continuous latents; gives what discrete ones beside them cost, (batch,)."""
    continuous = [level for level in output.levels if level.z.is_floating_point()]
    if not continuous:
        return None
    tally.add(
        torch.cat([_mean_kl(output, level) for level in continuous], 1),
        torch.cat([output.expectation(_posterior_mean(level)).flatten(1) for level in continuous], 1),
    )
    discrete = [level for level in output.levels if not level.z.is_floating_point()]
    return torch.cat([_mean_kl(output, level) for level in discrete], 1).sum(1) if discrete else None


def _reconstructed(
    model: NeuralModel, batch: Batch, scored: Tensor, output: Output, first: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Sum of squared errors of the reconstruction, and how many values they are of; None where there is none."""
    if not isinstance(model, EncoderDecoder) or model.symbols or isinstance(model.likelihood, WITHOUT_ERROR):
        return None, None  # of symbols or categories, a difference means nothing, nor of documents of other lengths
    x, target, condition = batch.x, batch.target, batch.condition
    if _is_drawn(output):
        if not first:  # one value after the other: minutes for many
            return None, None
        x, target, scored = x[:DRAWN], target[:DRAWN], scored[:DRAWN]
        condition = None if condition is None else condition[:DRAWN]
    # What is not scored may be a NaN.
    error = (model.reconstruct(x, condition=condition) - target).masked_fill(scored == 0, 0.0).square()
    return error.flatten(1).sum(1), scored.flatten(1).sum(1)


def _is_drawn(output: Output) -> bool:
    """Whether p(x | z) has no mean in closed form."""
    return not getattr(output.likelihood, "has_mean", True)


def _right(output: Output, scored: Tensor) -> Tensor | None:
    """How many scored values are the most probable ones, where every value has a probability of its own, (batch,)."""
    if not isinstance(output.likelihood, CategoricalOnLevels):
        return None
    steps = output.likelihood.levels - 1
    same = (output.likelihood.mode * steps).round() == (output.target * steps).round()
    return output.expectation((same * scored).flatten(2).sum(2))


def _mean_kl(output: Output, level: Level) -> Tensor:
    return output.expectation(level.kl()).flatten(1)


def _posterior_mean(level: Level) -> Tensor:
    assert level.posterior is not None
    return level.posterior.mean


def active_units(means: Tensor) -> int:
    """How many columns of posterior means, (examples, units), vary over the data (variance > 0.01)."""
    return int((means.var(0) > ACTIVE_VARIANCE).sum()) if len(means) > 1 else 0


def _summarise(model: NeuralModel, data: SplitLike, parts: list[_Part], samples: int, tally: UnitTally) -> Evaluation:
    log_likelihood, scored = _joined(parts, "log_likelihood"), _joined(parts, "scored")
    assert log_likelihood is not None
    assert scored is not None
    rate, weighted = _joined(parts, "rate"), _joined(parts, "weighted")
    kl = tally.kl if tally.count else None
    bound = None if rate is None else log_likelihood - rate
    mse = _share(_joined(parts, "error"), _joined(parts, "compared"))
    dims = scored.mean().item()
    uses = _uses(model, kl)
    density = weighted is not None and rate is None
    grey = data.levels is not None and data.levels > 2  # PSNR says nothing of yes and no
    found = Evaluation(
        examples=len(data),
        samples=samples,
        dims=round(dims),
        elbo=_mean(bound),
        elbo_error=_error(bound),
        log_likelihood=_mean(weighted),
        log_likelihood_error=_error(weighted),
        bits_per_dim=_bits(model, data, weighted, dims),
        rate=_mean(rate),
        distortion=None if density else -log_likelihood.mean().item(),
        active_units=_active(tally, uses),
        latent=model.latent if kl is None else len(kl),
        kl_per_dimension=[] if kl is None or (uses and len(kl) > MOST_UNITS) else kl.tolist(),
        reconstruction_error=mse,
        psnr=10 * math.log10(1 / mse) if grey and mse else None,
        discrete_rate=_mean(_joined(parts, "discrete")),
        exact=density,
        deterministic=rate is not None and not model.stochastic,
        code_prior=_code_prior(model) if rate is not None and kl is None else None,
        accuracy=_share(_joined(parts, "right"), scored),
        conditional=conditional(model),
        levels=uses,
        log_likelihood_noise=_noise(_joined(parts, "noise")),
        columns=made_errors(model, _joined(parts, "made")),
    )
    found.warnings.extend(warnings(found, model, data))
    found.notes.extend(notes(found, model, data, sum(part.drawn for part in parts)))
    if note := drawn_below(model.kind, len(uses)):
        found.notes.append(note)
    return found


def _joined(parts: list[_Part], name: str) -> Tensor | None:
    """Of all data, (examples,) float64; None where no part has it."""
    values = [value for part in parts if (value := getattr(part, name)) is not None]
    return torch.cat(values).double() if values else None


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else values.mean().item()


def _error(values: Tensor | None) -> float | None:
    return None if values is None or len(values) < 2 else (values.std() / math.sqrt(len(values))).item()


def _share(count: Tensor | None, of: Tensor | None) -> float | None:
    return None if count is None or of is None else (count.sum() / of.sum()).item()


def _bits(model: NeuralModel, data: SplitLike, weighted: Tensor | None, dims: float) -> float | None:
    """Bits per dimension of the log-likelihood of each datum in nats."""
    if weighted is None or dims <= 0:
        return None
    known = {"likelihood_levels": model.likelihood.levels, "data_levels": data.levels}
    return bits_per_dim(weighted.mean().item(), dims, transform=data.transform, **known)


def _active(tally: UnitTally, uses: list[LevelUse]) -> int | None:
    """By the KL of the units where there are several levels, else by the variance of their means."""
    if uses:
        return sum(use.active_units for use in uses)
    return int((tally.variance > ACTIVE_VARIANCE).sum()) if tally.count else None


def _noise(halves: Tensor | None) -> float | None:
    """Standard error that other draws would make in the mean of `Weighted.bound`."""
    if halves is None or not bool(torch.isfinite(halves).all()):
        return None
    return (halves.square().sum().sqrt() / len(halves)).item()


def _uses(model: NeuralModel, kl: Tensor | None) -> list[LevelUse]:
    """What each level says, where there are several."""
    if kl is None or not isinstance(model, DeepVAE) or len(model.level_shapes) == 1:
        return []
    return level_uses(kl, model.level_shapes)


def _code_prior(model: NeuralModel) -> str:
    """The prior over the codes of a model that has no other latents."""
    return "uniform" if getattr(model, "code_prior", None) is None else "learned"
