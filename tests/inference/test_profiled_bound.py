"""Enumerated latents at their best q: the maximum over them, its gradient, and mixtures that come out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from jensen.estimators import BayesianMixture
from jensen.inference import Model, bernoulli, categorical, fit, positive, real, simplex
from jensen.inference.fit import prepare
from jensen.inference.objective import Bound

Y = torch.tensor([-2.1, -1.4, -1.9, 0.3, 1.7, 2.2, 2.6], dtype=torch.float64)
LOG_WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()


def mixture(kind: str) -> Model:
    """y_i ~ N(mu_k, 1), k ~ weights; or a Bernoulli latent that moves y_i by mu[0]; or both, in terms of their own."""

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        terms = {"mu": Normal(0.0, 3.0).log_prob(z.mu).sum()}
        if kind != "bernoulli":
            terms |= {"k": LOG_WEIGHTS[z.k], "y": Normal(z.mu[z.k], 1.0).log_prob(data.y)}
        if kind != "categorical":
            terms |= {"b": math.log(0.3) * z.b + math.log(0.7) * (1 - z.b)}
            terms |= {"moved": Normal(z.mu[0] * z.b, 0.5).log_prob(data.y)}
        return terms

    latents = {"mu": real(3)}
    if kind != "bernoulli":
        latents["k"] = categorical(3, plate="rows")
    if kind != "categorical":
        latents["b"] = bernoulli(plate="rows")
    return Model(latents, log_joint, plates={"rows": len(Y)})


def some_noise(draws: int = 6) -> Tensor:
    return torch.randn(draws, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def bounds(kind: str) -> tuple[Bound, Bound]:
    """The bound as it is, and profiled."""
    plain, profiled = (prepare(mixture(kind), {"y": Y}) for _ in range(2))
    profiled.profile()
    return plain, profiled


def continuous_part(plain: Bound, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Which entries of the plain bound's vector the profiled one has, as booleans, and the vector with them set."""
    own = torch.zeros(len(plain.flat()), dtype=torch.bool)
    for name, place in plain.at(torch.arange(len(own))).items():
        if name.endswith(("loc", "log_scale")):
            own[place.reshape(-1)] = True
    whole = plain.flat()
    whole[own] = flat
    return own, whole


def highest(function: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where a function is highest, by L-BFGS from a start."""
    x = start.clone().requires_grad_()
    climber = torch.optim.LBFGS(
        [x], max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        climber.zero_grad()
        loss = -function(x)
        loss.backward()
        return loss

    climber.step(closure)
    return x.detach()


@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "both"])
def test_the_profiled_bound_is_the_maximum_over_discrete_q(kind: str) -> None:
    plain, profiled = bounds(kind)
    noise = some_noise()
    flat = torch.tensor([-2.0, 0.4, 2.0, -0.7, -0.9, -0.2], dtype=torch.float64)
    assert profiled.flat().shape == flat.shape
    own, whole = continuous_part(plain, flat)
    assert int((~own).sum()) == len(Y) * {"categorical": 2, "bernoulli": 1, "both": 3}[kind]

    def at_logits(logits: Tensor) -> Tensor:
        return plain.value(whole.masked_scatter(~own, logits), noise)

    best = highest(at_logits, whole[~own])
    value = profiled.value(flat, noise)
    torch.testing.assert_close(value, at_logits(best), atol=1e-9, rtol=0)
    assert float(value) > float(at_logits(torch.zeros_like(best))) + 1.0  # not that it was there from the start

    # Envelope: its gradient is the partial one, q held at its best.
    slope = torch.func.grad(profiled.value)(flat, noise)
    partial = torch.func.grad(plain.value)(whole.masked_scatter(~own, best), noise)
    torch.testing.assert_close(slope, partial[own], atol=1e-6, rtol=0)
    steps = 1e-5 * torch.eye(len(flat), dtype=torch.float64)
    numeric = [(profiled.value(flat + h, noise) - profiled.value(flat - h, noise)) / 2e-5 for h in steps]
    torch.testing.assert_close(slope, torch.stack(numeric), atol=1e-6, rtol=0)

    # And settled, q is that best one.
    profiled.load(flat)
    profiled.settle(flat, noise)
    torch.testing.assert_close(profiled.per_draw(flat, noise).mean(), value)
    settled = torch.cat([p.detach().reshape(-1) for n, p in profiled.named_parameters() if ".raw." in n])
    torch.testing.assert_close(settled.sigmoid(), best.sigmoid(), atol=1e-5, rtol=0)


def free_parameters(model: Model, data: Any) -> int:
    bound = prepare(model, data)
    before = len(bound.flat())
    bound.profile()
    return before - len(bound.flat())


def test_what_is_not_independent_given_the_rest_is_not_profiled() -> None:
    """Latents that meet in a term, that are summed over rows, that have no plate: their best q is no closed form."""
    mu = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)

    def meeting(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"x": Normal(0.0, 1.0).log_prob(z.x), "y": Normal(mu[z.k] + z.b + z.x, 1.0).log_prob(data.y)}

    def summed(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"x": Normal(0.0, 1.0).log_prob(z.x), "y": Normal(mu[z.k] + z.x, 1.0).log_prob(data.y).sum()}

    def alone(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"x": Normal(0.0, 1.0).log_prob(z.x), "y": Normal(mu[z.k] + z.x, 1.0).log_prob(data.y)}

    y = {"y": Y[:3]}
    plates = {"rows": 3}
    rows: Any = {"x": real(), "k": categorical(3, plate="rows")}
    assert free_parameters(Model(rows, alone, plates=plates), y) == 3 * 2
    assert free_parameters(Model({**rows, "b": bernoulli(plate="rows")}, meeting, plates=plates), y) == 0
    assert free_parameters(Model(rows, summed, plates=plates), y) == 0
    assert free_parameters(Model({"x": real(), "k": categorical(3)}, alone, plates=plates), y) == 0


def test_latents_that_meet_are_still_fitted_right() -> None:
    """Not profiled, but enumerated together: the bound is under the evidence, and above that of no dependence."""

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"k": LOG_WEIGHTS[z.k], "b": 0.0 * z.b - math.log(2), "y": Normal(z.k + 3.0 * z.b, 1.0).log_prob(data.y)}

    latents = {"k": categorical(3, plate="rows"), "b": bernoulli(plate="rows")}
    result = fit(Model(latents, log_joint, plates={"rows": len(Y)}), {"y": Y})
    states = [
        LOG_WEIGHTS[k] - math.log(2) + Normal(k + 3.0 * b, 1.0).log_prob(Y) for k, b in product(range(3), range(2))
    ]
    evidence = float(torch.stack(states).logsumexp(0).sum())
    assert evidence - 1.0 < result.elbo < evidence


def test_a_model_of_nothing_else_is_exact_at_once() -> None:
    """Independent discrete rows: q is the posterior, the ELBO the evidence."""
    means = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)

    def log_joint(z: Any, y: Tensor) -> Mapping[str, Tensor]:
        return {"k": LOG_WEIGHTS[z.k], "y": Normal(means[z.k], 1.0).log_prob(y)}

    result = fit(Model({"k": categorical(3, plate="rows")}, log_joint, plates={"rows": len(Y)}), Y)
    joint = LOG_WEIGHTS[:, None] + Normal(means[:, None], 1.0).log_prob(Y)
    assert result.converged
    assert result.elbo == pytest.approx(float(joint.logsumexp(0).sum()), abs=1e-10)
    share = torch.nn.functional.one_hot(result.sample(20_000)["k"], 3).double().mean(0)
    torch.testing.assert_close(share, joint.softmax(0).mT, atol=0.015, rtol=0)


def test_minibatches_are_not_profiled() -> None:
    """A batch sees a part of the rows: q of the others must be kept somewhere."""
    bound = bounds("categorical")[1]
    batch = bound.target.batch(torch.tensor([1, 4, 5]))
    assert dict(bound(batch, noise=some_noise(), samples=6, profiled=True).best) == {}
    best = bound(noise=some_noise(), samples=6, profiled=True).best
    assert best["k"].shape == (3, len(Y))
    torch.testing.assert_close(best["k"].exp().sum(0), torch.ones(len(Y), dtype=torch.float64))


# --- mixtures ---------------------------------------------------------------------------------------------------------


def coordinate_ascent(y: Tensor, log_weights: Tensor, prior_sd: float, start: Tensor) -> float:
    """ELBO of CAVI for y_i ~ N(mu_k, 1) with known weights, mu_k ~ N(0, prior_sd^2), by its textbook updates."""
    mean, precision = start.clone(), torch.ones_like(start)
    for _ in range(100):
        scores = log_weights + Normal(mean, 1.0).log_prob(y[:, None]) - 0.5 / precision
        share = scores.softmax(1)
        precision = share.sum(0) + prior_sd**-2
        mean = (share * y[:, None]).sum(0) / precision
    scores = log_weights + Normal(mean, 1.0).log_prob(y[:, None]) - 0.5 / precision
    variance = 1 / precision
    kl = 0.5 * ((mean**2 + variance) / prior_sd**2 - 1 - (variance / prior_sd**2).log()).sum()
    return float((scores.softmax(1) * (scores - scores.log_softmax(1))).sum() - kl)


def test_a_mixture_reaches_what_coordinate_ascent_does() -> None:
    """The same q: normal means, free assignments. The best of all starts of coordinate ascent is the mark."""
    starts = [torch.tensor(s, dtype=torch.float64) for s in product((-2.0, 0.0, 2.0), repeat=3)]
    mark = max(coordinate_ascent(Y, LOG_WEIGHTS, 3.0, s) for s in starts)
    result = fit(mixture("categorical"), {"y": Y}, n_starts=6)
    assert result.converged
    assert result.elbo == pytest.approx(mark, abs=0.02 + 4 * result.elbo_se)


TINY = torch.tensor([-2.2, -1.7, -1.9, -2.6, -1.2, 1.4, 2.1, 1.8, 2.7, 2.3], dtype=torch.float64)
CONCENTRATION, KAPPA, NU, SCALE = 2.0, 0.2, 3.0, 1.5


def conjugate_mixture() -> Model:
    """Two components; their precision l ~ Gamma(NU / 2, SCALE / 2), mean ~ N(0, 1 / (KAPPA l)), weights ~ Dirichlet."""
    gamma = torch.distributions.Gamma(torch.tensor(NU / 2).double(), torch.tensor(SCALE / 2).double())
    dirichlet = torch.distributions.Dirichlet(torch.full((2,), CONCENTRATION, dtype=torch.float64))

    def log_joint(z: Any, y: Tensor) -> Mapping[str, Tensor]:
        sd = z.precision.rsqrt()
        return {
            "weights": dirichlet.log_prob(z.weights),
            "precision": gamma.log_prob(z.precision).sum(),
            "mu": Normal(0.0, sd / KAPPA**0.5).log_prob(z.mu).sum(),
            "k": Categorical(z.weights).log_prob(z.k),
            "y": Normal(z.mu[z.k], sd[z.k]).log_prob(y),
        }

    latents = {"weights": simplex(2), "precision": positive(2), "mu": real(2), "k": categorical(2, plate="rows")}
    return Model(latents, log_joint, plates={"rows": len(TINY)})


def exact_evidence() -> float:
    """log p(y), all 2^10 assignments summed: each has a closed form (Bishop 2006, exercise 2.44; Dirichlet counts)."""
    every = torch.tensor(list(product((0.0, 1.0), repeat=len(TINY))), dtype=torch.float64)
    total = torch.zeros(len(every), dtype=torch.float64)
    lgamma = torch.lgamma
    for chosen in (every, 1 - every):
        count = chosen.sum(1)
        first, second = chosen @ TINY, chosen @ TINY**2
        kappa, nu = KAPPA + count, NU + count
        scale = SCALE + second - first**2 / kappa
        total += lgamma(nu / 2) - math.lgamma(NU / 2) + NU / 2 * math.log(SCALE / 2) - nu / 2 * (scale / 2).log()
        total += 0.5 * (math.log(KAPPA) - kappa.log()) - count / 2 * math.log(2 * math.pi)
        total += lgamma(CONCENTRATION + count) - math.lgamma(CONCENTRATION)
    total += math.lgamma(2 * CONCENTRATION) - math.lgamma(2 * CONCENTRATION + len(TINY))
    return float(total.logsumexp(0))


@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_a_mixture_is_under_the_evidence_and_near_the_conjugate_one(family: str) -> None:
    """CAVI's q of weights, means and precisions is free: none beside free assignments can be better."""
    conjugate = BayesianMixture(
        2,
        covariance_type="diag",
        weight_concentration=CONCENTRATION,
        mean_prior=[0.0],
        mean_precision=KAPPA,
        degrees_of_freedom=NU,
        covariance_prior=[SCALE],
        n_init=5,
        tol=1e-10,
        random_state=0,
    ).fit(TINY[:, None].numpy())
    result = fit(conjugate_mixture(), TINY, family=family, n_starts=6)
    assert result.converged
    room = 0.02 + 4 * result.elbo_se
    evidence = exact_evidence()
    assert conjugate.elbo_ < evidence - math.log(2) + 0.1  # labels swapped: half of the posterior at most
    assert result.elbo <= conjugate.elbo_ + room
    assert result.elbo >= conjugate.elbo_ - {"mean_field": 0.6, "full_rank": 0.15}[family] - room
