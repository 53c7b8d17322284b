"""Stochastic variational inference: the update on minibatches, and on streams."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from jensen.families import ExponentialFamily
from jensen.inference.ascent import ascend
from jensen.inference.conjugate import ConjugateModel, State
from jensen.inference.evaluation import evaluate
from jensen.inference.steps import RobbinsMonro, StepSize, learning_rate, step_size
from jensen.inference.update import fit_local, fit_parameters, natural_gradient, update

__all__ = ["Svi", "epochs"]


class Svi:
    """Inference that sees the data in minibatches (Hoffman et al. 2013).

    Each minibatch's local latents are brought to their optimum, then the global ones take a natural-gradient step in
    which every row counts total_size / B times, and hyperparameters a step of the same size towards their optimum.
    Without a total size the data are an endless stream: the posterior of what was seen is the prior of the next batch
    (Broderick et al. 2013), and hyperparameters are averages over the batches.

    Args:
        model: as for `infer`.
        total_size: number of rows of the whole data; None for a stream.
        rho: step size: a number, a function of (t, natural gradient) or "adaptive"; default `RobbinsMonro()`. An
            adaptive one adapts to each block of latents.
        local_tol: the relative change of the batch's bound at which its local latents count as optimal.
        local_steps: at most so many sweeps over them.
        plain: plain gradient steps of the learning rate `rho` instead, on the ELBO per row.
        start: where to begin instead of the model's own start.
        generator: random starts and draws; default seed 0.

    Attributes:
        state: q of the global latents and the hyperparameters.
        steps: minibatches seen.

    Raises:
        ValueError: an argument out of its range, or one that a stream does not use.
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
        if total_size is None and (rho is not None or plain):
            raise ValueError("a stream (total_size=None) takes whole steps: rho and plain need a total_size")
        if not (local_tol >= 0 and local_steps >= 1):
            raise ValueError(
                f"local_tol must be 0 or more and local_steps 1 or more, got {local_tol} and {local_steps}"
            )
        self.model, self.total_size, self.plain = model, total_size, plain
        self.local_tol, self.local_steps = local_tol, local_steps
        self._blocks = [names for names in (model.split(block)[0] for block in model.order) if names]
        make = learning_rate if plain else step_size
        given = RobbinsMonro() if rho is None else rho
        self._rho = [make(copy.deepcopy(given)) for _ in range(max(1, len(self._blocks)))]
        self._generator = generator or torch.Generator().manual_seed(0)
        self.state = replace(start or model.start(self._generator), local={})
        self.steps = 0
        self._seen = 0

    @property
    def posterior(self) -> dict[str, ExponentialFamily[Any, Any, Any]]:
        """q of the global latents, by name."""
        return dict(self.state.q)

    def partial_fit(self, batch: Any) -> float:
        """Learn from a batch and return an estimate of the ELBO (nats): of all the data, or for a stream of the batch.

        Raises:
            ValueError: an empty batch, or one of more rows than `total_size`.
            NonFiniteError: NaN in a term or a latent, which it names; the state is that before the batch.
        """
        rows = len(batch)
        if rows == 0:
            raise ValueError("the batch has no rows")
        if self.total_size is not None and rows > self.total_size:
            raise ValueError(f"the batch has {rows} rows, more than total_size = {self.total_size}")
        with torch.no_grad():
            elbo = self._stream(batch) if self.total_size is None else self._step(batch, self.total_size / rows)
        self.steps += 1
        self._seen += rows
        return elbo

    def _step(self, batch: Any, scale: float) -> float:
        state = self._local(self.state, batch)
        if self.plain:
            rate = self._rho[0](self.steps, torch.zeros(1))
            elbo, state = ascend(self.model, state, batch, rate, scale=scale, generator=self._generator)
            self.state = replace(state, local={})
            return elbo
        estimates = []
        for block, size in zip(self._blocks or [[]], self._rho, strict=True):  # hyperparameters may be all there is
            found = evaluate(self.model, state, batch, block, scale=scale, generator=self._generator)
            estimates.append(found.elbo)
            rho = size(self.steps, natural_gradient(state, found))
            state = update(self.model, state, found, rho)
        state = fit_parameters(self.model, state, batch, scale=scale, rho=rho, generator=self._generator)
        self.state = replace(state, local={})
        return estimates[0]

    def _local(self, state: State, batch: Any) -> State:
        return fit_local(
            self.model, state, batch, tol=self.local_tol, max_steps=self.local_steps, generator=self._generator
        )

    def _stream(self, batch: Any) -> float:
        """Coordinate ascent on the batch, its prior the posterior so far."""
        from jensen.inference.methods import infer

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
        weight = len(batch) / (self._seen + len(batch))
        parameters = {
            n: p.constrained(
                torch.lerp(p.unconstrained(self.state.parameters[n]), p.unconstrained(result.parameters[n]), weight)
            )
            for n, p in model.parameters.items()
        }
        self.state = State(q=result.posterior, parameters=parameters)
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
