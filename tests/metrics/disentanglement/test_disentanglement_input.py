"""What the metrics take, and what they refuse with a hint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

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
from jensen.metrics.disentanglement.labelled import labelled

ALL: list[Callable[..., Score]] = [mig, sap, dci, modularity, explicitness, irs, beta_vae_score, factor_vae_score]
Z = np.random.default_rng(0).normal(size=(200, 3))
Y = np.random.default_rng(1).integers(4, size=(200, 2))


@pytest.mark.parametrize("metric", ALL)
def test_tensors_and_arrays_are_the_same(metric: Callable[..., Score]) -> None:
    z = torch.from_numpy(Z).float()
    assert metric(z, torch.from_numpy(Y)).value == metric(z.numpy(), Y).value
    assert metric(z.bfloat16(), torch.from_numpy(Y)).value == metric(z.bfloat16().float(), Y).value


@pytest.mark.parametrize("metric", ALL)
def test_bad_input_is_refused(metric: Callable[..., Score]) -> None:
    nan = Z.copy()
    nan[3:5, 1] = np.nan
    with pytest.raises(ValueError, match="2 of 200 codes hold NaN"):
        metric(nan, Y)
    with pytest.raises(ValueError, match=r"factors should be .* 200 examples"):
        metric(Z, Y[:100])
    with pytest.raises(ValueError, match="codes should be"):
        metric(Z[:, 0], Y)
    with pytest.raises(ValueError, match=r"factors \[1\] do not vary"):
        metric(Z, np.stack([Y[:, 0], np.ones(200, int)], 1))
    with pytest.raises(ValueError, match="factors hold NaN"):
        metric(Z, np.where(Y == 2, np.nan, Y))
    with pytest.raises(ValueError, match="discrete should have one entry"):
        metric(Z, Y, discrete=[True])
    with pytest.raises(ValueError, match="200 values in 200 examples"):
        metric(Z, np.stack([Y[:, 0], np.arange(200)], 1))
    with pytest.raises(ValueError, match=r"needs at least \d+ examples|do not vary"):
        metric(Z[:1], Y[:1])


@pytest.mark.parametrize("metric", [dci, modularity, beta_vae_score, factor_vae_score])
def test_one_factor_is_refused_where_two_are_compared(metric: Callable[..., Score]) -> None:
    with pytest.raises(ValueError, match="at least 2 factors"):
        metric(Z, Y[:, :1])


@pytest.mark.parametrize("metric", [mig, sap])
def test_one_code_is_refused_where_two_are_compared(metric: Callable[..., Score]) -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        metric(Z[:, :1], Y)


def test_values_that_nobody_shares_are_refused() -> None:
    y = np.stack([Y[:, 0], np.arange(200)], 1).astype(float)
    for metric in (beta_vae_score, factor_vae_score):
        with pytest.raises(ValueError, match=r"no two of .* share a value of factor 1"):
            metric(Z, y, bins=10**6)


def test_knobs_out_of_range() -> None:
    with pytest.raises(ValueError, match="bins"):
        mig(Z, Y, bins=1)
    with pytest.raises(ValueError, match="trees"):
        dci(Z, Y, trees=0)
    with pytest.raises(ValueError, match="leaf"):
        dci(Z, Y, leaf=0.9)
    with pytest.raises(ValueError, match="classifier"):
        sap(Z, Y, classifier="tree")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantiles"):
        irs(Z, Y, quantile=0)
    with pytest.raises(ValueError, match="pairs"):
        beta_vae_score(Z, Y, pairs=0)
    with pytest.raises(ValueError, match="of one factor"):
        beta_vae_score(Z, Y, train=1)
    with pytest.raises(ValueError, match="group"):
        factor_vae_score(Z, Y, group=1)
    with pytest.raises(ValueError, match="active should have 3"):
        factor_vae_score(Z, Y, active=[True])
    with pytest.raises(ValueError, match="almost all"):
        explicitness(Z, np.eye(200, dtype=int)[:, :1])


def test_which_factors_count_as_discrete() -> None:
    rng = np.random.default_rng(2)
    grid, real = rng.integers(20, size=1000) / 7.0, rng.uniform(size=1000)
    found = labelled(rng.normal(size=(1000, 1)), np.stack([grid, real], 1), metric="test")
    assert found.discrete.tolist() == [True, False]
    assert found.classes.max(0).tolist() == [19, 19]
    assert np.unique(grid)[found.classes[:, 0]] == pytest.approx(grid)
    assert found.values[:, 1].tolist() == real.tolist()
    whole = labelled(rng.normal(size=(1000, 1)), rng.integers(-40, 40, size=(1000, 1)), metric="test")
    assert whole.discrete.tolist() == [True]
    assert whole.classes.max() == 79
    told = labelled(
        rng.normal(size=(1000, 1)), np.stack([grid, grid], 1), metric="test", discrete=[True, False], bins=4
    )
    assert told.classes.max(0).tolist() == [19, 3]


def test_knobs_move_the_scores() -> None:
    rng = np.random.default_rng(3)
    y = rng.uniform(size=(2000, 2))
    z = y @ np.array([[1.0, 0.3, 0.0], [0.4, 1.0, 0.2]]) + 0.2 * rng.normal(size=(2000, 3))
    for metric, knob, value in [
        (mig, "bins", 5),
        (modularity, "bins", 5),
        (explicitness, "bins", 5),
        (irs, "bins", 5),
        (irs, "quantile", 0.9),
        (irs, "range_quantile", 1.0),
        (sap, "discrete", [True, False]),
        (dci, "trees", 5),
        (dci, "leaf", 0.0),
        (beta_vae_score, "pairs", 4),
        (beta_vae_score, "train", 200),
        (beta_vae_score, "evaluation", 200),
        (beta_vae_score, "bins", 3),
        (factor_vae_score, "group", 4),
        (factor_vae_score, "bins", 3),
        (factor_vae_score, "threshold", 0.3),
        (factor_vae_score, "evaluation", 200),
    ]:
        factors = np.floor(5 * y) if knob == "discrete" else y
        base = {"discrete": [False, False]} if knob == "discrete" else {}
        assert metric(z, factors, **base).value != metric(z, factors, **{knob: value}).value, (metric, knob)
    base, other = factor_vae_score(z, y), factor_vae_score(z, y, train=200)
    assert (base.details["votes"].sum(), other.details["votes"].sum()) == (10_000, 200)
