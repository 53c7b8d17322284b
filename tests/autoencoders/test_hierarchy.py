"""What every deep VAE can do, whatever its rule for q and its nets."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from deep_cases import KINDS, NETS, PAIRS, SHAPE, Down, binary, lively, made, posteriors
from torch import Tensor

from jensen.autoencoders import DeepVAE, make_model, resolve
from jensen.bound import importance_weighted_bound, log_weights
from jensen.config import LIKELIHOODS, AutoregressiveConfig, Config, ModelConfig, NetConfig, Schedule
from jensen.errors import ConfigError
from jensen.likelihoods import Bernoulli
from jensen.nn.spectral import SpectralNorms
from jensen.objectives import (
    Balanced,
    Beta,
    Capacity,
    Context,
    Elbo,
    FreeBits,
    Iwae,
    Objective,
)

COUNT = 3
"""Levels of `made`"""


def codes(model: DeepVAE, rows: int) -> Tensor:
    return torch.randn(rows, model.latent, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_shapes(kind: str, net: str) -> None:
    model = made(kind, net)
    shapes = ((2,), (2,), (2,)) if net == "mlp" else ((2, 1, 1), (2, 3, 3), (2, 3, 3))
    assert model.level_shapes == shapes
    assert model.latent == sum(math.prod(shape) for shape in shapes)
    for rows, samples in ((1, 1), (1, 3), (4, 1), (4, 3)):
        model.train(rows > 1)  # a batch of one has no statistics
        output = model(torch.rand(rows, *SHAPE), samples=samples)
        assert output.log_likelihood().shape == (samples, rows)
        assert [level.z.shape for level in output.levels] == [(samples, rows, *shape) for shape in shapes]
        assert output.rate().shape == output.rate(analytic=False).shape == (samples, rows)
        assert log_weights(output).shape == (samples, rows)
        report = model.report(output)
        assert list(report) == ["kl_level_1", "kl_level_2", "kl_level_3"]  # level 1 is nearest the data
        torch.testing.assert_close(sum(report.values()), output.average(output.rate()), rtol=1e-4, atol=1e-4)
        top = output.levels[0].kl().flatten(2).sum(2).mean()
        torch.testing.assert_close(report["kl_level_3"], top)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_every_parameter_learns(kind: str, net: str) -> None:
    model = made(kind, net, condition_shape=(3,), conditioning="embedding", spectral=0.01)
    Elbo()(model(torch.rand(4, *SHAPE), condition=torch.rand(4, 3))).value.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_samples_are_as_if_the_data_were_repeated(kind: str, net: str) -> None:
    model, x, told = lively(made(kind, net, condition_shape=(2,))), binary(2), torch.randn(2, 2, dtype=torch.float64)
    torch.manual_seed(1)
    together = model(x, samples=3, condition=told)
    torch.manual_seed(1)
    apart = model(x.repeat(3, 1, 1, 1), condition=told.repeat(3, 1))
    torch.testing.assert_close(log_weights(together).flatten(), log_weights(apart)[0])
    torch.testing.assert_close(together.rate().flatten(), apart.rate()[0])


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_codes(kind: str, net: str) -> None:
    model, x = lively(made(kind, net)), binary(3)
    flat = codes(model, 4)
    levels = model.levels_of(flat)
    assert [level.shape[1:] for level in levels] == list(model.level_shapes)
    assert torch.equal(model.flat(levels), flat)
    assert torch.equal(levels[0].flatten(1), flat[:, : math.prod(model.level_shapes[0])])  # the top first
    out = Down(model, levels).out.view(4, *SHAPE)
    torch.testing.assert_close(model.decode(flat), out.sigmoid())
    stacked = torch.stack([flat, -flat])
    torch.testing.assert_close(model.decode(stacked)[1], model.decode(-flat))
    means = model.encode(x)
    assert torch.equal(means, model.encode(x))
    torch.testing.assert_close(model.reconstruct(x), model.decode(means))
    with pytest.raises(ValueError, match=f"codes should have {model.latent} numbers"):
        model.decode(flat[:, 1:])


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_encoded_are_the_means_of_q_one_upon_the_other(kind: str, net: str) -> None:
    model, x = lively(made(kind, net)), binary(3)
    with torch.no_grad():
        means = model.levels_of(model.encode(x))
        found = posteriors(model, x, means, Down(model, means))
    for z, (mean, _) in zip(means, found, strict=True):
        torch.testing.assert_close(z, mean)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_reconstruction_from_the_top_levels(kind: str, net: str) -> None:
    model, x = lively(made(kind, net)), binary(3)
    torch.testing.assert_close(model.reconstruct(x, top=COUNT), model.reconstruct(x))
    assert torch.equal(model.reconstruct(x, top=0), model.reconstruct(1 - x, top=0))
    means = model.levels_of(model.encode(x))
    for top in range(COUNT + 1):
        chosen = list(means[:top])
        while len(chosen) < COUNT:  # the mean of the prior, given those above
            blank = [*chosen, *[torch.zeros_like(z) for z in means[len(chosen) :]]]
            chosen.append(Down(model, blank).priors[len(chosen)][0])
        torch.testing.assert_close(model.reconstruct(x, top=top), Down(model, chosen).out.view_as(x).sigmoid())
    for top in (1, 2):
        assert not torch.equal(model.reconstruct(x, top=top), model.reconstruct(1 - x, top=top))
        assert not torch.equal(*(model.reconstruct(x, top=top, temperature=0.5) for _ in range(2)))
    assert torch.equal(*(model.reconstruct(x, temperature=0.5) for _ in range(2)))  # nothing is drawn


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_codes_completed_from_the_top_levels(kind: str, net: str) -> None:
    """Levels below are their priors' means, given what stands above and the condition; nothing is drawn."""
    model, told = lively(made(kind, net, condition_shape=(2,))), torch.randn(4, 2, dtype=torch.float64)
    given = model.levels_of(codes(model, 4))
    state = torch.get_rng_state()
    for count in range(1, COUNT + 1):
        found = model.levels_of(model.completed(given[:count], told))
        priors = Down(model, found, told).priors
        for i, z in enumerate(found):
            torch.testing.assert_close(z, given[i] if i < count else priors[i][0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("conditioning", ["embedding", "film"])
@pytest.mark.parametrize("net", NETS)
def test_encoder_and_decoder_learn_embeddings_of_their_own(net: str, conditioning: str) -> None:
    model = made("nvae", net, condition_shape=(3,), conditioning=conditioning)
    up, down = model.way_up.embedding, model.way_down.embedding
    assert up is not None
    assert down is not None
    pairs = list(zip(up.parameters(), down.parameters(), strict=True))
    assert pairs
    assert all(one is not other and not torch.equal(one, other) for one, other in pairs)
    told = torch.randn(4, 3)
    latent = torch.randn(4, model.latent)
    before = model.decode(latent, condition=told)
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.add_(1.0)
    assert torch.equal(model.decode(latent, condition=told), before)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_temperature_of_each_level(kind: str, net: str) -> None:
    model = lively(made(kind, net))
    for none in (0.0, [0, 0, 0]):
        assert spread(model.sample(3, none)) < 1e-9
    for level in range(COUNT):
        temperatures = [0.0] * COUNT
        temperatures[level] = 0.7
        assert spread(model.sample(3, temperatures)) > 1e-6
    torch.manual_seed(1)
    one = model.sample(4, 0.6)
    torch.manual_seed(1)
    torch.testing.assert_close(model.sample(4, [0.6] * COUNT), one)
    assert one.shape == (4, *SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_interpolation_ends_where_reconstructions_are(kind: str) -> None:
    model, x, told = lively(made(kind, "conv", condition_shape=(2,))), binary(2), torch.eye(2, dtype=torch.float64)[0]
    for path in ("linear", "spherical"):
        walk = model.interpolate(x[0], x[1], 5, path, condition=told)
        assert walk.shape == (5, *SHAPE)
        torch.testing.assert_close(walk[[0, -1]], model.reconstruct(x, told.expand(2, 2)))
    middle = model.encode(x, told.expand(2, 2)).mean(0, keepdim=True)
    torch.testing.assert_close(model.interpolate(x[0], x[1], 3, condition=told)[1:2], model.decode(middle, told))


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_neighbours_are_decoded_draws(kind: str, net: str) -> None:
    model, x = lively(made(kind, net)), binary(2)
    torch.manual_seed(1)
    near = model.neighbours(x, 4)
    torch.manual_seed(1)
    torch.testing.assert_close(near, model(x, samples=4).likelihood.mean)
    assert near.shape == (4, 2, *SHAPE)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_levels_are_those_of_the_output(kind: str, net: str) -> None:
    model, x = lively(made(kind, net)), binary(2)
    torch.manual_seed(1)
    levels, weights = model.levels(x)
    torch.manual_seed(1)
    output = model(x)
    assert weights is None
    for one, other in zip(levels, output.levels, strict=True):
        torch.testing.assert_close(one.z, other.z)
        torch.testing.assert_close(one.kl(), other.kl())


def spread(images: Tensor) -> float:
    """Largest standard deviation of a pixel over images."""
    return images.std(0).max().item()


CONDITIONS = [((3,), "concat"), ((3,), "embedding"), ((3,), "film"), ((2, 5, 4), "concat"), ((1, 6, 7), "film")]


@pytest.mark.parametrize(("shape", "conditioning"), CONDITIONS)
@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_a_condition_moves_prior_posterior_and_decoder(
    kind: str, net: str, shape: tuple[int, ...], conditioning: str
) -> None:
    model = lively(made(kind, net, condition_shape=shape, conditioning=conditioning), 0.7)
    x, told = binary(1), torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        fixed = model.levels_of(model.encode(x, told))

    def moves(value: Tensor) -> bool:
        gradient = torch.autograd.grad(value.square().sum(), told, retain_graph=True, allow_unused=True)[0]
        return gradient is not None and gradient.abs().sum().item() > 0

    prior, out = model.way_down.walk(1, lambda i, *_: (fixed[i], None), model.way_down.told(told))
    assert out is not None
    assert moves(out)
    for level in prior[1:]:
        assert level.prior is not None
        assert moves(level.prior.mean)
    for level in model(x, condition=told).levels:
        assert level.posterior is not None
        assert moves(level.posterior.mean)


@pytest.mark.parametrize("conditioning", ["concat", "embedding", "film"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_stand_for_one_hot_vectors(kind: str, conditioning: str) -> None:
    model, x = lively(made(kind, condition_shape=(3,), conditioning=conditioning)), binary(2)
    labels, vectors = torch.tensor([2, 0]), torch.eye(3, dtype=torch.float64)[[2, 0]]
    torch.testing.assert_close(model.encode(x, labels), model.encode(x, vectors))
    torch.testing.assert_close(model.reconstruct(x, labels, top=1), model.reconstruct(x, vectors, top=1))
    torch.testing.assert_close(model.sample(2, 0.0, labels), model.sample(2, 0.0, vectors))
    torch.testing.assert_close(model.sample(2, 0.0, labels[0]), model.sample(2, 0.0, vectors[:1].expand(2, 3)))
    assert not torch.allclose(*model.sample(2, 0.0, labels))
    assert model.neighbours(x, 3, labels).shape == (3, 2, *SHAPE)
    codes = model.encode(x, labels)
    torch.testing.assert_close(model.decode(codes, labels), model.reconstruct(x, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_that_do_not_fit(kind: str) -> None:
    model, bare, x = made(kind, condition_shape=(3,)), made(kind), torch.rand(2, *SHAPE)
    for call in (model, model.encode, model.levels, model.reconstruct, model.neighbours):
        with pytest.raises(ValueError, match="this model needs a condition"):
            call(x)
    with pytest.raises(ValueError, match="this model needs a condition"):
        model.sample(2)
    with pytest.raises(ValueError, match="condition should have shape"):
        model(x, condition=torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"labels should be in 0 \.\. 2"):
        model.sample(2, condition=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="condition holds NaN"):
        model.encode(x, torch.full((2, 3), math.nan))
    with pytest.raises(TypeError, match="condition should be a tensor"):
        model(x, condition=[0, 1])
    with pytest.raises(ValueError, match="takes no condition"):
        bare(x, condition=torch.rand(2, 3))


SIZES = [("mlp", (1, 7, 9)), ("conv", (1, 28, 28)), ("cells", (3, 33, 20)), ("conv", (3, 7, 9)), ("mlp", (5,))]


@pytest.mark.parametrize(("net", "shape"), [*SIZES, ("cells", (1, 7, 9)), ("mlp", (2, 11))])
@pytest.mark.parametrize("kind", KINDS)
def test_data_of_any_shape(kind: str, net: str, shape: tuple[int, ...]) -> None:
    model = made(kind, net, shape, likelihood="gaussian-learned", levels=None)
    x = torch.rand(2, *shape)
    Elbo()(model(x, samples=2)).value.backward()
    assert model.reconstruct(x, top=1).shape == x.shape
    assert model.sample(3).shape == (3, *shape)


@pytest.mark.parametrize("likelihood", sorted({*LIKELIHOODS} - {"table", "multinomial"}))
@pytest.mark.parametrize(("kind", "net"), [("hvae", "mlp"), ("ladder", "conv"), ("nvae", "cells")])
def test_every_likelihood(kind: str, net: str, likelihood: str) -> None:
    own = {"autoregressive": AutoregressiveConfig(width=4, depth=1)} if likelihood == "autoregressive" else {}
    model = made(kind, net, (3, 6, 7), likelihood=likelihood, levels=5, **own)
    x = torch.randint(5, (2, 3, 6, 7)) / 4
    output = model(x, samples=2)
    assert output.log_likelihood().shape == (2, 2)
    Elbo()(output).value.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.sample(2).shape == model.reconstruct(x, top=2).shape == (2, 3, 6, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_may_be_of_another_shape(kind: str) -> None:
    model = made(kind, target_shape=(3,), likelihood="gaussian", levels=None)
    x, target, mask = torch.rand(2, *SHAPE), torch.rand(2, 3), torch.tensor([[1.0, 0.0, 1.0]])
    output = model(x, target, samples=2, mask=mask)
    assert output.likelihood.mean.shape == (2, 2, 3)
    every = output.likelihood.log_prob(target)
    torch.testing.assert_close(output.log_likelihood(), every[..., [0, 2]].sum(-1))
    assert model.reconstruct(x).shape == (2, 3)
    with pytest.raises(ValueError, match="target should have shape"):
        model(x)


@dataclass(frozen=True)
class Facts:
    shape: tuple[int, ...] = SHAPE
    target_shape: tuple[int, ...] = SHAPE
    levels: int | None = 17
    condition_shape: tuple[int, ...] | None = None


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_a_model_is_made_again_from_its_configuration(kind: str, net: str) -> None:
    choices: dict[str, Any] = {"condition_shape": (3,), "conditioning": "film", "spectral": 0.1, "levels": 17}
    own = {} if net == "cells" else {"activation": "silu"}
    model = made(
        kind, NetConfig.model_validate({"kind": net, "depth": 3, **own}), stem=2 if net != "mlp" else None, **choices
    )
    assert model.config is not None
    again = make_model(ModelConfig(**model.config.model_dump()), Facts(condition_shape=(3,)))
    assert type(again) is type(model)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    x, told = torch.rand(2, *SHAPE), torch.rand(2, 3)
    assert torch.equal(again.eval().encode(x, told), model.eval().encode(x, told))
    assert made(kind, likelihood=Bernoulli()).config is None


@pytest.mark.parametrize(
    ("kind", "shape", "net", "scales"),
    [
        ("hvae", (1, 28, 28), "mlp", 5),
        ("hvae", (1, 32, 32), "conv", 2),
        ("ladder", (4,), "mlp", 5),
        ("nvae", (1, 28, 28), "cells", 2),
        ("nvae", (4,), "mlp", 5),
    ],
)
def test_auto_is_resolved(kind: str, shape: tuple[int, ...], net: str, scales: int) -> None:
    facts = Facts(shape, shape)
    config = resolve(Config(model={"kind": kind}), facts)
    assert config.model.net.kind == net
    assert config.model.scales is not None
    assert len(config.model.scales) == scales
    assert resolve(config, facts) == config
    own = resolve(Config(model={"kind": kind, "scales": ("3@4",)}), facts)
    assert own.model.scales == ("3@4",)
    model = make_model(own.model, facts)
    assert isinstance(model, KINDS[kind])
    assert model.config == own.model


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"scales": ["8"]}, ValueError, "scale '8' should be LATENTS@WIDTH"),
    ({"scales": []}, ValueError, "at least one word"),
    ({"net": "conv", "scales": ["1@2"] * 3}, ConfigError, "data of 6x7 cannot be halved 3 times"),
    ({"net": "conv", "downsampling": 3}, ValueError, "downsampling should be a power of 2"),
    ({"net": "resnet"}, ConfigError, "net resnet ends in a vector"),
    ({"net": NetConfig(kind="mlp", width=9)}, ConfigError, "net.width has no meaning"),
    ({"net": "cells", "target_shape": (1, 3, 3)}, ConfigError, "net cells needs images .* target of their size"),
    ({"shape": (5,), "net": "conv"}, ConfigError, "net conv needs images"),
    ({"spectral": -0.1}, ValueError, "spectral should be 0 or more"),
    ({"spectral": math.inf}, ValueError, "spectral should be 0 or more and finite"),
    ({"conditioning": "film"}, ValueError, "conditioning film needs a condition"),
    ({"conditioning": "told", "condition_shape": (3,)}, ValueError, "conditioning should be one of"),
    ({"condition_shape": 3}, TypeError, r"a tuple, \(3,\)"),
    ({"likelihood": "poisson"}, ConfigError, "no likelihood 'poisson'"),
    ({"autoregressive": AutoregressiveConfig(width=4)}, ConfigError, "autoregressive is for model or likelihood"),
]


@pytest.mark.parametrize(("choices", "error", "complaint"), REFUSED)
@pytest.mark.parametrize("kind", KINDS)
def test_refused_at_construction(kind: str, choices: dict[str, Any], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint) as found:
        made(kind, **choices)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_calls(kind: str) -> None:
    model, x = made(kind), torch.rand(2, *SHAPE)
    for top in (-1, COUNT + 1):
        with pytest.raises(ValueError, match=f"top should be 0 to 3, the number of levels, got {top}"):
            model.reconstruct(x, top=top)
    for temperature in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature should be 0 or more"):
            model.sample(2, temperature)
        with pytest.raises(ValueError, match="temperature should be 0 or more"):
            model.reconstruct(x, temperature=temperature)
    with pytest.raises(ValueError, match="temperature should be one number, or 3, one a level, got 2"):
        model.sample(2, [1.0, 1.0])
    with pytest.raises(ValueError, match="n should be at least 1"):
        model.sample(0)
    with pytest.raises(ValueError, match="n should be at least 1"):
        model.neighbours(x, 0)
    for call in (model, model.encode, model.levels, model.reconstruct, model.neighbours):
        with pytest.raises(ValueError, match="x should have shape"):
            call(x[:, :, 1:])


OBJECTIVES: dict[str, Objective] = {
    "elbo": Elbo(2),
    "monte-carlo": Elbo(2, kl="monte-carlo"),
    "warm-up": Elbo(kl_weight=Schedule(kind="linear", start=0.0, end=1.0, steps=10)),
    "beta": Beta(beta=3.0),
    "capacity": Capacity(gamma=5.0, max_capacity=8.0, capacity_steps=10),
    "free-bits": FreeBits(free_bits=0.7, samples=2),
    "iwae": Iwae(5),
    "balanced": Balanced(kl_weight=Schedule(kind="linear", start=0.2, end=1.0, steps=10)),
}
STEP = 4


def by_hand(name: str, log_likelihood: Tensor, kl: list[Tensor], weights: Tensor) -> Tensor:
    """The loss from log p(x | z), (samples, batch), the KL of each level, (samples, batch, *dims), and log weights."""
    distortion = -log_likelihood.mean()
    of_level = torch.stack([each.flatten(2).sum(2).mean() for each in kl])
    if name == "warm-up":
        return distortion + 0.4 * of_level.sum()
    if name == "beta":
        return distortion + 3 * of_level.sum()
    if name == "capacity":
        return distortion + 5 * (of_level.sum() - 8 * STEP / 10).abs()
    if name == "free-bits":
        return distortion + sum(each.mean((0, 1)).clamp(min=0.7).sum() for each in kl)
    if name == "iwae":
        most = weights.max(0).values
        return -(most + (weights - most).exp().mean(0).log()).mean()
    if name == "balanced":  # two levels of the lower scale share its size
        sizes = torch.tensor([each[0, 0].numel() / share for each, share in zip(kl, (3, 3, 3), strict=True)])
        gamma = (of_level.abs() + 0.01) / sizes
        return distortion + 0.52 * (gamma.detach() / gamma.mean().detach() * of_level).sum()
    return distortion + of_level.sum()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_objectives_are_sums_over_levels(kind: str, name: str) -> None:
    objective, model = OBJECTIVES[name], lively(made(kind), 1.0)
    output = model(binary(3), samples=objective.samples)
    loss = objective(output, Context(STEP, 100))
    kl = []
    for i, level in enumerate(output.levels):
        assert level.posterior is not None
        assert level.prior is not None
        q, p = level.posterior, level.prior
        drawn = q.log_prob(level.z) - p.log_prob(level.z)
        ratio = (q.stddev / p.stddev) ** 2
        closed = 0.5 * (ratio + ((q.mean - p.mean) / p.stddev) ** 2 - 1 - ratio.log())
        # Where q goes up, a level's prior has seen its z: only at the top is the closed form the mean.
        kl.append(drawn if name == "monte-carlo" or (kind == "hvae" and i > 0) else closed.expand_as(drawn))
    expected = by_hand(name, output.log_likelihood(), kl, log_weights(output))
    torch.testing.assert_close(loss.value, expected)
    if name in ("elbo", "warm-up"):
        torch.testing.assert_close(
            loss.score, output.log_likelihood().mean() - sum(k.flatten(2).sum(2).mean() for k in kl)
        )
    optimiser = torch.optim.SGD(model.parameters(), 1e-5)
    loss.value.backward()
    before = copy.deepcopy(model.state_dict())
    optimiser.step()
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_more_importance_samples_are_no_worse(kind: str) -> None:
    model, x = lively(made(kind), 1.0), binary(3)
    with torch.no_grad():
        weights = log_weights(model(x, samples=600))
    means = [torch.stack([importance_weighted_bound(w) for w in weights.split(k)]).mean() for k in (1, 5, 50, 600)]
    assert means == sorted(means)


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_penalties_of_weights_in_training_only(kind: str, net: str) -> None:
    model, x = made(kind, net, spectral=0.3), torch.rand(2, *SHAPE)
    output = model(x)
    norms = sum(torch.linalg.svdvals(m.weight.detach().flatten(1))[0] for m in weighted(model))
    torch.testing.assert_close(output.penalties["spectral"], 0.3 * norms, rtol=0.02, atol=0.0)
    scales = sum(m.weight.abs().max() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    torch.testing.assert_close(output.penalties["batch_norm"], torch.as_tensor(0.3 * scales))
    loss = Elbo()(output)
    plain = Elbo()(type(output)(output.target, output.likelihood, output.levels))
    torch.testing.assert_close(loss.value - plain.value, sum(output.penalties.values()), rtol=1e-3, atol=1e-3)
    assert not model.eval()(x).penalties
    without = made(kind, net)
    assert not without(x).penalties
    assert not any(isinstance(module, SpectralNorms) for module in without.modules())
    assert set(without.state_dict()) == {name for name in model.state_dict() if not name.startswith("norms.")}


def weighted(model: DeepVAE) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]


@pytest.mark.parametrize("net", NETS)
def test_copies_and_states(net: str) -> None:
    model, x = made("nvae", net, spectral=0.3), torch.rand(4, *SHAPE)
    model(x)
    twin, other = copy.deepcopy(model), made("nvae", net, spectral=0.3)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    for each in (twin, other):
        torch.manual_seed(1)
        value = Elbo()(each(x)).value
        torch.manual_seed(1)
        assert value < Elbo()(model(x)).value or net == "mlp"
    torch.manual_seed(1)
    one = Elbo()(twin(x)).value
    torch.manual_seed(1)
    assert torch.equal(one, Elbo()(other(x)).value)  # the vectors of the power iteration are part of the state


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_does_not_look_at_the_batch(kind: str) -> None:
    model, x = made(kind, "cells").eval(), torch.rand(4, *SHAPE)
    torch.testing.assert_close(model.encode(x)[:2], model.encode(x[:2]))
    model.train()
    assert not torch.allclose(model.encode(x)[:2], model.encode(x[:2]))


@pytest.mark.parametrize("kind", KINDS)
def test_readjusted_statistics_are_those_of_samples_and_then_as_before(kind: str) -> None:
    model = made(kind, "cells").eval()
    before, usual = copy.deepcopy(model.state_dict()), model.sample(3, 0.0)
    with model.readjusted(0.5, n=8, batches=2):
        assert not torch.equal(model.sample(3, 0.0), usual)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(model.sample(3, 0.0), usual)
