"""What finite draws cost: claimed by the climb, and seen from the bound in closed form over many seeds."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from jensen.inference import Model, deterministic, real
from jensen.inference.deterministic import climb
from jensen.inference.draws import matched, understated
from jensen.inference.fit import prepare

COUNT, WIDTH, SEEDS = 4.0, 3.0, 24


@pytest.mark.parametrize("halves", [8, 16, 40])
def test_sets_matched_by_themselves_are_more_alike(halves: int) -> None:
    raw = torch.randn(40_000, halves, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(halves))
    alone = matched(raw).pow(4).mean((1, 2)).var()
    among_many = (raw.pow(4) - 6 * raw.square()).mean((1, 2)).var()  # less what second moments explain
    assert understated(halves) == pytest.approx(float(among_many / alone), rel=0.08)


def minus_bound(parameters: Any) -> float:
    """Of a Poisson count with log rate u ~ N(0, WIDTH^2), at q = N(loc, exp(log_scale)^2); constants left out."""
    loc, log_scale = (torch.as_tensor(p, dtype=torch.float64) for p in parameters)
    variance = (2 * log_scale).exp()
    expected = COUNT * loc - (loc + variance / 2).exp() - 0.5 * (loc.square() + variance) / WIDTH**2
    return -float(expected + log_scale)


def test_shortfall_and_error_are_what_many_seeds_show() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        found: Tensor = COUNT * z.u - z.u.exp() - 0.5 * (z.u / WIDTH).square()
        return found

    best = minimize(minus_bound, [1.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    short, claimed, off, error = [], [], [], []
    for seed in range(SEEDS):
        found = climb(prepare(Model({"u": real()}, log_joint), None), n_starts=1, seed=seed)
        assert found.converged
        assert found.monte_carlo is not None
        words = re.search(r"leave the bound about (\S+) nats short", found.reason)
        assert words is not None
        claimed.append(float(words[1]))
        short.append(minus_bound(found.flat.tolist()) - best.fun)
        off.append(float(found.flat[0]) - float(best.x[0]))
        error.append(float(found.monte_carlo[0]))
    assert 0.4 < sum(short) / sum(claimed) < 2.0
    ratio = torch.tensor(off).square().mean().sqrt() / torch.tensor(error).square().mean().sqrt()
    assert 0.55 < float(ratio) < 1.5


def test_distances_from_zero_are_not_the_same_in_all_sets() -> None:
    size, freedom = 10, 3.0

    def log_joint(z: Any, data: Any) -> Tensor:  # a multivariate Student distribution
        found: Tensor = -0.5 * (freedom + size) * torch.log1p(z.u.square().sum() / freedom)
        return found

    noise = torch.randn(10_000, size, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    square = noise.square()

    def minus(log_scale: Tensor) -> float:  # at loc = 0, where the optimum is
        inside = 1 + (square * (2 * log_scale).exp()).sum(1) / freedom
        return float(0.5 * (freedom + size) * inside.log().mean() - log_scale.sum())

    best = minimize(lambda s: minus(torch.full((size,), float(s[0]), dtype=torch.float64)), [0.0], tol=1e-9)
    short, claimed = [], []
    for seed in range(4):
        found = climb(prepare(Model({"u": real(size)}, log_joint), None), n_starts=1, seed=seed)
        words = re.search(r"leave the bound about (\S+) nats short", found.reason)
        assert words is not None
        claimed.append(float(words[1]))
        assert float(found.flat[:size].abs().max()) < 1e-3  # by symmetry of the draws
        short.append(minus(found.flat[size:]) - best.fun)
    assert 0.3 < sum(short) / sum(claimed) < 2.0


def test_costly_draws_are_few_and_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, size = 200, 20
    design = torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = design.sum(1).sign().clamp(min=0)

    def log_joint(z: Any, data: Any) -> Tensor:
        predictor = design @ z.b
        found: Tensor = (y * predictor - torch.nn.functional.softplus(predictor)).sum() - 0.5 * z.b.square().sum()
        return found

    model = Model({"b": real(size)}, log_joint)
    usual = climb(prepare(model, None))
    monkeypatch.setattr(deterministic, "_AFFORDABLE", 100)
    few = climb(prepare(model, None))
    assert usual.converged
    assert few.converged
    draws = [int(str(re.search(r"(\S+) draws leave", found.reason)[1]).replace(",", "")) for found in (usual, few)]  # type: ignore[index]
    assert draws[1] < draws[0]
    tilt = (few.flat - usual.flat)[:size] / usual.flat[size:].exp()
    assert float(tilt.abs().max()) < 0.1
    assert abs(few.elbo - usual.elbo) < 0.02 + 4 * (few.elbo_se**2 + usual.elbo_se**2) ** 0.5
