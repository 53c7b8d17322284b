"""Splits: shares, strata, and sameness for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jensen.data.partition import official, permutation, random, uniform
from jensen.errors import ConfigError


def test_permutation_is_one_and_never_changes() -> None:
    assert sorted(permutation(1000)) == list(range(1000))
    # written down once: a saved run must find the same split in ten years
    assert permutation(10).tolist() == [9, 3, 0, 6, 8, 1, 2, 4, 7, 5]
    assert not np.array_equal(permutation(1000), permutation(1000, seed=1))


def test_uniform_is_uniform() -> None:
    u = np.sort(uniform(100_000, 3))
    assert u[0] >= 0.0
    assert u[-1] < 1.0
    # Kolmogorov's distance; 1.95 / sqrt(n) is passed with probability 0.999
    assert np.abs(u - np.linspace(0, 1, len(u))).max() < 1.95 / np.sqrt(len(u))


def test_random_splits_are_stratified() -> None:
    labels = np.repeat([0, 1, 2], [100, 300, 600])
    parts = random(1000, validation=0.1, labels=labels)
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [700, 100, 200]  # type: ignore[literal-required]
    assert np.bincount(labels[parts["train"]]).tolist() == [70, 210, 420]
    assert np.bincount(labels[parts["test"]]).tolist() == [20, 60, 120]
    whole = torch.cat([parts["train"], parts["valid"], parts["test"]])
    assert torch.equal(whole.sort().values, torch.arange(1000))
    # the first examples of a split are of mixed classes
    assert set(labels[parts["train"][:50]]) == {0, 1, 2}


def test_random_splits_without_labels() -> None:
    parts = random(50, validation=0.2, test=0.1)
    assert (len(parts["train"]), len(parts["valid"]), len(parts["test"])) == (35, 10, 5)
    again = random(50, validation=0.2, test=0.1)
    assert all(torch.equal(a, b) for a, b in zip(parts.values(), again.values(), strict=True))  # type: ignore[arg-type]


def test_official_splits() -> None:
    parts = official(60_000, 10_000, validation=1 / 6)
    assert torch.equal(parts["train"], torch.arange(50_000))
    assert torch.equal(parts["valid"], torch.arange(50_000, 60_000))
    assert torch.equal(parts["test"], torch.arange(60_000, 70_000))


def test_official_splits_shuffled() -> None:
    parts = official(600, 100, validation=0.1, shuffled=True)
    assert torch.equal(parts["test"], torch.arange(600, 700))
    assert torch.equal(torch.cat([parts["train"], parts["valid"]]).sort().values, torch.arange(600))
    assert len(parts["valid"]) == 60
    assert parts["valid"].min() < 300


@pytest.mark.parametrize("validation", [0.001, 0.85])
def test_empty_splits_are_refused(validation: float) -> None:
    with pytest.raises(ConfigError, match=r"data.validation.*leaves"):
        random(100, validation=validation)
    with pytest.raises(ConfigError, match=r"split (valid|train)"):
        official(10, 10, validation=0.001 if validation < 0.5 else 0.99)


@pytest.mark.parametrize(("count", "said"), [(1, "1 example in all"), (2, "2 examples in all")])
def test_fewer_examples_than_splits_are_refused_whatever_the_share(count: int, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}: at least 3 are needed"):
        random(count, validation=0.1)
