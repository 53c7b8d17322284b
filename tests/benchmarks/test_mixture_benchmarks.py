"""The mixture's benchmarks compare like with like: same numbers as the peers, and rows that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.conjugate_mixture import BayespySweeps, Case, SklearnSweeps, independent, ours
from benchmarks.mixture_growth import stream

from jensen.inference import evaluate
from jensen.inference.models.mixture_predictive import expected_covariances, expected_means

REFERENCES = Path(__file__).parents[1] / "references"


def elbo_of(sweeps: Any) -> float:
    return evaluate(sweeps.model, sweeps.state, sweeps.points).elbo


def test_bounds_and_moments_are_bayespys_after_every_sweep() -> None:
    stored = json.loads((REFERENCES / "mixture_bayespy.json").read_text(encoding="utf-8"))
    sweeps = independent(Case(*stored["case"]))
    assert elbo_of(sweeps) == pytest.approx(stored["elbo"][0], rel=1e-12)
    for expected in stored["elbo"][1:]:
        sweeps()
        assert elbo_of(sweeps) == pytest.approx(expected, rel=1e-12)
    q = sweeps.state.q
    np.testing.assert_allclose(q["means"].mean_parameters.mean.numpy(), stored["means"], rtol=1e-9)
    np.testing.assert_allclose(q["precisions"].mean_parameters.precision.numpy(), stored["precisions"], rtol=1e-9)


def test_bayespy_itself_where_it_is_installed() -> None:
    pytest.importorskip("bayespy")
    case = Case(60, 2, 3)
    mine, its = independent(case), BayespySweeps(case)
    for _ in range(2):
        mine()
        its()
        assert elbo_of(mine) == pytest.approx(float(its.q.L[its.q.iter - 1]), rel=1e-12)


@pytest.mark.parametrize("covariance", ["full", "tied"])
@pytest.mark.parametrize("cache", [False, True])
def test_sweeps_are_scikit_learns(covariance: Any, cache: bool) -> None:
    case = Case(300, 3, 4, covariance)
    mine, its = ours(case, cache=cache, count=4), SklearnSweeps(case)
    mine()
    for _ in range(4):
        its()
    components: Any = mine.state.q["components"]
    np.testing.assert_allclose(expected_means(covariance, components).numpy(), its.model.means_, rtol=1e-9, atol=1e-9)
    covariances = expected_covariances(covariance, components).numpy()
    np.testing.assert_allclose(covariances, its.model.covariances_, rtol=1e-9, atol=1e-9)


def test_a_stream_from_disk_finds_the_components(capsys: pytest.CaptureFixture[str]) -> None:
    stream(20_000, columns=2, components=4, batch=2_000)
    out = capsys.readouterr().out
    assert "batch    10/10" in out
    assert float(out.split("are at most ")[1].split()[0]) < 0.5
