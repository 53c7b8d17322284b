"""Unsupervised ranking: models that agree up to order and sign score highest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import ortho_group, spearmanr
from sklearn.linear_model import Lasso

from jensen.metrics.disentanglement import udr
from jensen.metrics.disentanglement.udr import relative_strength

Floats = npt.NDArray[np.float64]
HIGHEST = {"lasso": 0.9, "spearman": 1.0}  # the lasso's penalty of 0.1 shrinks a perfect coefficient by as much


def uncorrelated() -> Floats:
    """Every combination of five values of three codes: no sample correlation at all."""
    grid = np.stack(np.meshgrid(*[np.arange(-2.0, 3.0)] * 3), -1).reshape(-1, 3)
    return np.repeat(grid, 2, 0)


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_models_alike_up_to_order_and_sign_score_highest(method: str) -> None:
    z = uncorrelated()
    others = [z, -2 * z[:, [2, 0, 1]], z[:, [1, 0, 2]] * np.array([1.0, -3.0, 0.5]) + 4]
    scores = udr(others, [[1.0, 2.0, 0.5]] * 3, method=method)  # type: ignore[arg-type]
    assert [s.value for s in scores] == pytest.approx([HIGHEST[method]] * 3, abs=1e-6)
    assert np.isnan(scores[1].details["pairs"][1])


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_a_rotated_model_scores_lower(method: str) -> None:
    z = np.random.default_rng(0).normal(size=(2000, 4))
    turned = z @ ortho_group.rvs(4, random_state=1)
    scores = [s.value for s in udr([z, z[:, ::-1], -z, turned], [[1.0] * 4] * 4, method=method)]  # type: ignore[arg-type]
    assert min(scores[:3]) > HIGHEST[method] - 0.1
    assert scores[3] < 0.6


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_collapsed_codes_are_ignored(method: str) -> None:
    z, rng = uncorrelated(), np.random.default_rng(2)
    noisy = np.hstack([z[:, [1, 2, 0]], 1e-3 * rng.normal(size=(len(z), 2)), np.zeros((len(z), 1))])
    kl = [[1.0] * 3, [1.0, 1.0, 1.0, 0.001, 0.0, 5.0]]
    scores = udr([z, noisy], kl, method=method)  # type: ignore[arg-type]
    assert [s.value for s in scores] == pytest.approx([HIGHEST[method]] * 2, abs=1e-6)
    assert scores[1].details["informative"].tolist() == [True] * 3 + [False] * 3
    lenient = udr([z, noisy], kl, method=method, threshold=-1.0)  # type: ignore[arg-type]
    assert lenient[1].value < HIGHEST[method] - 0.1


def test_a_model_without_any_code_scores_nothing() -> None:
    z = uncorrelated()
    scores = udr([z, z, np.zeros_like(z)], [torch.ones(3), torch.ones(3), torch.zeros(3)])
    assert [s.value for s in scores] == pytest.approx([0.45, 0.45, 0.0])  # the median of 0.9 and 0


def test_unequal_numbers_of_codes() -> None:
    """Two of three codes found: (2 + 2) matches of 1 among 5 codes."""
    z = uncorrelated()
    scores = udr([z, z[:, :2]], [[1.0] * 3, [1.0] * 2], method="spearman")
    assert [s.value for s in scores] == pytest.approx([0.8, 0.8])


def test_relative_strength_by_hand() -> None:
    """Columns: 0.64/1, 0.36/0.6; rows: 0.64/0.8, 0.36/0.8."""
    similarity = np.array([[0.8, 0.0], [0.2, 0.6]])
    assert relative_strength(similarity) == pytest.approx((0.64 + 0.6 + 0.8 + 0.45) / 4)


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_the_definition_by_loops(method: str) -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(500, 4))
    models = [base @ (np.eye(4) + s * rng.normal(size=(4, 4))) for s in (0.0, 0.2, 0.5, 1.0)]
    scores = udr(models, [[1.0] * 4] * 4, method=method)  # type: ignore[arg-type]
    standard = [(z - z.mean(0)) / z.std(0) for z in models]
    for i in range(4):
        pairs = []
        for j in set(range(4)) - {i}:
            if method == "lasso":
                r = np.array([np.abs(Lasso(0.1).fit(standard[j], standard[i][:, b]).coef_) for b in range(4)]).T
            else:
                r = np.array(
                    [[abs(spearmanr(models[j][:, a], models[i][:, b])[0]) for b in range(4)] for a in range(4)]
                )
            columns = [max(r[:, b]) ** 2 / sum(r[:, b]) for b in range(4)]
            rows = [max(r[a]) ** 2 / sum(r[a]) for a in range(4)]
            pairs.append(sum(columns + rows) / 8)
        assert scores[i].value == pytest.approx(np.median(pairs), abs=1e-4)


def test_refusals() -> None:
    z = uncorrelated()
    with pytest.raises(ValueError, match="at least two"):
        udr([z], [[1.0] * 3])
    with pytest.raises(ValueError, match="same two or more examples"):
        udr([z, z[:5]], [[1.0] * 3] * 2)
    with pytest.raises(ValueError, match="model 1 has 3 codes"):
        udr([z, z], [[1.0] * 3, [1.0] * 2])
    with pytest.raises(ValueError, match=r"model 1: .* NaN"):
        udr([z, z * np.nan], [[1.0] * 3] * 2)
    with pytest.raises(ValueError, match="method"):
        udr([z, z], [[1.0] * 3] * 2, method="pearson")  # type: ignore[arg-type]
