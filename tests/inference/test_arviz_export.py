"""A fit in ArviZ: its groups, its plots, and leave-one-out against the closed form."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from fit_models import PRIOR_SD, Y, conjugate_normal, exact_fit, exact_posterior, fitted, standard
from torch.distributions import Normal

from jensen.inference.fit_store import load_fit
from jensen.inference.model import Model
from jensen.inference.supports import real

mpl.use("Agg")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    az = pytest.importorskip("arviz")


def test_all_groups_are_there_with_draws_and_densities() -> None:
    result = exact_fit()
    data = result.to_arviz(300, seed=2)
    groups = ["posterior", "sample_stats", "log_likelihood", "posterior_predictive", "prior", "prior_predictive"]
    assert set(data.groups()) == {*groups, "observed_data"}
    mu = result.sample(300, seed=2)["mu"]
    np.testing.assert_array_equal(data.posterior["mu"].values, mu[None].numpy())
    joint = Normal(0.0, PRIOR_SD).log_prob(mu) + Normal(mu[:, None], 1.0).log_prob(Y).sum(1)
    np.testing.assert_allclose(data.sample_stats["lp"].values[0], joint.numpy())
    q = Normal(*torch.tensor(exact_posterior(), dtype=torch.float64))
    np.testing.assert_allclose(data.sample_stats["log_q"].values[0], q.log_prob(mu).numpy())
    np.testing.assert_array_equal(data.observed_data["y"].values, Y.numpy())
    for group in ("log_likelihood", "posterior_predictive", "prior_predictive"):
        (variable,) = data[group].data_vars.values()
        assert variable.dims == ("chain", "draw", "rows")
    stats = data.sample_stats.attrs
    assert (stats["elbo"], stats["converged"], stats["pareto_k"]) == (-10.0, 1, -np.inf)


def test_what_the_model_lacks_is_left_out(tmp_path: Any) -> None:
    data = fitted(standard({"x": real(2)}, lambda z: Normal(0.0, 1.0).log_prob(z.x).sum())).to_arviz(50)
    assert set(data.groups()) == {"posterior", "sample_stats"}
    assert data.posterior["x"].shape == (1, 50, 2)
    exact_fit().save(tmp_path)
    assert set(load_fit(tmp_path, conjugate_normal()).to_arviz(50).groups()) == {"posterior", "prior"}


def test_inputs_and_outcomes_are_told_apart_by_the_simulator() -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)
    model = Model(
        {"b": real()},
        lambda z, d: {"prior": -0.5 * z.b**2, "y": Normal(z.b * d.x, 1.0).log_prob(d.y)},
        plates={"rows": 6},
        simulate=lambda z, d, g: {"y": torch.normal(z.b * d.x, 1.0, generator=g)},
    )
    data = fitted(model, {"x": x, "y": Y}).to_arviz(20)
    assert list(data.observed_data.data_vars) == ["y"]
    assert list(data.constant_data.data_vars) == ["x"]


def test_leave_one_out_is_that_of_the_conjugate_model() -> None:
    data = exact_fit().to_arviz(4_000)
    exact = 0.0
    for row in range(len(Y)):
        mean, sd = exact_posterior(torch.cat([Y[:row], Y[row + 1 :]]))
        exact += float(Normal(mean, (1 + sd**2) ** 0.5).log_prob(Y[row]))
    assert float(az.loo(data).elpd_loo) == pytest.approx(exact, abs=0.05)


def test_models_can_be_compared() -> None:
    flat = Model(
        {"mu": real()},
        lambda z, d: {
            "prior": Normal(0.0, 1.0).log_prob(z.mu),
            "likelihood": Normal(4.0 + 0 * z.mu, 1.0).log_prob(d.y),
        },
        plates={"rows": len(Y)},
    )
    table = az.compare({"right": exact_fit().to_arviz(), "wrong": fitted(flat, {"y": Y}).to_arviz()})
    assert list(table.index) == ["right", "wrong"]


@pytest.mark.filterwarnings("ignore")
def test_its_summary_and_plots_run() -> None:
    data = exact_fit().to_arviz(400)
    mean, sd = exact_posterior()
    table = az.summary(data)
    assert float(table.loc["mu", "mean"]) == pytest.approx(mean, abs=5 * sd / 20)
    for plot in (az.plot_trace, az.plot_forest, az.plot_posterior):
        assert plot(data) is not None
    assert az.plot_ppc(data, num_pp_samples=5) is not None
    joint = fitted(standard({"x": real(2)}, lambda z: Normal(0.0, 1.0).log_prob(z.x).sum())).to_arviz(100)
    assert az.plot_pair(joint) is not None
    mpl.pyplot.close("all")


def test_without_arviz_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'jensen\[arviz\]'"):
        exact_fit().to_arviz()


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        exact_fit().to_arviz(0)


def test_reweighted_draws_give_leave_one_out_of_the_posterior() -> None:
    mean, sd = exact_posterior()
    result = fitted(conjugate_normal(), {"y": Y}, centre={"mu": mean - 0.5 * sd}, scale={"mu": 1.1 * sd})
    n = 20_000
    precision = len(Y) - 1 + PRIOR_SD**-2  # of the posterior without row i
    others = (Y.sum() - Y) / precision
    exact = float(Normal(others, (1 + 1 / precision) ** 0.5).log_prob(Y).sum())
    data = result.to_arviz(n, seed=3, reweighted=True)
    assert float(az.loo(data).elpd_loo) == pytest.approx(exact, abs=0.05)
    assert abs(float(az.loo(result.to_arviz(n, seed=3)).elpd_loo) - exact) > 0.1  # q's own
    mu = torch.as_tensor(data.posterior["mu"].values[0])
    np.testing.assert_array_equal(mu.numpy(), result.sample(n, seed=3, reweighted=True)["mu"].numpy())
    np.testing.assert_allclose(data.sample_stats["log_q"].values[0], Normal(mean - 0.5 * sd, 1.1 * sd).log_prob(mu))


def test_draws_are_not_reweighted_where_that_would_mislead() -> None:
    result = fitted(conjugate_normal(), {"y": Y}, centre={"mu": 6.0}, scale={"mu": 0.05})
    with pytest.raises(ValueError, match="reweighted draws would mislead"):
        result.to_arviz(100, reweighted=True)
