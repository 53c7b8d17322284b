"""A point mass against the limit of categorical distributions, and what its divergence costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Poisson, kl_divergence

from jensen.autoencoders.point_mass import PointMass
from jensen.bound import Level
from jensen.likelihoods import Autoregressive
from jensen.nn.autoregressive.base import AutoregressiveNet

VALUE = torch.tensor([[0, 2, 1], [2, 2, 0]])


def test_it_is_the_categorical_distribution_of_one_value() -> None:
    certain = Categorical(logits=torch.nn.functional.one_hot(VALUE, 3) * 80.0)
    q = PointMass(VALUE)
    every = torch.arange(3)[:, None, None].expand(3, 2, 3)
    torch.testing.assert_close(q.log_prob(every).exp(), certain.log_prob(every).exp())
    assert torch.equal(q.log_prob(VALUE), torch.zeros(2, 3))
    assert bool(q.log_prob((VALUE + 1) % 3).isneginf().all())
    torch.testing.assert_close(q.entropy(), certain.entropy())
    torch.testing.assert_close(q.variance, torch.zeros(2, 3))
    assert torch.equal(q.mean, VALUE)
    assert torch.equal(q.mode, certain.mode)
    p = Categorical(logits=torch.randn(2, 3, 3))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(certain, p))


def test_draws_are_the_value() -> None:
    q = PointMass(VALUE)
    assert torch.equal(q.sample(), VALUE)
    assert torch.equal(q.rsample((4, 5)), VALUE.expand(4, 5, 2, 3))
    assert torch.equal(q.expand((7, 2, 3)).sample(), VALUE.expand(7, 2, 3))


@pytest.mark.parametrize("p", [Categorical(torch.tensor([0.2, 0.3, 0.5])), Poisson(torch.tensor(1.7))])
def test_divergence_is_the_length_of_the_message(p: torch.distributions.Distribution) -> None:
    torch.testing.assert_close(kl_divergence(PointMass(VALUE), p), -p.log_prob(VALUE))
    torch.testing.assert_close(kl_divergence(PointMass(VALUE), PointMass(VALUE)), torch.zeros(2, 3))
    assert kl_divergence(PointMass(torch.tensor(1)), PointMass(torch.tensor(2))).item() == math.inf


class Sticky(AutoregressiveNet[None]):
    """p(next = last) = 0.7, the other value 0.3; the first is uniform."""

    shape, levels = (1, 3), 2

    def forward(self, values: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        last = torch.nn.functional.one_hot(values[..., :-1], 2) * math.log(0.7 / 0.3)
        return torch.cat([torch.zeros(len(values), 1, 1, 2), last.float()], 2)

    def begin(self, batch: int, context: torch.Tensor | None = None) -> None:
        """Nothing has to be kept: no draw is made here."""

    def logits(self, state: None) -> torch.Tensor:
        return torch.zeros(1, 2)

    def feed(self, state: None, value: torch.Tensor) -> None:
        """As `begin`."""


def test_a_level_with_an_autoregressive_prior_costs_what_its_factors_say() -> None:
    codes = torch.tensor([[[[0, 0, 1]], [[1, 1, 1]]]])  # (1 sample, 2 data, 1 book, 3 places)
    level = Level(codes, PointMass(codes), Autoregressive(Sticky(), None, (1, 2)))
    expected = torch.tensor([[0.5, 0.7, 0.3], [0.5, 0.7, 0.7]]).log()
    torch.testing.assert_close(level.kl(), -expected[None, :, None])
    torch.testing.assert_close(level.kl(analytic=False), level.kl())
