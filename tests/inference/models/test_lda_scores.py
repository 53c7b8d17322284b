"""Document completion, coherence and top words against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jensen.families import Dirichlet
from jensen.inference.models.documents import Documents
from jensen.inference.models.lda import LocalStep
from jensen.inference.models.lda_scores import coherence, completion, infer_proportions, top_words

TOPICS = Dirichlet.from_standard(
    torch.tensor([[5.0, 1.0, 3.0, 0.1], [0.2, 4.0, 0.3, 2.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
)
ALPHA = torch.tensor([0.4, 0.7, 0.2], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_completion_is_the_mean_log_probability_of_held_out_tokens(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    observed, held = rng.poisson(1.0, (7, 4)), rng.poisson(1.0, (7, 4))
    observed[2] = 0  # then the prior's proportions
    local = LocalStep(1e-6, 1000)
    seen = Documents.from_matrix(observed, dtype=dtype)
    found = completion(seen, Documents.from_matrix(held), TOPICS, ALPHA, local, chunk_size=3)
    theta, _ = infer_proportions(seen, TOPICS, ALPHA, local)
    gamma = theta.natural_parameters[0].numpy() + 1
    np.testing.assert_allclose(gamma.sum(1), ALPHA.sum().item() + observed.sum(1), rtol=1e-5)
    np.testing.assert_allclose(gamma[2], ALPHA.numpy(), rtol=1e-6)
    rows = TOPICS.standard_parameters.concentration.numpy()
    p = (gamma / gamma.sum(1, keepdims=True)) @ (rows / rows.sum(1, keepdims=True))
    assert found == pytest.approx((held * np.log(p)).sum() / held.sum(), rel=1e-9)


def test_completion_needs_something_to_complete() -> None:
    empty = Documents.from_matrix(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="nothing is held out"):
        completion(empty, empty, TOPICS, ALPHA)


def test_chunks_do_not_change_proportions() -> None:
    documents = Documents.from_matrix(np.random.default_rng(1).poisson(1.0, (9, 4)))
    whole, pieces = (infer_proportions(documents, TOPICS, ALPHA, chunk_size=size) for size in (100, 2))
    torch.testing.assert_close(whole[0].natural_parameters[0], pieces[0].natural_parameters[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(whole[1], pieces[1], rtol=1e-10, atol=1e-10)


def test_top_words_in_order() -> None:
    assert top_words(TOPICS, 2).tolist()[:2] == [[0, 2], [1, 3]]
    for n in (0, 5):
        with pytest.raises(ValueError, match="n_words must be from 1 to the 4 words"):
            top_words(TOPICS, n)


def test_coherence_by_hand() -> None:
    x = np.array([[1, 2, 0, 1, 0], [3, 1, 0, 1, 0], [0, 0, 1, 1, 0], [1, 0, 1, 1, 0]])
    documents = Documents.from_matrix(x)
    # words 0 and 1: p = 3/4, 1/2, together 1/2; 1 and 2 never meet; 3 is everywhere; 4 nowhere
    first = np.log(0.5 / (0.75 * 0.5)) / -np.log(0.5)
    assert coherence(documents, [[0, 1]])[0] == pytest.approx(first)
    assert coherence(documents, [[1, 2]])[0] == -1.0
    assert coherence(documents, [[3, 3]])[0] == 1.0
    assert coherence(documents, [[0, 3]])[0] == pytest.approx(0.0)  # always there: tells nothing
    assert coherence(documents, [[0, 4]])[0] == -1.0
    with_third = [first, -1.0, np.log(0.25 / (0.75 * 0.5)) / -np.log(0.25)]
    np.testing.assert_allclose(coherence(documents, [[0, 1, 2], [0, 1, 1]])[0], np.mean(with_third))


@pytest.mark.parametrize(("words", "message"), [([[0]], "at least two"), ([[0, 9]], "from 0 to 3"), ([0, 1], "shape")])
def test_coherence_refuses_what_it_cannot_pair(words: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coherence(Documents.from_matrix(np.ones((2, 4))), words)
