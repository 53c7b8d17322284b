"""Gaps of a table filled in by a model of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output, log_weights
from jensen.data import Batch
from jensen.likelihoods import TableLikelihood
from jensen.metrics.heldout import measuring
from jensen.metrics.importance import draws_that_tell, output_chunks

__all__ = ["Imputed", "impute"]

ROWS = 500
"""Rows worked on together."""


@dataclass(frozen=True)
class Imputed:
    """Rows whose gaps are filled.

    Attributes:
        values: (N, columns), as the model sees them: what was known as it was, and in a gap the expectation of a real
            number or count, or the place of the most probable category.
        deviations: standard deviation of each filled real number under p(x_gap | x_known), (N, columns); 0 of what was
            known, and NaN of counts and categories.
        effective: effective number of draws of each row, (N,): where it is near 1, one draw outweighs all others.
    """

    values: Tensor
    deviations: Tensor
    effective: Tensor


@torch.no_grad()
def impute(
    model: NeuralModel,
    x: Tensor,
    *,
    samples: int = 1000,
    condition: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Imputed:
    """Fill the gaps of x by the mean of p(x_gap | x_known), and categories by the most probable one.

    That mean is E[E[x_gap | z]] over the posterior of z given what is known. Draws z_s of the encoder's q, which sees
    the row with its gaps, stand for it with weights p(x_known | z_s) p(z_s) / q(z_s), normalised (Mattei & Frellsen
    2019, "MIWAE", eq. 12): right for any q as the draws grow in number. (A chain that draws gaps and latents in turn,
    from q alone or with a Metropolis step, did worse in as many draws.) A plain auto-encoder decodes its code.

    Args:
        model: with likelihood table.
        x: rows as the model sees them, (N, columns), NaN in a gap.
        samples: draws of z a row.
        condition: what a conditional model is told of each row, (N, *condition_shape).
        seed: of the draws; torch's global generator is left as it was.
        progress: called as progress(rows done, rows).

    Raises:
        ValueError: the model's likelihood is another, x does not fit, or samples is not positive.
    """
    if not isinstance(model.likelihood, TableLikelihood):
        raise ValueError(f"gaps are filled by models with likelihood table, not {type(model.likelihood).__name__}")
    if x.ndim != 2 or x.shape[1:] != model.target_shape or len(x) == 0:
        raise ValueError(f"x should have shape (rows, {model.target_shape[0]}), got {tuple(x.shape)}")
    if samples < 1:
        raise ValueError(f"samples should be at least 1, got {samples}")
    found: list[Imputed] = []
    with measuring(model, seed) as device:
        for start in range(0, len(x), ROWS):
            rows = slice(start, start + ROWS)
            told = None if condition is None else condition[rows].to(device)
            found.append(_filled(model, x[rows].to(device), told, draws_that_tell(model, samples)))
            if progress is not None:
                progress(min(start + ROWS, len(x)), len(x))
    fields = ("values", "deviations", "effective")
    return Imputed(*(torch.cat([getattr(part, name).to(x.device) for part in found]) for name in fields))


def _filled(model: NeuralModel, x: Tensor, condition: Tensor | None, samples: int) -> Imputed:
    assert isinstance(model.likelihood, TableLikelihood)
    layout, known = model.likelihood.layout, ~x.isnan()
    batch = Batch(x, x, None, torch.arange(len(x)), condition=condition, mask=known.to(x.dtype))
    tally = _Tally.empty(len(x), layout.size, len(layout.real), x)
    for rows, _, output in output_chunks(model, batch, samples):
        tally.add(rows, output)
    deviations = torch.full_like(x, torch.nan)
    deviations[:, list(layout.real)] = tally.deviation.to(x.dtype)
    values = torch.where(known, x, layout.values(tally.mean).to(x.dtype))
    return Imputed(values, torch.where(known, 0.0, deviations), tally.effective)


@dataclass
class _Tally:
    """Weighted sums over draws, rescaled as larger weights come: of what is expected, and of squares."""

    log_sum: Tensor
    """log of the sum of the weights, (rows,) float64"""
    log_squares: Tensor
    """log of the sum of their squares"""
    mean: Tensor
    """weighted mean of the expectations, (rows, layout.size)"""
    square: Tensor
    """weighted mean of E[x^2 | z] of the real columns, (rows, reals)"""

    @classmethod
    def empty(cls, rows: int, size: int, reals: int, like: Tensor) -> _Tally:
        wide = torch.float32 if like.device.type == "mps" else torch.float64
        nothing = torch.full((rows,), -torch.inf, dtype=wide, device=like.device)
        mean = torch.zeros(rows, size, dtype=wide, device=like.device)
        return cls(nothing, nothing.clone(), mean, torch.zeros_like(mean[:, :reals]))

    def add(self, rows: slice, output: Output) -> None:
        """Count the draws of one output, (samples, batch)."""
        likelihood = output.likelihood
        expected = likelihood.expectations.to(self.mean.dtype)  # type: ignore[attr-defined]
        squares = likelihood.real.to(self.mean.dtype).square() + likelihood.sigma.square()  # type: ignore[attr-defined]
        weights = torch.zeros(expected.shape[:2], dtype=self.mean.dtype, device=expected.device)
        if output.probabilistic:
            weights = log_weights(output).to(weights.dtype)
        if output.log_weights is not None:  # a latent that is enumerated
            weights = (weights + output.log_weights).masked_fill(output.log_weights.isneginf(), -torch.inf)
        before = self.log_sum[rows]
        after = torch.logaddexp(before, weights.logsumexp(0))
        kept, shares = (before - after).exp()[:, None], (weights - after).exp()[..., None]
        self.mean[rows] = kept * self.mean[rows] + (shares * expected).sum(0)
        self.square[rows] = kept * self.square[rows] + (shares * squares).sum(0)
        self.log_sum[rows] = after
        self.log_squares[rows] = torch.logaddexp(self.log_squares[rows], (2 * weights).logsumexp(0))

    @property
    def deviation(self) -> Tensor:
        """Of the real columns: noise and what is unknown of z together."""
        return (self.square - self.mean[:, : self.square.shape[1]].square()).clamp_min(0).sqrt()

    @property
    def effective(self) -> Tensor:
        """(sum w)^2 / sum w^2."""
        return (2 * self.log_sum - self.log_squares).exp()
