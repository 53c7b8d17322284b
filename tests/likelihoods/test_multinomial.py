"""The multinomial likelihood, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multinomial
from torch import Tensor

from jensen.errors import ConfigError
from jensen.likelihoods import Multinomial, make_likelihood


def test_against_scipy() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 6, dtype=torch.float64)
    x = torch.poisson(torch.full((3, 6), 2.0, dtype=torch.float64))
    found = Multinomial()(logits).log_prob(x).sum(-1)
    p = logits.softmax(-1).numpy()
    expected = [
        [multinomial.logpmf(row, row.sum(), each / each.sum()) for row, each in zip(x.numpy(), q, strict=True)]
        for q in p
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_gradients() -> None:
    x = torch.tensor([[2.0, 0.0, 3.0, 1.0]], dtype=torch.float64)

    def value(logits: Tensor) -> Tensor:
        return Multinomial()(logits).log_prob(x).sum()

    torch.autograd.gradcheck(value, torch.randn(1, 4, dtype=torch.float64, requires_grad=True))


def test_moments_of_draws() -> None:
    torch.manual_seed(0)
    drawn = Multinomial()(torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]]))
    sample = drawn.sample((2_000,))
    assert sample.shape == (2_000, 2, 3)
    assert bool((sample.sum(-1) == drawn.length).all())
    torch.testing.assert_close(sample.mean(0), drawn.mean, atol=0.5, rtol=0)
    variance = drawn.length * drawn.probabilities * (1 - drawn.probabilities)
    torch.testing.assert_close(sample.var(0), variance, atol=1.5, rtol=0)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_outputs_are_finite(size: float) -> None:
    logits = torch.tensor([[size, 0.0, 0.0]], requires_grad=True)
    value = Multinomial()(logits).log_prob(torch.tensor([[100.0, 2.0, 0.0]])).sum()
    value.backward()
    assert bool(value.isfinite())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_an_empty_document_has_probability_one() -> None:
    assert float(Multinomial()(torch.randn(1, 5)).log_prob(torch.zeros(1, 5)).sum()) == 0.0


def test_what_are_no_counts_is_refused() -> None:
    likelihood = make_likelihood("multinomial", shape=(3,))
    for bad in (torch.tensor([[0.5, 0, 1]]), torch.tensor([[-1.0, 0, 1]])):
        with pytest.raises(ValueError, match="word counts should be"):
            likelihood(torch.zeros(1, 3)).log_prob(bad)
    with pytest.raises(ConfigError, match="not about values on levels"):
        likelihood.check_data(256, "none")


def test_an_encoder_sees_what_words_there_are() -> None:
    assert make_likelihood("multinomial", shape=(3,)).features() is not None
    assert make_likelihood("multinomial").features() is None
