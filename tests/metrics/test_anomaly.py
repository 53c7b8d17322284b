"""Anomaly scores against models whose log p(x) is known, and cases that are made by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.density import AutoregressiveModel
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Output
from jensen.config import AutoregressiveConfig, NetConfig
from jensen.config.columns import Column
from jensen.data import Batch, Dataset, Split, load_data, prepare
from jensen.likelihoods import Gaussian
from jensen.metrics import AnomalyScorer, code_length, importance_weighted_log_likelihood
from jensen.metrics.anomaly import METHODS, available, meaning


@dataclass
class Values:
    """Data from tensors."""

    x: Tensor
    levels: int | None = None
    transform: str = "none"
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        x = self.x[index]
        return Batch(x, x, None, index, mask=None if self.mask is None else self.mask[index])


def first(split: Split, count: int) -> Split:
    """The first examples of a split."""
    return replace(split, indices=split.indices[:count])


DECODER = torch.tensor([[0.9, 0.1], [0.2, 1.1], [0.5, -0.7]], dtype=torch.float64)
NOISE = 0.6


def linear_model(spread: float = 1.0) -> VAE:
    """p(z) = N(0, I), p(x | z) = N(B z, 0.6^2 I) in float64, with the exact posterior's mean and the variances of it.

    `spread` multiplies the standard deviations: with 1, and B's columns made orthogonal, q is the posterior.
    """
    left, values, _ = torch.linalg.svd(DECODER, full_matrices=False)
    loadings = left * values  # the same covariance as B, and a posterior that is diagonal
    variance = 1 / (1 + values**2 / NOISE**2)
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        mean = variance[:, None] * loadings.T / NOISE**2
        encoder.weight.copy_(torch.cat([mean, torch.zeros_like(mean)]))
        encoder.bias.copy_(torch.cat([torch.zeros(2), 7 * torch.atanh((spread * variance.sqrt()).log() / 7)]))
        decoder.weight.copy_(loadings)
    return VAE((3,), 2, likelihood=Gaussian(NOISE), encoder=encoder, decoder=decoder).double()


def exact(x: Tensor) -> Tensor:
    covariance = DECODER @ DECODER.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
    return MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(x)


@pytest.fixture(scope="module")
def points() -> Values:
    torch.manual_seed(3)
    return Values(2 * torch.randn(200, 3, dtype=torch.float64))


def test_importance_score_is_the_likelihood_in_closed_form(points: Values) -> None:
    scores = AnomalyScorer(linear_model(), points, samples=3)(points)
    torch.testing.assert_close(scores.values["importance"], -exact(points.x), rtol=0, atol=1e-7)
    # Of a posterior that is too wide, after many samples.
    wide = AnomalyScorer(linear_model(1.3), points, ["importance"], samples=1000)(points)
    torch.testing.assert_close(wide.values["importance"], -exact(points.x), rtol=0, atol=0.2)


def test_elbo_score_is_too_high_by_the_divergence_from_the_posterior(points: Values) -> None:
    spread = 1.3
    scores = AnomalyScorer(linear_model(spread), points, samples=2000)(points)
    gap = 2 * (0.5 * (spread**2 - 1) - math.log(spread))  # KL of N(0, 1.3^2) from N(0, 1), in two dimensions
    difference = scores.values["elbo"] + exact(points.x) - gap
    assert difference.mean().abs() < 0.01
    assert difference.abs().max() < 0.3


def test_the_divergence_in_the_elbo_score_is_that_in_closed_form(points: Values) -> None:
    """And so the same for any draws, also for one."""
    model = linear_model(1.3)
    scores = AnomalyScorer(model, points, ["elbo", "reconstruction"], samples=1)(points).values
    q = model.posterior(points.x)
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
    torch.testing.assert_close(scores["elbo"] - scores["reconstruction"], kl)


def test_a_score_is_of_one_datum_alone(points: Values) -> None:
    """Batch normalisation is used as it was trained, and learns nothing from what is scored."""
    torch.manual_seed(0)
    model = AutoEncoder((3,), 2, net=NetConfig(width=8, normalisation="batch"), likelihood="gaussian").double().train()
    before = [value.clone() for value in model.state_dict().values()]
    scorer = AnomalyScorer(model, points)
    alone = Values(points.x[7:8])
    torch.testing.assert_close(
        scorer(points).values["reconstruction"][7:8], scorer(alone).values["reconstruction"], rtol=1e-9, atol=0
    )
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_a_background_model_draws_though_the_model_does_not() -> None:
    data = load_data("digits", limit=20)
    net = AutoregressiveConfig(width=4, depth=1)
    model = AutoregressiveModel(data.shape, levels=2, net=net)
    other = VAE(data.shape, 2, net=NetConfig(width=8))
    drawn = []
    original = other.forward

    def forward(*inputs: Any, samples: int = 1, **named: Any) -> Output:
        drawn.append(samples)
        return original(*inputs, samples=samples, **named)

    scorer = AnomalyScorer(model, data.train, ["background"], background=other, samples=30)
    other.forward = forward  # type: ignore[method-assign]
    scorer(first(data.test, 3))
    assert sum(drawn) == 30


def test_reconstruction_score_by_hand(points: Values) -> None:
    model = linear_model()
    found = AnomalyScorer(model, points, ["reconstruction"], samples=2000)(points).values["reconstruction"]
    with torch.no_grad():
        output = model(points.x)
    posterior = output.levels[0].posterior
    assert posterior is not None
    left, values, _ = torch.linalg.svd(DECODER, full_matrices=False)
    loadings = left * values
    residual = points.x - posterior.mean[0] @ loadings.T
    trace = (loadings**2 @ posterior.variance[0].T).sum(0)
    expected = (residual.square().sum(1) + trace) / (2 * NOISE**2) + 1.5 * math.log(2 * math.pi * NOISE**2)
    assert (found - expected).abs().max() < 0.4
    assert (found - expected).mean().abs() < 0.01


def test_typicality_is_the_distance_from_the_mean_of_training(points: Values) -> None:
    training = Values(points.x[:100])
    scorer = AnomalyScorer(linear_model(), training, ["typicality"], samples=2)
    typical = exact(training.x).mean()
    assert scorer.typical == pytest.approx(typical.item(), abs=1e-7)
    found = scorer(points).values["typicality"]
    torch.testing.assert_close(found, (exact(points.x) - typical).abs(), rtol=0, atol=1e-6)
    # What is more probable than all training data is as far from typical as its likelihood says: the origin.
    origin = Values(torch.zeros(1, 3, dtype=torch.float64))
    assert scorer(origin).values["typicality"].item() == pytest.approx((exact(origin.x) - typical).item(), abs=1e-6)
    assert (exact(origin.x) > exact(training.x)).all()


def test_threshold_is_a_quantile_of_the_training_scores(points: Values) -> None:
    scorer = AnomalyScorer(linear_model(), points, ["importance"], samples=2)
    values = -exact(points.x)
    assert scorer.threshold("importance", 0.9) == pytest.approx(values.quantile(0.9).item(), abs=1e-6)
    assert (values > scorer.threshold("importance")).double().mean() == pytest.approx(0.01, abs=0.006)


def test_the_reference_is_at_most_two_thousand_evenly_spaced() -> None:
    training = Values(torch.arange(5000, dtype=torch.float64)[:, None].expand(5000, 3) / 5000)
    scorer = AnomalyScorer(linear_model(), training, ["importance"], samples=1)
    assert len(scorer.reference) == 2000
    places = torch.linspace(0, 4999, 2000, dtype=torch.float64).round().long()
    torch.testing.assert_close(scorer.reference.values["importance"], -exact(training.x[places]), rtol=0, atol=1e-6)


def test_same_seed_same_scores_and_the_generator_is_left_alone() -> None:
    data = load_data("digits", limit=30)
    model = VAE(data.shape, 3, net=NetConfig(width=16))
    model.train()
    state = torch.get_rng_state()
    one, again, other = (
        AnomalyScorer(model, data.train, samples=4, seed=seed)(first(data.test, 30)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    for method, values in one.values.items():
        assert torch.equal(values, again.values[method])
        assert not torch.equal(values, other.values[method])


def test_ratio_is_the_likelihood_less_the_length_of_the_code() -> None:
    data = load_data("digits", transform="none", limit=50)
    model = VAE(data.shape, 3, net=NetConfig(width=16), likelihood="discretised-logistic", levels=17)
    scores = AnomalyScorer(model, data.train, ["ratio", "importance"], samples=5)(data.test)
    stored = data.dataset.values[data.test.indices].long()  # type: ignore[index]
    lengths = code_length(stored, 17)
    torch.testing.assert_close(scores.values["ratio"], scores.values["importance"] - lengths)


@pytest.mark.parametrize("transform", ["binarise", "dequantise"])
def test_ratio_sees_the_very_draw_that_the_model_sees(transform: str) -> None:
    data = load_data("digits", transform=transform, limit=50)
    likelihood = "bernoulli" if transform == "binarise" else "gaussian"
    model = VAE(data.shape, 2, net=NetConfig(width=8), likelihood=likelihood, levels=data.levels)
    scorer = AnomalyScorer(model, data.train, ["ratio", "importance"], samples=2)
    scores = scorer(data.test)
    lengths = scores.values["importance"] - scores.values["ratio"]
    if transform == "dequantise":  # the noise is below one level, so that the levels come back
        stored = data.dataset.values[data.test.indices].long()  # type: ignore[index]
        torch.testing.assert_close(lengths, code_length(stored, 17))
    else:  # a draw of the pixels that are black or white for certain
        assert lengths.std() > 0
        assert (lengths / (8 * math.log(2)) - (lengths / (8 * math.log(2))).round()).abs().max() < 1e-6


def test_background_compares_two_models_on_the_same_draw() -> None:
    """Of an image that is binarised at random, each model by itself."""
    data = load_data("digits", limit=20)
    torch.manual_seed(0)
    model, other = (VAE(data.shape, size, net=NetConfig(width=8)) for size in (2, 5))
    test = first(data.test, 20)
    alone = [AnomalyScorer(each, data.train, ["importance"], samples=1000)(test) for each in (model, other)]
    found = AnomalyScorer(model, data.train, ["background"], background=other, samples=1000)(test).values["background"]
    difference = alone[0].values["importance"] - alone[1].values["importance"]
    assert (found - difference).abs().max() < 0.3
    assert difference.std() > 0.5


def test_gaps_are_not_scored() -> None:
    """A value that is not known is left out of log p(x), which is then that of the others."""
    x = torch.randn(20, 3, dtype=torch.float64)
    mask = torch.ones_like(x)
    mask[:, 2] = 0
    values = Values(x, mask=mask)
    found = AnomalyScorer(linear_model(1.2), values, ["importance"], samples=5000)(values).values["importance"]
    covariance = (DECODER @ DECODER.T + NOISE**2 * torch.eye(3, dtype=torch.float64))[:2, :2]
    known = MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(x[:, :2])
    assert (found + known).abs().median() < 0.05


def test_a_table_with_gaps_and_categories() -> None:
    columns = (Column(name="size"), Column(name="kind", kind="categorical", categories=("a", "b")))
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([torch.randn(60, generator=generator), (torch.arange(60) % 2).float()], 1)
    values[::7, 0] = torch.nan
    values[59] = torch.nan
    places = torch.arange(60)
    rows = Dataset("rows", values, (2,), None, places[:30], places[30:40], places[40:], columns=columns)
    data = prepare(rows)
    model = VAE((2,), 1, net=NetConfig(width=8), likelihood="table", columns=columns)
    scores = AnomalyScorer(model, data.train, samples=2000)(data.test)
    assert all(bool(torch.isfinite(each).all()) for each in scores.values.values())
    # Of a row of which nothing is known, log p is log 1.
    assert scores.values["reconstruction"][-1].item() == 0
    assert abs(scores.values["importance"][-1].item()) < 0.1


def test_a_density_has_its_likelihood_and_what_is_made_of_it() -> None:
    data = load_data("digits", limit=40)
    net = AutoregressiveConfig(width=8, depth=1)
    model = AutoregressiveModel(data.shape, levels=2, net=net).eval()
    grey = Values((data.dataset.values[:40].float() > 8).float(), levels=2)  # type: ignore[index,union-attr]
    scorer = AnomalyScorer(model, grey)
    assert scorer.methods == ("importance", "typicality", "ratio")
    assert scorer.samples == 1
    found = scorer(grey)
    with torch.no_grad():
        torch.testing.assert_close(found.values["importance"], -model.log_prob(grey.x).double())


def test_a_plain_auto_encoder_has_its_reconstruction_alone() -> None:
    data = load_data("digits", limit=40)
    model = AutoEncoder(data.shape, 3, net=NetConfig(width=8))
    scorer = AnomalyScorer(model, data.train)
    assert scorer.methods == ("reconstruction",)
    assert scorer.typical is None
    with pytest.raises(ValueError, match="no score 'elbo': a plain auto-encoder has no distribution"):
        AnomalyScorer(model, data.train, ["elbo"])


def test_a_semi_supervised_model_is_told_no_label() -> None:
    data = load_data("digits", transform="none", limit=10, condition="label")
    model = SemiSupervisedVAE(data.shape, 2, condition_shape=(10,), net=NetConfig(width=8), likelihood="bernoulli")
    found = AnomalyScorer(model, data.train, ["importance"], samples=500)(first(data.test, 10)).values["importance"]
    batch = data.test.batch(torch.arange(10))
    model.eval()
    assert batch.condition is not None
    exactly = importance_weighted_log_likelihood(
        model, batch.x, samples=500, condition=torch.zeros_like(batch.condition)
    )
    torch.testing.assert_close(found, -exactly, rtol=0, atol=0.3)


def test_a_conditional_model_is_told_the_condition() -> None:
    data = load_data("digits", transform="none", limit=10, condition="label")
    model = VAE(data.shape, 2, condition_shape=(10,), net=NetConfig(width=8), likelihood="bernoulli")
    found = AnomalyScorer(model, data.train, ["importance"], samples=500)(first(data.test, 10)).values["importance"]
    batch = data.test.batch(torch.arange(10))
    model.eval()
    exactly = importance_weighted_log_likelihood(model, batch.x, samples=500, condition=batch.condition)
    torch.testing.assert_close(found, -exactly, rtol=0, atol=0.3)


def test_why_a_score_is_not_available(points: Values) -> None:
    model = linear_model()
    said = available(model, points)
    assert [name for name in METHODS if said[name] is None] == ["elbo", "importance", "reconstruction", "typicality"]
    assert said["ratio"] is not None
    assert "images or signals" in said["ratio"]
    digits = load_data("digits", transform="none", limit=20)
    grey = available(VAE(digits.shape, 2, likelihood="bernoulli"), digits.train)
    assert grey["ratio"] is not None
    assert "no probability of 17 levels" in grey["ratio"]
    shapes = available(model, points, VAE((4,), 2, likelihood="gaussian"))
    assert shapes["background"] is not None
    assert "of data (4,)" in shapes["background"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples >= 1"),
        ({"methods": ["likelihood"]}, "no score 'likelihood': there are elbo, importance"),
        ({"methods": ["background"]}, "it needs a background model"),
    ],
)
def test_what_is_refused(points: Values, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnomalyScorer(linear_model(), points, **change)  # type: ignore[arg-type]


def test_nothing_to_score_is_refused(points: Values) -> None:
    empty = Values(torch.zeros(0, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="training data"):
        AnomalyScorer(linear_model(), empty)
    with pytest.raises(ValueError, match="nothing to score"):
        AnomalyScorer(linear_model(), points, ["elbo"], samples=1)(empty)


def test_every_score_has_a_meaning() -> None:
    assert len({meaning(name, 10) for name in METHODS}) == len(METHODS)
    assert "10 importance samples" in meaning("importance", 10)
