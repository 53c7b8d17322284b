"""Models with a condition: one battery over kinds, nets and ways of conditioning, and what is refused."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.autoencoders import VAE, AutoEncoder, EncoderDecoder, make_model
from jensen.autoencoders.condition import checked_condition, checked_shape, require_tensor
from jensen.bound import Output
from jensen.config import ModelConfig, NetConfig
from jensen.nn import Conditioning, Film

NETS = ["mlp", "conv", "resnet"]
WAYS: list[Conditioning] = ["concat", "embedding", "film"]
CONDITIONS = {"label": (4,), "attributes": (2,), "image": (2, 7, 5)}
MODELS: list[tuple[type[EncoderDecoder], dict[str, Any]]] = [
    (AutoEncoder, {}),
    (VAE, {}),
    (VAE, {"prior": "learned"}),
]
SHAPE, LATENT, BATCH = (3, 7, 5), 2, 5


def given(kind: str, rows: int = BATCH) -> Tensor:
    shape = CONDITIONS[kind]
    return torch.eye(4)[torch.arange(rows) % 4] if kind == "label" else torch.rand(rows, *shape)


def built(
    model: type[EncoderDecoder],
    choices: dict[str, Any],
    net: str = "mlp",
    way: Conditioning = "concat",
    kind: str = "label",
) -> EncoderDecoder:
    """A model whose FiLM layers are not the identity that they start as."""
    config = NetConfig(kind=net, width=6, activation="silu")
    made = model(
        SHAPE, LATENT, net=config, likelihood="gaussian", condition_shape=CONDITIONS[kind], conditioning=way, **choices
    )
    for layer in made.modules():
        if isinstance(layer, Film):
            nn.init.normal_(layer.linear.weight, std=0.3)
    return made


def elbo(output: Output) -> Tensor:
    return output.log_likelihood() - output.rate()


@pytest.mark.parametrize(("model", "choices"), MODELS)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CONDITIONS)
def test_battery(model: type[EncoderDecoder], choices: dict[str, Any], net: str, way: Conditioning, kind: str) -> None:
    made = built(model, choices, net, way, kind)
    x, condition = torch.rand(BATCH, *SHAPE), given(kind)
    output = made(x, samples=2, condition=condition)
    samples = 2 if model is VAE else 1
    assert output.likelihood.mean.shape == (samples, BATCH, *SHAPE)
    assert output.log_likelihood().shape == (samples, BATCH)
    assert output.rate().shape == (1, BATCH)
    (-elbo(output).mean()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    with torch.no_grad():
        # Through the encoder and the decoder, each by itself.
        other = condition.roll(1, 1)
        codes = made.encode(x, condition)
        assert ((codes - made.encode(x, other)).abs().amax(1) > 1e-6).all()
        decoded = made.decode(codes, condition)
        assert ((decoded - made.decode(codes, other)).flatten(1).abs().amax(1) > 1e-6).all()
        torch.testing.assert_close(made.reconstruct(x, condition), decoded)
        order = torch.randperm(BATCH)
        torch.testing.assert_close(made.reconstruct(x[order], condition[order]), decoded[order])
        # From its record and its weights the same model comes back.
        assert made.config is not None
        assert (made.config.conditioning, made.config.prior) == (way, choices.get("prior", "standard"))
        again = make_model(ModelConfig(**made.config.model_dump()), Facts(CONDITIONS[kind]))
        again.load_state_dict(made.state_dict())
        assert again.config == made.config
        assert torch.equal(again.reconstruct(x, condition), made.reconstruct(x, condition))


class Facts:
    shape = SHAPE
    target_shape = SHAPE
    levels = None

    def __init__(self, condition_shape: tuple[int, ...] | None) -> None:
        self.condition_shape = condition_shape


@pytest.mark.parametrize(("model", "choices"), MODELS)
def test_labels_are_one_hot_vectors(model: type[EncoderDecoder], choices: dict[str, Any]) -> None:
    made = built(model, choices)
    x, labels = torch.rand(BATCH, *SHAPE), torch.tensor([2, 0, 3, 3, 1])
    hot = torch.eye(4)[labels]
    methods = [
        lambda c: made(x, condition=c).log_likelihood(),
        partial(made.encode, x),
        partial(made.decode, torch.ones(3, BATCH, LATENT)),
        partial(made.reconstruct, x),
        lambda c: made.interpolate(x[0], x[1], 4, condition=c[2]),
    ]
    if isinstance(made, VAE):
        methods += [
            lambda c: made.posterior(x, c).scale,
            lambda c: made.prior(c).loc,
            partial(made.neighbours, x, 3),
            partial(made.sample, BATCH, 0.7),
            lambda c: made.sample(3, condition=c[1]),
        ]
    for method in methods:
        results = []
        for condition in (hot, labels, labels.int()):
            torch.manual_seed(3)
            results.append(method(condition))
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])
    assert made.double().encode(x.double(), labels).dtype == torch.float64


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["attributes", "image"])
@pytest.mark.parametrize("own", [(), (BATCH,), (3, BATCH), (3, 1), (1, BATCH)])
def test_condition_broadcasts_over_codes(way: Conditioning, kind: str, own: tuple[int, ...]) -> None:
    made = built(VAE, {}, "conv", way, kind)
    z, condition = torch.randn(3, BATCH, LATENT), torch.rand(*own, *CONDITIONS[kind])
    found = made.decode(z, condition)
    each = condition.expand(3, BATCH, *CONDITIONS[kind])
    for s, b in itertools.product(range(3), range(BATCH)):
        torch.testing.assert_close(found[s, b], made.decode(z[s, b], each[s, b]))


def test_samples_of_z_go_with_the_condition_of_their_datum() -> None:
    made = built(VAE, {"prior": "learned"}, kind="attributes", way="film")
    x, condition = torch.rand(BATCH, *SHAPE), given("attributes")
    output = made(x, samples=3, condition=condition)
    (level,) = output.levels
    for s, b in itertools.product(range(3), range(BATCH)):
        torch.testing.assert_close(output.likelihood.mean[s, b], made.decode(level.z[s, b], condition[b]))
    near = made.neighbours(x[:1].expand(BATCH, *SHAPE), 2, condition)
    assert near.shape == (2, BATCH, *SHAPE)
    walk = made.interpolate(x[0], x[1], 5, condition=condition[2])
    ends = made.reconstruct(x[:2], condition[2].expand(2, -1))
    torch.testing.assert_close(walk[[0, -1]], ends)


class Joined(nn.Module):
    """A linear function of both, as a user might write it; asks for as many conditions as rows."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(sizes[:-1]), sizes[-1])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        assert len(x) == len(condition)
        joined: Tensor = self.linear(torch.cat([x, condition], 1))
        return joined


@pytest.mark.parametrize("model", [VAE, AutoEncoder])
def test_own_networks_are_called_with_the_condition(model: type[EncoderDecoder]) -> None:
    width = 2 * LATENT if model is VAE else LATENT
    made = model(
        (6,),
        LATENT,
        likelihood="gaussian",
        encoder=Joined(6, 4, width),
        decoder=Joined(LATENT, 4, 6),
        condition_shape=(4,),
    )
    x, condition = torch.rand(BATCH, 6), given("label")
    net = made.encoder.net if isinstance(made, VAE) else made.encoder
    torch.testing.assert_close(made.encode(x, condition), net(x, condition)[:, :LATENT])
    z = torch.randn(3, BATCH, LATENT)
    expected = torch.stack([made.decoder.net(one, condition) for one in z])
    torch.testing.assert_close(made.decode(z, condition), expected)
    assert made(x, samples=4, condition=condition).log_likelihood().shape == (4 if model is VAE else 1, BATCH)


def wrong(kind: str) -> list[tuple[Any, str]]:
    several = "shape \\(5, 4\\), or int64 class labels of shape \\(5,\\)"
    if kind == "image":
        return [
            (None, r"needs a condition: shape \(5, 2, 7, 5\)"),
            (torch.rand(5, 2, 5, 7), r"shape \(5, 2, 7, 5\), got \(5, 2, 5, 7\)"),
            (torch.zeros(5, 2, 7, 5, dtype=torch.uint8), "floating point, got torch.uint8"),
        ]
    return [
        (None, f"needs a condition: {several}"),
        (torch.rand(5, 3), f"should have {several}, got \\(5, 3\\)"),
        (torch.rand(4), f"{several}, got \\(4,\\)"),
        (torch.rand(4, 4), f"{several}, got \\(4, 4\\)"),
        (torch.tensor([0, 1, 2]), f"{several}, got \\(3, 4\\)"),
        (torch.tensor([0, 1, 2, 3, 4]), "labels should be in 0 .. 3, got 4"),
        (torch.tensor([0, 1, -1, 3, 0]), "labels should be in 0 .. 3, got -1"),
        (torch.eye(4)[[0, 1, 2, 3, 0]].bool(), "integers, got truth values"),
        (torch.full((5, 4), math.nan), "condition holds NaN"),
    ]


CASES = [(kind, *case) for kind in ("label", "image") for case in wrong(kind)]


@pytest.mark.parametrize(("model", "choices"), MODELS)
@pytest.mark.parametrize(("kind", "condition", "message"), CASES)
def test_impossible_conditions(
    model: type[EncoderDecoder], choices: dict[str, Any], kind: str, condition: Tensor | None, message: str
) -> None:
    made = built(model, choices, kind=kind)
    x = torch.rand(BATCH, *SHAPE)
    methods = [partial(made, x), partial(made.encode, x), partial(made.reconstruct, x)]
    if isinstance(made, VAE):
        methods += [partial(made.posterior, x), partial(made.neighbours, x, 2)]
    for method in methods:
        with pytest.raises(ValueError, match=message):
            method(condition=condition)


@pytest.mark.parametrize("condition", [3, [3, 3, 3, 3], 0.5, "label"])
def test_a_condition_is_a_tensor(condition: Any) -> None:
    said = r"condition should be a tensor, one of shape \(4, 10\), or \(10,\) for all, or int64 class labels of shape"
    with pytest.raises(TypeError, match=said + rf" \(4,\); got {type(condition).__name__} "):
        checked_condition(condition, (10,), (4,), exact=False)
    with pytest.raises(TypeError, match="should be a tensor, none, as the model was made without condition_shape"):
        require_tensor(condition, None, (4,))


def test_the_shape_of_a_condition() -> None:
    assert checked_shape(None) is None
    assert checked_shape([10]) == checked_shape(torch.Size([10])) == (10,)
    assert checked_shape((2, 7, 5)) == (2, 7, 5)
    assert checked_shape((7, 5), own=True) == (7, 5)
    with pytest.raises(TypeError, match=r"should be a tuple, \(10,\) for 10 classes or numbers, got 10"):
        checked_shape(10)
    with pytest.raises(TypeError, match="a tuple of whole numbers, got 'label'"):
        checked_shape("label")
    with pytest.raises(ValueError, match=r"got \(7, 5\); an image of one channel is \(1, 7, 5\)"):
        checked_shape((7, 5))
    with pytest.raises(ValueError, match=r"of positive numbers, got \(0,\)"):
        checked_shape((0,))


def test_impossible_conditions_elsewhere() -> None:
    made = built(VAE, {"prior": "learned"})
    several = r"shape \(3, 4\), or \(4,\) for all, or int64 class labels of shape \(3,\)"
    for method in (partial(made.sample, 3), partial(made.decode, torch.zeros(3, LATENT))):
        with pytest.raises(ValueError, match=f"needs a condition: {several}"):
            method()
        with pytest.raises(ValueError, match=f"should have {several}, got \\(2, 4\\)"):
            method(condition=torch.zeros(2, 4))
        with pytest.raises(ValueError, match="got 7"):
            method(condition=torch.tensor(7))
    for condition in (None, torch.zeros(4), torch.tensor(1)):
        with pytest.raises(ValueError, match=r"shape \(batch, 4\), or int64 class labels of shape \(batch,\)"):
            made.prior(condition)
    with pytest.raises(ValueError, match=r"shape \(4,\), or int64"):
        made.interpolate(torch.rand(SHAPE), torch.rand(SHAPE), condition=torch.zeros(2, 4))


@pytest.mark.parametrize("model", [VAE, AutoEncoder])
def test_a_model_without_a_condition_takes_none(model: type[EncoderDecoder]) -> None:
    made = model((4,), 2, net=NetConfig(width=5))
    x, condition = torch.rand(3, 4), torch.rand(3, 2)
    methods = [partial(made, x), partial(made.encode, x), partial(made.decode, x[:, :2]), partial(made.reconstruct, x)]
    if isinstance(made, VAE):
        methods += [made.prior, partial(made.sample, 3), partial(made.posterior, x), partial(made.neighbours, x, 1)]
    for method in methods:
        with pytest.raises(ValueError, match="takes no condition: it was made without condition_shape"):
            method(condition=condition)


def test_choices_that_need_a_condition() -> None:
    with pytest.raises(ValueError, match="prior learned is p"):
        VAE((4,), 2, prior="learned")
    with pytest.raises(ValueError, match="conditioning film needs a condition"):
        AutoEncoder((4,), 2, conditioning="film")
    with pytest.raises(ValueError, match="conditioning should be one of concat, embedding, film, got 'add'"):
        VAE((4,), 2, condition_shape=(3,), conditioning="add")
    with pytest.raises(ValueError, match="conditioning embedding is for `net`"):
        VAE((4,), 2, condition_shape=(3,), conditioning="embedding", encoder=Joined(4, 3, 4), decoder=Joined(2, 3, 4))
    with pytest.raises(ValueError, match="prior should be standard, learned, mixture, vampprior, got 'flat'"):
        VAE((4,), 2, prior="flat")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no prior over its codes"):
        AutoEncoder((4,), 2, condition_shape=(3,)).sample(3, condition=torch.eye(3))


class Held(nn.Module):
    """Puts out its parameter, whatever comes in."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.out = nn.Parameter(torch.randn(shape))

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return self.out * 1.0


@pytest.mark.parametrize("model", [VAE, AutoEncoder])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian-learned"])
@pytest.mark.parametrize("rows", [1, BATCH])
def test_what_is_masked_has_no_influence(model: type[EncoderDecoder], likelihood: str, rows: int) -> None:
    made = model(
        SHAPE,
        LATENT,
        net="mlp",
        likelihood=likelihood,
        decoder=Held(BATCH, *SHAPE),
        condition_shape=CONDITIONS["image"],
    )
    x, condition = torch.rand(BATCH, *SHAPE), given("image")
    mask = (torch.rand(rows, *SHAPE) < 0.5).float()
    hidden = (mask == 0).expand(BATCH, *SHAPE)
    output = made(x, condition=condition, mask=mask)
    assert output.mask is not None
    assert output.mask.shape == (1, rows, *SHAPE)
    whole = made(x, condition=condition).likelihood.log_prob(x[None])
    expected = torch.where(hidden, torch.zeros(()), whole[0]).sum((1, 2, 3))
    torch.testing.assert_close(output.log_likelihood()[0], expected)
    output.log_likelihood().sum().backward()
    gradient = made.decoder.net.out.grad
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).all()
    unknown = x.masked_fill(hidden, math.nan)
    torch.testing.assert_close(made(x, unknown, condition=condition, mask=mask).log_likelihood()[0], expected)
    with pytest.raises(ValueError, match=r"mask should have shape \(5, 3, 7, 5\) or \(1, 3, 7, 5\)"):
        made(x, condition=condition, mask=torch.ones(2, *SHAPE))


def test_standard_prior_of_a_conditional_model() -> None:
    made = built(VAE, {})
    for prior in (made.prior(), made.prior(given("label"))):
        assert (prior.loc.item(), prior.scale.item()) == (0.0, 1.0)


@pytest.mark.parametrize("way", WAYS)
def test_compiled_nets_take_the_condition(way: Conditioning, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()  # there is a limit to the nets compiled in one process
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    made = built(VAE, {"prior": "learned"}, "conv", way, "attributes")
    x, condition = torch.rand(BATCH, *SHAPE), given("attributes")
    torch.manual_seed(1)
    expected = elbo(made(x, condition=condition))
    checks = Distribution._validate_args
    made.compile_nets()
    assert Distribution._validate_args is checks  # the compiler by itself would switch them off for the whole process
    torch.manual_seed(1)
    torch.testing.assert_close(elbo(made(x, condition=condition)), expected)
    assert len(graphs) == 3  # encoder, decoder, prior
    elbo(made(x, condition=condition)).mean().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_a_condition_for_a_target_of_another_shape() -> None:
    """An image to a number, told another image: the decoder is an MLP then."""
    made = VAE((1, 9, 9), 2, net="conv", likelihood="gaussian", target_shape=(1,), condition_shape=(3, 9, 9))
    x, condition = torch.rand(4, 1, 9, 9), torch.rand(4, 3, 9, 9)
    assert made(x, torch.rand(4, 1), condition=condition).log_likelihood().shape == (1, 4)
    assert made.sample(6, condition=condition[0]).shape == (6, 1)


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_levels_are_those_of_the_output_and_nothing_is_decoded(prior: Literal["standard", "learned"]) -> None:
    model = VAE((4,), 3, condition_shape=(2,), prior=prior, likelihood="gaussian")
    x, condition = torch.randn(5, 4), torch.randn(5, 2)
    torch.manual_seed(0)
    output = model(x, condition=condition)
    model.decoder = None  # type: ignore[assignment]
    torch.manual_seed(0)
    (level,), weights = model.levels(x, condition)
    (expected,) = output.levels
    assert weights is None
    torch.testing.assert_close(level.z, expected.z)
    torch.testing.assert_close(level.kl(), expected.kl())
    with pytest.raises(ValueError, match="x should have shape"):
        model.levels(x[:, :2], condition)
