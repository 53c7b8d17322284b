"""Likelihood table against `torch.distributions` and SciPy, column by column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, Normal

from jensen import VAE
from jensen.bound import Output
from jensen.config import NetConfig
from jensen.config.columns import Column
from jensen.errors import ConfigError
from jensen.likelihoods import TableLikelihood, make_likelihood

COLUMNS = (
    Column(name="colour", kind="categorical", categories=("blue", "green", "red")),
    Column(name="height"),
    Column(name="visits", kind="count"),
    Column(name="sex", kind="categorical", categories=("f", "m")),
    Column(name="size", kind="categorical", categories=("l", "m", "s")),
    Column(name="weight"),
    Column(name="same", kind="categorical", categories=("always",)),
)
NAN = math.nan


def likelihood() -> Any:
    made = TableLikelihood(COLUMNS).double()
    with torch.no_grad():
        made.log_sigma.copy_(torch.tensor([-0.3, 0.4]))
        made.log_dispersion.copy_(torch.tensor([0.7]))
    return made


def rows(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw(k: int) -> Tensor:
        return torch.randint(k, (n,), generator=generator).double()

    def normal() -> Tensor:
        return torch.randn(n, generator=generator, dtype=torch.float64)

    return torch.stack([draw(3), normal(), draw(9), draw(2), draw(3), normal(), draw(1)], 1)


def numbers(*lead: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, likelihood().planes((7,)), generator=generator, dtype=torch.float64)


def parts(p: Tensor) -> dict[str, Tensor]:
    """What each number of a decoder is about, as the docstring of `Layout` says it: by hand."""
    names = ["height", "weight", "visits", "same", "sex", "colour", "size"]
    return dict(zip(names, p.split([1, 1, 1, 1, 2, 3, 3], -1), strict=True))


def test_every_column_is_that_of_torch_and_scipy() -> None:
    x, p = rows(6), numbers(4, 6)
    found = likelihood()(p).log_prob(x)
    assert found.shape == (4, 6, 7)
    of = parts(p)
    for place, name in ((0, "colour"), (3, "sex"), (4, "size"), (6, "same")):
        expected = Categorical(logits=of[name]).log_prob(x[:, place].long().expand(4, 6))
        torch.testing.assert_close(found[..., place], expected)
    for place, name, log_sigma in ((1, "height", -0.3), (5, "weight", 0.4)):
        sigma = math.exp(7 * math.tanh(log_sigma / 7))
        torch.testing.assert_close(found[..., place], Normal(of[name][..., 0], sigma).log_prob(x[:, place]))
    mean = np.exp(30 * np.tanh(of["visits"][..., 0].numpy() / 30))
    r = math.exp(7 * math.tanh(0.7 / 7))
    scipy = stats.nbinom.logpmf(x[:, 2].numpy(), r, r / (r + mean))
    np.testing.assert_allclose(found[..., 2].detach().numpy(), scipy, rtol=1e-7)


def test_large_counts_keep_their_digits_in_single_precision() -> None:
    made = TableLikelihood([Column(name="n", kind="count")])
    with torch.no_grad():
        made.log_dispersion.fill_(6.0)
    log_mean, x = torch.tensor([[13.8]]), torch.tensor([[1_000_003.0]])
    r, mean = math.exp(7 * math.tanh(6 / 7)), math.exp(30 * math.tanh(float(log_mean) / 30))
    assert made(log_mean).log_prob(x).item() == pytest.approx(
        stats.nbinom.logpmf(1_000_003, r, r / (r + mean)), rel=1e-5
    )


def test_probabilities_sum_to_one() -> None:
    p = numbers(5)
    for place, count in ((0, 3), (2, 4_000), (3, 2), (4, 3), (6, 1)):
        x = rows(1).repeat(count, 1)
        x[:, place] = torch.arange(count)
        total = likelihood()(p[:, None]).log_prob(x)[..., place].exp().sum(-1)
        torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    made, x, p = likelihood(), rows(3), numbers(2, 3).requires_grad_()

    def function(own: Tensor, log_sigma: Tensor, log_dispersion: Tensor) -> Tensor:
        parameters = {"log_sigma": log_sigma, "log_dispersion": log_dispersion}
        out: Tensor = torch.func.functional_call(made, parameters, (own,)).log_prob(x)
        return out

    assert torch.autograd.gradcheck(function, (p, made.log_sigma, made.log_dispersion))


def test_mean_and_expectations() -> None:
    p = numbers(50)
    distribution, of = likelihood()(p), parts(p)
    mean = distribution.mean
    torch.testing.assert_close(mean[:, 0], of["colour"].argmax(-1).double())
    torch.testing.assert_close(mean[:, 3], of["sex"].argmax(-1).double())
    torch.testing.assert_close(mean[:, [1, 5]], torch.cat([of["height"], of["weight"]], -1))
    torch.testing.assert_close(mean[:, 2], (30 * torch.tanh(of["visits"][:, 0] / 30)).exp())
    torch.testing.assert_close(parts(distribution.expectations)["size"].sum(-1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(likelihood().layout.values(distribution.expectations), mean)


def test_draws_have_the_moments_and_shares_of_the_distribution() -> None:
    torch.manual_seed(0)
    p = numbers(2)
    distribution = likelihood()(p)
    drawn, n = distribution.sample((40_000,)), 40_000
    assert drawn.shape == (n, 2, 7)
    of = parts(distribution.expectations)
    for place, name in ((0, "colour"), (3, "sex"), (4, "size"), (6, "same")):
        for k in range(of[name].shape[-1]):
            share = (drawn[..., place] == k).double().mean(0)
            torch.testing.assert_close(share, of[name][:, k], rtol=0, atol=0.012)
    r, mean = math.exp(7 * math.tanh(0.7 / 7)), of["visits"][:, 0]
    torch.testing.assert_close(drawn[..., 2].mean(0), mean, rtol=0.03, atol=0)
    torch.testing.assert_close(drawn[..., 2].var(0), mean + mean**2 / r, rtol=0.08, atol=0)
    assert drawn[..., 1].std(0).tolist() == pytest.approx([math.exp(7 * math.tanh(-0.3 / 7))] * 2, rel=0.02)


@pytest.mark.parametrize(("place", "value"), [(0, 3.0), (0, -1.0), (3, 0.5), (2, -1.0), (2, 1.5), (2, NAN), (0, NAN)])
def test_values_that_are_no_category_or_count(place: int, value: float) -> None:
    x = rows(2)
    x[1, place] = value
    with pytest.raises(ValueError, match="category should be its place" if place != 2 else "a count should be"):
        likelihood()(numbers(2)).log_prob(x)


def test_a_gap_has_the_bound_of_a_model_without_that_column() -> None:
    """The mask takes the terms of a missing column out of the bound, exactly."""
    x, p = rows(6).float(), numbers(2, 6)
    gaps = torch.rand(6, 7, generator=torch.Generator().manual_seed(3)) < 0.4
    holed = torch.where(gaps, NAN, x.double())
    output = Output(holed[None], likelihood()(p), (), mask=(~holed.isnan())[None])
    each = likelihood()(p).log_prob(x.double())
    torch.testing.assert_close(output.log_likelihood(), (each * ~gaps).sum(-1))
    # and where a whole column is missing, it is a model made without it
    fewer = TableLikelihood(COLUMNS[1:]).double()
    fewer.load_state_dict(likelihood().state_dict())
    holed = x.double().clone()
    holed[:, 0] = NAN
    output = Output(holed[None], likelihood()(p), (), mask=(~holed.isnan())[None])
    of = parts(p)
    rest = torch.cat([value for name, value in of.items() if name != "colour"], -1)
    torch.testing.assert_close(output.log_likelihood(), fewer(rest).log_prob(x[:, 1:].double()).sum(-1))


def test_a_model_learns_from_rows_with_gaps() -> None:
    torch.manual_seed(0)
    model = VAE((7,), 2, net=NetConfig(width=8), likelihood="table", levels=None)
    assert isinstance(model.likelihood, TableLikelihood)
    assert [column.kind for column in model.likelihood.columns] == ["real"] * 7
    model = VAE((7,), 2, net=NetConfig(width=8), likelihood="table", columns=COLUMNS)
    x = rows(5).float()
    x[torch.rand(5, 7) < 0.4] = NAN
    x[0] = NAN
    output = model(x, samples=3, mask=(~x.isnan()).float())
    assert output.log_likelihood()[:, 0].tolist() == [0, 0, 0]
    (output.rate().mean() - output.log_likelihood().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert model.sample(4).shape == model.reconstruct(x[:4]).shape == (4, 7)
    assert bool(model.reconstruct(x).isfinite().all())


def test_a_table_that_it_is_not_for() -> None:
    with pytest.raises(ConfigError, match=r"is for tables, .columns,., but what is predicted has shape"):
        make_likelihood("table", shape=(1, 4, 4), columns=COLUMNS)
    with pytest.raises(ConfigError, match="'a' is categorical but has no categories"):
        TableLikelihood([Column(name="a", kind="categorical")])
    with pytest.raises(ConfigError, match="is of 7 columns, but the data have shape"):
        VAE((6,), likelihood="table", columns=COLUMNS)
    with pytest.raises(ConfigError, match="these data take 17 levels"):
        make_likelihood("table", shape=(3,)).check_data(17, "none")
