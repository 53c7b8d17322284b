"""Words for the architecture of a deep VAE."""

from __future__ import annotations

import pytest
import yaml

from jensen.config import Config, ModelConfig
from jensen.config.names import DEEP
from jensen.config.scales import DEFAULT_SCALES, Scale, parse_scales
from jensen.errors import ConfigError


def test_words_are_groups_latents_and_width() -> None:
    assert parse_scales(["64@512", "10x20@64", " 3x1@7 "]) == (Scale(1, 64, 512), Scale(10, 20, 64), Scale(3, 1, 7))


def test_default_of_fully_connected_nets_is_that_of_the_paper() -> None:
    scales = parse_scales(DEFAULT_SCALES["mlp"])
    assert [scale.latents for scale in scales] == [64, 32, 16, 8, 4]
    assert [scale.width for scale in scales] == [512, 256, 128, 64, 32]
    assert {scale.groups for scale in scales} == {1}


@pytest.mark.parametrize(
    "word", ["", "64", "64@", "@512", "x64@512", "2x@5", "2x3x4@5", "-1@5", "1.5@4", "a@b", "64 @ 5"]
)
def test_what_is_no_word_is_refused_by_its_name(word: str) -> None:
    with pytest.raises(ValueError, match=f"scale {word!r} should be LATENTS@WIDTH or GROUPSxLATENTS@WIDTH"):
        parse_scales(["8@8", word])


@pytest.mark.parametrize("word", ["0@5", "5@0", "0x5@5"])
def test_zeros_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"scale '{word}' should have no zeros, e.g. 64@512 or 10x20@64"):
        parse_scales([word])


def test_one_string_is_not_taken_for_many_words() -> None:
    with pytest.raises(ValueError, match=r"several words, e.g. \['64@512'\], but is the string '64@512'"):
        parse_scales("64@512")


def test_no_words_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        parse_scales([])


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"scales": ("8@8", "eight")}, "scale 'eight' should be LATENTS@WIDTH"),
        ({"scales": ()}, "at least one word"),
        ({"latent": 8}, "latent has no meaning for model {kind}: scales say"),
        ({"net": {"width": 8}}, "net.width has no meaning for model {kind}: scales say"),
        ({"prior": "learned"}, "prior has no meaning for model {kind}"),
        ({"downsampling": 3}, "downsampling should be a power of 2"),
        ({"spectral": -0.1}, "spectral: input should be greater than or equal to 0"),
        ({"stem": 0}, "stem: input should be greater than or equal to 1"),
        ({"hierarchy": 2}, "hierarchy is for model vqvae, not {kind}"),
    ],
)
def test_deep_models_refuse_what_they_have_not(kind: str, choices: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        ModelConfig(kind=kind, **choices)
    assert complaint.format(kind=kind) in str(error.value)
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("kind", ["vae", "autoencoder", "semi-supervised", "vqvae", "autoregressive"])
@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("scales", {"scales": ("8@8",)}),
        ("stem", {"stem": 2}),
        ("spectral", {"spectral": 0.1}),
        ("net", {"net": {"kind": "cells"}}),
    ],
)
def test_what_only_deep_models_have_is_refused_elsewhere(kind: str, name: str, choices: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=name):
        ModelConfig(kind=kind, **choices)


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("objective", ["total-correlation", "factor", "dip", "mmd"])
def test_objectives_of_one_code_are_refused(kind: str, objective: str) -> None:
    with pytest.raises(
        ConfigError, match=f"objective {objective} compares all codes .* model {kind} has a prior at every"
    ):
        Config(model={"kind": kind}, objective={"kind": objective})


@pytest.mark.parametrize(
    ("kind", "objective"),
    [(kind, objective) for kind in DEEP for objective in ("elbo", "iwae", "beta", "capacity")]
    + [(kind, objective) for kind in ("ladder", "nvae") for objective in ("free-bits", "balanced")],
)
def test_a_whole_run_goes_to_yaml_and_back(kind: str, objective: str) -> None:
    model = {"kind": kind, "scales": ("2x3@4", "1@2"), "stem": 2, "spectral": 0.1, "downsampling": 2}
    config = Config(model=model, objective={"kind": objective}, data={"condition": "label"})
    again = Config(**yaml.safe_load(config.to_yaml()))
    assert again == config
    assert again.model.scales == ("2x3@4", "1@2")
