"""What each metric learns from and what it scores, what its seed decides, and which factors it takes as discrete."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from jensen.metrics.disentanglement import (
    Score,
    beta_vae_score,
    dci,
    evaluate_disentanglement,
    explicitness,
    factor_vae_score,
    irs,
    mig,
    modularity,
    sap,
)
from jensen.metrics.disentanglement.evaluation import METRICS
from jensen.metrics.disentanglement.labelled import Labelled, split

Floats = npt.NDArray[np.float64]
Metric = Callable[..., Score]

MODULES = {beta_vae_score: "beta_vae", factor_vae_score: "factor_vae", dci: "dci", sap: "sap"} | {
    explicitness: "modularity_explicitness"
}
# Of few examples a point, so that they are not all right.
UNSURE: list[Metric] = [partial(beta_vae_score, pairs=2), partial(factor_vae_score, group=3)]
ALL: list[Metric] = [*UNSURE, dci, sap, explicitness, mig, modularity, irs]


def replace_split(monkeypatch: pytest.MonkeyPatch, metric: Metric, new: Callable[..., object]) -> None:
    metric = metric.func if isinstance(metric, partial) else metric
    module = importlib.import_module(f"jensen.metrics.disentanglement.{MODULES[metric]}")
    monkeypatch.setattr(module, "split", new)


def two(n: int = 3000) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Two yes-or-no factors, each with a code that tells it without doubt."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=(n, 2))
    return y + 0.05 * rng.normal(size=y.shape), y


def share_right(found: Score) -> Floats:
    """Of each factor by its own code: accuracy, or what it is an estimate of."""
    details = found.details
    if "predictability" in details:
        return np.diag(details["predictability"])
    return np.asarray(details.get("informativeness_per_factor", details.get("per_factor")))


@pytest.mark.parametrize("metric", [dci, explicitness, sap, partial(sap, classifier="svm")])
def test_learned_from_two_thirds_and_scored_on_the_others(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three in ten of the labels held out are wrong: so many mistakes has who learned from the others, and nobody else.

    Who learned from those held out would still learn what is right, and make no mistake on the others.
    """

    def spoilt(data: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
        known, held = split(data, rng)
        wrong = (np.random.default_rng(1).permutation(len(held)) < 0.3 * len(held))[:, None]
        classes = np.where(wrong, 1 - held.classes, held.classes)
        return known, Labelled(held.codes, classes.astype(float), classes, held.discrete)

    z, y = two()
    assert share_right(metric(z, y)) == pytest.approx([1.0, 1.0], abs=0.005)
    replace_split(monkeypatch, metric, spoilt)
    assert share_right(metric(z, y)) == pytest.approx([0.7, 0.7], abs=0.02)


@pytest.mark.parametrize("metric", [beta_vae_score, factor_vae_score])
def test_votes_come_from_two_thirds_and_are_scored_on_the_others(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes held out are noise: all that was learned is right, and of no use there."""

    def spoilt(data: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
        known, held = split(data, rng)
        noise = np.random.default_rng(1).normal(size=held.codes.shape)
        return known, Labelled(noise, held.values, held.classes, held.discrete)

    z, y = two()
    assert metric(z, y).value > 0.99
    replace_split(monkeypatch, metric, spoilt)
    found = metric(z, y)
    assert found.details["train_accuracy"] > 0.99
    assert found.value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("metric", list(MODULES))
def test_the_seed_divides_the_examples(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Floats] = []

    def spy(data: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
        parts = split(data, rng)
        seen.append(np.sort(parts[0].codes[:, 0]))
        return parts

    replace_split(monkeypatch, metric, spy)
    z, y = two(300)
    for seed in (0, 0, 1):
        metric(z, y, seed=seed)
    assert (seen[0] == seen[1]).all()
    both = np.isin(seen[2], seen[0]).mean()
    assert both == pytest.approx(2 / 3, abs=0.12)  # as many as two independent choices have in common


@pytest.mark.parametrize("metric", [*UNSURE, dci])
def test_the_seed_is_of_all_that_is_drawn_after_the_division(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_split(monkeypatch, metric, lambda data, rng: split(data, np.random.default_rng(0)))
    rng = np.random.default_rng(2)
    y = rng.integers(4, size=(1000, 2))
    z = y @ np.array([[1.0, 0.5], [0.3, 1.0]]) + rng.normal(size=y.shape)
    assert metric(z, y, seed=1).value == metric(z, y, seed=1).value
    assert len({metric(z, y, seed=seed).value for seed in range(3)}) == 3


@pytest.mark.parametrize("metric", ALL)
def test_discrete_decides_against_the_type(metric: Metric) -> None:
    """Of 30 values whole numbers are discrete and real ones continuous, unless it is said otherwise."""
    rng = np.random.default_rng(3)
    y = rng.integers(30, size=(1500, 2))
    z = y @ np.array([[1.0, 0.5], [0.3, 1.0]]) + 5 * rng.normal(size=y.shape)
    whole, real = metric(z, y), metric(z, y.astype(float))
    assert whole.value != real.value
    assert metric(z, y, discrete=[False, False]).value == real.value
    assert metric(z, y.astype(float), discrete=[True, True]).value == whole.value
    one = metric(z, y, discrete=[True, False]).value
    assert one not in (whole.value, real.value)
    assert one != metric(z, y, discrete=[False, True]).value


def test_all_at_once_are_each_with_that_seed_and_those_kinds() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(30, size=(1500, 2))
    z = y @ np.array([[1.0, 0.5], [0.3, 1.0]]) + 5 * rng.normal(size=y.shape)
    kinds = [True, False]
    found = evaluate_disentanglement(z, y, seed=5, discrete=kinds)
    assert found.scores.keys() == METRICS.keys()
    for name, (metric, _, _) in METRICS.items():
        assert found.scores[name].value == metric(z, y, seed=5, discrete=kinds).value, name
    information = mig(z, y, discrete=kinds).details
    assert (found.mutual_information == information["mutual_information"]).all()
    assert (found.entropy == information["entropy"]).all()
    assert found.entropy[1] < np.log(20) < found.entropy[0]
