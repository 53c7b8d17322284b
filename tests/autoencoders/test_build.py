"""What `auto` means for given data, and models from configurations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import nn

from jensen.autoencoders import VAE, AutoEncoder, EncoderDecoder, make_model, resolve
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import Config
from jensen.errors import ConfigError
from jensen.nn import Film


@dataclass(frozen=True)
class Facts:
    shape: tuple[int, ...] = (1, 8, 8)
    target_shape: tuple[int, ...] = (1, 8, 8)
    levels: int | None = 17
    condition_shape: tuple[int, ...] | None = None


GREY, BIG, TABLE = Facts(), Facts((1, 64, 64), (1, 64, 64), 256), Facts((4,), (4,), None)
YES_NO, AREA = Facts((1, 28, 28), (1,), 2), Facts((1, 28, 28), (1,), None)


@pytest.mark.parametrize(
    ("facts", "sections", "likelihood", "transform", "net"),
    [
        (GREY, {}, "bernoulli", "binarise", "mlp"),
        (BIG, {}, "bernoulli", "binarise", "conv"),
        (TABLE, {}, "gaussian-learned", "none", "mlp"),
        (GREY, {"model": {"likelihood": "gaussian"}}, "gaussian", "none", "mlp"),
        (GREY, {"model": {"likelihood": "discretised-logistic"}}, "discretised-logistic", "none", "mlp"),
        (GREY, {"model": {"likelihood": "bernoulli"}}, "bernoulli", "binarise", "mlp"),
        (GREY, {"data": {"transform": "none"}}, "bernoulli", "none", "mlp"),
        (GREY, {"data": {"transform": "binarise-static"}}, "bernoulli", "binarise-static", "mlp"),
        (
            GREY,
            {"data": {"transform": "dequantise"}, "model": {"likelihood": "gaussian-learned"}},
            "gaussian-learned",
            "dequantise",
            "mlp",
        ),
        (BIG, {"model": {"net": {"kind": "resnet"}}}, "bernoulli", "binarise", "resnet"),
        (YES_NO, {"data": {"target": "large"}}, "bernoulli", "none", "mlp"),
        (AREA, {"data": {"target": "radius"}}, "gaussian-learned", "none", "mlp"),
    ],
)
def test_resolve(facts: Facts, sections: dict[str, Any], likelihood: str, transform: str, net: str) -> None:
    found = resolve(Config(seed=3, **sections), facts)
    assert (found.model.likelihood, found.data.transform, found.model.net.kind) == (likelihood, transform, net)
    assert found.seed == 3
    assert resolve(found, facts) == found  # nothing more to resolve


@pytest.mark.parametrize(
    ("facts", "sections", "message"),
    [
        (TABLE, {"model": {"likelihood": "bernoulli"}}, "bernoulli needs values in"),
        (TABLE, {"model": {"net": {"kind": "conv"}}}, "net conv needs images"),
        (GREY, {"model": {"sigma": 0.1}}, "sigma has no meaning for likelihood bernoulli"),
        (AREA, {"data": {"target": "radius"}, "model": {"likelihood": "bernoulli"}}, "bernoulli needs"),
    ],
)
def test_what_does_not_fit(facts: Facts, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(Config(**sections), facts)


def test_discretised_likelihood_of_real_numbers() -> None:
    config = resolve(Config(model={"likelihood": "discretised-logistic"}), TABLE)
    with pytest.raises(ConfigError, match="grey levels"):
        make_model(config.model, TABLE)


@pytest.mark.parametrize(("kind", "expected"), [("vae", VAE), ("autoencoder", AutoEncoder)])
def test_every_knob_of_the_model_arrives(kind: str, expected: type) -> None:
    config = Config(
        model={
            "kind": kind,
            "latent": 5,
            "likelihood": "gaussian",
            "sigma": 0.2,
            "net": {"kind": "mlp", "width": 7, "depth": 3},
        }
    )
    model = make_model(config.model, GREY)
    assert type(model) is expected
    assert model.config == config.model
    assert (model.latent, model.shape, model.likelihood.sigma) == (5, (1, 8, 8), 0.2)
    hidden = [p.shape for name, p in model.decoder.net.named_parameters() if name.endswith("weight")]
    assert hidden == [(7, 5), (7, 7), (7, 7), (64, 7)]
    assert make_model(Config(model={"likelihood": "discretised-logistic"}).model, GREY).likelihood.levels == 17


@pytest.mark.parametrize(
    ("expected", "model", "data"),
    [
        (VAE, {}, {}),
        (VAE, {"conditioning": "film", "prior": "learned"}, {}),
        (AutoEncoder, {"kind": "autoencoder", "conditioning": "embedding"}, {}),
        (SemiSupervisedVAE, {"kind": "semi-supervised", "classifier_weight": 0.3}, {"labelled": 20}),
        (SemiSupervisedVAE, {"kind": "semi-supervised", "prior": "learned", "conditioning": "film"}, {"labelled": 20}),
    ],
)
def test_every_knob_of_a_conditional_model_arrives(
    expected: type[EncoderDecoder], model: dict[str, Any], data: dict[str, Any]
) -> None:
    facts = replace(GREY, condition_shape=(10,))
    config = resolve(Config(model={**model, "net": {"width": 7}}, data={**data, "condition": "label"}), facts)
    for key, value in model.items():
        assert getattr(config.model, key) == value
    made = make_model(config.model, facts)
    assert type(made) is expected
    assert made.condition_shape == (10,)
    assert made.config == config.model
    way = model.get("conditioning", "concat")
    assert any(isinstance(layer, Film) for layer in made.modules()) == (way == "film")
    tables = [m for m in made.decoder.net.modules() if isinstance(m, nn.Linear) and m.in_features == 10]
    assert bool(tables) == (way != "concat")
    if isinstance(made, VAE):
        assert (made.prior_net is not None) == (config.model.prior == "learned")
    if isinstance(made, SemiSupervisedVAE):
        assert made.classifier_weight == config.model.classifier_weight
