"""The settings of every model are those of its estimator; each has a flag and stands on the help page."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from jensen.cli.flags import config_keys
from jensen.cli.infer import OWN, READS
from jensen.cli.infer_models import MODELS, Model
from jensen.cli.infer_run import estimator_class
from jensen.cli.present import _HOMES

if TYPE_CHECKING:
    from .conftest import Jensen

OTHER_DEFAULTS = {("mixture", "n_components"), *((name, "random_state") for name in MODELS)}
"""Where the command's default is not the estimator's: 8 components rather than 1, and a seed."""

CASES = [(model, variant) for model in MODELS.values() for variant in model.estimators]


@pytest.mark.parametrize(("model", "variant"), CASES, ids=lambda case: getattr(case, "name", case))
def test_settings_are_arguments_of_the_estimator_with_its_defaults(model: Model, variant: str) -> None:
    arguments = inspect.signature(estimator_class(model, variant)).parameters
    shared = 0
    for name, field in model.section.model_fields.items():
        if name == model.choice:
            assert variant in field.annotation.__args__  # type: ignore[union-attr]
        elif name in arguments:
            shared += 1
            if (model.name, name) not in OTHER_DEFAULTS:
                assert field.default == arguments[name].default, name
        else:
            assert model.choice, f"{name} is no argument"  # it must then be one of the other variant
            others = [inspect.signature(estimator_class(model, other)).parameters for other in model.estimators]
            assert any(name in other for other in others), name
    assert shared >= 5


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_flag_is_named_once_and_explained(model: Model, jensen: Jensen) -> None:
    flags = [key.flag for key in config_keys(model.section)]
    own = [name.replace("_", "-") for name in OWN if name not in set().union(*READS.values()) - READS[model.reads]]
    assert len(set(flags + own)) == len(flags + own)
    said = jensen("infer", model.name, "--help")
    assert said.code == 0
    for flag in flags + own:
        assert f"\n  --{flag} " in said.out.replace(f"--{flag}\n", f"--{flag} \n"), flag
    assert f"jensen infer {model.name} {model.example}" in said.out
    assert model.about[1:] in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert all(key.description for key in config_keys(model.section))


def test_the_list_of_models(jensen: Jensen) -> None:
    said = jensen("infer", "--help").out
    for model in MODELS.values():
        assert f"\n  {model.name} " in said
        assert model.about.split()[1] in said
    assert "\n  predict " in said
    assert set(_HOMES) == set(MODELS)


@pytest.mark.parametrize("value", ["none", "0.5"])
def test_an_optional_number(jensen: Jensen, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("jensen.cli.infer.fit_model", lambda model, flags: given.update(flags))
    assert jensen("infer", "mixture", "--data", "x", "--concentration", value).code == 0
    assert given["weight_concentration"] == (None if value == "none" else 0.5)
