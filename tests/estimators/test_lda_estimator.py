"""The scikit-learn face of latent Dirichlet allocation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import gammaln
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from jensen.estimators.lda import TopicModel
from jensen.inference.models.corpus import load_documents
from jensen.inference.models.lda_scores import coherence

CHECKS = list(estimator_checks_generator(TopicModel(3, fractional=True, max_iter=20, random_state=0)))


@pytest.mark.parametrize(
    ("estimator", "check"), CHECKS, ids=lambda x: getattr(getattr(x, "func", None), "__name__", "")
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    """All of them, with weights instead of counts, which are what these checks feed."""
    check(estimator)


def generated(documents: int = 120, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray[Any, Any]]:
    """A corpus from three topics of ten words of their own, and the topics."""
    rng = np.random.default_rng(seed)
    beta = np.kron(np.eye(3), np.full(10, 0.09)) + 0.1 / 30
    theta = rng.dirichlet(np.full(3, 0.3), documents)
    return sp.csr_matrix(np.stack([rng.multinomial(60, p) for p in theta @ beta / beta.sum(1).mean()])), beta


def matched(found: np.ndarray[Any, Any], true: np.ndarray[Any, Any]) -> float:
    """The largest total variation between a true topic and the nearest one found, each used once."""
    distance = np.abs(found[:, None] - true[None]).sum(-1) / 2
    assert sorted(distance.argmin(0)) == [0, 1, 2]
    return float(distance.min(0).max())


@pytest.mark.parametrize("method", ["cavi", "svi"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_true_topics_are_found(method: Any, dtype: Any) -> None:
    x, beta = generated(400)
    model = TopicModel(3, method=method, dtype=dtype, batch_size=100, max_iter=25, tol=0, n_init=2, random_state=0)
    with np.errstate(all="raise"):
        model.fit(x)
    assert matched(model.topics_, beta / beta.sum(1, keepdims=True)) < 0.05
    assert model.components_.shape == (3, 30)
    np.testing.assert_allclose(model.topics_.sum(1), 1)
    proportions = model.transform(x)
    np.testing.assert_allclose(proportions.sum(1), 1)
    assert (model.predict(x) == proportions.argmax(1)).all()


def test_minibatches_of_a_known_total_approach_the_fit_of_the_whole() -> None:
    x, _ = generated(400)
    whole = TopicModel(3, method="cavi", n_init=3, random_state=0).fit(x)
    stream = TopicModel(3, total_size=400, random_state=1, alpha=1 / 3)
    for _ in range(40):
        for begin in range(0, 400, 80):
            stream.partial_fit(x[begin : begin + 80])
    assert stream.n_iter_ == 200
    assert matched(stream.topics_, whole.topics_) < 0.05
    assert stream.elbo_ == pytest.approx(whole.elbo_, rel=0.05)
    assert stream.completion_score(x, 0) == pytest.approx(whole.completion_score(x, 0), abs=0.02)


def test_a_stream_without_end_makes_its_posterior_the_next_prior() -> None:
    """The concentrations grow by exactly the words seen."""
    x, beta = generated(300)
    model = TopicModel(3, random_state=0, tol=1e-8)
    seen = 0.0
    for begin in range(0, 300, 100):
        model.partial_fit(x[begin : begin + 100])
        seen += x[begin : begin + 100].sum()
        assert model.components_.sum() == pytest.approx(seen + 3 * 30 / 3)
    assert matched(model.topics_, beta / beta.sum(1, keepdims=True)) < 0.1
    assert not model.elbo_trace_[-1] > 0


def test_partial_fit_goes_on_from_a_fit() -> None:
    x, _ = generated(200)
    model = TopicModel(3, random_state=0, total_size=200, tau=50).fit(x)
    before = model.topics_.copy()
    model.partial_fit(x[:100])
    assert 0 < np.abs(model.topics_ - before).sum(1).max() < 0.05


def test_the_adaptive_step_learns_too() -> None:
    x, beta = generated(400)
    model = TopicModel(3, method="svi", step="adaptive", batch_size=64, max_iter=25, tol=0, random_state=0)
    assert matched(model.fit(x).topics_, beta / beta.sum(1, keepdims=True)) < 0.06


def test_elbo_with_one_topic_is_the_evidence() -> None:
    x, _ = generated(30)
    counts = np.asarray(x.sum(0)).ravel()
    model = TopicModel(1, eta=0.4).fit(x)
    evidence = gammaln(12) - gammaln(counts.sum() + 12) + (gammaln(counts + 0.4) - gammaln(0.4)).sum()
    assert model.elbo_ == pytest.approx(evidence, rel=1e-12)


def test_score_samples_bound_exact_log_probabilities_and_perplexity_does_not_depend_on_how_many() -> None:
    x, _ = generated(60)
    model = TopicModel(3, random_state=0, alpha=0.4).fit(x)
    scores = model.score_samples(x)
    assert scores.shape == (60,)
    # One word: log of sum_k E[theta_k] beta_k, which a bound with E[log beta] stays under.
    single = sp.csr_matrix(np.eye(30))
    exact = np.log(model.topics_.mean(0))
    assert (model.score_samples(single) <= exact + 1e-12).all()
    assert (model.score_samples(single) > exact - 0.7).all()
    assert model.score(x) == pytest.approx(scores.mean())
    assert model.perplexity(x) == pytest.approx(math.exp(-scores.sum() / x.sum()))
    assert model.perplexity(sp.vstack([x, x])) == pytest.approx(model.perplexity(x))
    assert 1 < model.perplexity(x) < 30


def test_empty_documents_and_words_never_seen() -> None:
    x, _ = generated(60)
    x = sp.hstack([x, sp.csr_matrix((60, 1), dtype=int)], format="csr")  # a word that never occurs
    x = sp.vstack([x, sp.csr_matrix((1, 31), dtype=int)], format="csr")  # a document without words
    model = TopicModel(3, random_state=0, alpha=[0.2, 0.3, 0.5]).fit(x)
    np.testing.assert_allclose(model.transform(x)[-1], [0.2, 0.3, 0.5])
    assert model.score_samples(x)[-1] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(model.components_[:, -1], 1 / 3)
    unseen = sp.csr_matrix(([5], ([0], [30])), shape=(1, 31))
    assert np.isfinite(model.score_samples(unseen)).all()
    np.testing.assert_allclose(model.transform(unseen).sum(), 1)


def test_no_words_at_all_leave_the_prior() -> None:
    model = TopicModel(2, eta=0.3).fit(np.zeros((4, 5), dtype=int))
    np.testing.assert_allclose(model.components_, 0.3)
    assert model.elbo_ == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least one word"):
        model.perplexity(np.zeros((1, 5), dtype=int))
    with pytest.raises(ValueError, match="nothing is held out"):
        model.completion_score(np.eye(5, dtype=int))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[1.0, -1.0]]), "Negative values in data.*word 1 of document 0"),
        (np.array([[0.5, 1.0]]), "whole numbers.*fractional=True"),
        (np.array([[np.nan, 1.0]]), "NaN"),
        (np.array([[np.inf, 1.0]]), "infinity"),
        (np.array([1.0, 2.0]), "2D array"),
    ],
)
def test_counts_that_are_none_are_refused(x: Any, message: str) -> None:
    for method in (TopicModel(2).fit, TopicModel(2, total_size=9).partial_fit):
        with pytest.raises(ValueError, match=message):
            method(x)


def test_another_vocabulary_is_refused() -> None:
    x, _ = generated(30)
    model = TopicModel(2, max_iter=3).fit(x)
    with pytest.raises(ValueError, match="X has 29 words, but the model knows 30"):
        model.transform(x[:, :29])
    with pytest.raises(ValueError, match="29 features"):
        model.transform(x[:, :29].toarray())
    with pytest.raises(ValueError, match="knows 30 words, vocabulary has 2"):
        model.top_words(["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_topics": 0}, "n_topics"),
        ({"n_topics": 2.5}, "n_topics"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": [1.0, 2.0]}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"eta": -1.0}, "eta"),
        ({"eta": math.inf}, "eta"),
        ({"method": "gibbs"}, "method"),
        ({"kappa": 0.5}, "kappa"),
        ({"kappa": 1.1}, "kappa"),
        ({"tau": 0.0}, "tau"),
        ({"step": "big"}, "step"),
        ({"tol": -1.0}, "tol"),
        ({"local_tol": math.nan}, "local_tol"),
        ({"local_max_iter": 0}, "local_max_iter"),
        ({"total_size": 0}, "total_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"init": "k-means"}, "init"),
        ({"dtype": "float16"}, "dtype"),
        ({"learn_alpha": True}, "learn_alpha"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopicModel(**({"n_topics": 3} | arguments)).fit(np.eye(3, dtype=int))


def test_the_same_seed_gives_the_same_topics() -> None:
    x, _ = generated(80)
    for method in ("cavi", "svi"):
        model = TopicModel(4, method=method, max_iter=5, random_state=3)
        first = model.fit(x).components_
        np.testing.assert_array_equal(clone(model).fit(x).components_, first)
        other = clone(model).set_params(random_state=4).fit(x).components_
        assert np.abs(other - first).max() > 1e-3


def test_restarts_keep_the_highest_bound() -> None:
    x, _ = generated(80)
    one = TopicModel(5, random_state=0, init="random", alpha=0.05).fit(x)
    many = TopicModel(5, random_state=0, init="random", alpha=0.05, n_init=6).fit(x)
    assert many.elbo_ >= one.elbo_


def test_top_words_and_coherence() -> None:
    x, _ = generated(300)
    model = TopicModel(3, random_state=0, n_init=3).fit(x)
    names = [f"w{n}" for n in range(30)]
    words = model.top_words(names, 10)
    assert sorted(sorted(int(word[1:]) // 10 for word in row)[0] for row in words) == [0, 1, 2]
    assert all(len({int(word[1:]) // 10 for word in row}) == 1 for row in words)
    assert model.top_words(n_words=1)[0][0] == words[0][0][1:]
    true = model.coherence(x, 10)
    assert true.shape == (3,)
    assert (true > 0.05).all()
    mixed = TopicModel(3, random_state=0, max_iter=1).fit(sp.csr_matrix(np.full((2, 30), 5)))
    assert mixed.coherence(x, 10).mean() < true.mean()


def test_samples_are_documents_of_the_model() -> None:
    x, _ = generated(300)
    model = TopicModel(3, random_state=0, n_init=2).fit(x)
    documents, theta = model.sample(500, 40, random_state=1)
    assert documents.shape == (500, 30)
    np.testing.assert_array_equal(np.asarray(documents.sum(1)).ravel(), 40)
    np.testing.assert_allclose(theta.sum(1), 1, rtol=1e-6)
    expected = theta.mean(0) @ model.topics_
    np.testing.assert_allclose(np.asarray(documents.mean(0)).ravel() / 40, expected, atol=0.01)
    assert (model.sample(3, 4, random_state=1)[0] != model.sample(3, 4, random_state=1)[0]).nnz == 0
    with pytest.raises(ValueError, match="at least 1"):
        model.sample(0)


def test_learned_alpha_is_kept_and_used(tmp_path: Path) -> None:
    x, _ = generated(300)
    model = TopicModel(3, alpha=5.0, learn_alpha="asymmetric", random_state=0).fit(x)
    assert model.alpha_.max() < 1.0  # 0.3 made the data
    empty = sp.csr_matrix((1, 30), dtype=int)
    np.testing.assert_allclose(model.transform(empty)[0], model.alpha_ / model.alpha_.sum())
    stream = TopicModel(
        3, alpha=5.0, learn_alpha="symmetric", method="svi", batch_size=100, random_state=0, max_iter=30
    )
    assert stream.fit(x).alpha_.max() < 2.0


@pytest.mark.parametrize("method", ["cavi", "svi", "partial_fit"])
def test_saved_and_loaded_it_does_the_same(method: str, tmp_path: Path) -> None:
    x, _ = generated(60)
    model = TopicModel(3, max_iter=5, random_state=0, alpha=[0.1, 0.2, 0.3], total_size=60, tol=0.5)
    if method == "partial_fit":
        model.partial_fit(x)
    else:
        model.set_params(method=method).fit(x)
    loaded = TopicModel.load(model.save(tmp_path / "model"))
    np.testing.assert_allclose(loaded.components_, model.components_, rtol=1e-12)
    np.testing.assert_allclose(loaded.transform(x), model.transform(x), rtol=1e-12)
    assert loaded.elbo_ == pytest.approx(model.elbo_)
    assert loaded.partial_fit(x).components_.shape == (3, 30)


def test_ctrl_c_keeps_the_topics_of_the_last_sweep() -> None:
    x, _ = generated(60)
    model = TopicModel(3, random_state=0)

    def interrupt(step: int, elbo: float, state: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt

    model.on_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        model.fit(x)
    assert model.stop_reason_ == "interrupted"
    assert len(model.elbo_trace_) == 3
    assert model.transform(x).shape == (60, 3)


def test_associated_press(data_directory: Path) -> None:
    """Real articles: held-out words are far likelier than by their frequencies alone, and topics hang together."""
    corpus = load_documents(data_directory / "ap_corpus.npz")
    x = corpus.documents.to_scipy()
    order = np.random.default_rng(0).permutation(x.shape[0])
    train, test = x[order[:800]], x[order[800:1000]]
    model = TopicModel(20, method="svi", max_iter=6, dtype="float32", random_state=0, batch_size=128).fit(train)
    alone = TopicModel(1, random_state=0).fit(train)
    assert model.completion_score(test, 0) > alone.completion_score(test, 0) + 0.15
    shuffled = np.random.default_rng(0).permutation(np.array(model.top_words(n_words=8)).astype(int).ravel())
    assert model.coherence(x, 8).mean() > coherence(corpus.documents, shuffled.reshape(20, 8)).mean() + 0.05
    assert torch.isfinite(torch.tensor(model.elbo_trace_)).all()
