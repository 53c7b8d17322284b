"""Settings of discrete codes, autoregressive networks and priors: what goes together, and what is refused in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from jensen.autoencoders import resolve
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import (
    QUANTISER_KNOBS,
    AutoregressiveConfig,
    Config,
    ModelConfig,
    NetConfig,
    PriorConfig,
    QuantiserConfig,
    TrainConfig,
)
from jensen.data import load_data
from jensen.errors import ConfigError
from jensen.nn import make_encoder

ANOTHER: dict[str, Any] = {
    "codes": 64,
    "books": 2,
    "codebook": "loss",
    "decay": 0.5,
    "commitment": 1.0,
    "initial": "random",
    "revival": 0.0,
    "cosine": True,
    "projection": 8,
    "temperature": 0.5,
    "values": (3, 4),
}


def test_every_knob_is_known() -> None:
    assert set(ANOTHER) == {name for knobs in QUANTISER_KNOBS.values() for name in knobs}


@pytest.mark.parametrize("kind", QUANTISER_KNOBS)
@pytest.mark.parametrize("knob", ANOTHER)
def test_a_knob_is_taken_by_its_kinds_and_refused_by_others(kind: str, knob: str) -> None:
    if knob in QUANTISER_KNOBS[kind]:
        found = QuantiserConfig(kind=kind, **{knob: ANOTHER[knob]})
        assert getattr(found, knob) == ANOTHER[knob]
        assert getattr(QuantiserConfig(kind=kind), knob) == QUANTISER_KNOBS[kind][knob]
        return
    with pytest.raises(ConfigError, match=f"{knob} has no meaning for {kind}; it is for kind"):
        QuantiserConfig(kind=kind, **{knob: ANOTHER[knob]})


@pytest.mark.parametrize("kind", QUANTISER_KNOBS)
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    for config in (
        Config(model={"kind": "vqvae", "hierarchy": 2, "quantiser": {"kind": kind}}),
        Config(model={"kind": "autoregressive", "autoregressive": {"kind": "transformer", "width": 32, "heads": 8}}),
        Config(model={"likelihood": "autoregressive", "autoregressive": {"depth": 3}}),
    ):
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert Config.from_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"codes": 1}, "codes: "),
        ({"dim": 0}, "dim: "),
        ({"decay": 1.0}, "decay: "),
        ({"commitment": -1.0}, "commitment: "),
        ({"kind": "finite-scalar", "values": (8, 1)}, r"values\.1: "),
        ({"kind": "gumbel", "temperature": 0.0}, "temperature: "),
        ({"codebook": "loss", "decay": 0.9}, "decay has no meaning for codebook loss"),
        ({"kind": "product"}, "kind: "),
    ],
)
def test_impossible_quantisers(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        QuantiserConfig(**choices)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"kind": "transformer", "width": 30}, "width 30 should be a multiple of heads 4"),
        ({"heads": 2}, "heads has no meaning for pixelcnn"),
        ({"depth": 0}, "depth: "),
        ({"dropout": 1.0}, "dropout: "),
    ],
)
def test_impossible_networks(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AutoregressiveConfig(**choices)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"downsampling": 2}, "downsampling is for model vqvae, hvae, ladder or nvae, not vae"),
        ({"hierarchy": 2}, "hierarchy is for model vqvae, not vae"),
        ({"quantiser": {"codes": 4}}, "quantiser is for model vqvae, not vae"),
        ({"kind": "vqvae", "downsampling": 3}, "downsampling should be a power of 2"),
        ({"kind": "vqvae", "latent": 8}, "latent has no meaning for model vqvae"),
        ({"kind": "vqvae", "prior": "learned"}, "jensen train prior"),
        ({"kind": "vqvae", "autoregressive": {"depth": 2}}, "autoregressive is for model or likelihood autoregressive"),
        ({"kind": "autoregressive", "likelihood": "bernoulli"}, "leave bernoulli away"),
        ({"kind": "autoregressive", "net": {"width": 8}}, "net has no meaning for model autoregressive"),
        ({"kind": "autoregressive", "sigma": 2.0}, "sigma has no meaning for"),
        ({"likelihood": "categorical", "sigma": 2.0}, "sigma has no meaning for likelihood categorical"),
    ],
)
def test_impossible_models(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ModelConfig(**choices)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"kind": "vqvae"}, "objective": {"kind": "beta"}}, "so there is nothing for an objective to choose"),
        ({"model": {"kind": "vqvae"}, "objective": {"samples": 2}}, "leave the objective's keys away"),
        (
            {"model": {"kind": "vqvae", "quantiser": {"kind": "gumbel"}}, "objective": {"kind": "mmd"}},
            "objective mmd looks at continuous codes",
        ),
        (
            {"model": {"kind": "vqvae", "quantiser": {"kind": "gumbel"}}, "objective": {"kl": "monte-carlo"}},
            "kl monte-carlo has no gradient for the encoder .* use kl analytic",
        ),
        (
            {
                "model": {"kind": "vqvae", "quantiser": {"kind": "gumbel"}},
                "objective": {"kind": "free-bits", "kl": "monte-carlo"},
            },
            "kl monte-carlo has no gradient for the encoder",
        ),
        ({"model": {"kind": "autoregressive"}, "objective": {"samples": 2}}, "trained on its log-likelihood"),
        ({"model": {"kind": "autoregressive"}, "data": {"corruption": "masking"}}, "corruption has no meaning for"),
        ({"model": {"kind": "autoregressive"}, "data": {"transform": "dequantise"}}, "dequantise"),
        ({"model": {"kind": "vqvae"}, "data": {"condition": "label", "labelled": 10}}, "use semi-supervised"),
        ({"model": {"likelihood": "gaussian"}, "data": {"transform": "binarise"}}, "needs likelihood bernoulli"),
    ],
)
def test_impossible_runs(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Config(**sections)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("transform", ["binarise", "binarise-static"])
@pytest.mark.parametrize(
    "model", [{"likelihood": "categorical"}, {"likelihood": "autoregressive"}, {"kind": "autoregressive"}]
)
def test_binary_data_of_any_likelihood_on_levels(model: dict[str, Any], transform: str) -> None:
    config = resolve(Config(model=model, data={"transform": transform}), load_data("digits", transform=transform))
    assert config.data.transform == transform
    assert config.model.likelihood == model.get("likelihood", "autoregressive")


@pytest.mark.parametrize(("kind", "widths"), [("mlp", 400), ("conv", 32), ("resnet", 32)])
def test_sizes_of_nets_are_those_of_their_description(kind: str, widths: int) -> None:
    said = NetConfig.model_fields["width"].description or ""
    assert f"{kind}: {widths}" in said
    shape = (1, 32, 32)
    given = make_encoder(NetConfig(kind=kind, width=widths), shape, 4)
    assert _sizes(make_encoder(NetConfig(kind=kind), shape, 4)) == _sizes(given)


def test_sizes_of_a_vqvae_are_those_of_their_description() -> None:
    assert "vqvae: 64" in (NetConfig.model_fields["width"].description or "")
    assert "vqvae: 2" in (NetConfig.model_fields["depth"].description or "")
    assert _sizes(VQVAE((1, 8, 8))) == _sizes(VQVAE((1, 8, 8), net=NetConfig(kind="conv", width=64, depth=2)))


def _sizes(net: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in net.parameters()]


def test_objectives_of_codes_that_are_drawn() -> None:
    gumbel = {"kind": "vqvae", "quantiser": {"kind": "gumbel"}}
    for kind in ("elbo", "beta", "capacity", "free-bits", "balanced"):
        assert Config(model=gumbel, objective={"kind": kind}).objective.kind == kind


def test_a_prior_has_defaults_of_its_own(tmp_path: Path) -> None:
    plain = PriorConfig()
    assert (plain.train.decay, plain.train.clip) == ("cosine", 1.0)
    assert (TrainConfig().decay, TrainConfig().clip) == ("none", None)
    some = PriorConfig(train={"epochs": 3, "clip": None})
    assert (some.train.epochs, some.train.decay, some.train.clip) == (3, "cosine", None)
    assert PriorConfig(train=TrainConfig()).train == TrainConfig()
    for config in (plain, some, PriorConfig(seed=3, condition="label", net={"kind": "transformer"})):
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert PriorConfig.from_yaml(tmp_path / "config.yaml") == config
    assert config.to_yaml().endswith("...\n")
    assert yaml.safe_load(config.to_yaml())["net"]["kind"] == "transformer"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": {}}, "unknown key model"),
        ({"net": {"heads": 3}}, "net: heads has no meaning for pixelcnn"),
        ({"train": {"epoch": 3}}, r"unknown key train\.epoch"),
        ({"train": 3}, "train: "),
        ({"seed": -1}, "seed: "),
    ],
)
def test_impossible_priors(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PriorConfig(**values)
