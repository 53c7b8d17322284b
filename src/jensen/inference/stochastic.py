"""Stochastic variational inference: the update on minibatches, and on streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from jensen.families import ExponentialFamily
from jensen.inference.ascent import ascend
from jensen.inference.conjugate import ConjugateModel, Evaluation, State, evaluate
from jensen.inference.steps import RobbinsMonro, StepSize, step_size
from jensen.inference.update import fit_local, natural_gradient, update

__all__ = ["Svi", "epochs"]


class Svi:
    """Inference that sees the data in minibatches (Hoffman et al. 2013).

    Each minibatch's local latents are brought to their optimum, then the global ones take a natural-gradient step in
    which every row counts total_size / B times. Without a total size the data are an endless stream, and the posterior
    of what was seen is the prior of the next batch (Broderick et al. 2013).

    Args:
        model: as for `infer`.
        total_size: number of rows of the whole data; None for a stream.
        rho: step size: a number, a function of (t, natural gradient) or "adaptive"; default `RobbinsMonro()`.
        local_tol: the relative change of the batch's bound at which its local latents count as optimal.
        local_steps: at most so many sweeps over them.
        plain: plain gradient steps of the learning rate `rho` instead.
        start: where to begin instead of the model's own start.
        generator: random starts and draws; default seed 0.

    Attributes:
        state: q of the global latents and the hyperparameters.
        steps: minibatches seen.
    """

    def __init__(
        self,
        model: ConjugateModel,
        total_size: int | None,
        *,
        rho: float | str | StepSize | None = None,
        local_tol: float = 1e-5,
        local_steps: int = 100,
        plain: bool = False,
        start: State | None = None,
        generator: Generator | None = None,
    ) -> None:
        if total_size is not None and total_size < 1:
            raise ValueError(f"total_size must be at least 1, or None for a stream, got {total_size}")
        if not (local_tol >= 0 and local_steps >= 1):
            raise ValueError(
                f"local_tol must be 0 or more and local_steps 1 or more, got {local_tol} and {local_steps}"
            )
        if plain and callable(rho):
            self._rho: StepSize = rho
        else:
            self._rho = step_size(RobbinsMonro() if rho is None else rho)
        self.model, self.total_size, self.plain = model, total_size, plain
        self.local_tol, self.local_steps = local_tol, local_steps
        self._generator = generator or torch.Generator().manual_seed(0)
        self.state = replace(start or model.start(self._generator), local={})
        self.steps = 0

    @property
    def posterior(self) -> dict[str, ExponentialFamily[Any, Any, Any]]:
        """q of the global latents, by name."""
        return dict(self.state.q)

    def partial_fit(self, batch: Any) -> float:
        """Learn from a batch and return an estimate of the ELBO (nats): of all the data, or for a stream of the batch.

        Raises:
            ValueError: an empty batch.
            NonFiniteError: NaN in a term or a latent, which it names; the state is that before the batch.
        """
        if len(batch) == 0:
            raise ValueError("the batch has no rows")
        with torch.no_grad():
            elbo = self._stream(batch) if self.total_size is None else self._step(batch, self.total_size / len(batch))
        self.steps += 1
        return elbo

    def _step(self, batch: Any, scale: float) -> float:
        state = self._local(self.state, batch)
        if self.plain:
            rate = self._rho(self.steps, torch.zeros(1))
            elbo, state = ascend(self.model, state, batch, rate, scale=scale, generator=self._generator)
        else:
            blocks = [names for names in (self.model.split(block)[0] for block in self.model.order) if names]
            found = Evaluation()
            for place, block in enumerate(blocks):
                found = evaluate(self.model, state, batch, block, scale=scale, generator=self._generator)
                elbo = found.elbo if place == 0 else elbo
                if place == 0:
                    rho = self._rho(self.steps, natural_gradient(state, found))
                state = update(self.model, state, found, rho)
        self.state = replace(state, local={})
        return elbo

    def _local(self, state: State, batch: Any) -> State:
        return fit_local(
            self.model, state, batch, tol=self.local_tol, max_steps=self.local_steps, generator=self._generator
        )

    def _stream(self, batch: Any) -> float:
        """Coordinate ascent on the batch, its prior the posterior so far."""
        from jensen.inference.infer import infer

        model = self.model
        if self.steps:
            latents = {
                n: latent if latent.local else replace(latent, prior=self.state.q[n])
                for n, latent in model.latents.items()
            }
            model = replace(model, latents=latents, global_terms=None)
        result = infer(
            model,
            batch,
            method="cavi" if model.linear else "natural",
            tol=self.local_tol,
            max_steps=self.local_steps,
            check=not self.steps,
            start=self.state,
        )
        self.state = replace(result.state, local={})
        return result.elbo

    def elbo(self, data: Any, *, chunk_size: int = 1024) -> float:
        """The ELBO of all these rows, in nats, their local latents at their optimum."""
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(data), chunk_size):
                batch = data[start : start + chunk_size]
                state = self._local(self.state, batch)
                total += evaluate(self.model, state, batch, generator=self._generator).elbo
                if start:  # the global part counts once
                    total -= self._global_part()
        return total

    def _global_part(self) -> float:
        """Global terms and entropies: the bound without rows."""
        without = replace(self.model, local_terms=None, sampled_terms=None)
        return evaluate(without, self.state).elbo


def epochs(
    svi: Svi, data: Any, batch_size: int, generator: Generator, callback: Callable[[int, float, State], object] | None
) -> float:
    """One pass over the data in random order; the mean of the ELBO's estimates, nats."""
    order = torch.randperm(len(data), generator=generator)
    estimates = []
    for rows in order.split(min(batch_size, len(data))):
        estimates.append(svi.partial_fit(data[rows]))
        if callback:
            callback(svi.steps, estimates[-1], svi.state)
    return sum(estimates) / len(estimates)
