"""Sections of a configuration: validated on construction, faults told in one line, read from YAML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from jensen.errors import ConfigError
from jensen.plain_yaml import load_plain

__all__ = ["Section", "read_yaml"]


class Section(BaseModel):
    """A part of the configuration: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _faults(error) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a dictionary; raises `ConfigError` if it cannot be read or is no mapping."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read {path}: it is no file")
        values = load_plain(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} should hold keys and values (data:, model:, ...), but holds a {type(values).__name__}"
        )
    for key in _keys(values):
        if not isinstance(key, str):
            raise ConfigError(f"{path}: keys should be words, but one is {key!r}")
    return values


def _keys(values: dict[Any, Any]) -> Iterator[object]:
    """Keys of a dictionary and of those in it."""
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from _keys(value)


class _Faults(ConfigError):
    """What is wrong with a section, as (key, text); a section around it puts its own key before each."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(self._said(key, text) for key, text in faults))

    @staticmethod
    def _said(key: str, text: str) -> str:
        if text == "unknown key":
            return f"{text} {key}"
        return f"{key}: {text}" if key else text


def _faults(error: ValidationError) -> _Faults:
    """What pydantic found, each fault with the dotted key where it is."""
    faults: list[tuple[str, str]] = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, _Faults):
            faults += [(f"{key}.{inner}".rstrip("."), text) for inner, text in cause.faults]
        elif fault["type"] == "extra_forbidden":
            faults.append((key, "unknown key"))
        elif fault["type"] == "value_error":
            faults.append((key, str(cause)))
        else:
            faults.append((key, f"{fault['msg'][0].lower()}{fault['msg'][1:]}, got {fault['input']!r}"))
    return _Faults(faults)
