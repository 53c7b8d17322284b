"""Latent Dirichlet allocation against exact evidence, closed forms, scikit-learn, the engine, and Gibbs draws."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import gammaln
from sklearn.decomposition import LatentDirichletAllocation
from torch import Tensor

from jensen.families import Dirichlet
from jensen.inference import Adaptive, RobbinsMonro, State, check_conjugate, evaluate, infer
from jensen.inference.models import lda as lda_module
from jensen.inference.models.documents import Documents
from jensen.inference.models.lda import LocalStep, TopicSvi, fit_cavi, fit_svi, lda_model
from jensen.inference.models.lda_kernels import document_bounds, word_weights
from jensen.inference.models.lda_scores import infer_proportions
from jensen.inference.models.lda_start import fit_alpha, random_topics, seeded_topics
from jensen.inference.steps import StepSize
from jensen.inference.update import natural_gradient, update

REFERENCES = Path(__file__).parents[2] / "references" / "lda_gibbs.npz"
TIGHT = LocalStep(tol=1e-13, max_iter=20000)
Array = npt.NDArray[np.float64]


def dirichlet(value: float, size: int) -> Dirichlet:
    return Dirichlet.from_standard(torch.full((size,), value, dtype=torch.float64))


def generated(
    documents: int = 40, vocabulary: int = 30, topics: int = 4, seed: int = 0, length: int = 40
) -> tuple[Documents, Array]:
    """A corpus from the model with Dirichlet(0.2) topics and Dirichlet(0.3) proportions, and its topics."""
    rng = np.random.default_rng(seed)
    beta = rng.dirichlet(np.full(vocabulary, 0.2), topics)
    theta = rng.dirichlet(np.full(topics, 0.3), documents)
    x = np.stack([rng.multinomial(rng.poisson(length), p) for p in theta @ beta])
    return Documents.from_matrix(x), beta


def near(beta: Array) -> Dirichlet:
    """A start near the true topics, so that two ways up the bound meet at the same optimum."""
    return Dirichlet.from_standard(torch.from_numpy(100 * beta + 1))


def log_polya(counts: Array, concentration: float) -> float:
    """log of the Dirichlet-multinomial probability of a sequence with these counts."""
    size = counts.shape[-1]
    total = gammaln(size * concentration) - gammaln(counts.sum(-1) + size * concentration)
    return float((total + (gammaln(counts + concentration) - gammaln(concentration)).sum(-1)).sum())


def exact_evidence(x: Array, n_topics: int, alpha: float, eta: float) -> float:
    """log p(words), summed over every assignment of topics to tokens."""
    tokens = [(d, w) for d, row in enumerate(x) for w, n in enumerate(row) for _ in range(int(n))]
    logs = []
    for z in itertools.product(range(n_topics), repeat=len(tokens)):
        by_document, by_topic = np.zeros((len(x), n_topics)), np.zeros((n_topics, x.shape[1]))
        for (d, w), k in zip(tokens, z, strict=True):
            by_document[d, k] += 1
            by_topic[k, w] += 1
        logs.append(log_polya(by_document, alpha) + log_polya(by_topic, eta))
    return float(np.logaddexp.reduce(logs))


@pytest.mark.parametrize(("alpha", "eta"), [(0.5, 0.5), (1.0, 2.0), (3.0, 0.3)])
@pytest.mark.parametrize("x", [[[2, 1, 0], [0, 1, 2]], [[1, 0, 3], [1, 1, 0], [0, 2, 0]]])
def test_elbo_is_below_the_exact_evidence_and_near_it(x: Any, alpha: float, eta: float) -> None:
    counts = np.array(x, dtype=float)
    evidence = exact_evidence(counts, 2, alpha, eta)
    start = random_topics(2, 3, torch.Generator().manual_seed(0))
    concentration = torch.full((2,), alpha, dtype=torch.float64)
    documents = Documents.from_matrix(counts)
    result = fit_cavi(documents, start, dirichlet(eta, 3), concentration, local=TIGHT, tol=1e-12, max_steps=5000)
    assert result.converged
    assert evidence - 2.5 < result.elbo < evidence
    assert all(value < evidence for value in result.elbo_trace)


def test_with_one_topic_the_elbo_is_the_evidence() -> None:
    documents, _ = generated(seed=3)
    result = fit_cavi(documents, random_topics(1, 30), dirichlet(0.4, 30), torch.tensor([0.7]).double())
    totals = documents.to_scipy().toarray().sum(0)
    assert result.elbo == pytest.approx(log_polya(totals, 0.4), rel=1e-12)
    torch.testing.assert_close(
        result.posterior["topics"].natural_parameters[0] + 1, torch.from_numpy(totals + 0.4)[None], rtol=1e-10, atol=0
    )


def test_sweeps_are_those_of_scikit_learn() -> None:
    documents, _ = generated()
    sweeps, seed = 6, 5
    peer = LatentDirichletAllocation(
        4,
        doc_topic_prior=1.0,  # one optimum a document, whatever its start
        topic_word_prior=0.3,
        learning_method="batch",
        max_iter=sweeps,
        mean_change_tol=1e-13,
        max_doc_update_iter=20000,
        random_state=seed,
    ).fit(documents.to_scipy())
    first = np.random.RandomState(seed).gamma(100.0, 0.01, (4, 30))
    result = fit_cavi(
        documents,
        Dirichlet.from_standard(torch.from_numpy(first)),
        dirichlet(0.3, 30),
        torch.ones(4, dtype=torch.float64),
        local=TIGHT,
        tol=0.0,
        max_steps=sweeps,
    )
    concentration = result.posterior["topics"].natural_parameters[0] + 1
    np.testing.assert_allclose(concentration.numpy(), peer.components_, rtol=1e-6)


def test_the_engine_finds_the_model_conjugate_and_gives_the_same_bound() -> None:
    documents, _ = generated()
    model = lda_model(4, 30, alpha=0.5, eta=0.3)
    check_conjugate(model, documents[:10])
    start = random_topics(4, 30, torch.Generator().manual_seed(1))
    alpha = torch.full((4,), 0.5, dtype=torch.float64)
    fast = fit_cavi(documents, start, dirichlet(0.3, 30), alpha, local=TIGHT, tol=0.0, max_steps=7)
    state = State(q=fast.posterior, local=fast.local)
    assert evaluate(model, state, documents).elbo == pytest.approx(fast.elbo, rel=1e-12)
    assert evaluate(model, state, documents, chunk_size=7).elbo == pytest.approx(fast.elbo, rel=1e-12)


def test_the_engine_climbs_to_the_same_optimum() -> None:
    documents, _ = generated()
    model = lda_model(4, 30, alpha=1.5, eta=0.3)
    start = random_topics(4, 30, torch.Generator().manual_seed(1))
    slow = infer(model, documents, tol=1e-13, max_steps=4000, start=State(q={"topics": start}))
    alpha = torch.full((4,), 1.5, dtype=torch.float64)
    fast = fit_cavi(documents, start, dirichlet(0.3, 30), alpha, local=TIGHT, tol=1e-13, max_steps=2000)
    assert slow.elbo == pytest.approx(fast.elbo, rel=1e-8)


@pytest.mark.parametrize("tau", [1.0, 10.0])
def test_a_sparse_step_is_the_engines_dense_step(tau: float) -> None:
    """With tau = 1 the first step forgets the start entirely."""
    documents, _ = generated(60)
    model = lda_model(4, 30, alpha=0.2, eta=0.3)
    alpha = torch.full((4,), 0.2, dtype=torch.float64)
    start = random_topics(4, 30, torch.Generator().manual_seed(1))
    svi = TopicSvi(start, 0.3, alpha, 600, RobbinsMonro(tau, 0.7), local=TIGHT)
    state = State(q={"topics": start})
    for t, rows in enumerate(torch.arange(60).split(3)):  # of three documents: most words are not in a batch
        batch = documents[rows]
        theta, _ = infer_proportions(batch, state.q["topics"], alpha, TIGHT)  # type: ignore[arg-type]
        state = replace(state, local={"theta": theta})
        found = evaluate(model, state, batch, ["topics"], scale=600 / 3)
        rho = RobbinsMonro(tau, 0.7)(t, torch.zeros(1))
        state = replace(update(model, state, found, rho), local={})
        svi.partial_fit(batch)
        expected = state.q["topics"].natural_parameters[0]
        torch.testing.assert_close(svi.topics.posterior().natural_parameters[0], expected, rtol=1e-10, atol=1e-10)


def test_local_step_is_the_engines_fixed_point() -> None:
    documents, _ = generated()
    model = lda_model(4, 30, alpha=0.5, eta=0.3)
    topics = random_topics(4, 30, torch.Generator().manual_seed(1))
    theta, bounds = infer_proportions(documents, topics, torch.full((4,), 0.5, dtype=torch.float64), TIGHT)
    state = State(q={"topics": topics}, local={"theta": theta})
    target = evaluate(model, state, documents, ["theta"]).targets["theta"][0]
    torch.testing.assert_close(target, theta.natural_parameters[0], rtol=1e-9, atol=1e-9)
    whole = evaluate(model, state, documents).elbo
    divergence = topics.kl_divergence(dirichlet(0.3, 30).expand((4,))).sum()
    assert whole == pytest.approx(float(bounds.sum() - divergence), rel=1e-11)


def test_the_adaptive_step_sees_the_engines_natural_gradient() -> None:
    documents, _ = generated(20)
    seen: list[Tensor] = []

    def remember(t: int, gradient: Tensor) -> float:
        seen.append(gradient)
        return 0.1

    rho: StepSize = remember
    start = random_topics(4, 30, torch.Generator().manual_seed(1))
    alpha = torch.full((4,), 0.2, dtype=torch.float64)
    TopicSvi(start, 0.3, alpha, 100, rho, local=TIGHT).partial_fit(documents)
    model = lda_model(4, 30, alpha=0.2, eta=0.3)
    theta, _ = infer_proportions(documents, start, alpha, TIGHT)
    state = State(q={"topics": start}, local={"theta": theta})
    found = evaluate(model, state, documents, ["topics"], scale=5.0)
    expected = natural_gradient(replace(state, local={}), found).reshape(4, 30)
    torch.testing.assert_close(seen[0].reshape(30, 4).T, expected, rtol=1e-9, atol=1e-9)
    adaptive = TopicSvi(start, 0.3, alpha, 100, Adaptive(), local=TIGHT)
    for rows in torch.arange(20).split(5):
        adaptive.partial_fit(documents[rows])
    assert bool((adaptive.topics.posterior().natural_parameters[0] > -1).all())


@pytest.mark.parametrize("learn", [None, "symmetric", "asymmetric"])
def test_the_elbo_never_falls(learn: str | None) -> None:
    for seed in range(12):
        documents, _ = generated(15, 20, 3, seed=seed, length=25)
        result = fit_cavi(
            documents,
            random_topics(5, 20, torch.Generator().manual_seed(seed)),
            dirichlet(0.1, 20),
            torch.full((5,), 0.05, dtype=torch.float64),
            local=LocalStep(1e-2, 30),
            learn_alpha=learn,
            tol=1e-9,
            max_steps=60,
        )
        trace = np.array(result.elbo_trace)
        assert (np.diff(trace) >= -1e-10 * np.abs(trace[1:])).all(), seed


def test_an_extrapolation_gone_astray_is_replaced_by_plain_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, _ = generated(10)
    rows = random_topics(4, 30, torch.Generator().manual_seed(1)).natural_parameters[0].mT + 1
    weights = word_weights(rows.contiguous(), rows.sum(0))
    alpha = torch.full((4,), 0.3, dtype=torch.float64)
    start, before = LocalStep()(documents, weights, alpha)
    real = lda_module.infer_documents

    def astray(some: Documents, *arguments: Any, accelerate: bool = True, **options: Any) -> Tensor:
        gamma = real(some, *arguments, accelerate=accelerate, **options)
        if accelerate:
            gamma[::2] = torch.tensor([1000.0, 1e-3, 1e-3, 1e-3], dtype=torch.float64)
        return gamma

    monkeypatch.setattr(lda_module, "infer_documents", astray)
    gamma, bounds = LocalStep()(documents, weights, alpha, start)
    assert bool((bounds >= before - 1e-9).all())
    torch.testing.assert_close(bounds, document_bounds(documents, gamma, weights, alpha))


def test_minibatches_approach_the_bound_of_whole_sweeps() -> None:
    documents, beta = generated(400, seed=2)
    alpha = torch.full((4,), 0.3, dtype=torch.float64)
    start = near(beta)
    whole = fit_cavi(documents, start, dirichlet(0.2, 30), alpha, tol=1e-7, max_steps=300)
    svi = TopicSvi(start, 0.2, alpha, 400, RobbinsMonro(10.0, 0.7))
    parts = fit_svi(svi, documents, batch_size=50, max_steps=20, generator=torch.Generator().manual_seed(0))
    assert parts.elbo > whole.elbo - 0.01 * abs(whole.elbo)
    assert parts.steps == 160
    assert parts.elbo_trace[-1] == pytest.approx(parts.elbo, rel=0.01)
    exact = State(q=parts.posterior, local={"theta": infer_proportions(documents, svi.topics.posterior(), alpha)[0]})
    assert evaluate(lda_model(4, 30, alpha=0.3, eta=0.2), exact, documents).elbo == pytest.approx(parts.elbo, rel=1e-9)


def test_float32_takes_the_same_steps_to_its_precision() -> None:
    documents, _ = generated(60)
    alpha = torch.full((4,), 0.5, dtype=torch.float64)
    start = random_topics(4, 30, torch.Generator().manual_seed(1))
    found = []
    for dtype in (torch.float64, torch.float32):
        svi = TopicSvi(start, 0.3, alpha, 60, RobbinsMonro(2.0, 0.7), local=LocalStep(1e-5, 1000), dtype=dtype)
        for rows in torch.arange(60).split(20):
            svi.partial_fit(documents[rows])
        found.append(svi.topics.posterior().natural_parameters[0] + 1)
    torch.testing.assert_close(found[0], found[1], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_alpha_maximises_the_bound(symmetric: bool) -> None:
    log_theta = Dirichlet.from_standard(torch.rand(50, 4).double() * 3 + 0.1).mean_parameters.log.mean(0)

    def bound(alpha: Tensor) -> Tensor:
        return torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum() + (alpha - 1) @ log_theta

    alpha = fit_alpha(log_theta, symmetric).requires_grad_()
    (gradient,) = torch.autograd.grad(bound(alpha), alpha)
    assert float((gradient.sum() if symmetric else gradient.abs().max()).abs()) < 1e-8
    if symmetric:
        assert bool((alpha == alpha[0]).all())


def test_learning_alpha_raises_the_bound_and_finds_sparse_proportions() -> None:
    documents, _ = generated(200, seed=4)
    start = random_topics(4, 30, torch.Generator().manual_seed(3))
    results = [
        fit_cavi(documents, start, dirichlet(0.2, 30), torch.full((4,), 5.0).double(), learn_alpha=learn, max_steps=200)
        for learn in (None, "symmetric", "asymmetric")
    ]
    assert results[0].elbo < results[1].elbo
    assert results[0].elbo < results[2].elbo
    assert 0.1 < float(results[1].parameters["alpha"][0]) < 1.0  # 0.3 made the data


def test_the_engine_learns_alpha_on_the_same_bound() -> None:
    documents, beta = generated(100, seed=4)
    start = near(beta)
    model = lda_model(4, 30, alpha=1.5, eta=0.2, learn_alpha=True)
    slow = infer(model, documents, tol=1e-9, max_steps=120, start=replace(model.start(), q={"topics": start}))
    alpha = torch.full((4,), 1.5, dtype=torch.float64)
    fast = fit_cavi(
        documents, start, dirichlet(0.2, 30), alpha, local=TIGHT, learn_alpha="asymmetric", tol=1e-10, max_steps=300
    )
    assert fast.elbo == pytest.approx(slow.elbo, rel=2e-4)
    state = State(q=fast.posterior, local=fast.local, parameters=fast.parameters)
    assert evaluate(model, state, documents).elbo == pytest.approx(fast.elbo, rel=1e-12)


def test_topics_and_predictive_are_those_of_gibbs_draws() -> None:
    with np.load(REFERENCES) as file:
        reference = {name: file[name] for name in file.files}
    words, held = reference["words"].astype(int), int(reference["held_out"])
    n_topics, vocabulary = reference["topics"].shape
    observed = np.stack([np.bincount(row[:-held], minlength=vocabulary) for row in words])
    alpha = torch.full((n_topics,), float(reference["alpha"]), dtype=torch.float64)
    documents = Documents.from_matrix(observed)
    start = Dirichlet.from_standard(torch.from_numpy(100 * reference["topics"] + np.random.default_rng(0).random()))
    result = fit_cavi(documents, start, dirichlet(float(reference["eta"]), vocabulary), alpha, local=TIGHT, tol=1e-12)
    topics, theta = (q.natural_parameters[0].numpy() + 1 for q in (result.posterior["topics"], result.local["theta"]))
    beta = topics / topics.sum(1, keepdims=True)
    assert reference["topics_error"].max() < 0.003
    np.testing.assert_allclose(beta, reference["topics"], atol=0.02)
    predictive = (theta / theta.sum(1, keepdims=True)) @ beta
    scores = [
        np.mean([np.log(p[row[-held:]]) for p, row in zip(probabilities, words, strict=True)])
        for probabilities in (predictive, reference["predictive"])
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    assert scores[1] > np.log(1 / vocabulary) + 0.3  # the test means something


def test_seeded_topics_know_the_words_of_some_documents() -> None:
    documents, _ = generated(50)
    topics = seeded_topics(documents, 6, 0.1, torch.Generator().manual_seed(0), scale=3.0)
    noise = random_topics(6, 30, torch.Generator().manual_seed(0)).natural_parameters[0] + 1
    words = topics.natural_parameters[0] + 1 - 0.1 - noise
    assert float(words.min()) > -1e-12
    share = 0.02 * 3 * float(documents.lengths.sum()) / 6
    torch.testing.assert_close(words.sum(1), torch.full((6,), share, dtype=torch.float64))
    assert float((words[0] - words[1]).abs().max()) > 0.1
    again = seeded_topics(documents, 6, 0.1, torch.Generator().manual_seed(0), scale=3.0)
    assert torch.equal(again.natural_parameters[0], topics.natural_parameters[0])
    assert seeded_topics(Documents.from_matrix(np.zeros((3, 5))), 2, 0.1).is_valid()


def test_a_corpus_without_words_leaves_the_prior() -> None:
    documents = Documents.from_matrix(np.zeros((3, 5)))
    alpha = torch.tensor([0.5, 1.0], dtype=torch.float64)
    result = fit_cavi(documents, random_topics(2, 5), dirichlet(0.3, 5), alpha)
    torch.testing.assert_close(result.posterior["topics"].natural_parameters[0] + 1, torch.full((2, 5), 0.3).double())
    assert result.elbo == pytest.approx(0.0, abs=1e-12)
    svi = TopicSvi(random_topics(2, 5), 0.3, alpha, 3, RobbinsMonro(1.0, 0.7))
    svi.partial_fit(documents)
    torch.testing.assert_close(svi.topics.posterior().natural_parameters[0] + 1, torch.full((2, 5), 0.3).double())
