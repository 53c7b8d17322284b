"""Gumbel-softmax codes against their softmax, and finite scalars against enumeration and a peer."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from jensen.nn.quantiser import FiniteScalarQuantiser, GumbelQuantiser


def test_codes_are_as_frequent_as_the_softmax_says() -> None:
    quantiser = GumbelQuantiser(5, 3, temperature=0.3).eval()
    features = 3 * torch.randn(1, 3, 2)
    draws = 40_000
    found = quantiser(features.expand(draws, -1, -1))
    assert found.log_q is not None
    logits = torch.einsum("kd,dp->pk", quantiser.logits.weight, features[0]) + quantiser.logits.bias
    expected = logits.softmax(-1)
    torch.testing.assert_close(found.log_q[0, 0].exp(), expected)
    counts = torch.stack([torch.bincount(found.codes[:, 0, place], minlength=5) for place in range(2)])
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_gradient_is_that_of_the_relaxation(temperature: float) -> None:
    quantiser = GumbelQuantiser(7, 3, temperature=temperature).double()
    features = torch.randn(4, 3, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, 3, 6, dtype=torch.float64)
    torch.manual_seed(2)
    found = quantiser(features)
    linear = [quantiser.logits.weight, quantiser.logits.bias]
    got = torch.autograd.grad((found.embedding * upstream).sum(), [features, *linear, quantiser.embedding])

    torch.manual_seed(2)
    noise = -torch.empty(4, 6, 7, dtype=torch.float64).exponential_().log()
    noisy = features.transpose(1, 2) @ quantiser.logits.weight.T + quantiser.logits.bias + noise
    assert torch.equal(found.codes[:, 0], noisy.argmax(-1))
    relaxed = (noisy / temperature).softmax(-1) @ quantiser.embedding.detach()
    expected = torch.autograd.grad((relaxed.transpose(1, 2) * upstream).sum(), [features, *linear])
    torch.testing.assert_close(got[:3], expected)
    drawn = torch.zeros(7, 3, dtype=torch.float64).index_add(
        0, found.codes.flatten(), upstream.transpose(1, 2).flatten(0, 1)
    )
    torch.testing.assert_close(got[3], drawn)


@pytest.mark.parametrize("values", [(2,), (3,), (8, 5), (2, 4, 3), (7, 6, 2)], ids=str)
def test_every_code_is_reached_and_inverted(values: tuple[int, ...]) -> None:
    quantiser = FiniteScalarQuantiser(values)
    assert quantiser.levels == torch.tensor(values).prod()
    embeddings = quantiser.embed(torch.arange(quantiser.levels)[None, None])
    # All combinations, the first number changing fastest.
    columns = [(torch.arange(n) - n // 2) / (n // 2) for n in reversed(values)]
    expected = torch.tensor(list(product(*(column.tolist() for column in columns)))).flip(1)
    torch.testing.assert_close(embeddings[0].T, expected)
    fine = torch.cartesian_prod(*[torch.linspace(-6, 6, 60)] * len(values)).view(-1, len(values)).T[None]
    found = quantiser(fine)
    assert torch.equal(found.codes.unique(), torch.arange(quantiser.levels))
    assert torch.equal(found.embedding, quantiser.embed(found.codes))


def test_every_value_of_many_is_a_code() -> None:
    """More values than the margin is made for, at features beyond all bounds."""
    quantiser = FiniteScalarQuantiser((3000, 5001))
    found = quantiser(torch.tensor([[-1e4, -20.0, 0.0, 20.0, 1e4]] * 2)[None])
    assert found.codes[0, 0].tolist() == [0, 0, 1500 + 3000 * 2500, 3000 * 5001 - 1, 3000 * 5001 - 1]


def test_gradient_is_that_of_the_bound() -> None:
    quantiser = FiniteScalarQuantiser((8, 5, 2)).double()
    features = torch.randn(1, 3, 20, dtype=torch.float64, requires_grad=True)
    got = torch.autograd.grad(quantiser(features).embedding.sum(), features)[0][0]
    half = torch.tensor([3.5, 2.0, 0.5], dtype=torch.float64)[:, None] * 1.001
    shift = torch.tensor([0.5 / half[0, 0], 0.0, 0.0], dtype=torch.float64).atanh()[:, None]
    slope = 1 - torch.tanh(features[0] + shift).square()
    torch.testing.assert_close(got, half * slope / torch.tensor([[4.0], [2.0], [1.0]]))


PLACES = torch.tensor(
    [
        [-3.0, -1.0, -0.3, 0.2],
        [0.0, 0.0, 0.0, 0.0],
        [0.4, 0.7, -0.6, 1.5],
        [3.0, 2.0, -2.0, -0.45],
        [-0.1, -0.2, 0.55, 0.1],
    ]
)


def test_against_recorded_numbers() -> None:
    """Of vector_quantize_pytorch 1.32: FSQ([8, 5, 6, 4]) at these places."""
    found = FiniteScalarQuantiser((8, 5, 6, 4))(PLACES.T[None])
    assert found.codes[0, 0].tolist() == [560, 620, 829, 279, 660]
    third = 1 / 3
    expected = [[-1, -1, -third, 0], [0, 0, 0, 0], [0.25, 0.5, -third, 0.5], [0.75, 1, -1, -0.5], [0, 0, third, 0]]
    torch.testing.assert_close(found.embedding[0].T, torch.tensor(expected))


def test_against_the_peer() -> None:
    peer = pytest.importorskip("vector_quantize_pytorch").FSQ([8, 5, 6, 4])
    features = 2 * torch.randn(4, 4, 50, requires_grad=True)
    found = FiniteScalarQuantiser((8, 5, 6, 4))(features)
    embedding, codes = peer(features.transpose(1, 2))
    assert torch.equal(found.codes[:, 0], codes.long())
    torch.testing.assert_close(found.embedding.transpose(1, 2), embedding)
    upstream = torch.randn_like(features)
    ours = torch.autograd.grad((found.embedding * upstream).sum(), features)[0]
    theirs = torch.autograd.grad((embedding * upstream.transpose(1, 2)).sum(), features)[0]
    torch.testing.assert_close(ours, theirs)
