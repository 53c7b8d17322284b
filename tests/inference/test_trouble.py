"""Bad models and bad data: every one has a clear outcome, and none a silent wrong answer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Cauchy, Normal

from jensen.errors import DataError, NonFiniteError, NotConvergedWarning
from jensen.inference import FitResult, Model, bernoulli, bounded, categorical, fit, poisson, positive, real
from jensen.inference.supports import ordered, unit_interval

THREE = {"y": [1.0, 2.0, 3.0]}


def density(log_density: Any, **latents: Any) -> Model:
    return Model(latents, lambda z, data: log_density(z))


def normal_rows(rows: int = 3) -> Model:
    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"prior": Normal(0.0, 10.0).log_prob(z.mu), "likelihood": Normal(z.mu, 1.0).log_prob(data.y)}

    return Model({"mu": real()}, log_joint, plates={"rows": rows})


def unconverged(*arguments: Any, **options: Any) -> FitResult:
    """A fit that must warn, and give what it warned of."""
    with pytest.warns(NotConvergedWarning) as caught:
        result = fit(*arguments, **options)
    assert not result.converged
    assert result.advice
    assert result.reason in str(caught[0].message)
    assert result.advice in str(caught[0].message)
    assert "NOT CONVERGED" in str(result.summary())
    return result


def converged(*arguments: Any, **options: Any) -> FitResult:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotConvergedWarning)
        result = fit(*arguments, **options)
    assert result.converged
    return result


# --- posteriors that are no distributions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_density", "latents"),
    [
        (lambda z: 0.0 * z.x, {"x": real()}),
        (lambda z: z.x, {"x": real()}),
        (lambda z: -z.x.log(), {"x": positive()}),
        (lambda z: -z.x.log(), {"x": unit_interval()}),
        (lambda z: Normal(z.x, z.s).log_prob(torch.tensor(1.0)), {"x": real(), "s": positive()}),
    ],
    ids=["flat", "rising", "scale", "at-a-bound", "one-datum"],
)
def test_an_improper_posterior_does_not_converge(log_density: Any, latents: dict[str, Any]) -> None:
    result = unconverged(density(log_density, **latents), n_starts=1, evaluations=100)
    assert not result.pareto_k.usable


def test_an_improper_posterior_is_called_so() -> None:
    result = unconverged(density(lambda z: 0.0 * z.x, x=real()), n_starts=1, draws=2, max_draws=32)
    assert "log_scale of q(x) ran off" in result.reason
    assert "improper" in result.reason
    assert "proper prior" in str(result.advice)


def test_what_the_data_do_not_identify_does_not_converge() -> None:
    model = Model({"a": real(), "b": real()}, lambda z, data: Normal(z.a + z.b, 1.0).log_prob(data.y).sum())
    result = unconverged(model, THREE)
    assert "left free by prior and data" in str(result.advice)


@pytest.mark.parametrize("variable", [real(2), positive(), ordered(3), poisson()], ids=str)
def test_a_forgotten_latent_is_named(variable: Any) -> None:
    model = Model({"mu": real(), "other": variable}, lambda z, data: Normal(z.mu, 1.0).log_prob(data.y).sum())
    with pytest.raises(ValueError, match="latent 'other' enters no term of the log joint: its posterior is improper"):
        fit(model, THREE)


def test_a_forgotten_parameter_is_named() -> None:
    model = Model({"x": real()}, lambda z, data: Normal(0.0, 1.0).log_prob(z.x), {"alpha": torch.ones(2)})
    with pytest.raises(ValueError, match="no term of the log joint has a gradient in parameter 'alpha': leave it out"):
        fit(model)


def test_a_parameter_without_a_best_value_is_named() -> None:
    zero = torch.zeros((), dtype=torch.float64)
    model = Model({"x": real()}, lambda z, data: Normal(0.0, 1.0).log_prob(z.x) + z.alpha, {"alpha": zero})
    result = unconverged(model, n_starts=1, evaluations=60)
    assert "parameter alpha ran off to" in result.reason
    assert "penalty" in str(result.advice)


def test_a_log_joint_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="latent 'x' enters no term"):
        fit(density(lambda z: torch.zeros((), dtype=torch.float64), x=real()))


def test_what_only_a_comparison_or_an_index_uses_is_not_forgotten() -> None:
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)

    def log_density(z: Any) -> Tensor:
        return weights.log()[z.k] + Normal(torch.where(z.count > 2.0, 1.0, 0.0), 1.0).log_prob(z.x) - z.count

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # few steps
        result = fit(density(log_density, k=categorical(3), count=poisson(), x=real()), max_steps=200)
    probabilities = torch.nn.functional.one_hot(result.sample(4000)["k"], 3).double().mean(0)
    torch.testing.assert_close(probabilities, weights, atol=0.1, rtol=0)


def test_a_bounded_latent_that_nothing_uses_is_uniform() -> None:
    result = converged(density(lambda z: Normal(0.0, 1.0).log_prob(z.x), x=real(), u=unit_interval(), b=bernoulli()))
    draws = result.sample(4000)
    assert float(draws["u"].mean()) == pytest.approx(0.5, abs=0.03)
    assert float(draws["b"].mean()) == pytest.approx(0.5, abs=0.03)


# --- posteriors that q does not fit -----------------------------------------------------------------------------------


def two_modes(more: float) -> Model:
    def log_density(z: Any) -> Tensor:
        return torch.logaddexp(Normal(-3.0, 0.3).log_prob(z.x), Normal(3.0, 0.3).log_prob(z.x) + more)

    return density(log_density, x=real())


@pytest.mark.parametrize(
    ("method", "starts", "options"),
    [("deterministic", 4, {}), ("stochastic", 2, {"max_steps": 600, "tol": 0.5})],
)
def test_starts_in_different_modes_are_told(method: str, starts: int, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        result = fit(two_modes(more=2.0), method=method, n_starts=starts, **options)
    assert result.elbo == pytest.approx(2.0, abs=0.05)  # the higher one is kept: its mass is e^2
    words = result.disagreement
    assert words is not None
    assert f"of {starts} starts" in words
    said = str(result.summary())
    assert words in said
    assert "k-hat does not see other modes" in said
    assert "k-hat does not see other modes" in result.verdict


def test_modes_of_equal_height_are_told_too() -> None:
    result = converged(two_modes(more=0.0))
    assert [elbo for elbo, _ in result.starts] == pytest.approx([0.0] * 4, abs=1e-6)
    assert "as high: the posterior has several modes" in str(result.disagreement)
    assert str(result.disagreement) in str(result.summary())


def test_pathfinder_is_a_mixture_of_the_modes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        result = fit(two_modes(more=1.0), method="pathfinder")
    assert result.elbo == pytest.approx(math.log(1 + math.e), abs=1e-3)
    assert "of all of which q is a mixture" in str(result.disagreement)
    assert "k-hat does not see" not in str(result.summary())


def test_one_mode_is_no_disagreement() -> None:
    result = converged(density(lambda z: Normal(3.0, 0.3).log_prob(z.x), x=real()))
    assert result.disagreement is None
    assert "k-hat does not see" not in str(result.summary())


@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_a_funnel_is_not_to_be_believed(family: str) -> None:
    def log_density(z: Any) -> Tensor:
        return Normal(0.0, 3.0).log_prob(z.v) + Normal(0.0, (z.v / 2).exp()).log_prob(z.x).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        result = fit(density(log_density, v=real(), x=real(4)), family=family)
    assert not result.pareto_k.usable
    assert "unusable" in str(result.summary())


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_heavy_tails_are_never_good(size: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        result = fit(density(lambda z: Cauchy(0.0, 1.0).log_prob(z.x).sum(), x=real(size)), seed=seed)
    assert result.pareto_k.value > 0.5
    assert not result.verdict.startswith(("good", "exact"))


def test_a_posterior_at_a_bound() -> None:
    """Fifty failures: Beta(1, 51), whose density is highest at 0."""
    model = Model({"p": unit_interval()}, lambda z, data: Bernoulli(z.p).log_prob(data.y).sum())
    result = converged(model, {"y": [0.0] * 50})
    draws = result.sample(20_000)["p"]
    assert bool(((draws > 0) & (draws < 1)).all())
    assert float(draws.mean()) == pytest.approx(1 / 52, rel=0.25)
    assert -math.log(51) - 0.5 < result.elbo <= -math.log(51) + 4 * result.elbo_se
    assert not result.verdict.startswith(("good", "exact"))  # log p is no normal: its left tail is too light
    assert float(result.expectation(lambda z: z.p).mean) == pytest.approx(1 / 52, rel=0.1)


def test_data_beyond_a_bound() -> None:
    """N(x, 0.1) around 1.6, but x < 1: the posterior leans on the bound, its density like exp(-180 (1 - x))."""
    model = Model({"x": bounded(0.0, 1.0)}, lambda z, data: Normal(z.x, 0.1).log_prob(data.y).sum())
    result = converged(model, {"y": [1.5, 1.6, 1.7]})
    x = torch.linspace(0.9, 1.0, 100_001, dtype=torch.float64)
    weights = (-150 * (1.6 - x).square() + 150 * 0.36).exp()
    exact = float((weights * (1 - x)).sum() / weights.sum())
    assert not result.verdict.startswith(("good", "exact"))
    assert float(result.expectation(lambda z: 1 - z.x).mean) == pytest.approx(exact, rel=0.1)


# --- exceptions and numbers that are none -----------------------------------------------------------------------------


def test_an_exception_of_the_log_joint_comes_with_the_shapes() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        return Normal(z.theta, 1.0).log_prob(data.y) @ torch.ones(7, dtype=torch.float64)

    model = Model({"theta": real(3), "tau": positive()}, log_joint)
    with pytest.raises(RuntimeError, match="3 and 7") as caught:
        fit(model, THREE)
    (note,) = caught.value.__notes__
    assert note == "while the log joint was run on latents theta (3,), tau () and data y (3,)"


def test_an_exception_at_some_draws_comes_with_the_shapes_too() -> None:
    def log_density(z: Any) -> Tensor:
        if z.x < 0.0:
            raise RuntimeError("no negative ones")
        return Normal(0.0, 1.0).log_prob(z.x)

    with pytest.raises(RuntimeError, match="no negative ones") as caught:
        fit(density(log_density, x=real()), seed=0)
    assert "draws of latents x () and data none" in caught.value.__notes__[-1]


def test_a_clash_of_precisions_says_which_data() -> None:
    x = torch.randn(4, 2)
    model = Model({"beta": real(2)}, lambda z, data: Normal(data.x @ z.beta, 1.0).log_prob(data.y).sum())
    with pytest.raises(RuntimeError) as caught:
        fit(model, {"x": x, "y": [1.0, 2, 3, 4]})
    assert "latents are float64, but data x is float32: give .double()" in caught.value.__notes__[0]
    assert fit(model, {"x": x.double(), "y": [1.0, 2, 3, 4]}, n_starts=1).method == "deterministic"


@pytest.mark.parametrize(
    ("y", "term", "entry"),
    [
        (torch.tensor([1.0, math.nan, 3.0]), r"'likelihood' is nan at \[1\]", r"'y' has nan at \[1\]"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, math.inf]], r"'likelihood' is -inf at \[2\]", r"'y' has inf at \[2, 1\]"),
    ],
)
def test_data_that_are_not_finite_are_told_with_term_and_entry(y: Any, term: str, entry: str) -> None:
    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        each = Normal(z.mu, 1.0).log_prob(data.y)
        return {"prior": Normal(0.0, 10.0).log_prob(z.mu), "likelihood": each.reshape(3, -1).sum(1)}

    with pytest.raises(NonFiniteError, match=term + ".*data " + entry):
        fit(Model({"mu": real()}, log_joint, plates={"rows": 3}), {"y": y, "other": 3})


def test_missing_data_that_the_model_leaves_out_are_no_trouble() -> None:
    y = torch.tensor([1.0, math.nan, 3.0], dtype=torch.float64)

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        seen = ~data.y.isnan()
        each = Normal(z.mu, 1.0).log_prob(data.y.nan_to_num()).where(seen, 0.0)
        return {"prior": Normal(0.0, 1.0).log_prob(z.mu), "likelihood": each}

    result = converged(Model({"mu": real()}, log_joint, plates={"rows": 3}), {"y": y})
    assert float(result.sample(20_000)["mu"].mean()) == pytest.approx(4 / 3, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_a_term_that_is_not_finite_at_the_start_is_named(bad: float) -> None:
    def log_density(z: Any) -> Mapping[str, Tensor]:
        return {"prior": Normal(0.0, 1.0).log_prob(z.x), "potential": 0.0 * z.x + bad}

    with pytest.raises(NonFiniteError, match=f"not finite at the start: term 'potential' is {bad}"):
        fit(density(log_density, x=real()))


def test_a_term_that_is_nan_at_some_draws_is_named() -> None:
    def log_density(z: Any) -> Mapping[str, Tensor]:
        return {"prior": Normal(0.0, 1.0).log_prob(z.x), "log": z.x.log()}  # x is declared real, but must be positive

    result = unconverged(density(log_density, x=real()), n_starts=1)
    assert "term 'log' is NaN or infinite at" in result.reason
    assert "unusable: the log joint is NaN" in result.verdict


# --- what the log joint returns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda z, data: None, TypeError, "should return a tensor or terms by name, but gave a NoneType"),
        (lambda z, data: [z.mu], TypeError, "should return a tensor or terms by name, but gave a list"),
        (lambda z, data: {}, ValueError, "returned no terms"),
        (lambda z, data: {"a": z.mu, "b": None}, TypeError, "term 'b' of the log joint is a NoneType"),
        (lambda z, data: {"a": z.mu, "b": "two"}, TypeError, "term 'b' of the log joint is a str"),
        (lambda z, data: {"a": z.mu, "b": torch.tensor(1)}, TypeError, "term 'b' of the log joint is torch.int64"),
        (
            lambda z, data: {"a": z.mu, "b": z.mu * torch.ones(2)},
            ValueError,
            r"term 'b' has shape \(2,\), which is not that of plates {'rows': 3} in this order.*data are y \(3,\)",
        ),
        (lambda z, data: z.nu, AttributeError, "there is no 'nu'; there are: mu"),
        (lambda z, data: z["nu"], KeyError, "there is no 'nu'; there are: mu"),
        (lambda z, data: z.mu * data.x, AttributeError, "there is no 'x'; there are: y"),
    ],
)
def test_what_is_no_log_joint_is_told(returned: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(Model({"mu": real()}, returned, plates={"rows": 3}), THREE)


def test_plain_numbers_are_terms() -> None:
    result = converged(density(lambda z: {"x": Normal(0.0, 1.0).log_prob(z.x), "constant": -2.5, "one": 1}, x=real()))
    assert result.elbo == pytest.approx(-1.5, abs=1e-6)


@pytest.mark.parametrize("how", ["item", "if", "numpy"])
def test_a_log_joint_that_cannot_be_vectorised_is_run_draw_by_draw(how: str) -> None:
    def log_density(z: Any) -> Tensor:
        if how == "item":
            _ = z.x.item()
        if how == "numpy":
            return Normal(torch.tensor(float(np.float64(1.0)) + 0.0 * z.x.detach().numpy()), 2.0).log_prob(z.x)
        if how == "if" and z.x > 1.0:
            return Normal(1.0, 2.0).log_prob(z.x)
        return Normal(1.0, 2.0).log_prob(z.x)

    result = converged(density(log_density, x=real()), n_starts=1, draws=16, max_draws=256)
    assert not result.target.vectorised
    assert result.elbo == pytest.approx(0.0, abs=1e-6)
    assert float(result.sample(20_000)["x"].std()) == pytest.approx(2.0, rel=0.03)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"y": [[1, 2], [3]]}, DataError, r"data\['y'\]: its rows have different lengths"),
        ({"y": [1.0, None, 3.0]}, DataError, r"data\['y'\] has no number \(null\) at \[1\]"),
        ({"y": [1.0, 2.0]}, ValueError, r"term 'likelihood' has shape \(2,\).*the data are y \(2,\)"),
        (torch.ones(2), DataError, "plate 'rows' has 3 rows, but the data have 2"),
        ([1.0, 2.0], TypeError, "data must be a tensor, an array, a mapping or Columns, got list"),
    ],
)
def test_data_that_do_not_fit_are_told(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(normal_rows(), data)


def test_a_data_frame_is_told_and_its_columns_are_taken() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"y": [1.0, 2.0, 3.0]})
    with pytest.raises(TypeError, match=r"got DataFrame: give dict\(data\)"):
        fit(normal_rows(), frame)
    assert fit(normal_rows(), dict(frame)).elbo == fit(normal_rows(), THREE).elbo


def test_no_rows_at_all_leave_the_prior() -> None:
    def log_density(z: Any, data: Any) -> Tensor:
        return Normal(0.0, 2.0).log_prob(z.x) + Normal(z.x, 1.0).log_prob(data.y).sum()

    assert converged(Model({"x": real()}, log_density), {"y": []}).elbo == pytest.approx(0.0, abs=1e-8)


def test_data_of_single_precision() -> None:
    y = torch.tensor([1.0, 2.0, 3.0])
    results = [converged(normal_rows(), {"y": each}) for each in (y, y.double())]
    assert results[0].elbo == pytest.approx(results[1].elbo, abs=1e-5)
    assert results[0].sample(3)["mu"].dtype == torch.float64


# --- plates and minibatches -------------------------------------------------------------------------------------------


def test_plates_of_equal_size_are_refused() -> None:
    with pytest.raises(ValueError, match="told apart by their sizes, but two are equal"):
        Model({"x": real()}, lambda z, data: z.x, plates={"rows": 3, "groups": 3})


def grouped(rows: int, groups: int, summed: bool = False) -> Model:
    """y_i ~ N(mu_{g(i)}, 1), mu_j ~ N(0, 2)."""

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        likelihood = Normal(z.mu[data.group], 1.0).log_prob(data.y)
        return {"prior": Normal(0.0, 2.0).log_prob(z.mu), "likelihood": likelihood.sum() if summed else likelihood}

    return Model({"mu": real(groups)}, log_joint, plates={"rows": rows, "groups": groups})


def test_a_batch_as_long_as_another_plate_is_scaled_right() -> None:
    rows, groups = 12, 3
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(rows, dtype=torch.float64, generator=generator)
    data = {"y": y, "group": torch.arange(rows) % groups}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # few steps: enough to tell N / B from another scale
        result = fit(grouped(rows, groups), data, batch_size=3, max_steps=1000, samples=2)
    exact = torch.stack([y[j::groups].sum() for j in range(groups)]) / (4 + 1 / 4)
    draws = result.sample(20_000)["mu"]
    torch.testing.assert_close(draws.mean(0), exact, atol=0.12, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full_like(exact, 4.25**-0.5), atol=0.1, rtol=0)


def test_a_term_that_sums_over_a_minibatch_by_itself_is_told() -> None:
    data = {"y": torch.arange(12.0), "group": torch.arange(12) % 3}
    with pytest.raises(ValueError, match=r"term 'likelihood' has no dimension for the rows .*leave it unsummed"):
        fit(grouped(12, 3, summed=True), data, batch_size=4)
    converged(grouped(12, 3, summed=True), data, n_starts=1)  # all the data: no scaling is needed


def test_minibatches_need_a_plate() -> None:
    with pytest.raises(ValueError, match="minibatches need a plate"):
        fit(density(lambda z: Normal(0.0, 1.0).log_prob(z.x), x=real()), batch_size=2)


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_start": 2}, "method='deterministic' has no option 'n_start': it has n_starts, draws"),
        ({"learning_rate": 0.1}, "has no option 'learning_rate'.*method='stochastic' has it"),
        ({"method": "stochastic", "evaluations": 3}, "method='deterministic' and method='pathfinder' have it"),
        ({"method": "pathfinder", "batch_size": 2}, "method='pathfinder' has no option 'batch_size': it has n_starts"),
    ],
)
def test_unknown_options_are_told_with_those_there_are(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fit(normal_rows(), THREE, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "newton"}, "method must be one of auto, deterministic, stochastic, pathfinder, got 'newton'"),
        ({"family": "normal"}, "family must be one of mean_field.*got 'normal'"),
        ({"family": {"nu": None}}, r"families chosen for \['nu'\], but the model's latents are \['mu'\]"),
        ({"method": "pathfinder", "family": "full_rank"}, "pathfinder finds a family of its own"),
        ({"n_starts": 0}, "n_starts"),
        ({"tol": -1.0}, "tol"),
    ],
)
def test_impossible_options_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(normal_rows(), THREE, **options)


def test_what_is_no_model_is_told() -> None:
    with pytest.raises(TypeError, match=r"fit needs a jensen.inference.Model first, got dict"):
        fit({"mu": real()}, THREE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"latents": {}}, ValueError, "at least one latent"),
        ({"latents": {"x": 3}}, TypeError, "latent 'x' must be declared by real"),
        ({"latents": {"items": real()}}, ValueError, "latent 'items' cannot be called so"),
        ({"latents": {"x": real(plate="rows")}}, ValueError, "latent 'x' is on plate 'rows', but plates are {}"),
        ({"log_joint": 3}, TypeError, "log_joint must be a function"),
        ({"plates": {"rows": 0}}, ValueError, "sizes of at least 1"),
        ({"parameters": {"x": torch.ones(())}}, ValueError, "are both latents and parameters"),
        ({"parameters": {"a": torch.ones((), dtype=torch.int64)}}, TypeError, r"floating tensors, but \['a'\] are not"),
        ({"parameters": {"values": torch.ones(())}}, ValueError, "parameter 'values' cannot be called so"),
    ],
)
def test_models_that_make_no_sense_are_told(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Model(**{"latents": {"x": real()}, "log_joint": lambda z, data: z.x, **arguments})


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["deterministic", "stochastic"])
def test_ctrl_c_keeps_what_was_found_and_says_so(method: str) -> None:
    calls = 0

    def stop(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    result = unconverged_after(stop, method)
    assert result.reason.startswith("interrupted")
    assert math.isfinite(result.elbo)
    exact = 6 / (3 + 1 / 100)
    assert float(result.sample(4000)["mu"].mean()) == pytest.approx(exact, abs=0.3)


def unconverged_after(stop: Any, method: str) -> FitResult:
    with pytest.warns(NotConvergedWarning, match="not converged: interrupted"):
        result = fit(normal_rows(), THREE, method=method, callback=stop)
    assert not result.converged
    return result


def test_ctrl_c_before_anything_is_found_stays_ctrl_c() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Model({"mu": real()}, log_joint), THREE)
