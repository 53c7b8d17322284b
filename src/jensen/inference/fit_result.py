"""What a black-box fit gives: draws, a table, and whether to believe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor

from jensen.inference import pointwise, posterior_summary
from jensen.inference.climb import Ascent
from jensen.inference.evaluated import Evaluated, chunk_of, draws_for, each_draw, evaluate_draws
from jensen.inference.linear_response import response_of
from jensen.inference.model import Model, Values
from jensen.inference.objective import Bound
from jensen.inference.posterior_summary import Summary
from jensen.inference.psis import resample
from jensen.inference.target import Target
from jensen.inference.variational.base import Family
from jensen.inference.verdict import ParetoK, disagreement, pareto_k

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Expectation", "FitResult"]

_BLIND = " (of what q covers: k-hat does not see other modes)"
DRAWS = 4_000
"""of q, where only means are needed"""
DIAGNOSIS_SEED = 7_919_003
"""of the diagnosis's draws: not those that a fit with a small seed was made on, which would flatter it"""


class Expectation(NamedTuple):
    """Of a function of the latents.

    Attributes:
        mean: the function's shape.
        error: Monte Carlo standard error of it, the same shape.
        reweighted: whether it is the posterior's, by importance weights; else it is q's alone.
    """

    mean: Tensor
    error: Tensor
    reweighted: bool


class FitResult:
    """q at the end of a climb, and what follows from it.

    Args:
        bound: model, data and family, its parameters those of the optimum.
        ascent: how the climb ended.
        method: which way up it was.
        diagnosis: k-hat where it is known already (a loaded fit).
        without_data: whether the data that the log joint reads are not there (a loaded fit).
    """

    def __init__(
        self,
        bound: Bound,
        ascent: Ascent,
        method: str = "",
        *,
        diagnosis: ParetoK | None = None,
        without_data: bool = False,
    ) -> None:
        self.bound, self.ascent, self.method = bound, ascent, method
        self._diagnosis, self.without_data = diagnosis, without_data

    # --- what was fitted ----------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """What was fitted."""
        return self.target.model

    @property
    def target(self) -> Target:
        """The model at its data."""
        return self.bound.target

    @property
    def family(self) -> Family:
        """q, a module with the optimum's parameters."""
        return self.bound.family

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The model's own learned parameters by name, without history; empty if it has none."""
        theta = self.target.theta
        return {} if theta is None else {name: p.detach() for name, p in theta.named_parameters()}

    # --- how the climb ended ------------------------------------------------------------------------------------------

    @property
    def elbo(self) -> float:
        """Nats, on fresh draws and all the data: a lower bound of the log evidence."""
        return self.ascent.elbo

    @property
    def elbo_se(self) -> float:
        """Standard error of `elbo`, nats."""
        return self.ascent.elbo_se

    @property
    def converged(self) -> bool:
        """Whether the method's criterion was met."""
        return self.ascent.converged

    @property
    def reason(self) -> str:
        """Why the climb stopped."""
        return self.ascent.reason

    @property
    def advice(self) -> str | None:
        """What to try where it did not converge."""
        return self.ascent.advice

    @property
    def starts(self) -> list[tuple[float, bool]]:
        """ELBO (nats) and whether it converged, of each start."""
        return self.ascent.starts

    @property
    def disagreement(self) -> str | None:
        """In words how the starts differ; None where they agree or there was one."""
        return "; ".join(self.ascent.notes) or disagreement(self.starts, self.elbo_se, mixed=self._mixed)

    @property
    def _mixed(self) -> bool:
        return self.method == "pathfinder"

    @property
    def verdict(self) -> str:
        """k-hat in words; where starts disagree, with what it cannot see."""
        return self.pareto_k.verdict + self._blindness(self.pareto_k)

    def _blindness(self, diagnosis: ParetoK | None) -> str:
        """What is to be said of k-hat where starts ended elsewhere and q covers one of their modes."""
        elsewhere = self.disagreement is not None and not self._mixed
        return _BLIND if diagnosis is not None and diagnosis.usable and elsewhere else ""

    @property
    def pareto_k(self) -> ParetoK:
        """How far q is from the posterior: k-hat of importance ratios at draws of q; computed when first asked for."""
        if self._diagnosis is None:
            self._need_data("k-hat")
            self._diagnosis = pareto_k(self._evaluate(draws_for(self.target), DIAGNOSIS_SEED).log_ratios.cpu())
        return self._diagnosis

    # --- draws --------------------------------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0, *, reweighted: bool = False) -> dict[str, Tensor]:
        """Draws of q by latent on its support, (n, *shape) each.

        Args:
            reweighted: draws of the posterior instead, by importance resampling, with replacement, of the diagnosis's
                draws of q.

        Raises:
            ValueError: n below 1; reweighted, but k-hat says that weights are not usable.
        """
        _at_least_one(n)
        if not reweighted:
            return self._draw(n, seed)
        chosen = self._chosen(n, seed)
        values = self._draw(self.pareto_k.draws, DIAGNOSIS_SEED)
        return {name: value[chosen.to(value.device)] for name, value in values.items()}

    def expectation(self, function: Callable[[Any], Any]) -> Any:
        """E[function(z)] under the posterior where k-hat says that importance weights are usable, else under q.

        Args:
            function: of ONE draw (`z.mu` on its support), giving a tensor or tensors by name.

        Returns:
            An `Expectation`, or one for each name.
        """
        diagnosis = self.pareto_k
        values = self._draw(diagnosis.draws, DIAGNOSIS_SEED)
        found = each_draw(function, values, chunk_of(self.target, diagnosis.draws))
        even = torch.full((diagnosis.draws,), 1 / diagnosis.draws, dtype=torch.float64)
        weights = diagnosis.log_weights.exp() if diagnosis.usable else even
        result = {name: _weighted(value.double(), weights, diagnosis.usable) for name, value in found.items()}
        return result[""] if list(result) == [""] else result

    def posterior_predictive(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """New data from n draws of q, by the model's `simulate`, (n, ...) by name.

        Raises:
            ValueError: the model has no `simulate`; n below 1.
        """
        _at_least_one(n)
        self._need_data("a posterior predictive draw")
        return pointwise.simulated(self.target, self._draw(n, seed), seed)

    def prior(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """n draws of the latents from the model's `prior`, (n, *shape) by name; ValueError if it has none."""
        _at_least_one(n)
        return pointwise.prior_draws(self.model, n, seed)

    def prior_predictive(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """New data from n draws of the prior, by the model's `prior` and `simulate`, (n, ...) by name.

        Raises:
            ValueError: the model lacks one of them; n below 1.
        """
        values = self.prior(n, seed)
        self._need_data("a prior predictive draw")
        return pointwise.simulated(self.target, values, seed)

    def log_likelihood(self, n: int = 1_000, seed: int = 0, terms: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Pointwise log likelihoods of n draws of q, (n, rows, ...) by term, nats: what loo needs.

        Args:
            terms: of the log joint; by default those along a plate that read the data.

        Raises:
            ValueError: no such term is along a plate.
        """
        _at_least_one(n)
        self._need_data("the log likelihood")
        return pointwise.log_likelihood(self.target, self._draw(n, seed), terms)

    # --- to look at ---------------------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        """A table of every number on its support: q's, corrected by linear response, and importance-reweighted."""
        known = self._diagnosis is not None or not self.without_data
        diagnosis = self.pareto_k if known else None
        draws = draws_for(self.target) if diagnosis is None else diagnosis.draws
        values = self._draw(draws, DIAGNOSIS_SEED)
        coordinates, ascent = self.target.coordinates, self.ascent
        spread, error = self.spread(), None
        if ascent.monte_carlo is not None:
            mean = coordinates.unconstrain(values).mean(0).cpu()
            place = torch.argsort(posterior_summary.mean_order(self.family, coordinates))
            error = posterior_summary.optimum_error(self.model, coordinates, mean, ascent.monte_carlo.cpu()[place])
        weights = diagnosis.log_weights if diagnosis is not None and diagnosis.usable else None
        return posterior_summary.summarise(self.model, values, weights, spread, error, self._remarks(diagnosis))

    def covariance(self, function: Callable[[Any], Any]) -> Tensor:
        """Covariance of numbers that `function` gives by linear response, (K, K), corrected for what q leaves out.

        Args:
            function: of ONE draw of the continuous latents (`z.mu` on its support), giving a tensor; its K numbers.

        Raises:
            ValueError: there is no linear response: the climb was not deterministic, did not converge, or was stored.
        """
        if self.ascent.response is None:
            raise ValueError('linear response needs a converged fit with method="deterministic", not a stored one')

        def numbers(values: Mapping[str, Tensor]) -> Tensor:
            found: Tensor = torch.func.vmap(lambda v: function(Values(v)).reshape(-1))(dict(values))
            return found

        found = response_of(self.bound, self.bound.flat(), self.ascent.response, numbers)
        if found is None:
            raise ValueError("the Hessian is not positive definite at the optimum: there is no linear response")
        return found

    def spread(self) -> Tensor | None:
        """Standard deviations of the summary's numbers by linear response, NaN for discrete ones; None if unknown."""
        ascent, coordinates = self.ascent, self.target.coordinates
        if ascent.spread is not None or ascent.linear_response is None:
            return ascent.spread
        if ascent.response is not None:
            continuous = [name for name, variable in self.model.latents.items() if not variable.discrete]
            found = self.covariance(lambda z: torch.cat([z[name].reshape(-1) for name in continuous]))
            ascent.spread = posterior_summary.among_all(self.model, found.diagonal().clamp(min=0).sqrt().cpu())
            return ascent.spread
        mean = coordinates.unconstrain(self._draw(DRAWS, DIAGNOSIS_SEED)).mean(0).cpu()
        place = torch.argsort(posterior_summary.mean_order(self.family, coordinates))
        covariance = ascent.linear_response.cpu()[place][:, place]
        return posterior_summary.corrected_sd(self.model, coordinates, mean, covariance)

    def _remarks(self, diagnosis: ParetoK | None) -> list[str]:
        ending = "converged" if self.converged else "NOT CONVERGED"
        advice = f" {self.advice}" if self.advice and not self.converged else ""
        lines = [f"ELBO {self.elbo:.2f} ± {self.elbo_se:.2f} nats; {ending}: {self.reason}.{advice}"]
        differ = self.disagreement
        lines.append(
            f"{diagnosis}{self._blindness(diagnosis)}"
            if diagnosis is not None
            else "Pareto k-hat: unknown without the data"
        )
        return [*lines, *(line for line in (differ, self.target.slow) if line is not None)]

    def __repr__(self) -> str:
        ending = "converged" if self.converged else "NOT CONVERGED"
        return f"FitResult({', '.join(self.model.latents)}: ELBO {self.elbo:.2f} ± {self.elbo_se:.2f}, {ending})"

    def plot(self, kind: Literal["trace", "pairs", "prior"] = "trace", names: Sequence[str] = ()) -> Figure:
        """A picture: the bound's trace, pairs of numbers, or prior beside posterior (needs the model's `prior`).

        Args:
            names: numbers as the summary calls them; by default the first 8 (pairs) or 24 (prior).

        Raises:
            ValueError: an unknown kind or name; no prior to draw.
        """
        from jensen.inference import result_plots  # matplotlib takes a second to import

        return result_plots.draw(self, kind, names)

    # --- elsewhere ----------------------------------------------------------------------------------------------------

    def to_arviz(self, n: int = 1_000, seed: int = 0, *, reweighted: bool = False) -> Any:
        """An ArviZ `InferenceData` of n draws of q: posterior, sample_stats and, where the model has them,
        log_likelihood, posterior_predictive, prior, prior_predictive and the data.

        Args:
            reweighted: draws of the posterior instead, as in `sample`. loo and compare take draws for the posterior's:
                with those of a q that is off in its tails their own k-hats are large and their numbers wrong.

        Raises:
            ImportError: ArviZ is not installed.
            ValueError: n below 1; reweighted, but k-hat says that weights are not usable.
        """
        from jensen.inference import arviz_export

        return arviz_export.inference_data(self, n, seed, reweighted)

    def save(self, folder: Path | str) -> None:
        """Write q, theta and the diagnosis into `folder`, atomically; `load_fit` reads them. The data are not kept."""
        from jensen.inference import fit_store

        fit_store.save_fit(self, folder)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _posterior(self) -> Any:
        try:
            return self.family(self.target.whole).detach()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if not self.without_data:
                raise
            message = f"q reads the data (it is amortised): give them, load_fit(folder, model, data) ({error})"
            raise ValueError(message) from error

    def _draw(self, n: int, seed: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self._posterior().sample(n, Generator().manual_seed(seed))
        return found

    def _chosen(self, n: int, seed: int) -> Tensor:
        """Which of the diagnosis's draws an importance resample of n has."""
        diagnosis = self.pareto_k
        if not diagnosis.usable:
            raise ValueError(f"reweighted draws would mislead: {diagnosis}")
        return resample(diagnosis.log_weights, n, Generator().manual_seed(seed))

    def _evaluate(self, n: int, seed: int) -> Evaluated:
        return evaluate_draws(self.target, self._posterior(), n, Generator().manual_seed(seed))

    def _evaluated(self, n: int, seed: int, reweighted: bool) -> Evaluated:
        """What `sample` gives, with its densities."""
        if not reweighted:
            return self._evaluate(n, seed)
        chosen = self._chosen(n, seed)
        values, *densities = self._evaluate(self.pareto_k.draws, DIAGNOSIS_SEED)
        log_joint, log_q = (density[chosen.to(density.device)] for density in densities)
        return Evaluated({name: v[chosen.to(v.device)] for name, v in values.items()}, log_joint, log_q)

    def _need_data(self, what: str) -> None:
        if self.without_data:
            raise ValueError(f"{what} needs the data, which a saved fit does not hold: load_fit(folder, model, data)")


def _weighted(value: Tensor, weights: Tensor, reweighted: bool) -> Expectation:
    """Mean and delta-method standard error of a self-normalised weighted average."""
    shaped = weights.to(value).reshape(-1, *(1 for _ in value.shape[1:]))
    mean = (shaped * value).sum(0)
    return Expectation(mean, (shaped.square() * (value - mean).square()).sum(0).sqrt(), reweighted)


def _at_least_one(n: int) -> None:
    if n < 1:
        raise ValueError(f"n should be at least 1, but is {n}")
