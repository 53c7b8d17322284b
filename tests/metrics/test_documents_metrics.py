"""Scores of documents against sums over all there is, and likeness of codes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.data import Data, load_data
from jensen.inference.models.documents import split_documents
from jensen.likelihoods import Multinomial
from jensen.metrics.documents import documents_of, nearest, score_documents, telling_words
from jensen.nn.word_features import WordFeatures


@pytest.fixture
def data(tmp_path: Path) -> Data:
    counts = np.random.default_rng(0).poisson(2.0, (40, 6)) + 1
    file = tmp_path / "corpus.npz"
    np.savez(
        file,
        indptr=np.arange(41) * 6,
        indices=np.tile(np.arange(6), 40),
        counts=counts.ravel(),
        vocab=np.array(list("abcdef")),
    )
    return load_data(str(file))


class Same(nn.Module):
    """A decoder that gives every document the same words, whatever its code."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 0.1]).log())

    def forward(self, z: Tensor) -> Tensor:
        return self.logits.expand(len(z), 6) + 0 * z[:, :1]


def test_a_model_that_ignores_its_code_scores_as_its_frequencies(data: Data) -> None:
    encoder = nn.Linear(6, 4)
    nn.init.zeros_(encoder.weight)
    nn.init.zeros_(encoder.bias)  # q(z | x) is the prior, so that importance weights do not vary
    model = VAE(data.shape, 2, likelihood=Multinomial(), encoder=encoder, decoder=Same())
    scores = score_documents(model, data.test, samples=3)
    x = data.test.batch(torch.arange(len(data.test))).x
    expected = (x * model.decoder.net.logits.detach()).sum() / x.sum()  # type: ignore[operator]
    assert scores.bound == pytest.approx(float(expected), abs=1e-5)
    assert scores.words == int(x.sum())
    assert scores.perplexity == pytest.approx(math.exp(-float(expected)), rel=1e-4)
    # Each word of a half is scored by the same frequencies.
    assert abs(scores.completion - float(expected)) < 0.1


class Line(nn.Module):
    """A decoder whose logits go up and down with the one latent."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slopes = nn.Parameter(slope * torch.tensor([1.0, -1.0, 0.5, 0.0, -0.5, 2.0]))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.slopes


def test_completion_is_of_the_mean_probability_given_the_other_half(data: Data) -> None:
    """Against quadrature over the latent, whose posterior the seen half alone decides."""
    encoder = nn.Linear(6, 2)
    encoder.weight.data = torch.tensor([[0.3, -0.3, 0.2, 0.0, -0.2, 0.4], [0.0] * 6])
    encoder.bias.data.zero_()
    model = VAE(data.shape, 1, likelihood=Multinomial(), encoder=encoder, decoder=Line(1.0))
    scores = score_documents(model, data.test, samples=1000, seed=3)
    seen, hidden = (
        torch.from_numpy(half.to_scipy().toarray()).float()
        for half in split_documents(documents_of(data.test), torch.Generator().manual_seed(3))
    )
    axis = torch.linspace(-6, 6, 241)
    density = torch.softmax(-0.5 * axis.square(), 0)
    with torch.no_grad():
        q = model.posterior(seen)
        z = q.mean + q.stddev * axis.view(-1, 1, 1)
        chances = (density.view(-1, 1, 1) * model.decoder.net(z).softmax(-1)).sum(0)
    expected = (hidden * chances.log()).sum() / hidden.sum()
    assert scores.completion == pytest.approx(float(expected), abs=0.01)


def test_words_that_are_next_to_impossible_and_not_there(tmp_path: Path) -> None:
    """Their probability is 0 in float32, and 0 log 0 is no number."""
    file = tmp_path / "corpus.npz"
    every = {"indptr": np.arange(41), "indices": np.zeros(40, int), "counts": np.full(40, 8)}
    np.savez(file, vocab=np.array(list("abcdef")), **every)
    data = load_data(str(file))
    decoder = Same()
    decoder.logits.data = torch.tensor([0.0, -200, -200, -200, -200, -200])
    model = VAE(data.shape, 2, likelihood=Multinomial(), decoder=decoder)
    assert score_documents(model, data.test, samples=2).completion == pytest.approx(0.0, abs=1e-6)


def test_documents_of_a_split(data: Data) -> None:
    x = data.test.batch(torch.arange(len(data.test))).x
    np.testing.assert_array_equal(documents_of(data.test).to_scipy().toarray(), x.numpy())


def test_counts_of_three_words_sum_to_one() -> None:
    likelihood = Multinomial()(torch.randn(3, dtype=torch.float64))
    every = [c for c in itertools.product(range(5), repeat=3) if sum(c) == 4]
    total = sum(float(likelihood.log_prob(torch.tensor(c).double()).sum().exp()) for c in every)
    assert total == pytest.approx(1.0, abs=1e-9)


def test_words_are_seen_whatever_the_length_of_the_document() -> None:
    seen = WordFeatures(5)(torch.tensor([[0.0, 1, 2, 0, 0], [0, 0, 0, 0, 0]]))
    torch.testing.assert_close(seen.square().sum(1), torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(seen[0, 2] / seen[0, 1], torch.tensor(math.log(3) / math.log(2)))


def test_nearest_codes() -> None:
    codes = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    places, cosines = nearest(codes, torch.tensor([[5.0, 0.1]]), 2)
    assert places.tolist() == [[0, 2]]
    assert float(cosines[0, 0]) == pytest.approx(5 / math.hypot(5, 0.1))
    with pytest.raises(ValueError, match="count from 1 to N"):
        nearest(codes, codes, 4)


def test_telling_words_are_those_used_more_than_usual() -> None:
    words = telling_words(torch.tensor([[5.0, 5.0, 0.0]]), ["the", "gene", "ball"], torch.tensor([0.9, 0.05, 0.05]), 2)
    assert words == [["gene", "ball"]]


def test_other_likelihoods_are_refused() -> None:
    digits = load_data("digits")
    with pytest.raises(ValueError, match="word counts"):
        score_documents(VAE(digits.shape, 2), digits.test, samples=1)
