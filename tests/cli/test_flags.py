"""Flags against the configuration: every key once, flags over file over defaults, faults told in one line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import App, CycloptsError

from jensen.cli.flags import COMMON, assemble, config_keys, parameters
from jensen.config import Config
from jensen.errors import ConfigError

OTHERS: dict[str, tuple[str | None, object]] = {
    "seed": ("7", 7),
    "data": ("mnist", "mnist"),
    "data-dir": ("some/where", Path("some/where")),
    "transform": ("none", "none"),
    "corruption": ("masking", "masking"),
    "corruption-strength": ("0.5", 0.5),
    "target": ("large", "large"),
    "condition": ("label", "label"),
    "labelled": ("100", 100),
    "labelled-share": ("0.5", 0.5),
    "limit": ("100", 100),
    "validation": ("0.2", 0.2),
    "model": ("autoencoder", "autoencoder"),
    "latent": ("3", 3),
    "likelihood": ("gaussian", "gaussian"),
    "sigma": ("0.5", 0.5),
    "conditioning": ("film", "film"),
    "prior": ("learned", "learned"),
    "classifier-weight": ("0.5", 0.5),
    "scales": ("8@64,4@32", ("8@64", "4@32")),
    "stem": ("2", 2),
    "spectral": ("0.01", 0.01),
    "downsampling": ("8", 8),
    "hierarchy": ("2", 2),
    "quantiser": ("residual", "residual"),
    "quantiser-dim": ("32", 32),
    "quantiser-codes": ("128", 128),
    "quantiser-books": ("3", 3),
    "quantiser-codebook": ("loss", "loss"),
    "quantiser-decay": ("0.9", 0.9),
    "quantiser-commitment": ("1", 1.0),
    "quantiser-initial": ("random", "random"),
    "quantiser-revival": ("0", 0.0),
    "quantiser-cosine": (None, True),
    "quantiser-projection": ("8", 8),
    "quantiser-temperature": ("0.5", 0.5),
    "quantiser-values": ("7,5,5", (7, 5, 5)),
    "autoregressive": ("transformer", "transformer"),
    "autoregressive-width": ("32", 32),
    "autoregressive-depth": ("3", 3),
    "autoregressive-heads": ("2", 2),
    "autoregressive-dropout": ("0.1", 0.1),
    "net": ("conv", "conv"),
    "net-width": ("64", 64),
    "net-depth": ("3", 3),
    "net-activation": ("elu", "elu"),
    "net-normalisation": ("group", "group"),
    "objective": ("iwae", "iwae"),
    "samples": ("5", 5),
    "kl": ("monte-carlo", "monte-carlo"),
    "kl-weight-schedule": ("linear", "linear"),
    "kl-weight-start": ("0.5", 0.5),
    "kl-weight": ("4", 4.0),
    "kl-weight-steps": ("2000", 2000),
    "kl-weight-share": ("0.1", 0.1),
    "kl-weight-cycles": ("2", 2),
    "kl-weight-ramp": ("0.25", 0.25),
    "beta": ("4", 4.0),
    "alpha": ("-0.5", -0.5),
    "gamma": ("3", 3.0),
    "max-capacity": ("50", 50.0),
    "capacity-steps": ("1000", 1000),
    "estimator": ("weighted", "weighted"),
    "discriminator-lr": ("1e-3", 1e-3),
    "discriminator-width": ("100", 100),
    "discriminator-depth": ("2", 2),
    "dip": ("i", "i"),
    "off-diagonal": ("5", 5.0),
    "diagonal": ("50", 50.0),
    "free-bits": ("0.25", 0.25),
    "mmd-weight": ("10", 10.0),
    "kernel": ("rbf", "rbf"),
    "epochs": ("3", 3),
    "batch-size": ("32", 32),
    "optimiser": ("adamw", "adamw"),
    "lr": ("3e-4", 3e-4),
    "lr-min": ("1e-5", 1e-5),
    "eps": ("1e-4", 1e-4),
    "weight-decay": ("0.1", 0.1),
    "warmup": ("10", 10),
    "warmup-share": ("0.05", 0.05),
    "decay": ("cosine", "cosine"),
    "clip": ("1", 1.0),
    "skip": ("20", 20.0),
    "ema": ("0.99", 0.99),
    "patience": ("4", 4),
    "plateau-patience": ("2", 2),
    "precision": ("bf16", "bf16"),
    "channels-last": (None, True),
    "checkpointing": (None, True),
    "compile": (None, True),
    "accelerator": ("cpu", "cpu"),
    "devices": ("2", 2),
    "nodes": ("2", 2),
    "strategy": ("ddp", "ddp"),
    "tensorboard": (None, True),
    "leave-out": ("3,7", ("3", "7")),
    "layout": ("signal", "signal"),
    "size": ("48x64", "48x64"),
    "fit": ("pad", "pad"),
    "colour": ("grey", "grey"),
    "skip-bad": (None, True),
    "class-column": ("kind", "kind"),
    "categorical": ("a,b", ("a", "b")),
    "counts": ("c", ("c",)),
    "ignore": ("d", ("d",)),
    "missing": ("x,unknown", ("x", "unknown")),
    "components": ("7", 7),
    "posterior": ("full", "full"),
    "on-nan": ("skip", "skip"),
    "auto-batch": (None, True),
    "deterministic": (None, True),
}
"""For each flag another value than the default, as typed and as kept."""


def parsed(*arguments: str) -> dict[str, Any]:
    """What the flags give, by parameter name."""
    found: dict[str, Any] = {}

    def collect(**given: Any) -> None:
        found.update(given)

    collect.__signature__ = inspect.Signature(parameters())  # type: ignore[attr-defined]
    app = App(result_action="return_value", print_error=False, exit_on_error=False)
    app.default(collect)
    app(list(arguments))
    return found


def leaf(values: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a dotted key."""
    for part in path:
        values = values[part]
    return values


def test_every_key_has_its_own_flag() -> None:
    def count(section: Any) -> int:
        return sum(count(value) if isinstance(value, dict) else 1 for value in section.values())

    keys = list(config_keys())
    assert len(keys) == count(Config().model_dump())
    assert len({key.flag for key in keys}) == len(keys)
    assert {key.flag for key in keys} == set(OTHERS)
    assert all(key.description for key in keys)
    assert {key.flag for key in keys} >= COMMON
    assert not {key.flag for key in keys} & {"run", "config", "resume", "report", "help", "version", "help-all"}


@pytest.mark.parametrize("flag", OTHERS)
def test_a_flag_reaches_its_key_and_no_other(flag: str) -> None:
    key = next(key for key in config_keys() if key.flag == flag)
    text, value = OTHERS[flag]
    given = parsed(f"--{flag}", *([] if text is None else [text]))
    assert given == {"__".join(key.path): value}
    assert leaf(Config().model_dump(), key.path) != value


@pytest.mark.parametrize(
    ("dotted", "flag"),
    [
        ("data.name", "data"),
        ("data.directory", "data-dir"),
        ("model.kind", "model"),
        ("model.net.kind", "net"),
        ("model.net.width", "net-width"),
        ("model.quantiser.kind", "quantiser"),
        ("model.quantiser.codes", "quantiser-codes"),
        ("model.autoregressive.kind", "autoregressive"),
        ("objective.kind", "objective"),
        ("objective.kl_weight.end", "kl-weight"),
        ("objective.kl_weight.kind", "kl-weight-schedule"),
        ("objective.kl_weight.steps", "kl-weight-steps"),
        ("train.batch_size", "batch-size"),
        ("seed", "seed"),
    ],
)
def test_names(dotted: str, flag: str) -> None:
    assert {key.dotted: key.flag for key in config_keys()}[dotted] == flag


def test_no_flags_no_file_is_the_default() -> None:
    assert assemble({}) == Config()


def test_flags_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model:\n  latent: 3\n  net: {width: 7}\ntrain:\n  lr: 3e-4\n  compile: true\n  clip: 2\ndata:\n")
    assert assemble({}, file) == Config(
        model={"latent": 3, "net": {"width": 7}}, train={"lr": 3e-4, "compile": True, "clip": 2}
    )
    config = assemble(parsed("--latent", "5", "--no-compile", "--clip", "none", "--net-depth", "2"), file)
    assert (config.model.latent, config.model.net.width, config.model.net.depth) == (5, 7, 2)
    assert (config.train.lr, config.train.compile, config.train.clip) == (3e-4, False, None)


def test_a_flag_that_says_the_default_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model: {latent: 3}")
    assert assemble(parsed("--latent", "16"), file).model.latent == 16


def test_a_list_is_given_with_commas_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model: {kind: vqvae, quantiser: {kind: finite-scalar, values: [7, 5]}}")
    assert assemble({}, file).model.quantiser.values == (7, 5)
    assert assemble(parsed("--quantiser-values", "8, 6,5"), file).model.quantiser.values == (8, 6, 5)
    assert assemble(parsed("--quantiser-values", "4"), file).model.quantiser.values == (4,)
    again = tmp_path / "again.yaml"
    again.write_text(assemble({}, file).to_yaml())
    assert assemble({}, again) == assemble({}, file)


def test_a_saved_configuration_is_a_file_for_config(tmp_path: Path) -> None:
    config = Config(model={"latent": 3}, objective={"kl_weight": {"kind": "linear", "steps": 9, "end": 2}})
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert assemble({}, file) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {nmae: digits}", "unknown key data.nmae; did you mean data.name?"),
        ("latent: 3", "unknown key latent; did you mean model.latent?"),
        ("mdoel: {latent: 3}", "unknown key mdoel; did you mean model?"),
        ("model: {net: {wdth: 3}}", "unknown key model.net.wdth; did you mean model.net.width?"),
        ("qqq: 3", "unknown key qqq"),
        ("model: 3", "model should hold keys and values, not 3"),
        (
            "model: {latent: x}",
            "latent: input should be a valid integer, unable to parse string as an integer, got 'x'",
        ),
        ("model: {latent: 0}", "greater than or equal to 1"),
        (
            "model: {kind: vqvae, quantiser: {kind: finite-scalar, values: '8,5'}}",
            "should be a list, e.g. [8, 5, 5, 5]",
        ),
        ("model: {kind: vqvae, quantiser: {kind: finite-scalar, values: [8, 1]}}", "values.1: input should be greater"),
        (
            "model: {kind: vqvae, quantiser: {values: [8, 5]}}",
            "values has no meaning for vector; it is for kind finite",
        ),
        ("[1]", "should hold keys and values"),
        ("a: [", "cannot read"),
        ("objective: {kind: iwae}\nmodel: {kind: autoencoder}", "use model vae"),
    ],
)
def test_faults_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        assemble({"seed": 3}, file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        assemble({}, tmp_path / "none.yaml")


def test_flags_are_checked_together_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"model": {"kind": "autoencoder"}}))
    with pytest.raises(ConfigError, match="use model vae"):
        assemble(parsed("--objective", "iwae"), file)
    assert assemble(parsed("--objective", "iwae", "--model", "vae"), file).objective.kind == "iwae"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latent", "x"], "valid integer"),
        (["--latent", "3.5"], "valid integer"),
        (["--net-width", "0"], "greater than or equal to 1"),
        (["--lr", "nan"], "finite"),
        (["--lr", "-1"], "greater than 0"),
        (["--decay", "consine"], "'consine' is none of none, cosine, plateau; did you mean cosine?"),
        (["--latent", "none"], "valid integer"),
        (["--quantiser-values", "8,x"], "valid integer, unable to parse string as an integer, got '8,x'"),
        (["--quantiser-values", "8,1"], "greater than or equal to 2, got '8,1'"),
        (["--quantiser-values", "8,,5"], "valid integer"),
        (["--quantiser-codebook", "los"], "'los' is none of ema, loss; did you mean loss?"),
        (["--hierarchy", "3"], "'3' is none of 1, 2"),
    ],
)
def test_wrong_values(arguments: list[str], message: str) -> None:
    with pytest.raises(CycloptsError) as caught:
        parsed(*arguments)
    assert message in str(caught.value)
    assert arguments[0] in str(caught.value)
