"""How a help page looks: headings and two columns, no boxes, narrow enough to read."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = ["HelpPage"]

WIDEST = 100
WIDEST_NAMES = 28


class HelpPage:
    """A cyclopts help formatter: usage, description as it was written, then a list for each heading."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print the usage line."""
        # cyclopts has no name for "any number of arguments"; here they are always files
        if not usage:
            return
        text = str(usage).replace("[ARGS...]", "[FILES...]")
        _print(console, text if text.startswith("Usage") else f"Usage: {text}", "bold")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Print the description, its lines and indents kept."""
        text = _plain(description).strip("\n")
        if text:
            _print(console, text)
            _print(console)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one heading with its flags or commands; a name that is too wide has its meaning on the next line."""
        if not panel.entries:
            return
        _print(console, str(panel.title), "bold")
        widths = [len(_names(entry)) for entry in panel.entries]
        column = 4 + max([width for width in widths if width <= WIDEST_NAMES], default=0)
        for entry in panel.entries:
            meaning = textwrap.wrap(
                _meaning(entry), max(min(console.width, WIDEST) - column, 20), break_on_hyphens=False
            )
            names = f"  {_names(entry)}"
            if len(names) + 2 > column:
                _print(console, names, "cyan")
            else:
                _print(console, names.ljust(column), "cyan", end="")
                _print(console, meaning.pop(0) if meaning else "")
            for line in meaning:
                _print(console, " " * column + line)
        _print(console)


def _print(console: Console, text: str = "", style: str | None = None, end: str = "\n") -> None:
    console.print(text, style=style, end=end, highlight=False, markup=False, soft_wrap=True)


def _names(entry: HelpEntry) -> str:
    """The flag with its short form and what follows it; a yes/no flag without its --no- twin."""
    if entry.positional_label:
        return entry.positional_label
    names = ", ".join((*entry.positive_shorts, *entry.positive_names))
    return f"{names} {entry.metavar}" if entry.metavar else names


def _meaning(entry: HelpEntry) -> str:
    """Description, then what may stand there, then the default (none for a flag that is off)."""
    text = _plain(entry.description)
    if entry.choices and not all(choice in text for choice in entry.choices):
        text = f"{text} ({', '.join(entry.choices)})"
    if entry.default not in (None, "None", "False", "()"):
        text = f"{text} [default: {entry.default}]"
    return text.strip()


def _plain(description: Any) -> str:
    """The text of what cyclopts hands over, which is a str, or a rich Text, perhaps wrapped."""
    inner = getattr(description, "primary_renderable", description)
    return str(getattr(inner, "plain", inner) or "")
