"""Presets: valid, complete, and what was published."""

from __future__ import annotations

import pytest
import torch

from jensen.autoencoders import make_model
from jensen.autoencoders.hierarchy import DeepVAE
from jensen.config import PRESETS, Config, Schedule, preset
from jensen.config.scales import parse_scales
from jensen.data import list_datasets
from jensen.errors import ConfigError
from jensen.nn.layout import layout_of
from jensen.training import DataFacts

SHAPES = {info.name: (info.shape, info.levels) for info in list_datasets()}
FACES = ((3, 64, 64), 256)
BIG = ("nvae-mnist", "nvae-cifar10", "nvae-celeba64")


def made(name: str) -> DeepVAE:
    """The model of a preset for its data; of a big one without numbers in its weights."""
    values = preset(name)
    shape, levels = SHAPES[values["data"]["name"]] if "data" in values else FACES
    with torch.device("meta" if name in BIG else "cpu"):
        model = make_model(Config(**values).model, DataFacts(shape, shape, levels, ()))
    assert isinstance(model, DeepVAE)
    return model


def parameters(name: str) -> int:
    return sum(weight.numel() for weight in made(name).parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration_that_says_so_itself(name: str) -> None:
    values = preset(name)
    config = Config(**values)
    assert config.model.kind == name.split("-")[0] == values["model"]["kind"]

    def same(given: object, kept: object) -> bool:
        if isinstance(given, dict):
            return isinstance(kept, dict) and all(same(value, kept[key]) for key, value in given.items())
        return list(given) == list(kept) if isinstance(given, list) else given == kept  # type: ignore[call-overload]

    assert same(values, config.model_dump())
    assert len(name) <= 16
    assert len(PRESETS[name].about) <= 90


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak) if name in BIG else name for name in PRESETS]
)
def test_every_preset_makes_its_model(name: str) -> None:
    assert made(name).level_shapes == levels(name)


def levels(name: str) -> tuple[tuple[int, ...], ...]:
    """Shapes of the latents of each level, the top first, without making the model."""
    values = preset(name)
    config = Config(**values).model
    shape, _ = SHAPES[values["data"]["name"]] if "data" in values else FACES
    assert config.scales is not None
    size = () if config.net.kind == "mlp" else shape[1:]
    return tuple(rung.shape for rung in layout_of(parse_scales(config.scales), size, config.downsampling).rungs[::-1])


def test_levels_as_published() -> None:
    for name in ("hvae-mnist", "ladder-mnist", "ladder-omniglot"):
        assert levels(name) == ((4,), (8,), (16,), (32,), (64,))
    assert levels("nvae-mnist") == ((20, 3, 3),) * 5 + ((20, 7, 7),) * 10
    assert levels("nvae-cifar10") == ((20, 16, 16),) * 30
    assert levels("nvae-celeba64") == ((20, 8, 8),) * 5 + ((20, 16, 16),) * 10 + ((20, 32, 32),) * 20
    assert levels("ladder-conv") == ((32, 1, 1), (32, 3, 3), (32, 7, 7))


def test_settings_as_published() -> None:
    """Ladder VAE: the authors' code. NVAE: the commands in its README, and defaults where they say nothing."""
    ladder = Config(**preset("ladder-mnist"))
    assert ladder.objective.kl_weight.over(2000) == Schedule(kind="linear", steps=200)
    assert (ladder.train.epochs, ladder.train.batch_size) == (2000, 256)
    assert (ladder.train.optimiser, ladder.train.lr, ladder.train.eps) == ("adam", 2e-4, 1e-4)
    for name, epochs, devices, each, spectral in (
        ("nvae-mnist", 400, 2, 200, 1e-2),
        ("nvae-cifar10", 400, 8, 32, 1e-2),
        ("nvae-celeba64", 90, 8, 16, 1e-1),
    ):
        config = Config(**preset(name))
        assert (config.train.epochs, config.train.batch_size, config.model.spectral) == (
            epochs,
            devices * each,
            spectral,
        )
        assert (config.train.lr, config.train.lr_min, config.train.eps, config.train.weight_decay) == (
            (1e-2, 1e-4, 1e-3, 3e-4)
        )
        assert config.train.warmup_share == pytest.approx(5 / epochs)
        assert config.objective.kind == "balanced"
        assert config.objective.kl_weight == Schedule(kind="linear", start=1e-4, share=0.3)


def test_parameters_of_the_ladder_by_hand() -> None:
    """Two layers a level with batch normalisation on each way, and the heads that the ladder has."""
    widths, latents = (512, 256, 128, 64, 32), (64, 32, 16, 8, 4)

    def layers(before: int, width: int) -> int:
        return sum(first * width + width + 2 * width for first in (before, width))

    up = sum(layers(before, width) for before, width in zip((784, *widths[:-1]), widths, strict=True))
    heads = sum(2 * (width + 1) * size for width, size in zip(widths, latents, strict=True))
    down = sum(layers(size, width) for width, size in zip(widths, latents, strict=True))
    priors = sum(2 * (above + 1) * size for above, size in zip(widths[1:], latents[:-1], strict=True))
    pixels = 784 * (512 + 1)
    assert parameters("ladder-mnist") == up + heads + down + priors + pixels


def test_a_preset_may_be_changed_without_changing_it_for_others() -> None:
    mine = preset("ladder-mnist")
    mine["train"]["epochs"] = 1
    mine["model"]["scales"].append("2@8")
    assert preset("ladder-mnist")["train"]["epochs"] == 2000
    assert preset("ladder-omniglot")["model"]["scales"][-1] == "4@32"
    assert Config(**preset("hvae-small")).train.lr == 1e-3
    assert Config(**preset("hvae-mnist")).train.lr == 2e-4


def test_an_unknown_preset() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'nvae-minst'; did you mean nvae-mnist\? \(choices: hvae-mnist, "):
        preset("nvae-minst")
