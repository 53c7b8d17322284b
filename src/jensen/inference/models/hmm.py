"""Hidden Markov models with Dirichlet rows, their paths profiled out by the log-forward sum.

    pi ~ Dirichlet, each row of A ~ Dirichlet, emissions of each state ~ their conjugate prior
    z_1 ~ pi, z_t | z_{t-1} = k ~ A_k, x_t | z_t = k ~ emission k

Given q of these, the optimal q of a path is a Markov chain with the factors exp E[log pi], exp E[log A] and
exp E[log p(x | k)], none of which is normalised (MacKay 1997; Beal 2003, section 3.4). Its log-partition, the
log-forward sum, is what a sequence adds to the bound, convex in the mean parameters of all three blocks together; its
gradient holds the expected statistics of the path. So one sweep is one pass forward and backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding

from jensen.families import Dirichlet, ExponentialFamily
from jensen.families.base import symmetric
from jensen.inference.conjugate import ConjugateModel, Latent
from jensen.inference.models.forward_backward import log_forward
from jensen.inference.models.mixture import coefficients
from jensen.inference.models.mixture_kernels import Covariance, features
from jensen.inference.models.mixture_predictive import predictive
from jensen.inference.models.sequences import Sequences

__all__ = [
    "LATENTS",
    "CategoricalEmissions",
    "Emissions",
    "GaussianEmissions",
    "dirichlet_prior",
    "expected_probabilities",
    "hidden_markov_model",
    "posterior_of_states",
    "random_starts",
]

LATENTS = ("initial", "transitions", "emissions")

Family = ExponentialFamily[Any, Any, Any]
Families = Mapping[str, Family]


class GaussianEmissions:
    """Normal observations: q of the states' means and precisions is that of a mixture's components.

    See `MixturePrior.components` for the family that belongs to a `covariance`. A row of NaN is missing: its factor
    is 1.
    """

    def __init__(self, covariance: Covariance) -> None:
        if covariance not in ("full", "diag", "spherical"):
            raise ValueError(f"covariance must be 'full', 'diag' or 'spherical', got {covariance!r}")
        self.covariance: Covariance = covariance

    def features(self, sequences: Sequences) -> Tensor:
        """T(x) of shape (P, N), a missing observation all zeros; kept with the batch."""
        if self.covariance not in sequences.kept:
            missing = ~sequences.observed
            t = features(sequences.values.nan_to_num(), self.covariance)
            sequences.kept[self.covariance] = t.masked_fill_(missing, 0) if bool(missing.any()) else t
        return sequences.kept[self.covariance]

    def potentials(self, m: Any, sequences: Sequences) -> Tensor:
        """E[log N(x_n | k)] of every observation, (N, K), nats."""
        no_weights = m.precision_mean.new_zeros(len(m.precision_mean))
        table: Tensor = self.features(sequences).T @ coefficients(self.covariance, no_weights, m).T
        return table

    def log_predictive(self, q: Any, sequences: Sequences) -> Tensor:
        """log E_q[N(x_n | k)], the posterior predictive density of one observation in each state, (N, K), nats."""
        equal = Dirichlet.from_standard(torch.ones(q.batch_shape[0], dtype=torch.float64))
        student = predictive(self.covariance, equal, q)
        x = sequences.values
        log_joint = student.log_joint(x.nan_to_num()) - student.weights.log()
        return log_joint.masked_fill(~sequences.observed.unsqueeze(1), 0)

    def draw(self, q: Any, states: Tensor, generator: Generator) -> Tensor:
        """Observations (T, D) of a path (T,), the states' parameters drawn from q once for all of it."""
        draw = q.sample((), generator)
        loc = draw.loc.squeeze(-1) if self.covariance == "diag" else draw.loc
        noise = torch.randn(len(states), loc.shape[1], dtype=loc.dtype, generator=generator)
        if self.covariance == "full":
            root = torch.linalg.cholesky(draw.precision)  # L = R R^T, so R^-T noise has covariance L^-1
            away = torch.linalg.solve_triangular(root.mT[states], noise.unsqueeze(-1), upper=True).squeeze(-1)
        else:
            away = noise * draw.precision.view(len(loc), -1).rsqrt()[states]
        observations: Tensor = loc[states] + away
        return observations


class CategoricalEmissions:
    """Observations among V symbols 0 .. V - 1; q of each state's probabilities is a `Dirichlet`, a batch (K).

    The symbol -1 stands for a missing observation: its factor is 1.
    """

    def potentials(self, m: Any, sequences: Sequences) -> Tensor:
        """E[log theta_k,x_n] of every observation, (N, K), nats."""
        return self._look_up(m.log, sequences)

    def log_predictive(self, q: Family, sequences: Sequences) -> Tensor:
        """log E_q[theta_k,x_n], (N, K), nats."""
        return self._look_up(expected_probabilities(q).log(), sequences)

    def draw(self, q: Any, states: Tensor, generator: Generator) -> Tensor:
        """Symbols (T,) of a path (T,), the states' probabilities drawn from q once for all of it."""
        table = q.sample((), generator)
        return torch.multinomial(table[states], 1, generator=generator).squeeze(1)

    @staticmethod
    def _look_up(table: Tensor, sequences: Sequences) -> Tensor:
        found = embedding(sequences.values.clamp(min=0), table.mT.contiguous())
        missing = ~sequences.observed
        return found.masked_fill(missing.unsqueeze(1), 0) if bool(missing.any()) else found


Emissions = GaussianEmissions | CategoricalEmissions


def expected_probabilities(q: Family) -> Tensor:
    """E[p] of Dirichlet distributions."""
    concentration: Tensor = q.standard_parameters.concentration
    return concentration / concentration.sum(-1, keepdim=True)


def dirichlet_prior(
    rows: int | None, size: int, concentration: float | Tensor | None, sticky: float = 0.0, *, name: str = "prior"
) -> Dirichlet:
    """One Dirichlet distribution over `size` values, or `rows` of them.

    Args:
        concentration: a number for all, or an array that broadcasts to (rows, size); None: 1 / size, so that a row
            weighs as much as one observation.
        sticky: added on the diagonal.
        name: what to call the argument in an error.

    Raises:
        ValueError: not positive and finite, or of another shape.
    """
    shape = (size,) if rows is None else (rows, size)
    given = torch.as_tensor(1 / size if concentration is None else concentration, dtype=torch.float64)
    try:
        table = given.expand(shape).clone()
    except RuntimeError:
        raise ValueError(f"{name} must be a number or of shape {shape}, got shape {tuple(given.shape)}") from None
    if not bool((table.isfinite() & (table > 0)).all()):
        raise ValueError(f"{name} must be positive and finite, got {given.tolist()}")
    if not 0 <= sticky < math.inf:
        raise ValueError(f"sticky must be 0 or more and finite, got {sticky}")
    if sticky:
        table += sticky * torch.eye(size, dtype=table.dtype)
    return Dirichlet.from_standard(table)


def hidden_markov_model(
    priors: Families, emissions: Emissions, start: Mapping[str, Family | Callable[[Any], Family]]
) -> ConjugateModel:
    """The model for `infer`; its data are `Sequences`, whose rows are whole sequences.

    Args:
        priors: of "initial" (Dirichlet), "transitions" (Dirichlet, a batch of K rows), and "emissions".
        emissions: what a state does to the observations.
        start: the first q of the same three, or functions of a generator (`random_starts`).
    """

    def paths(m: Any, batch: Sequences) -> Mapping[str, Tensor]:
        potentials = emissions.potentials(m.emissions, batch)
        return {"paths": log_forward(potentials, m.initial.log, m.transitions.log, batch)}

    return ConjugateModel(
        latents={name: Latent(start=start[name], prior=priors[name]) for name in LATENTS},
        local_terms=paths,
        blocks=[list(LATENTS)],
        profiled=frozenset({"paths"}),
    )


def posterior_of_states(
    priors: Families, emissions: Emissions, sequences: Sequences, responsibilities: Tensor
) -> dict[str, Family]:
    """q of the three latents if observation n were in state k with probability `responsibilities` (N, K)."""
    starts = sequences.starts.to(responsibilities.device)
    later = responsibilities.clone()
    later[starts] = 0
    pairs = responsibilities[:-1].T @ later[1:]
    with torch.enable_grad():
        leaves = {
            name: prior.Mean(*(f.detach().requires_grad_() for f in prior.mean_parameters))
            for name, prior in priors.items()
        }
        total = (responsibilities * emissions.potentials(leaves["emissions"], sequences)).sum()
        total = total + (responsibilities[starts].sum(0) * leaves["initial"].log).sum()
        total = total + (pairs * leaves["transitions"].log).sum()
        for name, prior in priors.items():
            total = total + prior.inner(prior.natural_parameters, leaves[name]).sum()
        gradients = iter(torch.autograd.grad(total, [f for leaf in leaves.values() for f in leaf]))
    return {
        name: type(prior)(
            prior.Natural(*(symmetric(g) if e == 2 else g for e, g in zip(prior.event_dims, gradients, strict=False)))
        )
        for name, prior in priors.items()
    }


def random_starts(make: Callable[[int], Families]) -> dict[str, Callable[[Generator | None], Family]]:
    """Starts that belong together as `hidden_markov_model` takes them: `make(seed)` once for each run of `infer`."""
    made: dict[int, Families] = {}

    def start(name: str, generator: Generator | None) -> Family:
        seed = 0 if generator is None else generator.initial_seed()
        if seed not in made:
            made.clear()
            made[seed] = make(seed)
        return made[seed][name]

    return {name: lambda generator, name=name: start(name, generator) for name in LATENTS}  # type: ignore[misc]
