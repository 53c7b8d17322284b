"""Configuration: schedules by hand, what is refused and how, and a round trip through YAML."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jensen.config import (
    KNOBS,
    Config,
    DataConfig,
    ModelConfig,
    NetConfig,
    ObjectiveConfig,
    Schedule,
    TrainConfig,
)
from jensen.errors import ConfigError
from jensen.sections import read_yaml


def values(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule(step) for step in steps]


def test_constant() -> None:
    assert values(Schedule(), 0, 7, 10**9) == [1.0, 1.0, 1.0]
    assert values(Schedule(end=0.25), -1, 0, 5) == [0.25, 0.25, 0.25]


def test_linear() -> None:
    schedule = Schedule(kind="linear", start=0.5, end=2.5, steps=8)
    assert values(schedule, -3, 0, 1, 4, 8, 100) == [0.5, 0.5, 0.75, 1.5, 2.5, 2.5]


def test_cosine() -> None:
    schedule = Schedule(kind="cosine", start=1.0, end=0.0, steps=12)
    expected = [1.0, (1 + math.cos(math.pi / 12)) / 2, (2 + math.sqrt(2)) / 4, 0.5, 0.25, 0.0, 0.0]
    assert values(schedule, 0, 1, 3, 6, 8, 12, 99) == pytest.approx(expected)


def test_cyclical() -> None:
    """Four cycles of 10 steps, each rising over 5 and flat over 5; flat after the last (Fu et al. 2019)."""
    schedule = Schedule(kind="cyclical", start=0.0, end=1.0, steps=40)
    cycle = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert values(schedule, *range(44)) == pytest.approx([*cycle * 4, 1.0, 1.0, 1.0, 1.0])
    saw = Schedule(kind="cyclical", start=1.0, end=3.0, steps=10, cycles=2, ramp=1.0)
    assert values(saw, *range(11)) == pytest.approx([*[1.0, 1.4, 1.8, 2.2, 2.6] * 2, 3.0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "linear"}, "a linear schedule needs steps >= 1"),
        ({"kind": "cyclical", "steps": 0}, "a cyclical schedule needs steps"),
        ({"steps": 100}, "a constant schedule has only an end: choose kind linear"),
        ({"start": 0.5}, "a constant schedule has only an end"),
        ({"kind": "linear", "steps": 5, "cycles": 2}, "cycles and ramp are for kind cyclical, not linear"),
        ({"kind": "linear", "steps": -1}, "steps: input should be greater than or equal to 0, got -1"),
        ({"kind": "linear", "steps": 5, "ramp": 0.0}, "ramp"),
        ({"kind": "cyclical", "steps": 5, "ramp": 1.5}, "ramp"),
        ({"kind": "cyclical", "steps": 5, "cycles": 0}, "cycles"),
        ({"end": math.nan}, "end: input should be a finite number"),
        ({"kind": "linear", "steps": 5, "share": 0.5}, "steps and share are two ways to say how long"),
        ({"share": 0.5}, "a constant schedule has only an end"),
        ({"kind": "linear", "share": 0.0}, "share: input should be greater than 0"),
        ({"kind": "linear", "share": 1.5}, "share: input should be less than or equal to 1"),
        ({"kind": "stairs"}, "kind: input should be 'constant'"),
    ],
)
def test_impossible_schedules(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(**wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(epoch=3), "unknown key epoch"),
        (lambda: Config(train={"epoch": 3}), r"^unknown key train\.epoch$"),
        (lambda: Config(model={"net": {"widht": 3}}), r"^unknown key model\.net\.widht$"),
        (lambda: TrainConfig(lr=-1), "lr: input should be greater than 0, got -1"),
        (lambda: TrainConfig(lr=math.inf), "lr"),
        (lambda: TrainConfig(epochs=0), "epochs"),
        (lambda: TrainConfig(epochs=1.5), "epochs: input should be a valid integer"),
        (lambda: TrainConfig(epochs="many"), "epochs.*'many'"),
        (lambda: TrainConfig(ema=1.0), "ema"),
        (lambda: TrainConfig(ema=0.0), "ema"),
        (lambda: TrainConfig(clip=0.0), "clip"),
        (lambda: TrainConfig(skip=1.0), "skip: input should be greater than 1"),
        (lambda: TrainConfig(eps=0.0), "eps"),
        (lambda: TrainConfig(lr_min=1e-4), "lr_min is where cosine decay ends and has no meaning for decay none"),
        (lambda: TrainConfig(lr_min=1e-4, decay="plateau"), "lr_min .* no meaning for decay plateau"),
        (lambda: TrainConfig(lr_min=1.0, decay="cosine"), "lr_min 1 should be at most lr, 0.001"),
        (lambda: TrainConfig(warmup=5, warmup_share=0.1), "warmup and warmup_share are two ways"),
        (lambda: TrainConfig(warmup_share=1.1), "warmup_share"),
        (lambda: TrainConfig(precision="fp16"), "precision"),
        (lambda: TrainConfig(weight_decay=-0.1), "weight_decay"),
        (lambda: ObjectiveConfig(kind="beta", beta=-1), "beta: input should be greater than or equal to 0, got -1"),
        (lambda: ObjectiveConfig(kind="mmd", alpha=math.nan), "alpha: input should be a finite number"),
        (lambda: ObjectiveConfig(kind="factor", discriminator_width=0), "discriminator_width"),
        (lambda: ObjectiveConfig(kind="capacity", capacity_steps=0), "capacity_steps"),
        (lambda: ObjectiveConfig(kind="dip", dip="iii"), "dip: input should be 'i' or 'ii', got 'iii'"),
        (lambda: ObjectiveConfig(kind="betavae"), "kind.*'betavae'"),
        (
            lambda: Config(model={"kind": "hvae"}, objective={"kind": "free-bits"}),
            "objective free-bits takes the term of each level for a KL, but in model hvae those below the top are none",
        ),
        (
            lambda: Config(model={"kind": "hvae"}, objective={"kind": "balanced"}),
            "objective balanced takes the term of each level .* use elbo, beta, capacity or iwae, or model ladder",
        ),
        (
            lambda: Config(model={"kind": "hvae"}, objective={"kind": "mmd"}),
            "model hvae has a prior at every level that depends on those above: use elbo, beta, capacity or iwae$",
        ),
        (lambda: DataConfig(validation=1.0), "validation"),
        (lambda: DataConfig(corruption_strength=0.0), "corruption_strength"),
        (lambda: DataConfig(limit=0), "limit"),
        (lambda: ModelConfig(latent=0), "latent"),
        (lambda: ModelConfig(sigma=0.0), "sigma"),
        (lambda: ModelConfig(likelihood="poisson"), "likelihood.*'poisson'"),
        (lambda: Config(seed=-1), "seed"),
        (lambda: Config(seed=2**70), "seed"),
        (lambda: Config(data=None), "data"),
    ],
)
def test_one_line_names_the_key(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": {"kind": "iwae"}, "model": {"kind": "autoencoder"}}, "iwae needs a posterior"),
        (
            {"objective": {"kind": "iwae", "kl_weight": {"kind": "linear", "steps": 9}}},
            "kl_weight has no meaning for iwae",
        ),
        ({"objective": {"kind": "iwae", "kl": "monte-carlo"}}, "kl has no meaning for iwae"),
        ({"objective": {"samples": 5}, "model": {"kind": "autoencoder"}}, "no meaning for an autoencoder"),
        ({"objective": {"kind": "factor"}, "model": {"kind": "autoencoder"}}, "factor needs a posterior"),
        (
            {"objective": {"kind": "total-correlation", "kl": "monte-carlo"}},
            "kl has no meaning for total-correlation",
        ),
        ({"model": {"prior": "learned", "kind": "autoencoder"}}, "prior has no meaning for model autoencoder"),
        ({"model": {"prior": "learned"}}, r"prior learned is p\(z \| c\): give data.condition"),
        ({"model": {"conditioning": "film"}}, "conditioning has no meaning without a condition"),
        ({"model": {"classifier_weight": 3.0}}, "classifier_weight is for model semi-supervised, not vae"),
        ({"model": {"kind": "semi-supervised"}}, "semi-supervised needs condition label and labelled"),
        ({"data": {"condition": "label", "labelled": 100}}, "labelled leaves labels unknown, which model vae cannot"),
        ({"data": {"condition": "label", "labelled_share": 0.5}}, "labelled_share has no meaning without labelled"),
        ({"model": {"likelihood": "bernoulli", "sigma": 0.1}}, "sigma has no meaning for likelihood bernoulli"),
        ({"data": {"target": "large", "corruption": "masking"}}, "target and corruption exclude each other"),
        ({"data": {"transform": "binarise"}, "model": {"likelihood": "gaussian"}}, "binarise needs likelihood bern"),
        ({"data": {"transform": "binarise-static"}, "model": {"likelihood": "discretised-logistic"}}, "bernoulli"),
        ({"data": {"transform": "dequantise"}, "model": {"likelihood": "bernoulli"}}, "continuous likelihood"),
        ({"data": {"transform": "dequantise"}, "model": {"likelihood": "discretised-logistic"}}, "continuous"),
    ],
)
def test_impossible_combinations(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**sections)


@pytest.mark.parametrize("kind", KNOBS)
def test_an_objective_has_its_own_knobs_and_no_other(kind: str) -> None:
    every = {knob for knobs in KNOBS.values() for knob in knobs}
    plain = ObjectiveConfig(kind=kind)
    assert {name: getattr(plain, name) for name in KNOBS[kind]} == KNOBS[kind]
    assert all(getattr(plain, name) is None for name in every - KNOBS[kind].keys())
    for name in every:
        value = next(knobs[name] for knobs in KNOBS.values() if name in knobs)
        if name in KNOBS[kind]:
            assert ObjectiveConfig(kind=kind, **{name: KNOBS[kind][name]}) == plain
            continue
        kinds = ", ".join(other for other, knobs in KNOBS.items() if name in knobs)
        with pytest.raises(ConfigError, match=f"^{name} has no meaning for {kind}; it is for kind {kinds}$"):
            ObjectiveConfig(kind=kind, **{name: value})


@pytest.mark.parametrize("kind", KNOBS)
def test_an_objective_survives_yaml(kind: str, tmp_path: Path) -> None:
    config = Config(objective={"kind": kind, "samples": 3})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert Config.from_yaml(path) == config


def test_sections_do_not_change() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def full() -> Config:
    """Every key away from its default, where that is possible together."""
    return Config(
        seed=7,
        data=DataConfig(
            name="mnist",
            directory=Path("there"),
            transform="dequantise",
            corruption="masking",
            corruption_strength=0.2,
            limit=99,
            validation=0.2,
        ),
        model=ModelConfig(
            latent=3,
            likelihood="gaussian",
            sigma=0.1,
            net=NetConfig(kind="resnet", width=5, depth=2, activation="gelu", normalisation="group"),
        ),
        objective=ObjectiveConfig(
            samples=4, kl="monte-carlo", kl_weight=Schedule(kind="cyclical", start=0.1, end=0.9, steps=30, cycles=3)
        ),
        train=TrainConfig(
            epochs=3,
            batch_size=7,
            optimiser="adamax",
            lr=1e-5,
            weight_decay=0.1,
            warmup=4,
            decay="plateau",
            clip=1.0,
            ema=0.99,
            patience=4,
            plateau_patience=2,
            precision="bf16",
            channels_last=True,
            compile=True,
            accelerator="cpu",
            devices=7,
            nodes=2,
            strategy="ddp",
            tensorboard=True,
        ),
    )


@pytest.mark.parametrize("config", [Config(), full(), Config(data=DataConfig(name="circles", target="large"))])
def test_yaml_round_trip(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert Config.from_yaml(path) == config
    keys = yaml.safe_load(config.to_yaml())
    assert set(keys) == {"seed", "data", "model", "objective", "train"}
    assert set(keys["train"]) == set(TrainConfig.model_fields)  # saved whole, defaults too


def test_yaml_of_a_person(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# comment\ntrain:\n  lr: 1e-3\n  epochs: 5\nmodel: {latent: 2, net: {kind: mlp}}\n")
    config = Config.from_yaml(path)
    assert (config.train.lr, config.train.epochs, config.model.latent) == (1e-3, 5, 2)
    path.write_text("")
    assert Config.from_yaml(path) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"- 1\n- 2\n", "holds a list"),
        (b"train: {lr: 1", "cannot read"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"1: 2\n", "keys should be words, but one is 1"),
        (b"train: {on: 3}\n", "keys should be words, but one is True"),
        (b"train: 3\n", "train: .*3"),
        (b"!!python/object/apply:os.system ['true']\n", "cannot read"),
    ],
)
def test_bad_yaml(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Config.from_yaml(path)
    assert "\n" not in str(caught.value)


def test_missing_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")
