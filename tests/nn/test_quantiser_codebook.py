"""How a codebook is learned and kept alive: moving averages, k-means, revival."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from jensen.nn.quantiser import Codebook, VectorQuantiser
from jensen.nn.quantiser import codebook as module
from jensen.nn.quantiser.k_means import k_means


def clusters(each: int, centres: int = 8, dim: int = 4, spread: float = 0.1) -> Tensor:
    """Rows (centres * each, dim) around distant centres, in random order."""
    middle = 3 * torch.randn(centres, dim)
    rows = middle.repeat(each, 1) + spread * torch.randn(centres * each, dim)
    return rows[torch.randperm(len(rows))]


@pytest.mark.parametrize("smoothing", [1e-5, 0.3])
def test_moving_averages_follow_the_recursion(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laplace smoothing of usual size is beyond float32's sight, so a large one too."""
    monkeypatch.setattr(module, "SMOOTHING", smoothing)
    quantiser = VectorQuantiser(6, 3, decay=0.8, initial="random", revival=0.0)
    book = quantiser.codebook.embedding.double()
    usage, sums = torch.ones(6, dtype=torch.float64), book.clone()
    for _ in range(30):
        features = torch.randn(4, 3, 5) + 0.5
        rows = features.transpose(1, 2).flatten(0, 1).double()
        hot = F.one_hot((rows[:, None] - book).square().sum(2).argmin(1), 6).double()
        usage = 0.8 * usage + 0.2 * hot.sum(0)
        sums = 0.8 * sums + 0.2 * hot.T @ rows
        total = usage.sum()
        book = sums / ((usage + smoothing) / (total + 6 * smoothing) * total)[:, None]
        quantiser(features)
        torch.testing.assert_close(quantiser.codebook.embedding.double(), book, rtol=1e-5, atol=1e-5)


def test_a_code_whose_use_has_faded_to_nothing_stays_a_number() -> None:
    codebook = Codebook(3, 2, initial="random", revival=0.0)
    with torch.no_grad():
        codebook.embedding[0] = 100.0
        codebook.usage[0] = 0.0
        codebook.sums[0] = 0.0
    codebook(torch.randn(1, 2, 20))
    assert torch.equal(codebook.embedding[0], torch.zeros(2))
    assert bool(codebook.embedding.isfinite().all())


@pytest.mark.parametrize("initial", ["random", "k-means"])
def test_moving_averages_converge_to_the_centroids(initial: Literal["random", "k-means"]) -> None:
    rows = clusters(20)
    codebook = Codebook(8, 4, decay=0.9, initial=initial)
    for _ in range(400):
        codebook(rows.T[None])
    # From random codes it may be another optimum than the best, but it is one: k-means does not move on from it.
    start = codebook.embedding.numpy() if initial == "random" else "k-means++"
    fit = KMeans(8, init=start, n_init=1 if initial == "random" else 10, random_state=0).fit(rows.numpy())
    distances = torch.cdist(codebook.embedding.double(), torch.as_tensor(fit.cluster_centers_).double())
    assert distances.min(0).values.max() < 1e-4
    assert distances.min(1).values.max() < 1e-4


def test_a_codebook_learned_by_loss_converges_to_the_centroids() -> None:
    rows = clusters(20)
    codebook = Codebook(8, 4, learned="loss")
    optimiser = torch.optim.SGD(codebook.parameters(), lr=1 / 80)
    for _ in range(100):
        optimiser.zero_grad()
        codebook(rows.T[None]).penalties["codebook"].backward()
        optimiser.step()
    expected = KMeans(8, n_init=10, random_state=0).fit(rows.numpy()).cluster_centers_
    distances = torch.cdist(codebook.embedding.detach().double(), torch.as_tensor(expected).double())
    assert distances.min(0).values.max() < 1e-4


def test_k_means_is_as_good_as_scikit_learns() -> None:
    rows = torch.randn(3000, 4)
    centroids, counts = k_means(rows, 40)
    inertia = torch.cdist(rows, centroids).min(1).values.square().sum().item()
    assert inertia < 1.05 * KMeans(40, n_init=3, random_state=0).fit(rows.numpy()).inertia_
    assert counts.sum() == pytest.approx(3000)
    assert (counts > 0).all()


def test_k_means_of_apart_clusters_finds_each() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        rows = clusters(30, centres=16, dim=6, spread=0.01)
        centroids, _ = k_means(rows, 32)
        assert torch.cdist(rows, centroids).min(1).values.max() < 0.2


def test_k_means_on_the_sphere() -> None:
    rows = F.normalize(torch.randn(500, 5), dim=1)
    centroids, _ = k_means(rows, 10, iterations=100, on_sphere=True)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(10))
    nearest = (rows @ centroids.T).argmax(1)
    means = torch.stack([rows[nearest == k].mean(0) for k in range(10)])
    torch.testing.assert_close(F.normalize(means, dim=1), centroids, atol=1e-3, rtol=0)


@pytest.mark.parametrize("learned", ["ema", "loss"])
def test_the_first_batch_gives_the_first_codes(learned: Literal["ema", "loss"]) -> None:
    rows = clusters(20)
    codebook = Codebook(8, 4, learned=learned).eval()
    before = codebook.embedding.clone()
    codebook(rows.T[None])
    assert torch.equal(codebook.embedding, before)  # evaluation is no first batch
    codebook.train()
    error = codebook(rows.T[None]).penalties["commitment"]
    assert error < 8 * 20 * 4 * 0.1**2 * 1.5
    codebook(rows.T[None])
    assert torch.cdist(rows, codebook.embedding).min(1).values.max() < 1


def test_first_codes_of_a_large_batch_are_those_of_a_random_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 x 100 features, cluster after cluster, 80 are looked at: any, and they stand for all."""
    monkeypatch.setattr(module, "FEATURES_FOR_INITIAL", 80)
    rows = (3 * torch.randn(8, 4)).repeat_interleave(50, 0) + 0.1 * torch.randn(400, 4)
    codebook = Codebook(8, 4)
    codebook(rows.view(4, 100, 4).transpose(1, 2))
    assert torch.cdist(rows, codebook.embedding).min(1).values.max() < 1
    assert float(codebook.usage.sum()) == pytest.approx(400, rel=1e-5)
    assert float(codebook.usage.min()) > 10


def test_fewer_features_than_codes() -> None:
    codebook = Codebook(50, 4)
    rows = torch.randn(7, 4)
    assert codebook(rows.T[None]).penalties["commitment"] == pytest.approx(0, abs=1e-8)
    for _ in range(500):  # later batches have more, and codes to spare come to use
        found = codebook(torch.randn(4, 200).unsqueeze(0))
    assert len(found.codes.unique()) > 40


@pytest.mark.parametrize("learned", ["ema", "loss"])
@pytest.mark.parametrize("cosine", [False, True])
def test_dead_codes_are_put_on_features(learned: Literal["ema", "loss"], cosine: bool) -> None:
    codebook = Codebook(10, 4, learned=learned, initial="random", cosine=cosine)
    with torch.no_grad():
        codebook.recent.copy_(torch.tensor([10.0] * 6 + [0.5] * 4))
        if learned == "ema":
            codebook.usage.copy_(torch.arange(10.0))
        before = codebook.embedding.clone()
    rows = torch.randn(30, 4)
    # Kept from learning after that, so that only what revival did is seen.
    codebook._count = lambda counts, sums, features: None  # type: ignore[method-assign]
    codebook(rows.T[None])
    values = F.normalize(rows, dim=1) if cosine else rows
    assert torch.equal(codebook.embedding[:6], before[:6])
    assert (torch.cdist(codebook.embedding[6:], values).min(1).values < 1e-3).all()
    assert len(torch.cdist(codebook.embedding[6:], values).argmin(1).unique()) == 4
    torch.testing.assert_close(codebook.recent, torch.tensor([10.0] * 6 + [6.2] * 4))
    if learned == "ema":
        torch.testing.assert_close(codebook.usage, torch.tensor([0, 1, 2, 3, 4, 5, 4.5, 4.5, 4.5, 4.5]))
        torch.testing.assert_close(codebook.sums[6:], 4.5 * codebook.embedding[6:])


@pytest.mark.parametrize("learned", ["ema", "loss"])
def test_revival_brings_codes_to_use(learned: Literal["ema", "loss"]) -> None:
    """A codebook that starts far from all features."""
    used = {}
    for revival in (0.0, 0.1):
        codebook = Codebook(64, 4, learned=learned, initial="random", revival=revival)
        with torch.no_grad():
            codebook.embedding.add_(5.0)
            if learned == "ema":
                codebook.sums.add_(5.0)
        for _ in range(600):
            found = codebook(torch.randn(1, 4, 500))
        used[revival] = len(found.codes.unique())
    assert used[0.0] < 16
    assert used[0.1] > 56


@pytest.mark.parametrize("learned", ["ema", "loss"])
@pytest.mark.parametrize("cosine", [False, True])
def test_a_step_needs_no_look_at_the_numbers(learned: Literal["ema", "loss"], cosine: bool) -> None:
    """On meta tensors every look at a number fails: there a step would wait for a GPU."""
    codebook = Codebook(10, 4, learned=learned, cosine=cosine).to("meta")
    codebook._has_started = True  # the first step looks
    features = torch.empty(2, 4, 30, device="meta", requires_grad=True)
    found = codebook(features)
    (found.embedding.sum() + sum(found.penalties.values())).backward()
    assert features.grad is not None
    with pytest.raises(RuntimeError, match="meta"):
        bool(codebook.recent.sum())
