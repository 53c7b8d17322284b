"""Vector and residual quantisers: the article's formula, its gradient, and what it weighs."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jensen.nn.quantiser import ResidualQuantiser, VectorQuantiser
from jensen.nn.quantiser.nearest import assign, nearest


def by_distances(rows: Tensor, codebook: Tensor) -> Tensor:
    """All distances, the plain way."""
    return (rows[:, None] - codebook).square().sum(2).argmin(1)


@pytest.mark.parametrize("levels", [2, 63, 128, 129, 192, 1000])
@pytest.mark.parametrize("count", [1, 700])
def test_nearest_is_that_of_least_distance(levels: int, count: int) -> None:
    """Below 128 codes in one piece, above in groups of 64 that may not come out even."""
    rows, codebook = torch.randn(count, 5, dtype=torch.float64), torch.randn(levels, 5, dtype=torch.float64)
    assert torch.equal(nearest(rows, codebook), by_distances(rows, codebook))


@pytest.mark.parametrize("levels", [100, 300])
def test_of_equal_codes_the_first_is_taken(levels: int) -> None:
    codebook = torch.randint(0, 2, (levels, 3)).double()
    rows = torch.randint(0, 2, (50, 3)).double()
    assert torch.equal(nearest(rows, codebook), by_distances(rows, codebook))


@pytest.mark.parametrize("shape", [(3, 5, 40), (60, 5, 4), (2, 5, 1), (1, 5, 333)], ids=str)
@pytest.mark.parametrize("rows_first", [False, True])
def test_blocks_make_no_difference(
    shape: tuple[int, int, int], rows_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of whole examples and parts of one, tiles that do not come out even; statistics by one-hot products."""
    monkeypatch.setattr("jensen.nn.quantiser.nearest.VALUES_AT_ONCE", {"cpu": 5 * 17})
    monkeypatch.setattr("jensen.nn.quantiser.nearest.SCORES_AT_ONCE", {"cpu": 16 * 7})
    features = torch.randn(shape, dtype=torch.float64)
    if rows_first:
        features = features.transpose(1, 2).contiguous().transpose(1, 2)
    codebook = torch.randn(7, 5, dtype=torch.float64)
    found = assign(features, codebook, statistics=True)
    rows = features.transpose(1, 2).flatten(0, 1)
    codes = by_distances(rows, codebook)
    hot = F.one_hot(codes, 7).double()
    assert torch.equal(found.codes.flatten(), codes)
    assert torch.equal(found.embedding.transpose(1, 2).flatten(0, 1), codebook[codes])
    assert found.counts is not None
    assert found.sums is not None
    assert torch.equal(found.counts, hot.sum(0))
    torch.testing.assert_close(found.sums, hot.T @ rows)
    torch.testing.assert_close(found.commitment, (rows - codebook[codes]).square().sum())


def plain_vq(features: Tensor, codebook: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Embedding and penalties of features (batch, dim, places) by the formula, with autograd's stop-gradients."""
    rows = features.transpose(1, 2)
    embedding = codebook[by_distances(rows.detach().flatten(0, 1), codebook.detach())].view(rows.shape)
    batch = len(features)
    penalties = (rows.detach() - embedding).square().sum() / batch
    penalties = penalties + beta * (rows - embedding.detach()).square().sum() / batch
    return (rows + (embedding - rows).detach()).transpose(1, 2), penalties


def test_losses_and_gradients_are_those_of_the_formula() -> None:
    quantiser = VectorQuantiser(30, 4, codebook="loss", commitment=0.7, initial="random").double()
    features = torch.randn(6, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(features)
    found = quantiser(features)
    total = found.penalties["codebook"] + found.penalties["commitment"]
    got = torch.autograd.grad((found.embedding * upstream).sum() + 3 * total, [features, *quantiser.parameters()])
    codebook = quantiser.codebook.embedding
    flat = features.flatten(2)
    embedding, expected = plain_vq(flat, codebook, 0.7)
    wanted = torch.autograd.grad((embedding * upstream.flatten(2)).sum() + 3 * expected, [features, codebook])
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("codebook", ["ema", "loss"])
@pytest.mark.parametrize("kind", [VectorQuantiser, ResidualQuantiser])
def test_straight_through_gradient(
    kind: type[VectorQuantiser | ResidualQuantiser], codebook: Literal["ema", "loss"]
) -> None:
    """At the encoder's output exactly that at the decoder's input, plus that of the commitment."""
    quantiser = kind(30, 8, codebook=codebook)
    features = torch.randn(6, 8, 5, 5, requires_grad=True)
    decoder = torch.nn.Conv2d(8, 3, 3)
    found = quantiser(features)
    found.embedding.retain_grad()
    decoder(found.embedding).square().sum().backward(retain_graph=True)
    assert features.grad is not None
    assert found.embedding.grad is not None
    assert torch.equal(features.grad, found.embedding.grad)
    alone = torch.autograd.grad(found.penalties["commitment"], features, retain_graph=True)[0]
    both = decoder(found.embedding).square().sum() + found.penalties["commitment"]
    together = torch.autograd.grad(both, features)[0]
    assert (alone != 0).any()
    torch.testing.assert_close(together, features.grad + alone, rtol=1e-6, atol=1e-6)
    if kind is VectorQuantiser:
        torch.testing.assert_close(alone, 2 * 0.25 * (features - found.embedding) / 6)
        assert torch.equal(together, features.grad + alone)


def test_commitment_leaves_the_codebook_alone_and_the_codebook_loss_the_features() -> None:
    quantiser = VectorQuantiser(30, 8, codebook="loss")
    features = torch.randn(6, 8, 5, 5, requires_grad=True)
    codebook = quantiser.codebook.embedding
    penalties = quantiser(features).penalties
    for name, of, not_of in (("commitment", features, codebook), ("codebook", codebook, features)):
        own, other = torch.autograd.grad(penalties[name], [of, not_of], allow_unused=True, retain_graph=True)
        assert own is not None
        assert (own != 0).any()
        assert other is None


@pytest.mark.parametrize("cosine", [False, True])
def test_gradient_reaches_codes_and_features_through_projection_and_angle(cosine: bool) -> None:
    """Numerically: a step too small to change a code changes the embedding by the codebook's step alone."""
    quantiser = VectorQuantiser(9, 5, codebook="loss", cosine=cosine, projection=3).double().eval()
    features = torch.randn(4, 5, 6, dtype=torch.float64)

    def distance(embedding: Tensor) -> Tensor:
        values = torch.func.functional_call(quantiser, {"codebook.embedding": embedding}, (features,))
        return values.penalties["codebook"]

    embedding = quantiser.codebook.embedding.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(distance, [embedding], eps=1e-7, atol=1e-6)

    def commitment(z: Tensor) -> Tensor:
        return quantiser(z).penalties["commitment"]

    assert torch.autograd.gradcheck(commitment, [features.requires_grad_()], eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("side", [4, 8])
def test_the_factor_to_sonnets_setting(side: int) -> None:
    """Sonnet's loss times D_x / 2 is ours with beta = beta' D_x / (2 places D), at every size of image."""
    torch.manual_seed(side)
    x = torch.rand(5, 3, 4 * side, 4 * side, dtype=torch.float64)
    y, values, dim, theirs = torch.rand_like(x), x[0].numel(), 6, 0.25
    quantiser = VectorQuantiser(20, dim, commitment=theirs * values / (2 * side**2 * dim)).double().eval()
    features = torch.randn(5, dim, side, side, dtype=torch.float64)
    found = quantiser(features)
    sonnet = (x - y).square().mean() / x.var(correction=0) + theirs * (features - found.embedding).square().mean()
    likelihood = torch.distributions.Normal(y, x.std(correction=0))
    constant = torch.distributions.Normal(0.0, x.std(correction=0)).log_prob(torch.zeros(())) * values
    loss = -likelihood.log_prob(x).sum() / 5 + constant + found.penalties["commitment"]
    torch.testing.assert_close(loss, sonnet * values / 2)


def test_by_angle() -> None:
    quantiser = VectorQuantiser(40, 6, cosine=True, projection=6, initial="random").eval()
    assert not list(quantiser.parameters())
    features = torch.randn(5, 6, 7)
    found = quantiser(features)
    codebook = quantiser.codebook.values()
    angles = F.cosine_similarity(features.transpose(1, 2)[:, :, None], codebook, dim=-1)
    assert torch.equal(found.codes[:, 0], angles.argmax(-1))
    torch.testing.assert_close(found.embedding.norm(dim=1), torch.ones(5, 7))
    assert torch.equal(quantiser(features * torch.rand(5, 1, 7)).codes, found.codes)
    torch.testing.assert_close(found.penalties["commitment"], 0.25 * (2 - 2 * angles.amax(-1)).sum(1).mean())


def test_length_one_in_eight_dimensions_by_default() -> None:
    for _ in range(3):
        quantiser = VectorQuantiser(40, 20, cosine=True)
        quantiser(torch.randn(10, 20, 5))
        assert quantiser.codebook.embedding.shape == (40, 8)
        torch.testing.assert_close(quantiser.codebook.embedding.norm(dim=1), torch.ones(40))
    assert VectorQuantiser(40, 5, cosine=True).codebook.dim == 5
    assert VectorQuantiser(40, 20).codebook.dim == 20


def test_a_projected_embedding_is_a_linear_map_of_the_code() -> None:
    quantiser = VectorQuantiser(11, 7, projection=2)
    every = quantiser.embed(torch.arange(11)[None, None])[0].T
    torch.testing.assert_close(every, quantiser.out(quantiser.codebook.values().T[None])[0].T)
    assert torch.linalg.matrix_rank(every - every.mean(0)) == 2


def test_books_add_up_and_come_closer() -> None:
    quantiser = ResidualQuantiser(16, 6, books=4)
    features = torch.randn(20, 6, 4, 4, requires_grad=True)
    quantiser(features)  # k-means, book after book
    quantiser.eval()
    found = quantiser(features)
    total, errors = torch.zeros_like(features), [features.square().sum()]
    for i, book in enumerate(quantiser.codebooks):
        left = (features - total).flatten(2).transpose(1, 2)
        codes = by_distances(left.flatten(0, 1), book.embedding)
        assert torch.equal(found.codes[:, i].flatten(), codes)
        total = total + book.embedding[codes].view(20, 16, 6).transpose(1, 2).view_as(features)
        errors.append((features - total).square().sum())
    torch.testing.assert_close(found.embedding, total)
    assert all(later < 0.9 * earlier for earlier, later in pairwise(errors))
    commitment = 0.25 * sum(errors[1:]) / 20  # the books' choices are constants to it
    torch.testing.assert_close(found.penalties["commitment"], commitment)
    slopes = [torch.autograd.grad(value, features)[0] for value in (found.penalties["commitment"], commitment)]
    torch.testing.assert_close(*slopes)


def test_one_book_is_a_vector_quantiser() -> None:
    torch.manual_seed(3)
    one = ResidualQuantiser(16, 6, books=1)
    torch.manual_seed(3)
    vector = VectorQuantiser(16, 6)
    features = torch.randn(3, 8, 6, 10)
    for quantiser in (one, vector):
        torch.manual_seed(4)
        for batch in features:
            quantiser(batch)
    assert torch.equal(one.codebooks[0].embedding, vector.codebook.embedding)
    assert torch.equal(one(features[0]).codes, vector(features[0]).codes)
