"""The flags of `jensen train`, made from the keys of `Config`: the one place where flag and key meet.

The rule, so that nobody needs a table of all names: a flag is the key without its section (`model.latent` is
``--latent``, `model.net.width` is ``--net-width``), and what a section is goes by the section's own name
(`model.kind` is ``--model``, `model.net.kind` is ``--net``). A schedule's name sets the value at its end, or the
constant one (``--kl-weight 4``); ``--kl-weight-schedule linear --kl-weight-steps 2000`` makes it move. `RENAMES` holds
the rest.
"""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from jensen.config import Config, Schedule
from jensen.errors import ConfigError
from jensen.sections import read_yaml

__all__ = ["COMMON", "Key", "assemble", "config_keys", "parameters", "section_parameters"]

RENAMES = {"data.name": "data", "data.directory": "data-dir"}

COMMON = {
    "data",
    "data-dir",
    "corruption",
    "condition",
    "labelled",
    "model",
    "latent",
    "likelihood",
    "net",
    "objective",
    "beta",
    "samples",
    "kl-weight",
}
COMMON |= {"epochs", "batch-size", "lr", "patience", "accelerator", "compile", "tensorboard", "seed"}
"""Flags on the first page of help; ``--help-all`` shows every one."""

METAVARS = {int: "INT", float: "NUMBER", Path: "PATH", str: "NAME"}


@dataclass(frozen=True)
class Key:
    """A leaf of `Config`: where it is, its flag (without dashes), what may stand there and what it means."""

    path: tuple[str, ...]
    flag: str
    field: FieldInfo
    description: str

    @property
    def dotted(self) -> str:
        """The key as it stands in messages, e.g. ``model.net.width``."""
        return ".".join(self.path)

    @property
    def heading(self) -> str:
        """The heading it stands under in the help: its section, or Training for keys without one."""
        return {"data": "Data", "model": "Model", "objective": "Objective"}.get(self.path[0], "Training")


def config_keys(section: type[BaseModel] = Config, path: tuple[str, ...] = (), about: str = "") -> Iterator[Key]:
    """Every key of the configuration, in its order; `about` describes the schedule that `section` belongs to."""
    for name, field in section.model_fields.items():
        here = (*path, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from config_keys(inner, here, field.description or "")
        else:
            is_value = issubclass(section, Schedule) and name == "end"
            description = about if is_value else field.description
            own = field.json_schema_extra.get("flag") if isinstance(field.json_schema_extra, dict) else None
            flag = str(own) if own else _flag(here, issubclass(section, Schedule))
            yield Key(here, flag, field, description or "")


def _flag(path: tuple[str, ...], scheduled: bool) -> str:
    dotted = ".".join(path)
    if dotted in RENAMES:
        return RENAMES[dotted]
    *parents, name = path
    if scheduled:
        name = {"end": "", "kind": "schedule"}.get(name, name)
    elif name == "kind":
        name = ""
    parts = [*parents[1:], name] if name or parents[1:] else parents
    return "-".join(part for part in parts if part).replace("_", "-")


def parameters(show_all: bool = False) -> list[inspect.Parameter]:
    """One keyword-only parameter for every key of `Config`, named as in `Key.dotted` with ``__`` for the dot.

    Their annotations tell cyclopts the flag, its help, default and choices; `show_all` also shows the rarer ones.
    """
    headings = ("Data", "Model", "Objective", "Training")
    groups = {heading: Group(heading, sort_key=10 + place) for place, heading in enumerate(headings)}
    return [_parameter(key, groups[key.heading], show_all or key.flag in COMMON) for key in config_keys()]


def section_parameters(section: type[BaseModel], group_of: Callable[[str], Group]) -> list[inspect.Parameter]:
    """One keyword-only parameter for every field of a section that stands by itself, named as the field.

    A field's flag is its name with dashes, or the one in ``json_schema_extra={"flag": ...}``.
    """
    return [_parameter(key, group_of(key.path[0]), show=True) for key in config_keys(section)]


def _parameter(key: Key, group: Group, show: bool) -> inspect.Parameter:
    default = key.field.get_default(call_default_factory=True)
    kind = _bare(key.field.annotation)
    hint = kind if default is not None else kind | None
    described = Parameter(
        name=f"--{key.flag}",
        group=group,
        help=key.description,
        show=show,
        metavar=METAVARS.get(kind),
        converter=None if kind is bool else _converter(key),
        negative_iterable="",
        negative_none="",
    )
    return inspect.Parameter(
        "__".join(key.path), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, described]
    )


def _bare(annotation: Any) -> Any:
    """The type without bounds and without None: int for ``Annotated[int, ge=1] | None``."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not type(None))
        return _bare(inner)
    return annotation


def _converter(key: Key) -> Any:
    """Reads a flag's text as pydantic would read the key, so that bounds and types are those of `Config`."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        text = tokens[0].value
        annotation, metadata = key.field.annotation, key.field.metadata
        optional = type(None) in get_args(annotation)
        if optional and text == "none":
            return None
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        if choices and text not in choices:
            close = difflib.get_close_matches(text, choices, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{text!r} is none of {', '.join(choices)}{hint}")
        whole: Any = Annotated[(annotation, *metadata)] if metadata else annotation
        try:
            return TypeAdapter(whole).validate_python(text)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"{message[0].lower()}{message[1:]}, got {text!r}") from None

    return convert


def assemble(given: Mapping[str, Any], file: Path | None = None) -> Config:
    """The configuration from flags (by parameter name, see `parameters`) over a YAML file over defaults.

    Raises:
        ConfigError: an unknown key in the file (with what was probably meant), a wrong value or combination of values.
    """
    values = _read(file) if file is not None else {}
    merged = deepcopy(values)
    for name, value in given.items():
        *parents, last = name.split("__")
        place = merged
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        return Config(**merged)
    except ConfigError:
        if file is not None:
            _blame(file, values)
        raise


def _blame(file: Path, values: Mapping[str, Any]) -> None:
    """Raise the fault with the file's name if the file is at fault without any flag."""
    try:
        Config(**values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _read(file: Path) -> dict[str, Any]:
    """The file's keys and values, with an unknown key or a section that is none refused by name."""
    known = [key.path for key in config_keys()]
    sections = {path[:length] for path in known for length in range(1, len(path))}

    def check(values: dict[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for name, value in values.items():
            here = (*path, str(name))
            if here in sections:
                if value is not None and not isinstance(value, dict):
                    raise ConfigError(f"{file}: {'.'.join(here)} should hold keys and values, not {value!r}")
                checked[here[-1]] = check(value or {}, here)
            elif here in known:
                checked[here[-1]] = value
            else:
                raise ConfigError(f"{file}: unknown key {'.'.join(here)}{_meant(here, known)}")
        return checked

    return check(read_yaml(file), ())


def _meant(path: tuple[str, ...], known: Sequence[tuple[str, ...]]) -> str:
    """What was probably meant: a key of that name in another section, or one spelt alike; empty if nothing is near."""
    same = [".".join(key) for key in known if key[-1] == path[-1]]
    close = same or difflib.get_close_matches(".".join(path), [".".join(key) for key in known], n=1)
    sections = difflib.get_close_matches(path[0], sorted({key[0] for key in known}), n=1) if len(path) == 1 else []
    found = close or sections
    return f"; did you mean {found[0]}?" if found else ""
