"""The Bayes classifier of a model whose class-conditional likelihoods are exact."""

from __future__ import annotations

import math

import class_gaussians as known
import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE, EncoderDecoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import NetConfig
from jensen.metrics import importance
from jensen.metrics.classification import class_log_likelihood, classify
from jensen.metrics.importance import importance_weighted_log_likelihood


@pytest.mark.parametrize("make", [known.conditional, known.semi_supervised])
@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("at_once", [10, 2**20])
def test_class_log_likelihood_is_exact_with_the_exact_posterior(
    make: type[EncoderDecoder], samples: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "VALUES_AT_ONCE", at_once)
    x = known.data(9).x
    found = class_log_likelihood(make(), x, samples)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), known.log_likelihood(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [known.conditional, known.semi_supervised])
def test_class_log_likelihood_rises_to_it_otherwise(make: type[EncoderDecoder]) -> None:
    x = known.data(40).x
    model = make(exact=False)
    exact = known.log_likelihood(x).double()
    one = (class_log_likelihood(model, x, 1) - exact).mean()
    many = (class_log_likelihood(model, x, 3000) - exact).mean()
    assert one < -0.05
    assert -0.02 < many < 0.02


def test_masked_values_do_not_count() -> None:
    x = known.data(5).x
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    found = class_log_likelihood(known.conditional(), x, 20_000, mask=mask)
    kept = [0, 2]
    part = torch.distributions.MultivariateNormal(known.M[:, kept], known.COVARIANCE[kept][:, kept])
    torch.testing.assert_close(found.float(), part.log_prob(x[:, None, kept]), atol=0.05, rtol=0)


@pytest.mark.parametrize("make", [known.conditional, known.semi_supervised])
@pytest.mark.parametrize("told", [True, False])
def test_the_bayes_classifier_of_an_exact_model(make: type[EncoderDecoder], told: bool) -> None:
    data = known.data(1200, told)
    assert data.label is not None
    progress: list[tuple[int, int]] = []
    found = classify(
        make(),
        data,
        examples=None,
        samples=2,
        class_prior=known.PRIOR,
        progress=lambda done, of: progress.append((done, of)),
    )
    each = known.log_likelihood(data.x)
    joint = each + known.log_prior()
    guess, own = joint.argmax(1), each.gather(1, data.label[:, None])[:, 0]
    right = (guess == data.label).double()
    assert 0.5 < right.mean() < 0.95
    assert found.accuracy == pytest.approx(right.mean().item(), abs=1e-9)
    assert found.accuracy_error == pytest.approx((right.std(correction=0) / math.sqrt(1200)).item(), rel=1e-6)
    assert found.log_likelihood == pytest.approx(own.mean().item(), abs=1e-4)
    assert found.log_likelihood_error == pytest.approx((own.std() / math.sqrt(1200)).item(), rel=1e-3)
    assert found.marginal == pytest.approx(joint.logsumexp(1).mean().item(), abs=1e-4)
    assert found.information == pytest.approx((own - joint.logsumexp(1)).mean().item(), abs=1e-4)
    confusion = [[int(((data.label == i) & (guess == j)).sum()) for j in range(3)] for i in range(3)]
    assert found.confusion == confusion
    assert (found.examples, found.samples, found.classes, found.warnings) == (1200, 2, 3, [])
    assert progress[-1] == (1200, 1200)
    semi = make is known.semi_supervised
    assert (found.recognition is not None) is semi
    if semi:  # its classifier is the exact one, and its own class prior the right one
        assert found.recognition == pytest.approx(found.accuracy, abs=2e-3)
        assert classify(make(), data, examples=None, samples=2).accuracy == found.accuracy
    else:
        uniform = (each.argmax(1) == data.label).double().mean().item()
        assert classify(make(), data, examples=None, samples=2).accuracy == pytest.approx(uniform, abs=1e-9)
        assert uniform != found.accuracy


def test_recognition_is_that_of_the_classifier() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.0, 5.0, 0.0]).expand(len(x), 3)

    data = known.data(500)
    assert data.label is not None
    found = classify(known.semi_supervised(classifier=Always()), data, examples=None, samples=2)
    assert found.recognition == pytest.approx((data.label == 1).double().mean().item())
    assert found.accuracy > 0.6  # Bayes' rule does not ask it


@pytest.mark.parametrize("make", [known.conditional, known.semi_supervised])
def test_a_condition_that_is_ignored_is_said_in_words(make: type[EncoderDecoder]) -> None:
    found = classify(make(listens=False), known.data(300), samples=3)
    (warning,) = found.warnings
    assert "the decoder ignores the condition" in warning
    chance = 0.5 if make is known.semi_supervised else 1 / 3  # without likelihoods, the prior decides
    assert found.chance == pytest.approx(chance)
    assert f"{100 * chance:.1f}% of a guess" in warning
    assert abs(found.accuracy - chance) < 4 * found.accuracy_error


def test_some_examples_the_same_with_the_same_seed() -> None:
    data = known.data(400)
    model = known.conditional(exact=False).train()
    before = torch.get_rng_state()
    first = classify(model, data, examples=60, samples=3, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert first.examples == 60
    torch.rand(3)
    assert classify(model, data, examples=60, samples=3, seed=1) == first
    assert classify(model, data, examples=60, samples=3, seed=2) != first
    assert classify(model, data, examples=1000, samples=1).examples == 400


def test_log_likelihood_of_the_true_class_is_that_of_the_evaluation() -> None:
    data = known.data(50)
    assert data.label is not None
    model = known.conditional(exact=False)
    found = class_log_likelihood(model, data.x, 2000).gather(1, data.label[:, None])[:, 0]
    same = importance_weighted_log_likelihood(model, data.x, samples=2000, condition=data.label)
    assert (found - same).abs().mean() < 0.05


def test_marginal_of_the_semi_supervised_model_is_that_of_the_evaluation() -> None:
    x = known.data(50).x
    model = known.semi_supervised(exact=False, classifier=nn.Linear(3, 3))
    joint = class_log_likelihood(model, x, 2000) + known.log_prior().double()
    same = importance_weighted_log_likelihood(model, x, samples=2000)
    assert (joint.logsumexp(1) - same).abs().mean() < 0.02


def test_table_and_dictionary_hold_the_numbers() -> None:
    found = classify(known.semi_supervised(), known.data(100), samples=2)
    rows = {name: (value, unit) for name, value, unit in found.table()}
    assert rows["Bayes accuracy"][0] == f"{100 * found.accuracy:.2f}% ± {100 * found.accuracy_error:.2f}%"
    assert rows["class log-likelihood"][0] == f"{found.log_likelihood:.3f} ± {found.log_likelihood_error:.3f}"
    assert rows["log-likelihood"][0].startswith(f"{found.marginal:.3f}")
    assert rows["what the class says"][0].startswith(f"{found.information:.3f}")
    assert "recognition accuracy" in rows
    assert found.to_dict()["confusion"] == found.confusion
    assert "recognition accuracy" not in {row[0] for row in classify(known.conditional(), known.data(9)).table()}


def test_wrong_arguments() -> None:
    data = known.data(20)
    for arguments in ({"samples": 0}, {"examples": 0}):
        with pytest.raises(ValueError, match="needs samples >= 1, examples >= 1"):
            classify(known.conditional(), data, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples should be at least 1"):
        class_log_likelihood(known.conditional(), data.x, 0)
    with pytest.raises(ValueError, match="whose condition is a label"):
        classify(VAE((3,), 2), data)
    with pytest.raises(ValueError, match="data with labels"):
        classify(known.conditional(), known.Labelled(data.x, None))
    with pytest.raises(ValueError, match="3 positive numbers"):
        classify(known.conditional(), data, class_prior=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"labels 0 \.\. 2 for a model of 2 classes"):
        classify(VAE((3,), 2, condition_shape=(2,)), data)
    attributes = known.Labelled(data.x, data.label, condition=torch.randn(20, 3))
    with pytest.raises(ValueError, match="use condition label"):
        classify(VAE((3,), 2, condition_shape=(3,), net=NetConfig(width=4)), attributes)
    assert isinstance(known.semi_supervised(), SemiSupervisedVAE)
