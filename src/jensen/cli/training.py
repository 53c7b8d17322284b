"""What `jensen train` and `jensen train prior` share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Group, Parameter, Token

from jensen.config.presets import preset

__all__ = ["RUN", "PresetName", "leads", "print_all_flags"]

RUN = Group("Run", sort_key=1)


def _known_preset(_: Any, tokens: Sequence[Token]) -> str:
    """A converter to the names of presets; ValueError for another, with the likeliest."""
    preset(tokens[0].value)
    return tokens[0].value


PresetName = Annotated[
    str | None,
    Parameter(group=RUN, metavar="NAME", converter=_known_preset, help="settings by name, as listed above"),
]


def leads() -> bool:
    """Whether this is the process that speaks and writes, of those that train together."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0)


def print_all_flags(command: str, every: Sequence[inspect.Parameter]) -> None:
    """The list of all flags of a command, without the rest of its help."""
    from jensen.cli.app import build_app

    def everything(**_: Any) -> None: ...

    everything.__doc__ = f"Every flag of `{command}`."
    everything.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    app = App(
        help_format="plaintext", help_formatter=build_app().help_formatter, usage="", help_flags=[], version_flags=[]
    )
    app.default(everything)
    app.help_print()
