"""Values worked out by hand, in closed form, by enumeration, or by another library."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import entropy, norm
from sklearn.metrics import mutual_info_score, roc_auc_score

from jensen.metrics.disentanglement import (
    beta_vae_score,
    dci,
    explicitness,
    factor_vae_score,
    irs,
    mig,
    modularity,
    sap,
)
from jensen.metrics.disentanglement.dci import completeness, disentanglement
from jensen.metrics.disentanglement.groups import Groups
from jensen.metrics.disentanglement.labelled import equal_width_bins, labelled, split
from jensen.metrics.disentanglement.modularity_explicitness import area_under_curve, modularity_of
from jensen.metrics.disentanglement.mutual_information import entropies, independence_bias, mutual_information
from jensen.metrics.disentanglement.sap import best_intervals

CROSSED = np.array(list(itertools.product([0, 1], [0, 1], [0, 1])))  # every combination of three yes-or-no factors
LOG2 = math.log(2)


def test_mutual_information_and_entropy_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(20, size=(500, 3)), rng.integers(7, size=(500, 4))
    b[:, 0] = a[:, 1] // 3
    found = mutual_information(a, b)
    for d, f in itertools.product(range(3), range(4)):
        assert found[d, f] == pytest.approx(mutual_info_score(a[:, d], b[:, f]), abs=1e-12)
    assert entropies(b)[2] == pytest.approx(entropy(np.bincount(b[:, 2])))


def test_bins_are_those_of_a_histogram() -> None:
    z = np.random.default_rng(1).normal(size=(1000, 2))
    bins = equal_width_bins(z, 20)
    for d in range(2):
        counts, _ = np.histogram(z[:, d], 20)
        assert np.bincount(bins[:, d], minlength=20).tolist() == counts.tolist()
    assert equal_width_bins(np.ones((5, 1)), 20).max() == 0


def test_bias_of_independent_columns() -> None:
    rng = np.random.default_rng(2)
    runs = []
    for _ in range(200):
        a, b = rng.integers(10, size=(2000, 1)), rng.integers(6, size=(2000, 1))
        runs.append(mutual_information(a, b)[0, 0])
    assert np.mean(runs) == pytest.approx(independence_bias(a, b)[0, 0], rel=0.05)
    assert independence_bias(a, b)[0, 0] == pytest.approx(9 * 5 / 4000)


def test_mig_by_hand() -> None:
    """The first code is factor a, the second tells a and b: no gap for a, all for b."""
    a, b = CROSSED[:, 0], CROSSED[:, 1]
    found = mig(np.stack([a, 2 * a + b], 1).astype(float), np.stack([a, b], 1))
    assert found.details["mutual_information"] == pytest.approx(np.array([[LOG2, 0], [LOG2, LOG2]]), abs=1e-12)
    assert found.details["gaps"] == pytest.approx([0, 1], abs=1e-12)
    assert found.value == pytest.approx(0.5)
    unequal = np.stack([a, 2 * b + CROSSED[:, 2]], 1)  # log 2 and 2 log 2 nats, both known in full
    assert mig(unequal.astype(float), unequal).details["gaps"] == pytest.approx([1, 1])


def test_modularity_by_hand() -> None:
    """A code of two of three factors: 1 - (log 2)^2 / ((log 2)^2 2) = 1/2; a code of one: 1; of none: 0."""
    a, b, _ = CROSSED.T
    z = np.stack([2 * a + b, b, np.zeros(8)], 1).astype(float)
    found = modularity(z, CROSSED)
    assert found.details["per_code"] == pytest.approx([0.5, 1.0, 0.0])
    assert found.value == pytest.approx(0.5)
    assert modularity_of(np.array([[1.0, 2.0, 0.5, 0.0]])) == pytest.approx([1 - (1 + 0.25) / (4 * 3)])


def test_modularity_of_informative_codes_leaves_noise_out() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(5, size=(5000, 3))
    z = np.hstack([y + 0.1 * rng.normal(size=y.shape), rng.normal(size=(5000, 3))])
    found = modularity(z, y)
    assert found.details["informative"].tolist() == [True] * 3 + [False] * 3
    assert found.details["of_informative_codes"] > 0.99 > found.value


def test_a_code_that_knows_little_is_informative() -> None:
    """Some five times the bias of independent columns, (20 - 1)(5 - 1) / 10,000 nats, is more than noise makes."""
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=(5000, 3))
    z = np.hstack([y + 5 * rng.normal(size=y.shape), rng.normal(size=(5000, 2))])
    found = modularity(z, y)
    bias = 19 * 4 / 10_000
    most = found.details["mutual_information"].max(1)
    assert (4 * bias < most[:3]).all()
    assert (most[:3] < 9 * bias).all()
    assert found.details["informative"].tolist() == [True] * 3 + [False] * 2
    assert found.details["of_informative_codes"] == pytest.approx(found.details["per_code"][:3].mean())


def test_irs_by_hand() -> None:
    """z = a + b/10 is 0.55 from its mean at most, 0.05 where a is held and 0.5 where b is; the other code is 2 b."""
    a, b, _ = CROSSED.T
    found = irs(np.stack([a + b / 10, 2 * b, np.ones(8)], 1), np.stack([a, b], 1), quantile=1.0)
    expected = [[1 - 0.05 / 0.55, 1 - 0.5 / 0.55], [0, 1], [0, 0]]
    assert found.details["matrix"] == pytest.approx(np.array(expected), abs=1e-12)
    assert found.details["factor"].tolist() == [0, 1, -1]
    assert found.details["range"] == pytest.approx([0.55, 1, 0])
    assert found.value == pytest.approx(((1 - 0.05 / 0.55) * 0.55 + 1) / 1.55)


def test_irs_quantiles() -> None:
    """Of noise, a group moves as far as all do if both are measured alike, and less if only one is a maximum."""
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(10_000, 3)), rng.integers(4, size=(10_000, 2))
    assert irs(z, y).value < 0.05
    assert irs(z, y, range_quantile=1.0).value == pytest.approx(1 - norm.ppf(0.995) / 3.9, abs=0.06)


@pytest.mark.parametrize(("n", "values", "score"), [(10_000, 4, 0.006), (10_000, 40, 0.03), (1000, 40, 0.19)])
def test_irs_of_noise_by_group_size(n: int, values: int, score: float) -> None:
    """What the docstring says of ten codes and five factors, and that chance is the same number of another shuffle."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(n, 10)), rng.integers(values, size=(n, 5))
    found = irs(z, y)
    assert found.value == pytest.approx(score, rel=0.3)
    assert found.details["chance"] == pytest.approx(found.value, rel=0.25)
    assert found.details["chance"] != irs(z, y, seed=1).details["chance"]
    known = irs(y.astype(float), y)
    assert known.value == 1
    assert known.details["chance"] < 0.1


@pytest.mark.parametrize(
    ("matrix", "d", "c"),
    [
        (np.diag([5.0] * 5), 1, 1),
        (np.array([[1.0, 0], [0, 1], [0, 0]]), 1, 1),
        (np.zeros((10, 10)), 0, 0),
        (np.ones((4, 3)), 0, 0),
        (np.vstack([np.eye(5)] * 2), 1, 1 - math.log(2) / math.log(10)),
        (np.hstack([np.eye(5)] * 2), 1 - math.log(2) / math.log(10), 1),
        (np.array([[3.0, 1.0], [0.0, 4.0]]), 1 - 0.5 * entropy([3, 1]) / LOG2, 1 - 5 / 8 * entropy([1, 4]) / LOG2),
    ],
)
def test_dci_of_an_importance_matrix(matrix: np.ndarray, d: float, c: float) -> None:
    assert disentanglement(matrix)[0] == pytest.approx(d, abs=1e-12)
    assert completeness(matrix)[0] == pytest.approx(c, abs=1e-12)


def test_best_intervals_against_all_labellings() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        weights = rng.uniform(size=(6, 3))
        best = 0.0
        for labels in itertools.product(range(3), repeat=6):
            runs = 1 + sum(a != b for a, b in itertools.pairwise(labels))
            if runs <= 3:
                best = max(best, weights[range(6), labels].sum())
        found = best_intervals(weights)
        assert weights[range(6), found].sum() == pytest.approx(best)
        assert 1 + (np.diff(found) != 0).sum() <= 3


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1)])
def test_sap_of_two_gaussians(shares: tuple[float, float]) -> None:
    """A threshold between N(-1, 1) and N(1, 1) is right with probability Phi(1), however often each is seen."""
    rng = np.random.default_rng(6)
    y = rng.choice(2, p=shares, size=(40_000, 1))
    z = np.hstack([2.0 * y - 1 + rng.normal(size=y.shape), rng.normal(size=y.shape)])
    found = sap(z, y)
    assert found.details["predictability"][:, 0] == pytest.approx([norm.cdf(1), 0.5], abs=0.015)
    assert found.value == pytest.approx(norm.cdf(1) - 0.5, abs=0.02)


def test_sap_singles_out_a_class_in_the_middle() -> None:
    rng = np.random.default_rng(7)
    y = rng.permutation(3)[rng.integers(3, size=(20_000, 1))]
    z = np.hstack([np.array([-2.0, 0.0, 2.0])[y] + rng.normal(size=y.shape), np.zeros(y.shape)])
    right = (4 * norm.cdf(1) - 1) / 3
    assert sap(z, y).details["predictability"][:, 0] == pytest.approx([right, 1 / 3], abs=0.01)
    ten = rng.integers(10, size=(3000, 1))
    apart = ten * np.array([1.0, 0.0])
    assert sap(apart, ten).value == pytest.approx(0.9)
    assert sap(apart, ten, classifier="svm").value < 0.7


def test_areas_under_the_curve_are_scikit_learns() -> None:
    rng = np.random.default_rng(8)
    scores, truth = np.round(rng.normal(size=(200, 3)), 1), rng.integers(3, size=200)
    positive = truth[:, None] == np.arange(3)
    found = area_under_curve(scores, positive)
    assert found == pytest.approx([roc_auc_score(positive[:, k], scores[:, k]) for k in range(3)])
    assert np.isnan(area_under_curve(scores, np.ones((200, 3), dtype=bool))).all()


def test_explicitness_and_informativeness_of_two_gaussians() -> None:
    """Ranked right with probability Phi(sqrt 2), classified right with Phi(1)."""
    rng = np.random.default_rng(9)
    y = rng.integers(2, size=(20_000, 2))
    z = 2.0 * y - 1 + rng.normal(size=y.shape)
    assert explicitness(z, y).value == pytest.approx(norm.cdf(math.sqrt(2)), abs=0.01)
    assert dci(z, y).details["informativeness"] == pytest.approx(norm.cdf(1), abs=0.015)


def test_informativeness_of_a_continuous_factor() -> None:
    """R^2 is what the noise leaves: var y / (var y + var noise) for Gaussians; 0 for a factor that no code knows."""
    rng = np.random.default_rng(10)
    y = rng.normal(size=(20_000, 2))
    z = y[:, :1] + 0.5 * rng.normal(size=(20_000, 1))
    assert dci(z, y).details["informativeness_per_factor"] == pytest.approx([0.8, 0.0], abs=0.02)


def test_groups_share_the_value_that_they_should() -> None:
    rng = np.random.default_rng(11)
    classes = np.stack([rng.choice(4, p=[0.5, 0.3, 0.15, 0.05], size=400), np.r_[7, np.zeros(399, int)]], 1)
    groups = Groups(classes, "test")
    one, other = groups.pairs(0, 2000, 8, rng)
    assert (classes[one, 0] == classes[other, 0]).all()
    assert (one != other).all()
    shares = np.bincount(classes[one, 0].ravel()) / one.size
    assert shares == pytest.approx(np.bincount(classes[:, 0]) / 400, abs=0.02)
    third = np.flatnonzero(classes[:, 0] == 3)
    assert set(other[classes[one, 0] == 3]) == set(third)  # every other example of a value can be the partner
    alike = groups.alike(0, 2000, 8, rng)
    assert (classes[alike, 0] == classes[alike[:, :1], 0]).all()
    assert np.bincount(classes[alike[:, 0], 0]) / 2000 == pytest.approx(np.bincount(classes[:, 0]) / 400, abs=0.04)
    assert all(len(set(row)) == 8 for row in alike.tolist())
    small = Groups(np.repeat([[0], [1]], 10, 0), "test")
    calls = [small.alike(0, 50, 3, rng).tolist() for _ in range(30)]
    assert len({frozenset(row) for rows in calls for row in rows}) > 200  # of 240; runs of a fixed order are 20
    few = groups.alike(0, 200, 60, rng)
    assert {len(set(row)) for row in few[classes[few[:, 0], 0] == 3].tolist()} == {len(third)}
    assert 0 not in groups.alike(1, 500, 8, rng)  # the only example of its value
    drawn = list(groups.factor_of_each(1000, rng, 64))
    assert sorted(np.concatenate([which for _, which in drawn])) == list(range(1000))
    for f in range(2):
        assert sum(len(which) for factor, which in drawn if factor == f) == pytest.approx(500, abs=70)


def test_points_and_votes_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    y = rng.integers(3, size=(300, 2))
    z = y + 0.01 * rng.normal(size=y.shape)
    monkeypatch.setattr("jensen.metrics.disentanglement.groups.AT_ONCE", 64)
    assert factor_vae_score(z, y, train=100, evaluation=50).value == 1.0
    assert beta_vae_score(z, y, train=100, evaluation=50).value > 0.9


def test_collapsed_codes_do_not_vote() -> None:
    """A collapsed code that copies factor 0 in small takes no part; without its partner factor 0 goes by chance."""
    rng = np.random.default_rng(13)
    y = rng.integers(5, size=(3000, 2))
    z = np.stack([0.01 * y[:, 0], y[:, 1]], 1).astype(float)
    found = factor_vae_score(z, y)
    assert found.details["active"].tolist() == [False, True]
    assert found.details["majority"][0] == -1
    assert found.value == pytest.approx(0.5, abs=0.03)
    assert factor_vae_score(z, y, threshold=0.0).value == 1.0
    assert factor_vae_score(z, y, active=[True, True]).value == 1.0
    assert factor_vae_score(z, y, active=[False, False]).value == 0.0


def test_beta_vae_score_is_lenient() -> None:
    """What a rotation hides from a gap, a linear classifier still tells from three codes of two mixed factors."""
    rng = np.random.default_rng(14)
    y = rng.uniform(-1, 1, size=(6000, 2))
    z = y @ np.array([[1.0, 0.7], [0.0, 0.7]])
    found = beta_vae_score(z, y)
    assert found.value > 0.95
    assert found.details["confusion"].sum(1) == pytest.approx([1, 1])
    assert np.trace(found.details["confusion"]) / 2 == pytest.approx(found.value, abs=0.01)
    assert beta_vae_score(1e-4 * z, y).value == pytest.approx(found.value, abs=0.002)


def test_what_is_learned_from_is_not_scored() -> None:
    y = np.stack([np.arange(90) % 3, np.arange(90) % 2], 1)
    data = labelled(np.arange(90.0)[:, None], y, metric="test")
    known, held_out = split(data, np.random.default_rng(15))
    assert (len(known), len(held_out)) == (60, 30)
    assert sorted([*known.codes[:, 0], *held_out.codes[:, 0]]) == list(range(90))
    for part in (known, held_out):
        assert (part.classes == np.stack([part.codes[:, 0] % 3, part.codes[:, 0] % 2], 1)).all()
        assert (part.values == part.classes).all()
        assert part.codes[:, 0].mean() == pytest.approx(44.5, abs=12)  # not the first or last of what is in order
