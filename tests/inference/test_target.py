"""A model at its data: terms of many draws, what minibatches count, parameters that climb along."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.errors import DataError
from jensen.inference import Model, fit, real
from jensen.inference.conjugate import Columns
from jensen.inference.supports import categorical, positive
from jensen.inference.target import Target

DOUBLE = torch.float64


def rows_and_groups(rows: int = 7, groups: int = 3) -> Target:
    """A term of each kind: none of the plates, the rows, the groups, both."""

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        residual = data.y[:, None] - z.mu[None, :]
        return {
            "global": z.a.square(),
            "groups": z.mu,
            "rows": data.y * z.a + z.local,
            "both": -residual.square() * data.weight,
        }

    latents = {"a": real(), "mu": real(plate="groups"), "local": real(plate="rows")}
    model = Model(latents, log_joint, plates={"rows": rows, "groups": groups})
    return Target(model, {"y": torch.arange(float(rows), dtype=DOUBLE), "weight": [1.0, 2.0, 3.0][:groups]})


def some_values(rows: int = 7, groups: int = 3, draws: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"a": (), "mu": (groups,), "local": (rows,)}
    return {n: torch.randn(draws, *shape, dtype=DOUBLE, generator=generator) for n, shape in shapes.items()}


# --- terms ------------------------------------------------------------------------------------------------------------


def test_terms_of_many_draws_by_hand() -> None:
    target, values = rows_and_groups(), some_values()
    terms = target.terms(values)
    y, weight = torch.arange(7.0, dtype=DOUBLE), torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)
    for s in range(4):
        a, mu, local = (values[n][s] for n in ("a", "mu", "local"))
        torch.testing.assert_close(terms["global"][s], a**2)
        torch.testing.assert_close(terms["groups"][s], mu)
        torch.testing.assert_close(terms["rows"][s], y * a + local)
        torch.testing.assert_close(terms["both"][s], -((y[:, None] - mu) ** 2) * weight)
    total = sum(term.reshape(4, -1).sum(1) for term in terms.values())
    torch.testing.assert_close(target.log_prob(values), total)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_batches_of_a_pass_sum_to_the_whole_the_last_one_smaller(size: int) -> None:
    """Each batch of B of N rows counts its rows N / B times: weighted with B / N all passes sum to all the data.

    With three rows a batch is as long as the groups' plate.
    """
    target, values = rows_and_groups(), some_values()
    target.check(values)
    whole = target.terms(values)
    sums = {name: torch.zeros(4, dtype=DOUBLE) for name in whole}
    for index in torch.randperm(7, generator=torch.Generator().manual_seed(2)).split(size):
        batch = target.batch(index)
        terms = target.terms({**values, "local": values["local"][:, index]}, batch)
        assert terms["both"].shape == (4, len(index), 3)
        assert target.size_of(batch) == len(index)
        for name, term in terms.items():
            sums[name] += term.reshape(4, -1).sum(1) * len(index) / 7
    for name, term in whole.items():
        torch.testing.assert_close(sums[name], term.reshape(4, -1).sum(1), msg=name)


def test_a_batch_that_could_be_another_plate_is_refused_unless_the_terms_were_seen_whole() -> None:
    target, values = rows_and_groups(), some_values()
    index = torch.tensor([4, 0, 2])
    cut = {**values, "local": values["local"][:, index]}
    with pytest.raises(ValueError, match=r"term 'groups'.*a batch is as long as another plate.*another batch_size"):
        target.terms(cut, target.batch(index))
    target.check(values)
    terms = target.terms(cut, target.batch(index))
    torch.testing.assert_close(terms["groups"], values["mu"])  # once
    torch.testing.assert_close(terms["rows"], 7 / 3 * (index * values["a"][:, None] + cut["local"]))


def test_all_rows_in_another_order_count_once() -> None:
    target, values = rows_and_groups(), some_values()
    order = torch.tensor([6, 0, 3, 1, 5, 2, 4])
    terms = target.terms({**values, "local": values["local"][:, order]}, target.batch(order))
    torch.testing.assert_close(terms["rows"], target.terms(values)["rows"][:, order])


# --- data -------------------------------------------------------------------------------------------------------------


def test_entries_as_long_as_the_first_plate_are_cut_and_know_their_rows() -> None:
    model = Model({"a": real()}, lambda z, data: z.a, plates={"rows": 4, "groups": 2})
    entries = {
        "column": torch.arange(4),
        "table": np.arange(8.0).reshape(4, 2),
        "group": [1.5, 2.5],
        "names": ["w", "x", "y", "z"],
        "N": 4,
        "share": 0.25,
    }
    target = Target(model, entries)
    batch = target.batch(torch.tensor([3, 1]))
    assert batch.column.tolist() == [3, 1]
    assert batch["table"].tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert batch.group.tolist() == [1.5, 2.5]
    assert batch.names == ["w", "x", "y", "z"]
    assert (batch.N, batch.share) == (4, 0.25)
    assert batch.index.tolist() == [3, 1]
    assert target.whole.index.tolist() == [0, 1, 2, 3]
    assert list(batch) == list(entries)


@pytest.mark.parametrize("kind", ["tensor", "array", "mapping", "columns"])
def test_kinds_of_data_give_the_same_terms(kind: str) -> None:
    y = torch.tensor([0.5, -1.0, 2.0], dtype=DOUBLE)
    whole = kind in ("tensor", "array")

    def log_joint(z: Any, data: Any) -> Tensor:
        return Normal(z.a, 1.0).log_prob(data if whole else data.y)

    data = {"tensor": y, "array": y.numpy(), "mapping": {"y": y.tolist()}, "columns": Columns(y=y)}[kind]
    target = Target(Model({"a": real()}, log_joint, plates={"rows": 3}), data)
    a = torch.zeros(1, dtype=DOUBLE)
    expected = -0.5 * y**2 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(target.terms({"a": a})["log_joint"], expected.unsqueeze(0))
    index = torch.tensor([2, 0])
    torch.testing.assert_close(target.terms({"a": a}, target.batch(index))["log_joint"], 1.5 * expected[index][None])


def test_integers_stay_integers_and_python_numbers_are_double() -> None:
    model = Model({"a": real()}, lambda z, data: z.a)
    data = Target(model, {"k": [1, 2], "y": [1.0, 2], "half": np.float32([0.5]), "x": 0.1, "flags": [True, False]}).data
    assert data.k.dtype == torch.int64
    assert data.y.dtype == DOUBLE
    assert data.half.dtype == torch.float32
    assert data.x.dtype == DOUBLE
    assert data.flags.dtype == torch.bool


def test_a_tensor_with_too_few_rows_is_told() -> None:
    with pytest.raises(DataError, match="plate 'rows' has 3 rows, but the data have 2"):
        Target(Model({"a": real()}, lambda z, data: z.a, plates={"rows": 3}), torch.ones(2))


def test_minibatches_need_a_plate() -> None:
    with pytest.raises(ValueError, match="minibatches need a plate"):
        Target(Model({"a": real()}, lambda z, data: z.a), torch.ones(2)).batch(torch.tensor([0]))


# --- precision --------------------------------------------------------------------------------------------------------


def test_numbers_made_inside_are_double_and_the_default_is_restored() -> None:
    seen = []

    def log_joint(z: Any, data: Any) -> Tensor:
        third = torch.tensor(1 / 3)
        seen.append(third.dtype)
        return z.a * third

    target = Target(Model({"a": real()}, log_joint))
    a = torch.tensor([3.0], dtype=DOUBLE)
    assert torch.get_default_dtype() == torch.float32
    assert float(target.log_prob({"a": a})) == pytest.approx(1.0, abs=1e-15)
    assert set(seen) == {DOUBLE}
    assert torch.get_default_dtype() == torch.float32


def test_the_default_precision_is_restored_after_an_error() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        Target(Model({"a": real()}, log_joint)).check({"a": torch.zeros(2, dtype=DOUBLE)})
    assert torch.get_default_dtype() == torch.float32


# --- the density on the real scale ------------------------------------------------------------------------------------


def test_log_density_integrates_to_the_evidence() -> None:
    """tau ~ Gamma(3, 2) as a density of log tau."""
    model = Model({"tau": positive()}, lambda z, data: torch.distributions.Gamma(3.0, 2.0).log_prob(z.tau))
    u = torch.linspace(-15, 6, 20_001, dtype=DOUBLE)
    density = Target(model).log_density(u.unsqueeze(1)).exp()
    assert float(torch.trapezoid(density, u)) == pytest.approx(1.0, abs=1e-9)


# --- dependence -------------------------------------------------------------------------------------------------------


def test_dependence_is_found_once() -> None:
    calls = 0

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        nonlocal calls
        calls += 1
        return {"prior": Normal(0.0, 1.0).log_prob(z.mu).sum(), "rows": Normal(z.mu[z.k], 1.0).log_prob(data.y)}

    latents = {"mu": real(2), "k": categorical(2, plate="rows")}
    target = Target(Model(latents, log_joint, plates={"rows": 3}), {"y": [1.0, 2.0, 3.0]})
    values = {"mu": torch.zeros(1, 2, dtype=DOUBLE), "k": torch.zeros(1, 3, dtype=torch.int64)}
    found = target.dependence(values)
    assert {term: dict(found[term]) for term in found} == {
        "prior": {"mu": "mixed"},
        "rows": {"mu": "mixed", "k": "aligned"},
    }
    assert calls == 1
    assert target.dependence(values) is found
    assert calls == 1


# --- parameters that are learned along --------------------------------------------------------------------------------

EFFECTS = torch.tensor([3.1, -2.4, 0.7, 4.4, -1.8, 2.9, -3.6, 0.2], dtype=DOUBLE)


def closed_form() -> tuple[float, float]:
    """Empirical Bayes: theta_i ~ N(m, s^2), y_i ~ N(theta_i, 1), so y_i ~ N(m, 1 + s^2): m = mean, s^2 = var - 1."""
    return float(EFFECTS.mean()), float(EFFECTS.var(unbiased=False)) - 1.0


def evidence() -> float:
    mean, variance = closed_form()
    return float(Normal(mean, (1 + variance) ** 0.5).log_prob(EFFECTS).sum())


def empirical_bayes(as_module: bool) -> Model:
    class Prior(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = nn.Parameter(torch.zeros((), dtype=DOUBLE))
            self.log_s = nn.Parameter(torch.zeros((), dtype=DOUBLE))

        def forward(self) -> Normal:
            return Normal(self.m, self.log_s.exp())

    prior = Prior()

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        over = prior() if as_module else Normal(z.m, z.log_s.exp())
        return {"effects": over.log_prob(z.theta), "data": Normal(z.theta, 1.0).log_prob(data.y)}

    zero = torch.zeros((), dtype=DOUBLE)
    parameters = prior if as_module else {"m": zero, "log_s": zero}
    return Model({"theta": real(plate="rows")}, log_joint, parameters, plates={"rows": len(EFFECTS)})


@pytest.mark.parametrize(
    ("as_module", "method"), [(False, "deterministic"), (True, "deterministic"), (False, "stochastic")]
)
def test_parameters_climb_to_their_closed_form(as_module: bool, method: str) -> None:
    """q can be exact here, so that the bound's maximum over both is the maximum likelihood of m and s."""
    options = {} if method == "deterministic" else {"samples": 4}
    result = fit(empirical_bayes(as_module), {"y": EFFECTS}, method=method, **options)
    mean, variance = closed_form()
    exact = method == "deterministic"
    found = result.parameters
    assert float(found["m"]) == pytest.approx(mean, abs=1e-3 if exact else 0.1)
    assert float((2 * found["log_s"]).exp()) == pytest.approx(variance, rel=1e-3 if exact else 0.1)
    assert result.elbo == pytest.approx(evidence(), abs=1e-5 if exact else 0.05)
    shrunk = mean + (EFFECTS - mean) * variance / (1 + variance)
    draws = result.sample(20_000)["theta"]
    torch.testing.assert_close(draws.mean(0), shrunk, atol=0.15, rtol=0)


def test_parameters_are_copied_and_the_users_stay() -> None:
    start = torch.zeros((), dtype=DOUBLE)
    model = Model({"x": real()}, lambda z, data: Normal(z.a, 1.0).log_prob(z.x) - (z.a - 2) ** 2, {"a": start})
    result = fit(model, n_starts=1)
    assert float(result.parameters["a"]) == pytest.approx(2.0, abs=1e-4)
    assert float(start) == 0.0
