"""Every metric on representations whose score theory tells: identity, nothing, duplicates, rotations, noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from jensen.metrics.disentanglement import (
    Score,
    beta_vae_score,
    dci,
    explicitness,
    factor_vae_score,
    irs,
    mig,
    modularity,
    sap,
)

Metric = Callable[..., Score]
Floats = npt.NDArray[np.float64]

ALL: list[Metric] = [mig, sap, dci, modularity, explicitness, irs, beta_vae_score, factor_vae_score]
GAPS: list[Metric] = [mig, sap, dci]


def ten_factors(n: int = 3000, seed: int = 0) -> npt.NDArray[np.int64]:
    """Ten independent factors of ten values each."""
    return np.random.default_rng(seed).integers(1, 11, size=(n, 10))


def mixed(n: int = 3000, noise: float = 0.1) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Three factors, four codes that mix them somewhat, of different sizes."""
    rng = np.random.default_rng(1)
    y = np.stack([rng.integers(k, size=n) for k in (3, 5, 8)], 1)
    mixing = np.array([[1.0, 0.3, 0.0, 0.5], [0.0, 2.0, 0.4, 0.0], [0.2, 0.0, 1.5, 0.1]])
    return (y / y.max(0)) @ mixing + noise * rng.normal(size=(n, 4)), y


@pytest.mark.parametrize("metric", ALL)
def test_identity_scores_high(metric: Metric) -> None:
    y = ten_factors()
    # SAP of discrete factors cannot be more than 1 - 1/10: a code that knows nothing has the accuracy of chance.
    least = {sap: 0.85, dci: 0.99, irs: 1.0 - 1e-12, factor_vae_score: 1.0}.get(metric, 0.9)
    assert metric(y.astype(float), y).value >= least


def test_identity_of_continuous_factors() -> None:
    y = np.random.default_rng(0).uniform(size=(3000, 10))
    assert sap(y, y).value > 0.99
    assert mig(y, y).value > 0.9
    assert factor_vae_score(y, y).value == 1.0
    assert beta_vae_score(y, y).value > 0.98
    assert dci(y[:, :4], y[:, :4]).value > 0.98


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        (mig, 0, 0),
        (sap, 0, 0),
        (dci, 0, 0),
        (modularity, 0, 0),
        (irs, 0, 0),
        (factor_vae_score, 0, 0),
        (explicitness, 0.5, 0.5),
        (beta_vae_score, 0.05, 0.15),
    ],
)
def test_zeros_say_nothing(metric: Metric, low: float, high: float) -> None:
    assert low <= metric(np.zeros((3000, 10)), ten_factors()).value <= high


def test_duplicated_codes() -> None:
    """A gap between the best codes closes; each code still serves one factor."""
    y = ten_factors()
    z = np.hstack([y, y]).astype(float)
    assert mig(z, y).value == 0.0
    assert sap(z, y).value == 0.0
    assert sap(z, y, discrete=[False] * 10).value == pytest.approx(0.0, abs=1e-12)
    found = dci(z, y)
    assert found.value > 0.99
    assert found.details["completeness"] == pytest.approx(1 - math.log(2) / math.log(20), abs=0.04)
    assert modularity(z, y).value > 0.99
    assert irs(z, y).value == pytest.approx(1.0)
    assert factor_vae_score(z, y).value == 1.0
    assert beta_vae_score(z, y).value > 0.9


@pytest.mark.parametrize("metric", ALL)
def test_independent_codes_score_chance(metric: Metric) -> None:
    y = np.random.default_rng(2).integers(4, size=(6000, 4))
    z = np.random.default_rng(3).normal(size=(6000, 6))
    chance = {explicitness: 0.5, beta_vae_score: 0.25, factor_vae_score: 0.25}.get(metric, 0.0)
    if metric is modularity:
        assert modularity(z, y).details["of_informative_codes"] == 0.0
        assert modularity(z, y).value < 0.9  # noise in the counts is all that sets the factors apart
    else:
        assert metric(z, y).value == pytest.approx(chance, abs=0.06)


@pytest.mark.parametrize("metric", [*GAPS, modularity])
def test_a_rotation_by_45_degrees_takes_all(metric: Metric) -> None:
    y = np.random.default_rng(4).uniform(-1, 1, size=(4000, 2))
    turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2)
    assert metric(y, y).value > 0.9
    assert metric(y @ turn, y).value < 0.04


@pytest.mark.parametrize("degrees", [10, 20, 35])
def test_sap_of_any_rotation(degrees: int) -> None:
    """R^2 is cos^2 and sin^2 of the angle, so the gap is cos of twice the angle."""
    y = np.random.default_rng(5).uniform(-1, 1, size=(20_000, 2))
    angle = math.radians(degrees)
    z = y @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert sap(z, y).value == pytest.approx(math.cos(2 * angle), abs=0.01)


@pytest.mark.parametrize("metric", ALL)
def test_order_and_sign_of_codes_do_not_matter(metric: Metric) -> None:
    z, y = mixed()
    base, other = metric(z, y).value, metric(z[:, [2, 0, 3, 1]] * np.array([1.0, -1.0, -1.0, 1.0]), y).value
    # Trees break ties, and search codes, in an order of their own; logistic regression stops at a tolerance.
    tolerance = {dci: 0.02, beta_vae_score: 0.002, explicitness: 1e-4, sap: 0.01}.get(metric, 1e-9)
    assert other == pytest.approx(base, abs=tolerance)


@pytest.mark.parametrize("metric", [m for m in ALL if m is not irs])
def test_scale_and_place_of_codes_do_not_matter(metric: Metric) -> None:
    z, y = mixed()
    base, other = metric(z, y).value, metric(z * np.array([8.0, 32.0, 2.0, 16.0]) + 1.0, y).value
    assert other == pytest.approx(base, abs={dci: 0.01, beta_vae_score: 0.002, explicitness: 1e-4}.get(metric, 1e-9))


def test_scale_of_all_codes_does_not_matter_to_irs_but_of_one_does() -> None:
    z, y = mixed()
    assert irs(8 * z, y).value == pytest.approx(irs(z, y).value)
    found = irs(z * np.array([1000.0, 1.0, 1.0, 1.0]), y)
    assert found.value == pytest.approx(found.details["per_code"][0], abs=0.01)


@pytest.mark.parametrize("metric", ALL)
def test_the_order_of_factors_does_not_matter_much(metric: Metric) -> None:
    z, y = mixed()
    assert metric(z, y[:, ::-1]).value == pytest.approx(metric(z, y).value, abs=0.01)


@pytest.mark.parametrize("metric", [mig, modularity, explicitness, irs, beta_vae_score, factor_vae_score])
def test_discrete_factors_in_as_many_bins_are_the_same(metric: Metric) -> None:
    z, y = mixed()
    y = y[:, [1, 2]]
    assert metric(z, y / 8.0, discrete=[False, False]).value == pytest.approx(metric(z, y).value, abs=1e-9)


@pytest.mark.parametrize("metric", [m for m in ALL if m is not sap])
def test_fine_discrete_and_continuous_factors_score_alike(metric: Metric) -> None:
    """Positions on a grid of 20 against positions in between. (SAP asks of the one which class, of the other R^2.)"""
    rng = np.random.default_rng(6)
    y = rng.uniform(size=(6000, 3))
    z = y + 0.02 * rng.normal(size=y.shape)
    whole = np.floor(20 * y).astype(np.int64)
    assert metric(z, whole).value == pytest.approx(metric(z, y).value, abs=0.06)


@pytest.mark.parametrize("metric", ALL)
def test_seeds_reproduce(metric: Metric) -> None:
    z, y = mixed(noise=0.5)
    assert metric(z, y, seed=3).value == metric(z, y, seed=3).value
    if metric not in (mig, modularity, irs):
        assert metric(z, y, seed=3).value != metric(z, y, seed=4).value


@pytest.mark.parametrize("metric", ALL)
def test_the_global_generator_is_left_alone(metric: Metric) -> None:
    z, y = mixed(300)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]  # noqa: NPY002
    metric(z, y)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[arg-type]  # noqa: NPY002
