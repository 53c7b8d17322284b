"""The posteriors written by hand are those that the references were drawn from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.models import database, stored
from benchmarks.models.case import Case, by_label, by_name
from scipy import stats
from scipy.special import logsumexp

from benchmarks import models
from jensen.inference.target import Target

Latents = dict[str, Any]
"""NumPy arrays of one draw"""

FLAT = (
    "earnings-earn_height",
    "earnings-log10earn_height",
    "earnings-logearn_height",
    "earnings-logearn_height_male",
    "earnings-logearn_interaction",
    "earnings-logearn_interaction_z",
    "kidiq_with_mom_work-kidscore_interaction_c",
    "kidiq_with_mom_work-kidscore_interaction_c2",
    "kidiq_with_mom_work-kidscore_interaction_z",
    "kidiq_with_mom_work-kidscore_mom_work",
    "mesquite-logmesquite",
    "mesquite-logmesquite_logva",
    "mesquite-logmesquite_logvas",
    "mesquite-logmesquite_logvolume",
    "mesquite-mesquite",
    "nes1972-nes",
    "nes1976-nes",
    "nes1980-nes",
    "nes1988-nes",
    "nes1992-nes",
    "nes2000-nes",
)
OTHERS = (
    "arK-arK",
    "bball_drive_event_0-hmm_drive_0",
    "eight_schools-eight_schools_centered",
    "eight_schools-eight_schools_noncentered",
    "gp_pois_regr-gp_regr",
    "hmm_example-hmm_example",
    "kidiq-kidscore_momhs",
    "kidiq-kidscore_momhsiq",
    "kidiq-kidscore_momiq",
    "kilpisjarvi_mod-kilpisjarvi",
    "sblrc-blr",
)
THINNED = 8  # every so many of the reference draws


@pytest.fixture(scope="module")
def root(data_directory: Path) -> Path:
    path = data_directory / "posteriordb"
    if not path.is_dir():
        pytest.skip(f"no posteriordb in {data_directory}")
    return path


# --- SciPy's densities, written from the models' descriptions ---------------------------------------------------------


def _normal(x: Any, mean: Any, sd: Any) -> float:
    return float(stats.norm.logpdf(x, mean, sd).sum())


def _binary(logits: Any, y: Any) -> float:
    return float(stats.bernoulli.logpmf(y.astype(int), 1 / (1 + np.exp(-logits))).sum())


def _forward(log_emissions: Any, rows: Any) -> float:
    log_alpha = log_emissions[0]
    for emission in log_emissions[1:]:
        log_alpha = logsumexp(log_alpha[:, None] + np.log(rows), axis=0) + emission
    return float(logsumexp(log_alpha))


def _kernel(x: Any, rho: Any, alpha: Any) -> Any:
    return alpha**2 * np.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))


def _half_cauchy_regression(z: Latents, d: Latents) -> float:
    return stats.halfcauchy.logpdf(z["sigma"], scale=2.5) + _normal(d["y"], d["x"] @ z["beta"], z["sigma"])


def _shrunken(z: Latents, d: Latents) -> float:
    prior = _normal(z["beta"], 0, 10) + stats.halfnorm.logpdf(z["sigma"], scale=10)
    return prior + _normal(d["y"], d["x"] @ z["beta"], z["sigma"])


def _informed(z: Latents, d: Latents) -> float:
    prior = _normal(z["alpha"], d["pmualpha"], d["psalpha"]) + _normal(z["beta"], d["pmubeta"], d["psbeta"])
    return prior + _normal(d["y"], z["alpha"] + z["beta"] * d["x"], z["sigma"])


def _autoregression(z: Latents, d: Latents) -> float:
    prior = _normal(z["alpha"], 0, 10) + _normal(z["beta"], 0, 10) + stats.halfcauchy.logpdf(z["sigma"], scale=2.5)
    return prior + _normal(d["y"], z["alpha"] + d["lags"] @ z["beta"], z["sigma"])


def _centred(z: Latents, d: Latents) -> float:
    prior = _normal(z["mu"], 0, 5) + stats.halfcauchy.logpdf(z["tau"], scale=5)
    return prior + _normal(z["theta"], z["mu"], z["tau"]) + _normal(d["y"], z["theta"], d["sigma"])


def _non_centred(z: Latents, d: Latents) -> float:
    prior = _normal(z["mu"], 0, 5) + stats.halfcauchy.logpdf(z["tau"], scale=5) + _normal(z["eta"], 0, 1)
    return prior + _normal(d["y"], z["mu"] + z["tau"] * z["eta"], d["sigma"])


def _process(z: Latents, d: Latents) -> float:
    prior = stats.gamma.logpdf(z["rho"], 25, scale=1 / 4) + stats.halfnorm.logpdf(z["alpha"], scale=2)
    covariance = _kernel(d["x"], z["rho"], z["alpha"]) + z["sigma"] * np.eye(len(d["x"]))
    return prior + stats.halfnorm.logpdf(z["sigma"]) + stats.multivariate_normal.logpdf(d["y"], cov=covariance)


def _normal_outputs(z: Latents, d: Latents) -> float:
    mu = np.cumsum(z["steps"])
    emissions = stats.norm.logpdf(d["y"][:, None], mu, 1)
    return _normal(mu, [3, 10], 1) + _forward(emissions, np.stack([z["theta1"], z["theta2"]]))


def _exponential_outputs(z: Latents, d: Latents) -> float:
    phi, rate = np.cumsum(z["phi_steps"]), np.cumsum(z["lambda_steps"])
    emissions = stats.expon.logpdf(d["u"][:, None], scale=1 / phi) + stats.expon.logpdf(d["v"][:, None], scale=1 / rate)
    rows = stats.dirichlet.logpdf(z["theta1"], [4, 2]) + stats.dirichlet.logpdf(z["theta2"], [2, 4])
    levels = _normal(phi, [0, 3], 1) + _normal(rate, [0, 3], 1)
    return levels + rows + _forward(emissions, np.stack([z["theta1"], z["theta2"]]))


def _logistic(z: Latents, d: Latents) -> float:
    return _normal(z["beta"], 0, 2.5) + _binary(d["x"] @ z["beta"], d["y"])


def _poisson(z: Latents, d: Latents) -> float:
    return _normal(z["beta"], 0, 2.5) + float(stats.poisson.logpmf(d["y"], np.exp(d["x"] @ z["beta"])).sum())


def _hierarchical_logistic(z: Latents, d: Latents) -> float:
    prior = _normal(z["mu"], 0, 2.5) + _normal(z["beta"], 0, 2.5) + stats.halfnorm.logpdf(z["tau"])
    logits = z["mu"] + z["tau"] * z["eta"][d["group"]] + d["x"] @ z["beta"]
    return prior + _normal(z["eta"], 0, 1) + _binary(logits, d["y"])


def _item_response(z: Latents, d: Latents) -> float:
    items = _normal(z["difficulty"], 0, 1.5) + float(stats.lognorm.logpdf(z["slope"], 0.5).sum())
    logits = z["slope"][None, :] * (z["ability"][:, None] - z["difficulty"][None, :])
    return items + _normal(z["ability"], 0, 1) + _binary(logits, d["y"])


def _process_classifier(z: Latents, d: Latents) -> float:
    prior = stats.invgamma.logpdf(z["rho"], 5, scale=5) + stats.halfnorm.logpdf(z["alpha"], scale=2)
    f = np.linalg.cholesky(_kernel(d["x"], z["rho"], z["alpha"]) + 1e-6 * np.eye(len(d["x"]))) @ z["eta"]
    return prior + _normal(z["eta"], 0, 1) + _binary(f, d["y"])


ORACLES: dict[str, Callable[[Latents, Latents], float]] = {
    "half_cauchy": _half_cauchy_regression,
    "shrunken": _shrunken,
    "informed": _informed,
    "autoregression": _autoregression,
    "centred": _centred,
    "non_centred": _non_centred,
    "process": _process,
    "normal_outputs": _normal_outputs,
    "exponential_outputs": _exponential_outputs,
    "logistic": _logistic,
    "poisson": _poisson,
    "hierarchical_logistic": _hierarchical_logistic,
    "item_response": _item_response,
    "process_classifier": _process_classifier,
}


def _agrees(case: Case) -> None:
    """At a few random points, constants included."""
    target = Target(case.model, case.data)
    u = 0.5 * torch.randn(4, target.coordinates.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    values, _ = target.coordinates.constrain(u)
    found = target.log_prob(values)
    data = case.arrays()
    for s in range(len(u)):
        expected = ORACLES[case.twin]({name: v[s].numpy() for name, v in values.items()}, data)
        assert float(found[s]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", OTHERS)
def test_log_joints_are_scipys(root: Path, name: str) -> None:
    _agrees(models.case(name, root))


@pytest.mark.parametrize("name", models.GENERATED)
def test_log_joints_on_generated_data_are_scipys(name: str) -> None:
    _agrees(models.case(name, None))


# --- against the reference draws --------------------------------------------------------------------------------------


def test_every_posterior_is_written_and_reports_what_its_reference_does(root: Path) -> None:
    found = database.names(root)
    assert sorted(FLAT + OTHERS) == found
    for name in found:
        case = models.case(name, root)
        draws = {key: x[:3] for key, x in database.read_draws(root, name).items()}
        there_and_back = case.reported(case.to_latents(draws))
        assert sorted(there_and_back) == sorted(models.reference(name, root).names)
        for label, expected in by_label(draws).items():
            torch.testing.assert_close(there_and_back[label], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FLAT)
def test_flat_regressions_have_their_closed_form(root: Path, name: str) -> None:
    case, reference = models.case(name, root), models.reference(name, root)
    x, y = case.data["x"].numpy(), case.data["y"].numpy()
    (n, p), (least_squares, *_) = x.shape, np.linalg.lstsq(x, y, rcond=None)
    residual = float(((y - x @ least_squares) ** 2).sum())
    # beta is Student's t, sigma^2 inverse gamma with (n - p - 1) / 2 and residual / 2
    sds = np.sqrt(residual / (n - p - 3) * np.diag(np.linalg.inv(x.T @ x)))
    assert (np.abs(reference.means[:p].numpy() - least_squares) < 5 * reference.mcse[:p].numpy()).all()
    np.testing.assert_allclose(reference.sds[:p], sds, rtol=0.05)
    shape = (n - p - 1) / 2
    variances = database.read_draws(root, name)["sigma"].numpy() ** 2
    assert stats.kstest(variances[::10], stats.invgamma(shape, scale=residual / 2).cdf).pvalue > 1e-4
    # and the log joint is its logarithm
    target = Target(case.model, case.data)
    rng = np.random.default_rng(0)
    beta = least_squares + sds * rng.normal(size=(4, p))
    spread = np.exp(rng.normal(size=4)) * np.sqrt(residual / n)
    quadratic = residual + np.einsum("si,ij,sj->s", beta - least_squares, x.T @ x, beta - least_squares)
    expected = -n * np.log(spread) - quadratic / (2 * spread**2) - n / 2 * np.log(2 * np.pi)
    found = target.log_prob({"beta": torch.from_numpy(beta), "sigma": torch.from_numpy(spread)})
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", FLAT + OTHERS)
def test_scores_at_reference_draws(root: Path, name: str) -> None:
    """Under the true posterior E[score] = 0 and E[(u - E u) score] = -1, coordinate by coordinate."""
    case = models.case(name, root)
    draws = {key: x[::THINNED] for key, x in database.read_draws(root, name).items()}
    target = Target(case.model, case.data)
    u = target.coordinates.unconstrain(case.to_latents(draws)).requires_grad_()
    (score,) = torch.autograd.grad(target.log_density(u).sum(), u)
    u = u.detach()
    for expected, sample in ((0.0, score), (-1.0, (u - u.mean(0)) * score)):
        error = sample.std(0) / len(u) ** 0.5
        assert bool(((sample.mean(0) - expected).abs() < 4.0 * error).all())


# --- the stored references --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.GENERATED)
def test_stored_references_are_good_and_of_the_reported_parameters(name: str) -> None:
    content = json.loads((stored.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert max(content["r_hat"]) < 1.01
    assert min(content["ess_bulk"] + content["ess_tail"]) > 1000
    case, reference = models.case(name, None), stored.read(name)
    target = Target(case.model, case.data)
    values, _ = target.coordinates.constrain(torch.zeros(1, target.coordinates.size, dtype=torch.float64))
    assert tuple(case.reported(values)) == reference.names
    back = case.to_latents(case.to_reported(values))
    for key, value in values.items():
        torch.testing.assert_close(back[key], value)


@pytest.mark.parametrize("name", ["logistic", "poisson"])
def test_stored_references_agree_with_importance_sampling(name: str) -> None:
    """About the mode, with the curvature there: 20,000 draws of six coordinates, weights nearly equal."""
    case, reference = models.case(name, None), stored.read(name)
    target = Target(case.model, case.data)
    mode = torch.zeros(target.coordinates.size, dtype=torch.float64)

    def density(u: torch.Tensor) -> torch.Tensor:
        return target.log_density(u[None])[0]

    for _ in range(30):
        gradient, hessian = torch.func.grad(density)(mode), torch.func.hessian(density)(mode)
        mode = mode - 0.7 * torch.linalg.solve(hessian, gradient)
    q = torch.distributions.MultivariateNormal(mode, precision_matrix=-torch.func.hessian(density)(mode))
    torch.manual_seed(3)
    u = q.sample((20_000,))
    weights = torch.softmax(target.log_density(u) - q.log_prob(u), 0)
    assert float(1 / weights.square().sum()) > 10_000
    means = weights @ u
    sds = (weights @ (u - means).square()).sqrt()
    assert bool(((means - reference.means).abs() < 0.05 * reference.sds).all())
    torch.testing.assert_close(sds, reference.sds, rtol=0.04, atol=0.0)


# --- the reader -------------------------------------------------------------------------------------------------------


def test_a_missing_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set JENSEN_DATA"):
        database.folder()


def test_unknown_posteriors_are_told() -> None:
    with pytest.raises(KeyError, match="no model is written for posterior 'data-other'"):
        models.case("data-other", Path())
    with pytest.raises(ValueError, match="give its folder"):
        models.case("nes1972-nes", None)


def test_labels_go_there_and_back() -> None:
    draws = {"mu": torch.randn(5), "theta": torch.randn(5, 3)}
    labelled = by_label(draws)
    assert list(labelled) == ["mu", "theta[1]", "theta[2]", "theta[3]"]
    for name, value in by_name({label: x.tolist() for label, x in labelled.items()}).items():
        torch.testing.assert_close(value, draws[name].double())
