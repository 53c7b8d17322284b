"""Whether Pathfinder converged: paths that rest at a mode, and starts that found nothing."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from jensen.errors import NotConvergedWarning
from jensen.inference import FitResult, Model, fit, positive, real
from jensen.inference.pathfinder import find


def pathfinder(log_joint: Any, **options: Any) -> FitResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        return fit(Model({"x": real()}, log_joint), method="pathfinder", **options)


@pytest.mark.parametrize("seed", range(3))
def test_two_modes_that_are_found_exactly_have_converged(seed: int) -> None:
    """At the mode of a normal density line searches find nothing but rounding: that is no path cut short."""

    def two(z: Any, data: Any) -> Tensor:
        return torch.logaddexp(Normal(-10.0, 1.0).log_prob(z.x), Normal(10.0, 1.0).log_prob(z.x))

    result = pathfinder(two, seed=seed)
    assert result.converged
    assert all(complete for _, complete in result.starts)
    assert result.elbo == pytest.approx(math.log(2), abs=1e-3)  # the evidence


def test_a_step_that_promises_much_is_no_end() -> None:
    """Three gradients up a steep normal density: the path is not where a Newton step would lead."""

    def log_density(x: Tensor) -> Tensor:
        return Normal(torch.arange(40.0).double(), torch.logspace(-1, 0.5, 40).double()).log_prob(x).sum(-1)

    start = torch.zeros(1, 40, dtype=torch.float64)
    (cut,), _ = find(log_density, start, generator=Generator().manual_seed(0), evaluations=3)
    (whole,), _ = find(log_density, start, generator=Generator().manual_seed(0))
    assert whole.complete
    assert not cut.complete


def test_starts_that_mostly_fail_have_not_converged() -> None:
    """log x of a latent that is declared real: the draws below 0 have no density."""

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {"prior": Normal(0.0, 1.0).log_prob(z.x), "log": z.x.log()}

    result = pathfinder(log_joint)
    failed = sum(elbo == -torch.inf for elbo, _ in result.starts)
    assert 4 < failed < 8
    assert not result.converged
    assert result.reason == f"{failed} of 8 starts found no normal approximation of finite ELBO"
    assert "latents' supports" in str(result.advice)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotConvergedWarning)
        assert fit(Model({"x": positive()}, log_joint), method="pathfinder").converged


def test_a_few_starts_that_fail_are_told_and_do_not_matter() -> None:
    """NaN at the lower of two modes: starts that end there fail, the others know the posterior."""

    def log_joint(z: Any, data: Any) -> Tensor:
        density = torch.logaddexp(Normal(5.0, 0.2).log_prob(z.x), Normal(-5.0, 0.2).log_prob(z.x) - 3.0)
        return torch.where((z.x < -4.9) & (z.x > -5.1), torch.nan, density)

    result = pathfinder(log_joint, n_starts=12, seed=2)
    failed = sum(elbo == -torch.inf for elbo, _ in result.starts)
    assert 0 < failed <= 6
    assert result.converged
    assert f"{failed} of 12 starts failed" in str(result.disagreement)
