"""The density without a code: against enumeration, its net value after value, and entropies that are known."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen import load_data, train
from jensen.autoencoders import AutoregressiveModel, make_model, resolve
from jensen.config import AutoregressiveConfig, Config, DataConfig, ModelConfig
from jensen.data import Dataset, prepare
from jensen.errors import ConfigError
from jensen.metrics.evaluation import bits_per_dim
from jensen.nn.autoregressive import CodeTransformer, GatedPixelCNN
from jensen.objectives import Elbo

SMALL = AutoregressiveConfig(width=8, depth=2)
TRANSFORMER = AutoregressiveConfig(kind="transformer", width=8, depth=1, heads=2)
GRID = (1, 2, 2)


def model_of(
    shape: tuple[int, ...] = GRID,
    levels: int = 3,
    condition_shape: tuple[int, ...] | None = None,
    net: AutoregressiveConfig = SMALL,
) -> AutoregressiveModel:
    """In float64, with weights far from those it starts with."""
    model = AutoregressiveModel(shape, levels=levels, net=net, condition_shape=condition_shape).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def every(shape: tuple[int, ...] = GRID, levels: int = 3) -> Tensor:
    """All data that there are, (levels ** values, *shape) in [0, 1]."""
    data = list(itertools.product(range(levels), repeat=math.prod(shape)))
    return torch.tensor(data, dtype=torch.float64).view(-1, *shape) / (levels - 1)


@torch.no_grad()
def naive(model: AutoregressiveModel, x: Tensor, context: Tensor | None = None) -> Tensor:
    """log p of each datum, by the way that draws go."""
    net = model.likelihood.net
    state, total = net.begin(len(x), context), torch.zeros(len(x), dtype=torch.float64)
    for value in (x * (net.levels - 1)).round().long().movedim(1, -1).flatten(1).T:
        total += net.logits(state).log_softmax(-1).gather(-1, value[:, None])[:, 0]
        net.feed(state, value)
    return total


@pytest.mark.parametrize("net", [SMALL, TRANSFORMER])
@pytest.mark.parametrize("condition_shape", [None, (3,), (2, 2, 2)])
def test_all_data_together_have_probability_one(
    net: AutoregressiveConfig, condition_shape: tuple[int, ...] | None
) -> None:
    model, data = model_of(GRID, 3, condition_shape, net), every()
    found = []
    for _ in range(2):
        condition = None if condition_shape is None else torch.randn(1, *condition_shape, dtype=torch.float64)
        told = None if condition is None else condition.expand(81, *condition.shape[1:])
        log_prob = model.log_prob(data, told)
        assert log_prob.shape == (81,)
        assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-9)
        planes = told if told is None or told.ndim == 4 else told[..., None, None]
        torch.testing.assert_close(log_prob, naive(model, data, planes))
        found.append(log_prob)
    assert torch.equal(*found) == (condition_shape is None)


def test_of_signals_and_several_channels() -> None:
    for shape, condition_shape in (((2, 5), (3,)), ((2, 5), (3, 5)), ((3, 2, 3), None)):
        model = model_of(shape, 4, condition_shape)
        x = torch.randint(4, (6, *shape)).double() / 3
        condition = None if condition_shape is None else torch.randn(6, *condition_shape, dtype=torch.float64)
        planes = condition[..., None] if condition is not None and condition.ndim == 2 else condition
        torch.testing.assert_close(model.log_prob(x, condition), naive(model, x, planes))


def test_what_forward_returns() -> None:
    model, x = model_of((1, 3, 3), 4, (2,)), torch.randint(4, (5, 1, 3, 3)).double() / 3
    condition = torch.randn(5, 2, dtype=torch.float64)
    output = model(x, samples=7, condition=condition)
    assert output.levels == ()
    assert not output.probabilistic
    assert output.likelihood.batch_shape == (1, 5, 1, 3, 3)
    expected = model.log_prob(x, condition)
    torch.testing.assert_close(output.log_likelihood(), expected[None])
    loss = Elbo()(output)
    torch.testing.assert_close(loss.value, -expected.mean())
    torch.testing.assert_close(loss.terms["log_likelihood"], expected.mean())
    loss.value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert (model.latent, model.stochastic, model.levels(x, condition)) == (0, False, ((), None))
    # what is scored is the target, and nothing else
    torch.testing.assert_close(model(torch.rand_like(x), x, condition=condition).log_likelihood()[0], expected)


def test_labels_stand_for_one_hot_vectors() -> None:
    model, x = model_of((1, 3, 3), 4, (3,)), torch.randint(4, (3, 1, 3, 3)).double() / 3
    expected = model.log_prob(x, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(model.log_prob(x, torch.arange(3)), expected)
    swapped = model.log_prob(x, torch.tensor([1, 1, 1]))
    assert (swapped - expected).abs()[[0, 2]].min() > 1e-3


def test_a_mask_leaves_a_probability_of_the_rest() -> None:
    model = model_of()
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(1, 1, 2, 2)
    x = every()
    observed = x[x[:, 0, 0, 1] == 0]  # all of what is observed, once
    found = model(observed, mask=mask).log_likelihood()[0]
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)
    hidden = observed.clone()
    hidden[:, 0, 0, 1] = math.nan
    torch.testing.assert_close(model(hidden, mask=mask).log_likelihood()[0], found)
    scores = model(observed).likelihood.log_prob(observed)
    torch.testing.assert_close((scores * mask).sum((-3, -2, -1))[0], found)


def test_bits_per_dimension_of_a_net_that_knows_nothing() -> None:
    model = AutoregressiveModel((1, 3, 3), levels=11, net=SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    log_prob = model.log_prob(torch.randint(11, (5, 1, 3, 3)) / 10)
    bits = bits_per_dim(
        log_prob.mean().item(), 9, likelihood_levels=model.likelihood.levels, data_levels=11, transform="none"
    )
    assert bits == pytest.approx(math.log2(11), rel=1e-6)


def test_frequencies_of_samples_by_class() -> None:
    model, n = model_of(GRID, 3, (2,)), 6000
    labels = torch.arange(2).repeat_interleave(n)
    draws = model.sample(2 * n, condition=labels)
    assert draws.shape == (2 * n, 1, 2, 2)
    number = (2 * draws.flatten(1)).round().long() @ torch.tensor([27, 9, 3, 1])
    for label in range(2):
        expected = model.log_prob(every(), torch.full((81,), label)).exp()
        found = torch.bincount(number[labels == label], minlength=81) / n
        error = (expected * (1 - expected) / n).sqrt()
        assert ((found - expected).abs() <= 4.5 * error + 3 / n).all()
        assert (found - expected).abs().sum() < 0.12  # of another class it is more
    other = model.log_prob(every(), torch.zeros(81, dtype=torch.int64)).exp()
    assert (torch.bincount(number[labels == 1], minlength=81) / n - other).abs().sum() > 0.3


def test_one_condition_for_all_and_choices_of_drawing() -> None:
    model = model_of((1, 3, 3), 4, (2,))
    for one in (torch.tensor(1), torch.tensor([0.0, 1.0], dtype=torch.float64)):
        torch.manual_seed(1)
        found = model.sample(6, condition=one)
        torch.manual_seed(1)
        assert torch.equal(found, model.sample(6, condition=torch.ones(6, dtype=torch.int64)))
    greedy = model.sample(5, condition=torch.tensor(1), top_k=1)
    assert greedy.shape == (5, 1, 3, 3)
    assert torch.equal(greedy, greedy[:1].expand_as(greedy))
    assert torch.equal(greedy, model.sample(5, 1e-5, torch.tensor(1)))
    assert torch.equal(greedy, model.sample(5, condition=torch.tensor(1), top_p=1e-9))
    done: list[tuple[int, int]] = []
    model.sample(2, condition=torch.tensor(1), progress=lambda now, whole: done.append((now, whole)))
    assert done[-1] == (18, 18)
    cold, hot = (model.log_prob(model.sample(400, t, torch.tensor(1)), torch.ones(400).long()) for t in (0.5, 2.0))
    assert cold.mean() > hot.mean() + 1


def test_what_does_not_fit() -> None:
    model, x = model_of((1, 3, 3), 4, (2,)), torch.zeros(2, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="needs a condition"):
        model.log_prob(x)
    with pytest.raises(ValueError, match="condition should have shape"):
        model.sample(3, condition=torch.zeros(3, 5))
    with pytest.raises(ValueError, match="x should have shape"):
        model.log_prob(x[0], torch.zeros(2, 2))
    with pytest.raises(ValueError, match="k / 3"):
        model.log_prob(x + 0.5, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="mask should have shape"):
        model(x, condition=torch.zeros(2, 2), mask=torch.ones(3, 3))
    for wrong in ({"n": 0}, {"temperature": 0.0}, {"temperature": math.inf}, {"top_k": 0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match="should be"):
            model.sample(**{"n": 1, "condition": torch.tensor(1), **wrong})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"vector, or planes of the datum's size \(3 x 3\)"):
        AutoregressiveModel((1, 3, 3), condition_shape=(1, 4, 4))
    with pytest.raises(ConfigError, match=r"needs images .* or signals"):
        AutoregressiveModel((4,))
    with pytest.raises(ConfigError, match="real numbers"):
        AutoregressiveModel((1, 3, 3), levels=None)
    with pytest.raises(ValueError, match="the net should be for shape"):
        AutoregressiveModel((1, 3, 3), levels=5, net=GatedPixelCNN((1, 3, 3), 4))


def test_an_own_net() -> None:
    net = GatedPixelCNN((1, 3, 3), 4, width=8, depth=1, context=2)
    model = AutoregressiveModel((1, 3, 3), levels=4, net=net, condition_shape=(2,))
    assert model.likelihood.net is net
    assert model.config is None
    assert model.sample(2, condition=torch.tensor([0, 1])).dtype == torch.float32


def test_precision() -> None:
    model, x = AutoregressiveModel((1, 3, 3), levels=4, net=SMALL), torch.randint(4, (5, 1, 3, 3)) / 3
    expected = model.log_prob(x)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        found = model.log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(model.double().log_prob(x.double()), expected.double(), rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Facts:
    shape: tuple[int, ...] = (1, 8, 8)
    target_shape: tuple[int, ...] = (1, 8, 8)
    levels: int | None = 17
    condition_shape: tuple[int, ...] | None = None
    symbols: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("knobs", "net"),
    [
        ({"width": 12, "depth": 3, "dropout": 0.25}, GatedPixelCNN),
        ({"kind": "transformer", "width": 12, "depth": 3, "heads": 2}, CodeTransformer),
    ],
)
@pytest.mark.parametrize("facts", [Facts(), Facts(levels=2), Facts((2, 30), (2, 30), 5, (4,))])
def test_from_a_configuration(knobs: dict[str, Any], net: type, facts: Facts) -> None:
    config = resolve(Config(model={"kind": "autoregressive", "autoregressive": knobs}), facts)
    assert (config.model.likelihood, config.data.transform) == ("autoregressive", "none")
    assert resolve(config, facts) == config
    model = make_model(config.model, facts)
    assert type(model) is AutoregressiveModel
    assert model.config == config.model
    assert (model.shape, model.condition_shape) == (facts.shape, facts.condition_shape)
    made = model.likelihood.net
    assert type(made) is net
    context = 0 if facts.condition_shape is None else facts.condition_shape[0]
    assert (made.shape, made.levels, made.context) == (facts.shape, facts.levels, context)
    own = AutoregressiveModel(facts.shape, levels=facts.levels, net=AutoregressiveConfig(**knobs),
                              condition_shape=facts.condition_shape)  # fmt: skip
    assert {n: p.shape for n, p in own.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) != sum(
        p.numel() for p in AutoregressiveModel(facts.shape, levels=facts.levels).parameters()
    )
    model.likelihood.check_data(facts.levels, "none")


@pytest.mark.parametrize("likelihood", ["autoregressive", "categorical"])
def test_binarised_only_if_asked(likelihood: str) -> None:
    for transform in ("binarise", "binarise-static", "none"):
        sections: dict[str, Any] = {"data": {"transform": transform}, "model": {"likelihood": likelihood}}
        if likelihood == "autoregressive":
            sections["model"]["kind"] = "autoregressive"
        facts = Facts(levels=17 if transform == "none" else 2)
        config = resolve(Config(**sections), facts)
        assert config.data.transform == transform
        made = make_model(config.model, facts).likelihood
        assert made.levels == facts.levels
        made.check_data(facts.levels, transform)
        with pytest.raises(ConfigError, match="values"):
            made.check_data(5, transform)


def test_configurations_that_do_not_fit() -> None:
    auto = ModelConfig(kind="autoregressive", likelihood="autoregressive")
    with pytest.raises(ConfigError, match="predicts the datum itself"):
        make_model(auto, replace(Facts(), target_shape=(1,), levels=2))
    with pytest.raises(ConfigError, match="real numbers"):
        make_model(auto, Facts(levels=None))
    with pytest.raises(ConfigError, match="needs images"):
        make_model(auto, Facts((4,), (4,)))
    with pytest.raises(ConfigError, match="conditioning film has no meaning"):
        ModelConfig(kind="autoregressive", conditioning="film")


def test_training_on_digits_lowers_what_they_cost() -> None:
    data = load_data("digits", transform="binarise-static", limit=512, condition="label")
    torch.manual_seed(0)
    model = AutoregressiveModel(
        data.shape,
        levels=data.levels,
        net=AutoregressiveConfig(width=16, depth=2),
        condition_shape=data.condition_shape,
    )
    history = train(model, data, quiet=True, epochs=6, batch_size=32, lr=5e-3)
    costs = history["valid/distortion"]
    assert costs[-1] < 0.9 * costs[0]
    # better than pixels that are independent of each other, each with the mean that it has in the training data
    batch = data.test.batch(torch.arange(len(data.test)))
    p = data.train.batch(torch.arange(512)).x.mean(0).clamp(0.01, 0.99)
    independent = (batch.x * p.log() + (1 - batch.x) * (1 - p).log()).sum((-3, -2, -1)).mean()
    with torch.no_grad():
        assert model.log_prob(batch.x, batch.condition).mean() > independent + 2


def test_a_known_product_of_distributions_is_learned_to_its_entropy() -> None:
    """Each place with a distribution of its own: the model cannot do better than the entropy, and comes near it."""
    generator = torch.Generator().manual_seed(1)
    chances = torch.distributions.Dirichlet(torch.full((6, 3), 0.7)).sample()
    n = 4096
    values = torch.stack([torch.multinomial(p, n, True, generator=generator) for p in chances], 1)
    part = torch.arange(n).tensor_split((3072, 3584))
    dataset = Dataset("product", values.view(n, 1, 2, 3).to(torch.uint8), (1, 2, 3), 3, *part)
    data = prepare(dataset, DataConfig(name="product", transform="none"))
    torch.manual_seed(0)
    model = AutoregressiveModel(data.shape, levels=3, net=AutoregressiveConfig(width=16, depth=2))
    train(model, data, quiet=True, epochs=8, batch_size=64, lr=5e-3, decay="cosine")
    entropy = -(chances * chances.clamp_min(1e-12).log()).sum().item()
    with torch.no_grad():
        exact = model.log_prob(every((1, 2, 3)).float())
    joint = torch.ones(1)
    for p in chances:
        joint = (joint[:, None] * p).flatten()
    cross = -(joint * exact).sum().item()  # over all 729 data: no noise of a sample
    assert entropy <= cross < entropy + 0.02
