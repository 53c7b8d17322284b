"""The categorical likelihood against torch.distributions, and levels against the integers that they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical

from jensen.likelihoods import Categorical, CategoricalOnLevels
from jensen.likelihoods.levels import OnLevels, level_values, levels_of


def logits_of(*shape: int) -> Tensor:
    return 2 * torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -2, -4])
def test_against_torch_wherever_the_levels_are(dim: int) -> None:
    last = logits_of(2, 3, 4, 7)
    expected = TorchCategorical(logits=last)
    found = CategoricalOnLevels(last.movedim(-1, dim), dim)
    assert found.batch_shape == (2, 3, 4)
    steps = torch.arange(7, dtype=torch.float64)
    torch.testing.assert_close(found.mean, expected.probs @ steps / 6)
    torch.testing.assert_close(found.mode, expected.mode.double() / 6)
    # a value for each, one for many, and many for each
    for shape in ((2, 3, 4), (3, 4), (1, 4), (), (5, 2, 3, 4), (5, 1, 1, 1)):
        index = torch.randint(7, shape)
        torch.testing.assert_close(found.log_prob(index.double() / 6), expected.log_prob(index))


def test_gradients_are_those_of_torch_and_of_finite_differences() -> None:
    index = torch.randint(5, (1, 3, 4))
    for dim in (-1, -3):
        logits = logits_of(2, 3, 4, 5).movedim(-1, dim).requires_grad_()
        weight = torch.randn(2, 3, 4, dtype=torch.float64)
        ours = (CategoricalOnLevels(logits, dim).log_prob(index / 4) * weight).sum()
        theirs = (TorchCategorical(logits=logits.movedim(dim, -1)).log_prob(index) * weight).sum()
        torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))
        assert torch.autograd.gradcheck(
            lambda logits, dim=dim: CategoricalOnLevels(logits, dim).log_prob(index / 4), logits
        )


def test_the_planes_of_a_decoder_are_not_copied() -> None:
    likelihood = Categorical(256)
    assert likelihood.channels == 256
    planes = torch.randn(2, 5, 256 * 3, 4, 4)
    distribution = likelihood.of_planes(planes, (3, 4, 4))
    assert distribution.logits.data_ptr() == planes.data_ptr()
    index = torch.randint(256, (1, 5, 3, 4, 4))
    # the K logits of a value stand 3 planes apart: level first, then the datum's channel
    expected = TorchCategorical(logits=planes.view(2, 5, 256, 3, 4, 4).movedim(2, -1)).log_prob(index)
    torch.testing.assert_close(distribution.log_prob(index / 255), expected)
    one_by_one = likelihood(*planes.view(2, 5, 256, 3, 4, 4).unbind(2))
    torch.testing.assert_close(one_by_one.log_prob(index / 255), expected)


@pytest.mark.parametrize("dim", [-1, -2])
def test_frequencies_of_draws(dim: int) -> None:
    logits = logits_of(3, 9)
    distribution = CategoricalOnLevels(logits.movedim(-1, dim), dim)
    draws = distribution.sample((2, 10_000))
    assert draws.shape == (2, 10_000, 3)
    index = (draws.flatten(0, 1) * 8).round().long()
    for i in range(3):
        expected = (20_000 * logits[i].softmax(-1)).numpy()
        counts = torch.bincount(index[:, i], minlength=9).numpy()
        rare = expected < 5
        counts, expected = (np.append(v[~rare], v[rare].sum() + 1e-9) for v in (counts, expected))
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
    assert distribution.sample().shape == (3,)


def test_equal_logits_cost_log_k() -> None:
    for levels in (2, 256):
        log_prob = CategoricalOnLevels(torch.zeros(4, levels)).log_prob(torch.randint(levels, (4,)) / (levels - 1))
        torch.testing.assert_close(log_prob, torch.full((4,), -math.log(levels)))


@pytest.mark.parametrize("levels", [2, 3, 256, 65_536])
def test_levels_there_and_back(levels: int) -> None:
    index = torch.arange(levels)
    values = level_values(index, levels, torch.float32)
    assert values[[0, -1]].tolist() == [0.0, 1.0]
    assert torch.equal(levels_of(values, levels), index)
    assert bool(OnLevels(levels).check(values).all())
    between = (values[:-1] + values[1:]) / 2
    assert not bool(OnLevels(levels).check(between).any())
    for wrong in (between[0], torch.tensor(-1.0), torch.tensor(2.0), torch.tensor(math.nan)):
        with pytest.raises(ValueError, match=rf"k / {levels - 1} with k in 0 \.\. {levels - 1}, but one is"):
            levels_of(wrong, levels)


def test_values_between_levels_are_refused() -> None:
    distribution = Categorical(2)(torch.zeros(3), torch.zeros(3))
    assert distribution.support.is_discrete
    with pytest.raises(ValueError, match=r"k / 1 with k in 0 \.\. 1, but one is 0\.5"):
        distribution.log_prob(torch.tensor([0.0, 0.5, 1.0]))
