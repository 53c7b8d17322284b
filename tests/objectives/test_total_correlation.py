"""The decomposition of the KL against enumeration, quadrature, the ELBO and published values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor
from torch.distributions import Categorical, Laplace, Normal

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Level, Output
from jensen.config import KNOBS, NetConfig, ObjectiveConfig, Schedule
from jensen.objectives.base import Context
from jensen.objectives.elbo import Elbo
from jensen.objectives.total_correlation import TotalCorrelation

STANDARD = Normal(torch.tensor(0.0), torch.tensor(1.0))
NAMES = ("mutual_information", "total_correlation", "dimension_wise_kl")
ESTIMATORS: tuple[Literal["stratified", "weighted"], ...] = ("stratified", "weighted")


def output_of(loc: Tensor, scale: Tensor, samples: int = 1, prior: Any = STANDARD) -> Output:
    """A model's output with q(z | x) = N(loc, scale^2), (batch, *dims), and a target that hardly matters."""
    q = Normal(loc.unsqueeze(0), scale.unsqueeze(0))
    z = q.rsample(torch.Size([samples]))[:, 0]
    likelihood = Normal(z.flatten(2).sum(2, keepdim=True), torch.tensor(1.0))
    return Output(torch.zeros(1, len(loc), 1), likelihood, (Level(z, q, prior),))


def random_output(batch: int = 8, dims: Sequence[int] = (3,), samples: int = 1, prior: Any = STANDARD) -> Output:
    return output_of(torch.randn(batch, *dims), torch.rand(batch, *dims) + 0.1, samples, prior)


def terms(output: Output, size: int, **knobs: Any) -> dict[str, float]:
    return {k: v.item() for k, v in TotalCorrelation(**knobs)(output, Context(dataset_size=size)).terms.items()}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("dims", [(3,), (2, 3, 2)])
def test_the_terms_sum_to_log_q_less_log_p(estimator: str, samples: int, dims: Sequence[int]) -> None:
    prior = Normal(torch.randn(8, *dims), torch.rand(8, *dims) + 0.5)  # of each datum, as p(z | c) has it
    output = random_output(dims=dims, samples=samples, prior=prior)
    found = terms(output, 1000, estimator=estimator)
    (level,) = output.levels
    log_ratio = (level.log_q() - level.log_p()).sum(tuple(range(2, level.z.ndim))).mean().item()
    assert sum(found[name] for name in NAMES) == pytest.approx(log_ratio, rel=1e-5)
    assert found["rate"] == pytest.approx(log_ratio, rel=1e-5)
    assert found["elbo"] == pytest.approx(-found["distortion"] - log_ratio, rel=1e-5)


def test_a_batch_of_all_data_is_exact() -> None:
    """At the z drawn, by SciPy, from the definition."""
    torch.set_default_dtype(torch.float64)
    try:
        output = random_output(batch=6, samples=3)
    finally:
        torch.set_default_dtype(torch.float32)
    (level,) = output.levels
    z, q = level.z.numpy(), level.posterior
    assert isinstance(q, Normal)
    density = stats.norm.logpdf(z[:, :, None], q.loc.numpy()[:, None], q.scale.numpy()[:, None])  # (S, B, N, D)
    joint = special.logsumexp(density.sum(-1), 2) - math.log(6)
    each = special.logsumexp(density, 2) - math.log(6)
    own = level.log_q().sum(2).numpy()
    log_p = stats.norm.logpdf(z).sum(2)
    expected = [(own - joint).mean(), (joint - each.sum(2)).mean(), (each.sum(2) - log_p).mean()]
    found = terms(output, 6)
    np.testing.assert_allclose([found[name] for name in NAMES], expected, rtol=1e-6)
    # A batch larger than the training data is a data set of its own.
    assert terms(output, 4) == pytest.approx(found)


def test_small_dataset_against_quadrature() -> None:
    """Five data, two latents: the integrals over the plane."""
    loc = torch.tensor([[-2.0, -1.5], [-0.5, 0.3], [0.2, 0.1], [1.0, 1.4], [2.0, 1.0]])
    scale = torch.tensor([[0.5, 0.7], [0.6, 0.4], [0.9, 0.5], [0.4, 0.8], [0.7, 0.6]])
    x = np.linspace(-8, 8, 801)
    one = stats.norm.pdf(x[:, None], loc.numpy()[:, None], scale.numpy()[:, None])  # (5, grid, 2)
    q_n = one[:, :, None, 0] * one[:, None, :, 1]
    q = q_n.mean(0)
    marginals, prior = one.mean(0), stats.norm.pdf(x)

    def integral(values: np.ndarray) -> float:
        return float(values.sum() * (x[1] - x[0]) ** 2)

    tiny = 1e-300
    exact = [
        float(np.mean([integral(p * np.log((p + tiny) / (q + tiny))) for p in q_n])),
        integral(q * np.log((q + tiny) / (marginals[:, None, 0] * marginals[None, :, 1] + tiny))),
        integral(q * np.log(marginals[:, None, 0] * marginals[None, :, 1] / (prior[:, None] * prior[None]) + tiny)),
    ]
    samples = 20_000
    found = terms(output_of(loc, scale, samples), 5)
    # A term of one code has a spread of about one nat, and there are five codes a sample.
    np.testing.assert_allclose([found[name] for name in NAMES], exact, atol=4 / math.sqrt(5 * samples))
    assert exact[1] > 0.3


def test_values_of_a_published_example() -> None:
    """Means from N(0, I), D = 10, sigma 0.1, N = 60,000, B = 64; exact: MI 11.0, TC 12.0."""
    found: dict[str, list[list[float]]] = {name: [] for name in ESTIMATORS}
    for _ in range(100):
        output = output_of(torch.randn(64, 10), torch.full((64, 10), 0.1))
        for estimator in ESTIMATORS:
            some = terms(output, 60_000, estimator=estimator)
            found[estimator].append([some[name] for name in NAMES])
    expected = {"stratified": (11.0, 14.3), "weighted": (15.2, 116.7)}
    for estimator in ESTIMATORS:
        values = np.array(found[estimator])
        errors = values.std(0) / math.sqrt(len(values))
        assert errors.max() < 0.07
        # To the digit that is published, and both means have errors, theirs unknown: 0.05 + 3 x 0.07.
        np.testing.assert_allclose(values.mean(0)[:2], expected[estimator], atol=0.26)


def test_equal_posteriors_have_no_information_and_no_total_correlation() -> None:
    output = output_of(torch.full((16, 4), 0.7), torch.full((16, 4), 0.3))
    found = terms(output, 500)
    assert found["mutual_information"] == pytest.approx(0, abs=1e-5)
    assert found["total_correlation"] == pytest.approx(0, abs=1e-5)
    assert found["dimension_wise_kl"] == pytest.approx(found["rate"], rel=1e-5)
    # The weights of the other estimator sum to 1/N: log densities are too low by ln N.
    biased = terms(output, 500, estimator="weighted")
    assert biased["mutual_information"] == pytest.approx(math.log(500), rel=1e-5)
    assert biased["total_correlation"] == pytest.approx(3 * math.log(500), rel=1e-5)


def test_information_ends_at_the_logarithm_of_the_number_of_data() -> None:
    output = output_of(100 * torch.arange(8.0)[:, None].expand(-1, 2), torch.ones(8, 2))
    assert terms(output, 1000)["mutual_information"] == pytest.approx(math.log(1000), rel=1e-5)


def every_density(objective: TotalCorrelation, z: Tensor, loc: Tensor, scale: Tensor, size: int) -> Tensor:
    """q(z) and q(z_d) as the objective estimates them for the first datum of each batch, (batches, 1 + D)."""
    found = []
    for others in itertools.combinations(range(1, size), 2):
        rows = torch.tensor([0, *others])
        level = Level(z.expand(1, 3, -1), Normal(loc[None, rows], scale[None, rows]), STANDARD)
        joint, each = objective._log_aggregate(level, None, size)
        found.append(torch.cat([joint[0, :1], each[0, 0]]).exp())
    return torch.stack(found)


def test_stratified_densities_are_unbiased_over_all_minibatches() -> None:
    size = 6
    loc, scale, z = torch.randn(size, 2).double(), torch.rand(size, 2).double() + 0.5, torch.randn(2).double()
    one = Normal(loc, scale).log_prob(z).exp()
    true = torch.cat([one.prod(1).mean(0, keepdim=True), one.mean(0)])
    found = every_density(TotalCorrelation(), z, loc, scale, size)
    assert found.std(0).min() > 1e-3
    torch.testing.assert_close(found.mean(0), true, rtol=1e-6, atol=0.0)  # weights are kept in float32
    weighted = every_density(TotalCorrelation(estimator="weighted"), z, loc, scale, size).mean(0)
    parts = torch.cat([one.prod(1, keepdim=True), one], 1)
    torch.testing.assert_close(weighted, (parts[0] + 2 * parts[1:].mean(0)) / (3 * size), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_order_of_the_batch_does_not_matter(estimator: str) -> None:
    """As it does if the weight of the own datum is put in a column instead of on the diagonal."""
    loc, scale, z = torch.randn(9, 3), torch.rand(9, 3) + 0.1, torch.randn(2, 9, 3)
    values = []
    for order in (torch.arange(9), torch.randperm(9), torch.arange(9).flip(0)):
        level = Level(z[:, order], Normal(loc[None, order], scale[None, order]), STANDARD)
        output = Output(torch.zeros(1, 9, 1), Normal(z[:, order, :1], 1.0), (level,))
        values.append(terms(output, 300, estimator=estimator))
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert values[2] == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("samples", [1, 3])
def test_unit_weights_are_the_monte_carlo_elbo(estimator: Literal["stratified", "weighted"], samples: int) -> None:
    model = VAE((6,), 3, net=NetConfig(width=8), likelihood="gaussian")
    check_against_elbo(model, torch.randn(12, 6), None, estimator, samples)


def check_against_elbo(
    model: VAE, x: Tensor, condition: Tensor | None, estimator: Literal["stratified", "weighted"], samples: int
) -> None:
    found = []
    for objective in (
        Elbo(samples, "monte-carlo"),
        TotalCorrelation(1.0, 1.0, 1.0, estimator, samples, Schedule()),
    ):
        torch.manual_seed(3)
        loss = objective(model(x, samples=samples, condition=condition), Context(dataset_size=77))
        gradients = torch.autograd.grad(loss.value, list(model.parameters()))
        found.append((loss, torch.cat([gradient.flatten() for gradient in gradients])))
    (elbo, expected), (loss, gradient) = found
    torch.testing.assert_close(loss.value, elbo.value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert loss.terms["elbo"].item() == pytest.approx(elbo.terms["elbo"].item(), rel=1e-5)


def test_every_knob_moves_the_loss() -> None:
    output = random_output(samples=2)
    base: dict[str, Any] = {"alpha": 1.0, "beta": 6.0, "gamma": 1.0}
    changes: list[dict[str, Any]] = [
        {},
        {"alpha": 0.0},
        {"alpha": -0.5},
        {"beta": 1.0},
        {"gamma": 3.0},
        {"estimator": "weighted"},
        {"kl_weight": Schedule(kind="constant", end=0.5)},
    ]
    context = Context(dataset_size=1000)
    values = [TotalCorrelation(**{**base, **change})(output, context).value.item() for change in changes]
    values.append(TotalCorrelation(**base)(output, Context(dataset_size=100)).value.item())
    assert len({round(value, 3) for value in values}) == len(changes) + 1
    assert TotalCorrelation(samples=5).samples == 5
    found = terms(output, 1000)
    price = found["mutual_information"] + 6 * found["total_correlation"] + found["dimension_wise_kl"]
    assert values[0] == pytest.approx(found["distortion"] + price, rel=1e-5)
    assert values[-2] == pytest.approx(found["distortion"] + 0.5 * price, rel=1e-5)


def test_models_are_compared_by_what_they_were_trained_for() -> None:
    output = random_output()
    objective = TotalCorrelation(kl_weight=Schedule(kind="linear", start=0.0, end=1.0, steps=10))
    losses = [objective(output, Context(step=step, dataset_size=100)) for step in (0, 10)]
    assert losses[0].value.item() == pytest.approx(losses[0].terms["distortion"].item(), rel=1e-6)
    assert losses[0].score.item() == losses[1].score.item() == pytest.approx(-losses[1].value.item(), rel=1e-6)
    assert not any(term.requires_grad for term in losses[0].terms.values())


def test_the_configuration_has_these_knobs() -> None:
    config = ObjectiveConfig(kind="total-correlation")
    objective = TotalCorrelation(
        **{name: getattr(config, name) for name in KNOBS[config.kind]},
        samples=config.samples,
        kl_weight=config.kl_weight,
    )
    assert (objective.alpha, objective.beta, objective.gamma) == (1.0, 6.0, 1.0)
    assert objective.estimator == "stratified"
    said = objective.describe(10, 784)
    assert "6 x total correlation" in said
    assert "stratified" in said


def enumerated_output(logits: Tensor, loc: Tensor, scale: Tensor, noise: Tensor) -> Output:
    """A label of K classes summed over, and z with a posterior for each: loc and scale (K, B, D)."""
    label = Categorical(logits=logits[None])
    q = Normal(loc, scale)
    z = loc + scale * noise
    y = torch.arange(len(loc))[:, None].expand(-1, loc.shape[1])
    uniform = Categorical(logits=torch.zeros(len(loc)))
    levels = (Level(y, label, uniform), Level(z, q, STANDARD))
    return Output(torch.zeros(1, loc.shape[1], 1), Normal(z[..., :1], 1.0), levels, log_weights=label.logits[0].T)


def test_an_enumerated_label_is_a_mixture_over_data_and_labels() -> None:
    k, b, d, size = 3, 4, 2, 10
    logits, loc, scale, noise = torch.randn(b, k), torch.randn(k, b, d), torch.rand(k, b, d) + 0.3, torch.randn(k, b, d)
    found = terms(enumerated_output(logits, loc, scale, noise), size)
    z, share = (loc + scale * noise).numpy(), logits.softmax(1).numpy()
    expected = np.zeros(3)
    for i, y in itertools.product(range(b), range(k)):
        joint, each = 0.0, np.zeros(d)
        for j, c in itertools.product(range(b), range(k)):
            weight = share[j, c] * (1 / size if i == j else (size - 1) / (size * (b - 1)))
            density = stats.norm.pdf(z[y, i], loc[c, j], scale[c, j])
            joint, each = joint + weight * density.prod(), each + weight * density
        own = stats.norm.logpdf(z[y, i], loc[y, i], scale[y, i]).sum()
        log_p = stats.norm.logpdf(z[y, i]).sum()
        logs = np.log(joint), np.log(each).sum()
        expected += share[i, y] / b * np.array([own - logs[0], logs[0] - logs[1], logs[1] - log_p])
    np.testing.assert_allclose([found[name] for name in NAMES], expected, rtol=1e-4, atol=1e-5)
    label = (share * np.log(share * k)).sum(1).mean()
    assert found["label_kl"] == pytest.approx(label, rel=1e-4)
    assert found["rate"] == pytest.approx(expected.sum() + label, rel=1e-4)


def test_the_label_is_weighed_by_no_knob() -> None:
    output = enumerated_output(torch.randn(4, 3), torch.randn(3, 4, 2), torch.rand(3, 4, 2) + 0.3, torch.randn(3, 4, 2))
    loss = TotalCorrelation(0.5, 5.0, 3.0)(output, Context(dataset_size=20))
    weighed = [weight * loss.terms[name] for weight, name in zip((0.5, 5.0, 3.0), NAMES, strict=True)]
    assert loss.terms["label_kl"] > 0.1
    torch.testing.assert_close(
        loss.value, loss.terms["distortion"] + torch.stack(weighed).sum() + loss.terms["label_kl"]
    )


def test_structure_of_the_prior_itself_has_a_price() -> None:
    """Codes that are p(z | c), around (3, 3) or (-3, -3): I = TC = ln 2 and -2 ln 2 of the rate, which is 0."""
    at = 6 * (torch.arange(512) % 2)[:, None].expand(-1, 2).float() - 3
    scale = torch.full_like(at, 0.5)
    found = terms(output_of(at, scale, prior=Normal(at[None], scale[None])), 512)
    assert found["rate"] == pytest.approx(0.0, abs=1e-6)
    assert [found[name] / math.log(2) for name in NAMES] == pytest.approx([1, 1, -2], abs=1e-4)


def test_numeric_gradient_with_an_enumerated_label() -> None:
    noise = torch.randn(2, 3, 2).double()
    inputs = [torch.randn(3, 2), torch.randn(2, 3, 2), torch.rand(2, 3, 2) + 0.3]

    def value(logits: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        output = enumerated_output(logits, loc, scale, noise)
        return TotalCorrelation(0.3, 5.0, 2.0)(output, Context(dataset_size=20)).value

    assert torch.autograd.gradcheck(value, [values.double().requires_grad_() for values in inputs])


def test_unit_weights_are_the_elbo_of_a_semi_supervised_model() -> None:
    model = SemiSupervisedVAE((6,), 2, net=NetConfig(width=8), likelihood="gaussian", condition_shape=(3,))
    condition = torch.eye(3).repeat(2, 1)
    condition[3:] = 0  # three labels are known: points, whose other classes weigh nothing
    check_against_elbo(model, torch.randn(6, 6), condition, "stratified", 1)


def test_posteriors_other_than_normal() -> None:
    torch.manual_seed(5)
    q = Laplace(torch.randn(1, 4, 2).double(), torch.rand(1, 4, 2).double() + 0.5)
    z = q.rsample()
    output = Output(torch.zeros(1, 4, 1), Normal(z[..., :1], 1.0), (Level(z, q, Laplace(0.0, 1.0)),))
    density = stats.laplace.logpdf(z[0, :, None].numpy(), q.loc.numpy(), q.scale.numpy())
    joint = special.logsumexp(density.sum(2), 1) - math.log(4)
    found = terms(output, 4)
    assert found["mutual_information"] == pytest.approx(float((q.log_prob(z).sum(2)[0].numpy() - joint).mean()))


def test_sums_stay_in_float32_under_autocast() -> None:
    torch.manual_seed(1)
    output = random_output(batch=32, dims=(10,))
    expected = terms(output, 60_000)
    with torch.autocast("cpu", torch.bfloat16):
        loss = TotalCorrelation()(output, Context(dataset_size=60_000))
    assert loss.value.dtype == torch.float32
    for name in NAMES:
        assert loss.terms[name].item() == pytest.approx(expected[name], rel=1e-6)


def varying() -> Output:
    output = random_output(samples=2)
    (level,) = output.levels
    assert isinstance(level.posterior, Normal)
    q = Normal(level.posterior.loc + torch.randn(2, 1, 1), level.posterior.scale)
    return Output(output.target, output.likelihood, (Level(level.z, q, STANDARD),))


def two_levels() -> Output:
    output = random_output()
    return Output(output.target, output.likelihood, output.levels * 2)


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (lambda: random_output(batch=1), 100, "a batch of at least 2 data, got 1"),
        (random_output, 1, r"Context\(dataset_size=N\), got 1"),
        (two_levels, 100, "one level of latents with a posterior and a prior, but there are 2"),
        (varying, 100, "the posterior differs between samples"),
        (lambda: AutoEncoder((4,), 2, likelihood="gaussian")(torch.randn(5, 4)), 100, "needs a posterior"),
    ],
)
def test_outputs_that_have_no_total_correlation(make: Callable[[], Output], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TotalCorrelation()(make(), Context(dataset_size=size))


def test_wrong_arguments() -> None:
    for knobs, message in (
        ({"alpha": math.inf}, "alpha should be finite, got inf"),
        ({"beta": -1.0}, "beta should be 0 or more and finite, got -1.0"),
        ({"gamma": math.nan}, "gamma should be 0 or more and finite, got nan"),
        ({"estimator": "exact"}, "estimator should be stratified or weighted, got 'exact'"),
        ({"samples": 0}, "samples should be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            TotalCorrelation(**knobs)  # type: ignore[arg-type]
