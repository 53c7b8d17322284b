"""The flags of `jensen train`, made from the keys of `Config`: the one place where flag and key meet.

The rule, so that nobody needs a table of all names: a flag is the key without its section (`model.latent` is
``--latent``, `model.net.width` is ``--net-width``), and what a section is goes by the section's own name
(`model.kind` is ``--model``, `model.net.kind` is ``--net``). A schedule's name sets the value at its end, or the
constant one (``--kl-weight 4``); ``--kl-weight-schedule linear --kl-weight-steps 2000`` makes it move. A list is given
with commas (``--quantiser-values 8,5,5,5``). `RENAMES` holds the rest. The flags of `jensen train prior` are made from
the keys of `PriorConfig` in the same way.
"""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from jensen.config import Config, Schedule
from jensen.config.presets import PRESETS
from jensen.config.presets import preset as preset_values
from jensen.errors import ConfigError
from jensen.sections import Section, read_yaml

__all__ = [
    "COMMON",
    "PRIOR_COMMON",
    "Key",
    "assemble",
    "assemble_as",
    "config_keys",
    "parameters",
    "section_parameters",
]

SECTIONS = ("data", "model", "objective", "train")
"""Sections whose names stand in no flag of what is in them."""

RENAMES = {"data.name": "data", "data.directory": "data-dir"}

COMMON = {
    "data",
    "data-dir",
    "corruption",
    "condition",
    "labelled",
    "model",
    "latent",
    "scales",
    "likelihood",
    "net",
    "downsampling",
    "hierarchy",
    "quantiser",
    "quantiser-codes",
    "quantiser-dim",
    "autoregressive",
    "objective",
    "beta",
    "samples",
    "kl-weight",
}
TRAINING = {"epochs", "batch-size", "lr", "patience", "accelerator", "compile", "tensorboard", "seed"}
COMMON |= TRAINING
"""Flags on the first page of help; ``--help-all`` shows every one."""
PRIOR_COMMON = TRAINING | {"condition", "net", "net-width", "net-depth", "net-heads", "net-dropout"}
"""The same of `jensen train prior`."""

Whole = TypeVar("Whole", bound=Section)

METAVARS = {int: "INT", float: "NUMBER", Path: "PATH", str: "NAME", tuple: "INT,INT,..."}


@dataclass(frozen=True)
class Key:
    """A leaf of a configuration: where it is, its flag (without dashes), what may stand there and what it means."""

    path: tuple[str, ...]
    flag: str
    field: FieldInfo
    description: str
    default: Any

    @property
    def dotted(self) -> str:
        """The key as it stands in messages, e.g. ``model.net.width``."""
        return ".".join(self.path)

    @property
    def heading(self) -> str:
        """The heading it stands under in the help: its section, or Training for most keys without one."""
        own = {"data": "Data", "model": "Model", "objective": "Objective", "net": "Prior", "condition": "Prior"}
        return own.get(self.path[0], "Training")

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(_bare(self.field.annotation)) is tuple

    @property
    def of_words(self) -> bool:
        """Whether these are words, not numbers."""
        return self.is_list and get_args(_bare(self.field.annotation))[0] is str


def config_keys(
    section: type[BaseModel] = Config,
    path: tuple[str, ...] = (),
    about: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> Iterator[Key]:
    """Every key of the configuration, in its order.

    Args:
        section: whose keys.
        path: where it is in the whole.
        about: describes the schedule that `section` belongs to.
        defaults: values that the whole has in place of the section's own defaults.
    """
    for name, field in section.model_fields.items():
        here = (*path, name)
        inner = field.annotation
        default = field.get_default(call_default_factory=True)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from config_keys(inner, here, field.description or "", _others(default))
        else:
            is_value = issubclass(section, Schedule) and name == "end"
            description = about if is_value else field.description
            own = field.json_schema_extra.get("flag") if isinstance(field.json_schema_extra, dict) else None
            flag = str(own) if own else _flag(here, issubclass(section, Schedule))
            yield Key(here, flag, field, description or "", (defaults or {}).get(name, default))


def _others(section: BaseModel) -> dict[str, Any]:
    """Values of a section that are not its class's defaults."""
    plain = dict(type(section)())
    return {name: value for name, value in section if value != plain[name]}


def _flag(path: tuple[str, ...], scheduled: bool) -> str:
    dotted = ".".join(path)
    if dotted in RENAMES:
        return RENAMES[dotted]
    *parents, name = path
    if scheduled:
        name = {"end": "", "kind": "schedule"}.get(name, name)
    elif name == "kind":
        name = ""
    inner = parents[1:] if parents and parents[0] in SECTIONS else parents
    parts = [*inner, name] if name or inner else parents
    return "-".join(part for part in parts if part).replace("_", "-")


def parameters(
    show_all: bool = False, section: type[BaseModel] = Config, common: Container[str] = frozenset(COMMON)
) -> list[inspect.Parameter]:
    """One keyword-only parameter for every key of `section`, named as in `Key.dotted` with ``__`` for the dot.

    Their annotations tell cyclopts the flag, its help, default and choices; `show_all` shows also those that are not
    `common`.
    """
    headings = ("Data", "Model", "Prior", "Objective", "Training")
    groups = {heading: Group(heading, sort_key=10 + place) for place, heading in enumerate(headings)}
    return [_parameter(key, groups[key.heading], show_all or key.flag in common) for key in config_keys(section)]


def section_parameters(section: type[BaseModel], group_of: Callable[[str], Group]) -> list[inspect.Parameter]:
    """One keyword-only parameter for every field of a section that stands by itself, named as the field.

    A field's flag is its name with dashes, or the one in ``json_schema_extra={"flag": ...}``.
    """
    return [_parameter(key, group_of(key.path[0]), show=True) for key in config_keys(section)]


def _parameter(key: Key, group: Group, show: bool) -> inspect.Parameter:
    default = key.default
    kind = _bare(key.field.annotation)
    # cyclopts would take several words for a list, which is one here.
    optional = default is None or type(None) in get_args(key.field.annotation)
    hint = Any if key.is_list else kind | None if optional else kind
    described = Parameter(
        name=f"--{key.flag}",
        group=group,
        help=key.description,
        show=show,
        metavar="WORD,WORD,..." if key.of_words else METAVARS.get(tuple if key.is_list else kind),
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
        bare = _bare(annotation)
        choices = {str(choice): choice for choice in get_args(bare)} if get_origin(bare) is Literal else {}
        if choices:
            return _chosen(text, choices)
        whole: Any = Annotated[(annotation, *metadata)] if metadata else annotation
        try:
            return TypeAdapter(whole).validate_python(text.split(",") if key.is_list else text)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"{message[0].lower()}{message[1:]}, got {text!r}") from None

    return convert


def _chosen(text: str, choices: Mapping[str, Any]) -> Any:
    """What a word stands for; ValueError for another word."""
    if text not in choices:
        close = difflib.get_close_matches(text, choices, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{text!r} is none of {', '.join(choices)}{hint}")
    return choices[text]


def assemble(given: Mapping[str, Any], file: Path | None = None, preset: str | None = None) -> Config:
    """`assemble_as` of a whole run's configuration.

    Raises:
        ConfigError: as there; no such preset, or one of another model than flags or file ask for.
    """
    if preset is None:
        return assemble_as(Config, given, file)
    values, in_file = preset_values(preset), _read(file, Config) if file is not None else {}
    asked, own = given.get("model__kind", in_file.get("model", {}).get("kind")), values["model"]["kind"]
    if asked not in (None, own):
        raise ConfigError(f"preset {preset} is of model {own}, not {asked}: leave model away, or choose another preset")
    if not (values.get("data") or "data__name" in given or "name" in in_file.get("data", {})):
        raise ConfigError(f"preset {preset} comes without data: name some with --data ({PRESETS[preset].about})")
    return assemble_as(Config, given, file, values)


def assemble_as(
    section: type[Whole], given: Mapping[str, Any], file: Path | None = None, below: Mapping[str, Any] | None = None
) -> Whole:
    """The configuration from flags (by parameter name, see `parameters`) over a YAML file over defaults.

    Args:
        section: the class of the configuration.
        given: values by parameter name.
        file: keys and values of the same configuration; None: there is no file.
        below: nested values that go before the defaults alone.

    Raises:
        ConfigError: an unknown key in the file (with what was probably meant), a wrong value or combination of values.
    """
    values = _read(file, section) if file is not None else {}
    flags: dict[str, Any] = {}
    for name, value in given.items():
        *parents, last = name.split("__")
        place = flags
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    merged = _over(flags, _over(values, below or {}))
    try:
        return section(**merged)
    except ConfigError:
        if file is not None:
            _blame(file, values, section)
        raise


EITHER = {"steps": "share", "share": "steps", "warmup": "warmup_share", "warmup_share": "warmup"}
"""Keys that say the same in two ways."""


def _over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with those of `upper` in place of those of `lower` where they say the same."""
    merged = {name: deepcopy(value) for name, value in lower.items() if upper.get(EITHER.get(name, "")) is None}
    if upper.get("kind") == "constant":  # a schedule: what made it move goes
        merged = {name: value for name, value in merged.items() if name == "end"}
    for name, value in upper.items():
        inner = merged.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            merged[name] = _over(value, inner)
        else:
            merged[name] = deepcopy(value)
    return merged


def _blame(file: Path, values: Mapping[str, Any], section: type[Section]) -> None:
    """Raise the fault with the file's name if the file is at fault without any flag."""
    try:
        section(**values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _read(file: Path, section: type[Section]) -> dict[str, Any]:
    """The file's keys and values, with an unknown key or a section that is none refused by name."""
    keys = {key.path: key for key in config_keys(section)}
    known = list(keys)
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
                if keys[here].is_list and isinstance(value, str | int):
                    some = "[10x20@64, 5x20@128]" if keys[here].of_words else "[8, 5, 5, 5]"
                    raise ConfigError(f"{file}: {'.'.join(here)} should be a list, e.g. {some}, not {value!r}")
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
