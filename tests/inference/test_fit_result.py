"""What a black-box fit says, against posteriors that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fit_models import (
    PRIOR_SD,
    Y,
    conjugate_normal,
    exact_fit,
    exact_posterior,
    fitted,
    funnel,
    log_normal_model,
    log_normal_moments,
    standard,
)
from torch import Tensor
from torch.distributions import Categorical, MultivariateNormal, Normal

from jensen.inference.evaluated import draws_for
from jensen.inference.model import Model
from jensen.inference.supports import categorical, poisson, positive, real, simplex
from jensen.inference.target import Target
from jensen.inference.variational import blocks, full_rank
from jensen.inference.verdict import disagreement

# --- draws and expectations -------------------------------------------------------------------------------------------


def test_draws_are_those_of_q_on_the_supports_and_follow_the_seed() -> None:
    result = fitted(log_normal_model(), centre={"tau": 0.3}, scale={"tau": 0.5})
    draws = result.sample(20_000, seed=1)["tau"]
    mean, sd = log_normal_moments(0.3, 0.5)
    assert (draws > 0).all()
    assert float(draws.mean()) == pytest.approx(mean, abs=4 * sd / math.sqrt(20_000))
    assert torch.equal(draws, result.sample(20_000, seed=1)["tau"])
    assert not torch.equal(draws, result.sample(20_000, seed=2)["tau"])


def test_an_exact_q_is_called_exact_and_its_weights_are_even() -> None:
    diagnosis = exact_fit().pareto_k
    assert diagnosis.value == -math.inf
    assert diagnosis.usable
    assert diagnosis.verdict.startswith("exact")
    assert diagnosis.effective_draws == pytest.approx(diagnosis.draws)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.85, 1.5])
def test_khat_of_a_gaussian_that_is_too_narrow_or_wide(share: float) -> None:
    mean, sd = exact_posterior()
    result = fitted(conjugate_normal(), {"y": Y}, centre={"mu": mean}, scale={"mu": share * sd})
    expected = max(1 - share**2, 0.0)  # ratios' tail; bounded ratios for a wide q
    assert result.pareto_k.value < 0.3 if share > 1 else abs(result.pareto_k.value - expected) < 0.2
    assert result.pareto_k.usable is (share > 0.5)


def test_reweighted_expectations_are_the_posteriors_where_q_is_not() -> None:
    mean, sd = exact_posterior()
    result = fitted(conjugate_normal(), {"y": Y}, centre={"mu": mean + 0.2 * sd}, scale={"mu": 0.8 * sd})
    found = result.expectation(lambda z: {"first": z.mu, "square": (z.mu - mean) ** 2})
    assert result.pareto_k.usable
    assert found["first"].reweighted
    assert float(found["first"].mean) == pytest.approx(mean, abs=4 * float(found["first"].error))
    assert float(found["square"].mean) == pytest.approx(sd**2, abs=4 * float(found["square"].error))
    assert float(found["first"].error) < 0.05 * sd < 0.2 * sd  # q's own mean is 4 errors away
    row = result.summary()["mu"]
    assert row["mean"] == pytest.approx(mean + 0.2 * sd, abs=0.05 * sd)
    assert row["mean (IW)"] == pytest.approx(mean, abs=0.1 * sd)
    assert row["sd"] == pytest.approx(0.8 * sd, rel=0.05)
    assert row["sd (IW)"] == pytest.approx(sd, rel=0.1)


def test_reweighted_draws_are_the_posteriors() -> None:
    mean, sd = exact_posterior()
    result = fitted(conjugate_normal(), {"y": Y}, centre={"mu": mean - 0.2 * sd}, scale={"mu": 1.3 * sd})
    draws = result.sample(4_000, reweighted=True)["mu"]
    assert float(draws.mean()) == pytest.approx(mean, abs=0.08 * sd)
    assert float(draws.std()) == pytest.approx(sd, rel=0.06)


def test_unusable_weights_are_not_used() -> None:
    result = fitted(funnel(), scale={"v": 3.0, "x": 1.0}, centre={"v": 0.0, "x": torch.zeros(4)})
    assert not result.pareto_k.usable
    found = result.expectation(lambda z: z.v)
    assert not found.reweighted
    assert float(found.mean) == pytest.approx(0.0, abs=4 * 3 / math.sqrt(result.pareto_k.draws))
    assert "mean (IW)" not in result.summary().columns
    assert "unusable" in str(result.summary())
    with pytest.raises(ValueError, match="would mislead: Pareto k-hat"):
        result.sample(10, reweighted=True)


@pytest.mark.parametrize("size", [2, 4, 9])
def test_khat_refuses_the_mean_field_optimum_of_a_funnel(size: int) -> None:
    """Which is v ~ N(0, s^2), 1 / s^2 = 1 / 9 + n / 2, x_i ~ N(0, exp(-s^2 / 2)), where the gradient is 0."""
    variance = 1 / (1 / 9 + size / 2)
    scale = {"v": math.sqrt(variance), "x": math.exp(-variance / 4)}
    result = fitted(funnel(size), centre={"v": 0.0, "x": torch.zeros(size)}, scale=scale)
    assert not result.pareto_k.usable


def test_a_function_that_cannot_be_vectorised_is_run_draw_by_draw() -> None:
    result = exact_fit()
    found = result.expectation(lambda z: 1.0 if float(z.mu) > exact_posterior()[0] else 0.0)
    assert float(found.mean) == pytest.approx(0.5, abs=0.04)
    with pytest.raises(TypeError, match="tensor or tensors by name, but gave str"):
        result.expectation(lambda z: "mu")


def test_draws_without_a_density_are_counted_not_dropped() -> None:
    model = standard({"x": real()}, lambda z: Normal(0.0, 1.0).log_prob(z.x) + torch.log(z.x + 2.0) * 0)
    result = fitted(model, centre={"x": 0.0})
    diagnosis = result.pareto_k
    expected = diagnosis.draws * float(Normal(0.0, 1.0).cdf(torch.tensor(-2.0)))
    assert abs(diagnosis.invalid - expected) < 5 * math.sqrt(expected)
    assert not diagnosis.usable
    assert f"NaN or infinite at {diagnosis.invalid} of {diagnosis.draws:,}" in str(result.summary())


def test_a_scale_that_rounds_to_zero_at_some_draw_is_no_exception() -> None:
    def log_density(z: Any) -> Tensor:
        return Normal(0.0, 3.0).log_prob(z.v) + Normal(0.0, torch.exp(z.v)).log_prob(z.x)

    model = standard({"v": real(), "x": real()}, log_density)
    diagnosis = fitted(model, centre={"v": 0.0, "x": 0.0}, scale={"v": 500.0, "x": 1.0}).pareto_k
    assert not diagnosis.usable
    assert diagnosis.invalid + diagnosis.impossible > 0
    with pytest.raises(ValueError, match="scale"):
        Normal(0.0, -1.0)  # elsewhere distributions check what they are given, as before


def test_large_data_and_many_latents_are_diagnosed_with_fewer_draws() -> None:
    def draws(rows: int, latents: int) -> int:
        model = Model({"x": real(latents)}, lambda z, d: -z.x.square().sum(), plates={"rows": rows})
        return draws_for(Target(model, torch.zeros(rows, 3)))

    assert draws(8, 10) == 20_000
    assert draws(4_000, 10) == 5_000
    assert draws(10**6, 10) == 1_000
    assert draws(8, 1_000) == 4_000
    assert draws(8, 50_000) == 300


def test_nothing_can_be_drawn_less_than_once() -> None:
    for draw in (exact_fit().sample, exact_fit().posterior_predictive, exact_fit().log_likelihood, exact_fit().prior):
        with pytest.raises(ValueError, match="at least 1, but is 0"):
            draw(0)


# --- the table --------------------------------------------------------------------------------------------------------


def test_linear_response_corrects_the_spread_on_the_supports() -> None:
    covariance = torch.tensor([[0.25, 0.3], [0.3, 1.0]], dtype=torch.float64)
    normal = MultivariateNormal(torch.tensor([0.3, -1.0], dtype=torch.float64), covariance)
    model = standard(
        {"tau": positive(), "x": real()}, lambda z: normal.log_prob(torch.stack([z.tau.log(), z.x])) - z.tau.log()
    )
    narrow = 1 / torch.linalg.inv(covariance).diagonal().sqrt()  # the mean-field optimum
    result = fitted(
        model,
        centre={"tau": 0.3, "x": -1.0},
        scale={"tau": narrow[0], "x": narrow[1]},
        linear_response=covariance,
        monte_carlo=torch.tensor([0.01, 0.04], dtype=torch.float64),
    )
    table = result.summary()
    assert table["x"]["sd"] == pytest.approx(float(narrow[1]), rel=0.05)
    assert table["x"]["sd (LR)"] == pytest.approx(1.0, rel=0.05)
    assert table["tau"]["sd (LR)"] == pytest.approx(log_normal_moments(0.3, 0.5)[1], rel=0.08)
    assert table["x"]["error"] == pytest.approx(0.04, rel=0.05)
    assert table["tau"]["error"] == pytest.approx(0.01 * math.exp(0.3), rel=0.05)
    assert table["x"]["5%"] == pytest.approx(-1 - 1.645 * float(narrow[1]), abs=0.06)
    assert table["x"]["95%"] == pytest.approx(-1 + 1.645 * float(narrow[1]), abs=0.06)


def test_rows_are_named_by_place_and_the_text_says_how_it_ended() -> None:
    model = standard(
        {"mu": real(), "theta": real(2, 2), "w": simplex(3)},
        lambda z: Normal(0.0, 1.0).log_prob(z.mu) + Normal(0.0, 1.0).log_prob(z.theta).sum() + 0 * z.w.sum(),
    )
    result = fitted(model, converged=False, reason="out of steps", advice="Take more.", notes=["a remark"])
    table = result.summary()
    assert table.names[:3] == ["mu", "theta[0,0]", "theta[0,1]"]
    assert table.names[-1] == "w[2]"
    assert [row["name"] for row in table.rows] == table.names
    assert sum(table[f"w[{k}]"]["mean"] for k in range(3)) == pytest.approx(1.0)
    said = str(table)
    for words in ("theta[1,1]", "NOT CONVERGED: out of steps. Take more.", "a remark", "-10.00 ± 0.10 nats"):
        assert words in said
    assert "sd (LR)" not in said
    assert "NOT CONVERGED" in repr(result)
    with pytest.raises(KeyError, match="there is no 'nu'"):
        table["nu"]


def test_a_long_table_shows_its_head_and_keeps_the_rest() -> None:
    result = fitted(standard({"x": real(60)}, lambda z: Normal(0.0, 1.0).log_prob(z.x).sum()))
    assert len(result.summary()) == 60
    assert "... and 20 more of x" in str(result.summary())


def test_many_local_latents_do_not_hide_the_others() -> None:
    def log_density(z: Any) -> Tensor:
        chosen = Categorical(torch.ones(3, dtype=torch.float64)).log_prob(z.k).sum()
        return chosen + Normal(0.0, 1.0).log_prob(z.x).sum() + Normal(0.0, 1.0).log_prob(z.mu)

    result = fitted(
        standard({"k": categorical(3, 100), "x": real(60), "mu": real()}, log_density),
        linear_response=torch.eye(61, dtype=torch.float64),
    )
    table = str(result.summary()).splitlines()
    labels = [line.split()[0] for line in table[1:] if line]
    assert labels[17:20] == ["k[5]=2", "...", "x[0]"]  # elements are whole
    assert "... and 282 more of k: see .rows" in table
    assert "... and 41 more of x: see .rows" in table
    assert labels[labels.index("x[18]") + 2] == "mu"
    assert "nan" not in "\n".join(table)  # of k: it has no linear response
    assert len(result.summary().rows) == 361


def test_discrete_latents_have_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)

    def log_density(z: Any) -> Tensor:
        counts = Categorical(logits=logits).log_prob(z.k) + z.n * 0.5 - torch.lgamma(z.n + 1)
        return counts + Normal(0.0, 1.0).log_prob(z.x)

    variables = {"k": categorical(3), "n": poisson(), "x": real()}
    result = fitted(standard(variables, log_density), linear_response=torch.full((1, 1), 4.0, dtype=torch.float64))
    table = result.summary()
    assert table.names == ["k=0", "k=1", "k=2", "n", "x"]
    for k in range(3):
        assert table[f"k={k}"]["mean"] == pytest.approx(1 / 3, abs=0.04)  # q is uniform at its start
    for k, probability in enumerate(torch.softmax(logits, 0).tolist()):
        assert table[f"k={k}"]["mean (IW)"] == pytest.approx(probability, abs=0.04)
    assert table["n"]["mean (IW)"] == pytest.approx(math.exp(0.5), abs=0.15)
    assert math.isnan(table["n"]["sd (LR)"])
    assert table["x"]["sd (LR)"] == pytest.approx(2.0, rel=0.05)


def test_starts_that_differ_are_said_in_words() -> None:
    assert disagreement([(-10.0, True)]) is None
    assert disagreement([(-10.0, True), (-10.3, True)]) is None
    assert disagreement([(-10.0, True), (-12.0, True)], error=1.0) is None
    words = disagreement([(-10.0, True), (-22.5, True), (-14.0, False), (math.nan, False)])
    assert words is not None
    assert "2 of 4 starts ended 4.0 to 12.5 nats below the best" in words
    assert "1 of 4 starts failed" in words
    result = fitted(conjugate_normal(), {"y": Y}, starts=[(-10.0, True), (-22.5, True)])
    assert "1 of 2 starts ended 12.5 nats below" in str(result.summary())


def test_learned_parameters_are_given_by_name() -> None:
    model = Model(
        {"x": real()},
        lambda z, data: Normal(z.centre, 1.0).log_prob(z.x),
        parameters={"centre": torch.tensor(2.5, dtype=torch.float64)},
    )
    result = fitted(model, centre={"x": 2.5})
    assert result.parameters["centre"].item() == 2.5
    assert result.pareto_k.value == -math.inf  # theta is read where it was learned
    assert exact_fit().parameters == {}


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predictive_draws_have_the_known_moments() -> None:
    result = exact_fit()
    mean, sd = exact_posterior()
    new = result.posterior_predictive(5_000)["y"]
    assert new.shape == (5_000, len(Y))
    assert float(new[:, 0].mean()) == pytest.approx(mean, abs=4 * math.hypot(1, sd) / math.sqrt(5_000))
    assert float(new[:, 0].var()) == pytest.approx(1 + sd**2, rel=0.1)
    before = result.prior_predictive(5_000)["y"]
    assert float(before[:, 0].std()) == pytest.approx(math.hypot(1, PRIOR_SD), rel=0.05)
    assert float(result.prior(5_000)["mu"].std()) == pytest.approx(PRIOR_SD, rel=0.05)


def test_without_samplers_it_is_said_what_to_give() -> None:
    result = exact_fit(simulate=None, prior=None)
    with pytest.raises(ValueError, match=r"no sampler of data: Model\(\.\.\., simulate="):
        result.posterior_predictive(3)
    with pytest.raises(ValueError, match=r"no sampler of its prior: Model\(\.\.\., prior="):
        result.prior_predictive(3)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"simulate": lambda z, data, g: z.mu}, TypeError, "simulate should give tensors by name, but gave Tensor"),
        ({"prior": lambda g: {"nu": torch.zeros(())}}, ValueError, "no draw of latent 'mu', only of nu"),
        ({"prior": lambda g: {"mu": torch.zeros(2)}}, ValueError, r"'mu' of shape \(2,\), not \(\)"),
    ],
)
def test_samplers_that_give_something_else_are_refused(more: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        exact_fit(**more).prior_predictive(3)


def test_pointwise_log_likelihoods_are_those_of_the_draws() -> None:
    result = exact_fit()
    mu = result.sample(7, seed=3)["mu"]
    found = result.log_likelihood(7, seed=3)
    assert list(found) == ["likelihood"]
    torch.testing.assert_close(found["likelihood"], Normal(mu[:, None], 1.0).log_prob(Y))


def test_a_prior_along_the_rows_is_no_likelihood() -> None:
    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {
            "theta": Normal(0.0, 1.0).log_prob(z.theta),
            "y": Normal(z.theta, 1.0).log_prob(data.y),
            "mu": Normal(0.0, 1.0).log_prob(z.mu),
        }

    model = Model({"mu": real(), "theta": real(plate="rows")}, log_joint, plates={"rows": len(Y)})
    result = fitted(model, {"y": Y})
    assert list(result.log_likelihood(5)) == ["y"]
    assert list(result.log_likelihood(5, terms=["theta"])) == ["theta"]
    with pytest.raises(ValueError, match="no term 'z'; its terms are theta, y, mu"):
        result.log_likelihood(5, terms=["z"])
    with pytest.raises(ValueError, match="'mu' is summed up"):
        result.log_likelihood(5, terms=["mu"])
    summed = fitted(standard({"mu": real()}, lambda z: Normal(0.0, 1.0).log_prob(z.mu)))
    with pytest.raises(ValueError, match="likelihood of single rows"):
        summed.log_likelihood(5)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_of_trace_pairs_and_prior() -> None:
    result = exact_fit()
    assert list(result.plot().axes[0].lines[0].get_ydata()) == result.ascent.trace
    assert result.plot("pairs").axes[0].get_xlabel() == "mu"
    assert result.plot("prior", names=["mu"]).axes[0].get_title(loc="left") == "mu"
    with pytest.raises(ValueError, match="one of trace, pairs, prior, but is 'walk'"):
        result.plot("walk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no \['nu'\]; there are: mu"):
        result.plot("pairs", names=["nu"])
    with pytest.raises(ValueError, match="no sampler of its prior"):
        exact_fit(prior=None).plot("prior")
    with pytest.raises(ValueError, match="has no trace"):
        fitted(conjugate_normal(), {"y": Y}, trace=[]).plot()


def test_a_joint_factor_is_summed_up_like_any_other() -> None:
    model = standard({"b": real(2), "a": real()}, lambda z: Normal(0.0, 1.0).log_prob(z.b).sum() - 0.5 * z.a**2)
    result = fitted(model, family=full_rank, centre={"a": 3.0, "b": torch.tensor([1.0, 2.0])})
    table = result.summary()
    assert [round(table[name]["mean"]) for name in ("b[0]", "b[1]", "a")] == [1, 2, 3]


def test_corrections_find_their_numbers_in_whatever_order_the_factors_have_them() -> None:
    def log_density(z: Any) -> Tensor:
        return -(z.a**2) - z.b.square().sum() - z.c.square().sum() - z.d.square()

    variables = {"a": real(), "b": real(plate="rows"), "c": real(2, plate="rows"), "d": real()}
    model = Model(variables, lambda z, data: log_density(z), plates={"rows": 3})
    sds = {"a": 1.0, "b": [2.0, 3.0, 4.0], "c": [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]], "d": 11.0}
    family = blocks([["c", "b"], ["d"]])  # rows of (c, b), then d, then a
    mean = fitted(model, family=family, centre=sds).family.mean().detach()
    assert mean[:3].tolist() == [5.0, 6.0, 2.0]
    result = fitted(model, family=family, linear_response=torch.diag(mean.square()), monte_carlo=mean)
    table = result.summary()
    expected = {"a": 1, "b[1]": 3, "b[2]": 4, "c[0,1]": 6, "c[2,0]": 9, "d": 11}
    for heading in ("sd (LR)", "error"):
        assert {name: round(table[name][heading]) for name in expected} == expected
