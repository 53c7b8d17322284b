"""DIP-VAE's covariances against numpy, and its penalties by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.bound import Level, Output
from jensen.objectives import Dip


def penalties(covariance: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Sums of squares beside the diagonal, and of the diagonal less one."""
    variance = np.diag(covariance)
    return float(((covariance - np.diag(variance)) ** 2).sum()), float(((variance - 1) ** 2).sum())


@pytest.mark.parametrize("dip", ["i", "ii"])
def test_against_numpy(dip: Literal["i", "ii"], made: Callable[..., Any]) -> None:
    output, leaves = made(2, 9, (4,))
    means, sigma = leaves["q_loc"].detach().numpy()[0], leaves["q_log_scale"].detach().exp().numpy()[0]
    covariance = np.cov(means, rowvar=False, bias=True)
    if dip == "ii":
        covariance = covariance + np.diag((sigma**2).mean(0))
    objective = Dip(dip, 3.0, 7.0)
    np.testing.assert_allclose(objective.covariances(output)[0].detach().numpy(), covariance, rtol=1e-9, atol=1e-12)
    loss = objective(output)
    off, on = penalties(covariance)
    assert loss.terms["dip_off_diagonal"].item() == pytest.approx(3 * off, rel=1e-9)
    assert loss.terms["dip_diagonal"].item() == pytest.approx(7 * on, rel=1e-9)
    expected = -output.log_likelihood().mean() + output.rate().mean() + 3 * off + 7 * on
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-9)


def test_type_ii_is_the_covariance_of_draws(made: Callable[..., Any]) -> None:
    """Law of total covariance: what many draws of z over the batch have."""
    output, _ = made(1, 6, (3,))
    posterior = output.levels[0].posterior
    draws = posterior.sample(torch.Size([40_000])).flatten(0, 2)
    found = Dip("ii").covariances(output)[0].detach().numpy()
    np.testing.assert_allclose(np.cov(draws.numpy(), rowvar=False), found, atol=0.03)


def test_white_codes_cost_nothing_more(made: Callable[..., Any]) -> None:
    """Means of covariance 1/2 and posterior variances of 1/2: z has the identity."""
    output, leaves = made(1, 8, (3,))
    with torch.no_grad():
        signs = torch.tensor([[i >> place & 1 for place in range(3)] for i in range(8)], dtype=torch.float64)
        leaves["q_loc"][0] = (2 * signs - 1) * 0.5**0.5
        output.levels[0].posterior.scale.fill_(0.5**0.5)
    loss = Dip("ii")(output)
    assert loss.terms["dip_off_diagonal"].item() == pytest.approx(0.0, abs=1e-12)
    assert loss.terms["dip_diagonal"].item() == pytest.approx(0.0, abs=1e-12)
    assert Dip("i", diagonal=1.0)(output).terms["dip_diagonal"].item() == pytest.approx(3 * 0.25)


def with_prior(output: Output, loc: Tensor, scale: Tensor) -> Output:
    return replace(output, levels=(replace(output.levels[0], prior=Normal(loc, scale)),))


@pytest.mark.parametrize("dip", ["i", "ii"])
@pytest.mark.parametrize("lead", [(1, 9), (9,), (2, 9)])
def test_the_target_is_the_covariance_of_draws_from_a_learned_prior(
    dip: Literal["i", "ii"], lead: tuple[int, ...], made: Callable[..., Any]
) -> None:
    output, leaves = made(2, 9, (4,))
    loc, scale = torch.randn(*lead, 4).double() + 2, torch.rand(*lead, 4).double() + 0.3
    told = with_prior(output, loc, scale)
    draws = Normal(loc, scale).sample(torch.Size([40_000])).reshape(-1, 4).numpy()
    (target,) = Dip(dip).targets(told)
    np.testing.assert_allclose(target.numpy(), np.cov(draws, rowvar=False), atol=0.05)
    means, sigma = leaves["q_loc"].detach().numpy()[0], leaves["q_log_scale"].detach().exp().numpy()[0]
    covariance = np.cov(means, rowvar=False, bias=True) + (np.diag((sigma**2).mean(0)) if dip == "ii" else 0)
    off, on = penalties(covariance - target.numpy() + np.eye(4))
    terms = Dip(dip, 3.0, 7.0)(told).terms
    assert terms["dip_off_diagonal"].item() == pytest.approx(3 * off, rel=1e-9)
    assert terms["dip_diagonal"].item() == pytest.approx(7 * on, rel=1e-9)


def test_a_prior_of_all_data_is_its_variances(made: Callable[..., Any]) -> None:
    output, _ = made(1, 9, (4,))
    scale = torch.tensor([0.5, 1.0, 2.0, 3.0]).double()
    (target,) = Dip("i").targets(with_prior(output, torch.full((4,), 1e6).double(), scale))
    assert torch.equal(target, torch.diag(scale.square()))
    (target,) = Dip().targets(output)
    assert torch.equal(target, torch.eye(4).double())


def test_codes_that_are_their_learned_prior_cost_nothing_more(forms: dict[str, Callable[[], Any]]) -> None:
    """In type i the means alone are asked for the whole variance, as they are with a prior N(0, I)."""
    output, leaves = forms["learned prior"]()
    loc = output.levels[0].posterior.loc
    correlated = torch.stack([loc[..., 0], 3 * loc[..., 0], loc[..., 2]], -1).detach()  # structure of the prior's own
    scale = leaves["q_log_scale"].detach().exp()
    q = Normal(correlated, scale)
    same = replace(output, levels=(Level(q.sample(), q, Normal(correlated.clone(), scale.clone())),))
    variances = scale.square().mean((0, 1))
    for dip, diagonal in (("ii", 0.0), ("i", variances.square().sum().item())):
        terms = Dip(dip, 1.0, 1.0)(same).terms  # type: ignore[arg-type]
        assert terms["rate"].item() == pytest.approx(0.0, abs=1e-12)
        assert terms["dip_off_diagonal"].item() == pytest.approx(0.0, abs=1e-12)
        assert terms["dip_diagonal"].item() == pytest.approx(diagonal, abs=1e-12)


def test_the_target_of_enumerated_samples_weighs_the_priors_of_the_classes(
    forms: dict[str, Callable[[], Any]],
) -> None:
    output, _ = forms["enumerated"]()
    y, z = output.levels
    prior = Normal(torch.randn(4, 1, 3).double(), torch.rand(4, 1, 3).double() + 0.3)
    (found,) = Dip("ii").targets(replace(output, levels=(y, replace(z, prior=prior))))
    weights = output.log_weights.exp().detach().numpy().ravel()
    means, variances = (values.expand(4, 8, 3).reshape(-1, 3).numpy() for values in (prior.mean, prior.variance))
    expected = np.cov(means, rowvar=False, bias=True, aweights=weights)
    expected += np.diag((weights[:, None] * variances).sum(0) / weights.sum())
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9)


def test_small_covariances_beside_large_variances_are_not_lost(made: Callable[..., Any]) -> None:
    """A difference of the sum of all squares and of those on the diagonal would be rounded to 0."""
    output, _ = made(1, 8, (3,))
    loc = 2 * torch.tensor([[i >> place & 1 for place in range(3)] for i in range(8)]).float() - 1
    loc[:, 0] *= 1024
    loc[:, 1] += loc[:, 0] / 2**20  # covariance 1 with the first
    q = Normal(loc.unsqueeze(0), torch.ones(1, 8, 3))
    level = Level(q.loc, q, Normal(torch.tensor(0.0), torch.tensor(1.0)))
    found = Dip("i", 1.0, 0.0)(replace(output, levels=(level,))).terms["dip_off_diagonal"].item()
    exact = np.cov(loc.double().numpy(), rowvar=False, bias=True)
    assert found == pytest.approx(penalties(exact)[0], rel=1e-3)
    assert found == pytest.approx(2, rel=1e-3)


def test_enumerated_samples_count_by_their_weight(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["enumerated"]()
    posterior = output.levels[1].posterior
    weights = output.log_weights.exp().detach().numpy().ravel()
    means = posterior.mean.detach().numpy().reshape(-1, 3)
    expected = np.cov(means, rowvar=False, bias=True, aweights=weights)
    (found,) = Dip("i").covariances(output)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    variance = (weights[:, None] * posterior.variance.detach().numpy().reshape(-1, 3)).sum(0) / weights.sum()
    (found,) = Dip("ii").covariances(output)
    np.testing.assert_allclose(found.detach().numpy(), expected + np.diag(variance), rtol=1e-9, atol=1e-12)


def test_each_level_has_a_covariance_of_its_own(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["two levels, three samples"]()
    upper, lower = Dip("i").covariances(output)
    means = output.levels[1].posterior.mean.detach().numpy().reshape(-1, 2)
    assert upper.shape == (3, 3)
    np.testing.assert_allclose(lower.detach().numpy(), np.cov(means, rowvar=False, bias=True), rtol=1e-9)


def test_autocast_does_not_round_the_covariance(made: Callable[..., Any]) -> None:
    output, _ = made(1, 64, (4,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = Dip().covariances(output)
    torch.testing.assert_close(found, Dip().covariances(output)[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dip": "iii"}, "dip should be i or ii, got 'iii'"),
        ({"off_diagonal": -1.0}, "off_diagonal should be 0 or more"),
        ({"diagonal": float("nan")}, "diagonal should be 0 or more"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dip(**wrong)
