"""The score function and its control variates: unbiased, exactly and over many seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from gradient_cases import (
    Categoricals,
    Counts,
    Normals,
    brute_force,
    flat_gradient,
    gradient_draws,
    normal,
    parameters,
    worst_z,
)
from torch import Generator, Tensor

from jensen.gradients.control_variates import RunningAverage, leave_one_out
from jensen.gradients.posterior import Draw, Posterior
from jensen.gradients.score_function import ControlVariate, ScoreFunction

DATA = torch.tensor([-0.5, 2.0], dtype=torch.float64)
ROWS = torch.tensor([-1.5, -0.9, 0.3, 2.0], dtype=torch.float64)
VARIANTS: list[tuple[bool, ControlVariate | None]] = [
    (False, None),
    (True, None),
    (True, "leave_one_out"),
    (True, "regression"),
    (True, "average"),
    (False, "regression"),
]
Z_ALONE = {"prior": {"z": "aligned"}, "likelihood": {"z": "aligned"}, "penalty": {}}


def gaussian_terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    z = values["z"]
    return {"prior": normal(z, 0.0), "likelihood": normal(DATA, z.unsqueeze(1)).sum(1)}


def indexed_terms(mu: Tensor) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Rows x_i ~ N(mu[z_i], 1): z enters as an index, where a graph of derivatives loses it."""
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z = values["z"].long()
        penalty = normal(mu, 0.0).sum().expand(len(z))
        return {"prior": weights[z], "likelihood": normal(ROWS, mu[z]), "penalty": penalty}

    return terms


class Prescribed(Categoricals):
    """Draws that the test chooses."""

    draws: Tensor

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.at(self.draws)


@pytest.mark.parametrize(("rao_blackwell", "control_variate"), VARIANTS)
def test_the_worked_example(rao_blackwell: bool, control_variate: ControlVariate | None) -> None:
    """z ~ N(0, 1), x ~ N(z, 1), data -0.5 and 2, q = N(0, 1): gradients 1.5 in the mean and -2 in the log sd."""
    loc, log_scale = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    draws = gradient_draws(
        ScoreFunction(rao_blackwell, control_variate),
        lambda: Posterior([Normals("z", loc, log_scale)]),
        gaussian_terms,
        [loc, log_scale],
        repeats=600,
    )
    assert worst_z(draws, torch.tensor([1.5, -2.0], dtype=torch.float64)) < 4


@pytest.mark.parametrize(("rao_blackwell", "control_variate"), VARIANTS)
def test_an_integer_latent_used_as_an_index(rao_blackwell: bool, control_variate: ControlVariate | None) -> None:
    mu, logits = parameters((3,), (4, 3))
    terms = indexed_terms(mu)
    exact = flat_gradient(brute_force([Categoricals("z", logits, "rows")], terms), [mu, logits])
    draws = gradient_draws(
        ScoreFunction(rao_blackwell, control_variate),
        lambda: Posterior([Categoricals("z", logits, "rows")]),
        terms,
        [mu, logits],
        repeats=600,
        dependence=Z_ALONE,
    )
    assert worst_z(draws, exact) < 4.2
    assert exact[:3].abs().min() > 0.01  # the model's own gradient is not trivially right
    assert exact[3:].abs().max() > 0.1


@pytest.mark.parametrize("control_variate", [None, "leave_one_out", "regression"])
@pytest.mark.parametrize("rao_blackwell", [False, True])
def test_expectation_over_all_possible_draws(rao_blackwell: bool, control_variate: ControlVariate | None) -> None:
    """Not a sample of seeds but every outcome of three draws of two coins, weighted: no tolerance for bias."""
    (logits,) = parameters((2, 2), seed=3)
    table = torch.tensor([[-1.0, 0.4], [2.0, -3.0]], dtype=torch.float64)

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": table[torch.arange(2), values["z"]], "both": -(values["z"].sum(1).double() ** 2)}

    dependence = {"rows": {"z": "aligned"}, "both": {"z": "mixed"}}
    exact = flat_gradient(brute_force([Categoricals("z", logits, "rows")], terms), [logits])
    estimator = ScoreFunction(rao_blackwell, control_variate)
    expected = torch.zeros_like(exact)
    coins = torch.tensor(list(product(range(2), repeat=2)))
    for chosen in product(range(4), repeat=3):
        factor = Prescribed("z", logits, "rows")
        factor.draws = coins[list(chosen)]
        probability = factor.log_prob(factor.at(factor.draws)).sum().exp().detach()
        found = estimator.estimate(Posterior([factor]), terms, 3, dependence=dependence)
        expected += probability * flat_gradient(found.surrogate, [logits])
    torch.testing.assert_close(expected, exact, rtol=1e-12, atol=1e-12)


def test_rao_blackwell_leaves_out_only_what_is_known_not_to_matter() -> None:
    """With two independent coins, each term weighs on its own; a term that the dependence lacks weighs on both."""
    a, b = parameters((2,), (2,), seed=5)

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"a": values["a"].double() * 2, "b": values["b"].double() * 50}

    def gradient(dependence: Mapping[str, Mapping[str, str]] | None, rao_blackwell: bool = True) -> Tensor:
        q = Posterior([Categoricals("a", a), Categoricals("b", b)])
        found = ScoreFunction(rao_blackwell).estimate(
            q, terms, 1, torch.Generator().manual_seed(1), dependence=dependence
        )
        return flat_gradient(found.surrogate, [a])

    factor = Categoricals("a", a)
    z = Posterior([factor, Categoricals("b", b)]).sample(1, torch.Generator().manual_seed(1))
    log_q = factor.log_prob(factor.at(z["a"]))
    log_q_b = Categoricals("b", b).log_prob(Draw({}, z["b"]))
    score = flat_gradient(log_q.sum(), [a])
    own, other = z["a"].double() * 2 - log_q, z["b"].double() * 50
    torch.testing.assert_close(gradient({"a": {"a": "mixed"}, "b": {"b": "mixed"}}), own.detach() * score)
    torch.testing.assert_close(gradient({"a": {"a": "mixed"}}), (own + other).detach() * score)
    torch.testing.assert_close(gradient(None), (own + other).detach() * score)
    torch.testing.assert_close(gradient(None, False), (own + other - log_q_b).detach() * score)


def test_infinitely_many_values() -> None:
    """A Poisson latent: the sum over its values, cut where nothing is left, is the truth."""
    log_rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z = values["z"]
        return {"prior": z * 0.1 - (z + 1).lgamma(), "likelihood": normal(torch.tensor(4.0), z)}

    every = torch.arange(60, dtype=torch.float64)
    log_q = Counts("z", log_rate).log_prob(Draw({}, every))
    bound = (log_q.exp() * (sum(terms({"z": every}).values()) - log_q)).sum()
    exact = flat_gradient(bound, [log_rate])
    estimator = ScoreFunction(True, "leave_one_out")
    draws = gradient_draws(estimator, lambda: Posterior([Counts("z", log_rate)]), terms, [log_rate], repeats=600)
    assert worst_z(draws, exact) < 4


def test_variance_falls_step_by_step() -> None:
    """On rows of their own: Rao-Blackwellising by rows helps, and a control variate helps further."""
    mu, logits = parameters((3,), (4, 3))
    variance = [
        gradient_draws(
            ScoreFunction(rao_blackwell, control_variate),
            lambda: Posterior([Categoricals("z", logits, "rows")]),
            indexed_terms(mu),
            [logits],
            repeats=500,
            dependence=Z_ALONE,
        )
        .var(0)
        .sum()
        for rao_blackwell, control_variate in VARIANTS[:4]
    ]
    plain, rao_blackwellised, left_out, regressed = variance
    assert rao_blackwellised < plain / 3
    assert left_out < rao_blackwellised / 1.5
    assert regressed < rao_blackwellised / 1.5


def test_the_running_average_is_that_of_the_steps_before() -> None:
    average = RunningAverage(decay=0.5)
    first, second = torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0], [1.0]])
    torch.testing.assert_close(average("z", first), first)
    torch.testing.assert_close(average("z", second), second - 3)
    torch.testing.assert_close(average("z", second), second - (0.25 * 3 + 0.5 * 1) / 0.75)
    torch.testing.assert_close(average("other", second), second)
    wider = torch.ones(2, 3)
    torch.testing.assert_close(average("z", wider), wider - (0.125 * 3 + 0.75 * 1) / 0.875)


def test_leaving_one_out() -> None:
    signal = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    torch.testing.assert_close(leave_one_out(signal), torch.tensor([1 - 4.0, 2 - 3.5, 6 - 1.5], dtype=torch.float64))


@pytest.mark.parametrize("control_variate", ["leave_one_out", "regression"])
def test_one_draw_has_nothing_to_be_compared_with(control_variate: ControlVariate) -> None:
    (logits,) = parameters((2,))
    with pytest.raises(ValueError, match=rf"control_variate='{control_variate}'.*at least 2, got 1"):
        ScoreFunction(True, control_variate).estimate(
            Posterior([Categoricals("z", logits)]), lambda v: {"a": v["z"].double()}, 1
        )


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="control_variate must be one of"):
        ScoreFunction(control_variate="baseline")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        ScoreFunction(control_variate="average", decay=1.0)
    (logits,) = parameters((2,))
    q = Posterior([Categoricals("z", logits)])
    with pytest.raises(ValueError, match="at least one draw"):
        ScoreFunction().estimate(q, lambda v: {"a": v["z"].double()}, 0)
    with pytest.raises(ValueError, match="with a history"):
        ScoreFunction(control_variate="regression").estimate(q.detach(), lambda v: {"a": v["z"].double()}, 2)
