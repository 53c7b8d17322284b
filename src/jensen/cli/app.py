"""The `jensen` command: which commands there are, and how it ends when something goes wrong.

A command's module is imported when that command is called, and torch only when the command starts to work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from cyclopts import App, CycloptsError, Group, MissingArgumentError, UnusedCliTokensError

from jensen import __version__
from jensen.cli.endings import ending, recorded, told_warnings
from jensen.cli.helppage import HelpPage
from jensen.errors import JensenError
from jensen.files import no_room

__all__ = ["build_app", "main"]

ABOUT = """Variational inference, from mixtures and regressions to auto-encoders.

`jensen train` learns a variational auto-encoder and writes a run: a folder
with its settings, weights, metrics and figures. The other commands take that
folder. `jensen infer` fits a ready-made model to a table, texts or a series.

Start here (embedded data, no download, under a minute):
  jensen train --data digits --epochs 100
  jensen report runs/digits-vae
  jensen infer mixture --data iris

Codes that are integers, with a learned prior that draws them:
  jensen train --data digits --model vqvae --downsampling 2 --transform none \\
      --likelihood discretised-logistic
  jensen train prior --run runs/digits-vqvae

Several levels of latents, with settings by name:
  jensen train --preset ladder-small

A model that is told the class, and one whose latents come apart:
  jensen train --data digits --condition label
  jensen train --data circles --transform none --likelihood gaussian \\
      --sigma 0.3 --objective beta --beta 10

`jensen COMMAND --help` explains a command. Exit codes: 0 done, 2 a mistake
that one line explains, 70 a fault of Jensen, 130 Ctrl-C, 143 SIGTERM."""

COMMANDS = {
    "Learn": {
        "train": ("train:app", "learn a model and write a run, or go on with one"),
        "infer": ("infer:app", "fit a model to a table, texts or a series: mixtures, topics, regressions, ..."),
        "evaluate": ("evaluate:evaluate", "how good a run is on unseen data, and what its latents know"),
    },
    "Use": {
        "sample": ("sample:sample", "new images from the prior, of a class if the run was told it"),
        "reconstruct": ("reconstruct:reconstruct", "images through the model and back"),
        "denoise": ("reconstruct:denoise", "clean images from corrupted ones"),
        "inpaint": ("inpaint:inpaint", "the hidden part of images, filled in"),
        "encode": ("codes:encode", "images to codes: compression"),
        "decode": ("codes:decode", "codes back to images"),
        "impute": ("impute:impute", "what is missing in a table, filled in"),
        "score": ("score:score", "how anomalous data are, by what a run expects"),
        "interpolate": ("sample:interpolate", "a walk between two images"),
        "export": ("export:export", "the model as a folder to send to someone, or as ONNX"),
    },
    "Look": {
        "report": ("report:report", "one HTML page with all there is to see of a run"),
        "runs": ("runs:runs", "the runs in a folder"),
        "data": ("data:app", "the data sets: list, show, fetch; data of your own: inspect"),
    },
}

GROUPS = {"data", "infer", "train"}
"""Commands that hold commands."""

MISTAKE = 2
"""Exit code where something outside of Jensen is to be mended: the arguments, a file, the disk, the settings."""
FAULT = 70
"""Exit code of a fault of Jensen: EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
CLOSED_PIPE = 141
"""Exit code when the reader of our output has gone (`jensen ... | head`): 128 + SIGPIPE."""
TERMINATED = 143
"""Exit code after SIGTERM: 128 + SIGTERM. Training writes a checkpoint first."""


def build_app(chosen: str = "") -> App:
    """The application; only the `chosen` command is imported, and so shows its docstring in its help."""
    app = App(
        name="jensen",
        help=ABOUT,
        help_format="plaintext",
        help_formatter=HelpPage(),
        usage="Usage: jensen COMMAND ...",
        version=f"jensen {__version__}",
        group_commands=Group("Options", sort_key=99),
        group_parameters=Group("Options", sort_key=50),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        print_error=False,
        exit_on_error=False,
        verbose=False,
    )
    app["--help"].help = "show this page"
    app["--version"].help = "show the version"
    for place, (heading, commands) in enumerate(COMMANDS.items()):
        group = Group(heading, sort_key=place)
        for name, (where, about) in commands.items():
            module, target = where.split(":")
            details: dict[str, Any] = {"name": name, "group": group, "sort_key": list(commands).index(name)}
            if name == chosen and name not in GROUPS:
                app.command(getattr(import_module(f"jensen.cli.{module}"), target), **details)
            else:
                own = name == chosen  # a group's own page says more than the list
                app.command(f"jensen.cli.{where}", **({} if own else {"help": about}), **details)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `jensen` with these arguments (those of the process if None) and return its exit code.

    0: done; 2: what one line on stderr explains and the caller can mend; 70: a fault of Jensen, whose traceback is in
    a file that the line names; 130: Ctrl-C; 141: the reader of our output has gone; 143: SIGTERM.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with ending() as ended, told_warnings():
            try:
                build_app(tokens[0] if tokens else "")(tokens)
                sys.stdout.flush()
            except KeyboardInterrupt:
                return TERMINATED if ended() else INTERRUPTED
            except BrokenPipeError:
                # Python flushes stdout once more at exit, which would complain: give it somewhere to go.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return CLOSED_PIPE
            except Exception as error:
                said, code = _told(error, tokens)
                print(f"jensen: error: {said}", file=sys.stderr)
                return code
    except KeyboardInterrupt:  # while saying what went wrong
        return INTERRUPTED
    return 0


def _told(error: Exception, tokens: Sequence[str]) -> tuple[str, int]:
    """What to say of an error, in one line, and the exit code."""
    if isinstance(error, (CycloptsError, JensenError)):
        return _one_line(error), MISTAKE
    if isinstance(error, OSError) and not _is_fault(error):  # a directory that cannot be written, a full disk
        room = "; make room and try again" if no_room(error) else ""
        return " ".join(f"{error.filename or 'file'}: {error.strerror or error}{room}".split()), MISTAKE
    if isinstance(error, MemoryError):
        return f"{' '.join(str(error).split()) or 'out of memory'}: not enough memory; take less at once", MISTAKE
    return recorded(error, tokens), FAULT


def _is_fault(error: OSError) -> bool:
    """Whether an OSError says nothing of a file, a disk or a network."""
    return error.errno is None and error.filename is None and not str(error)


def _one_line(error: Exception) -> str:
    """What went wrong; for the mistakes of a first try, also where to look."""
    page = f"see `{' '.join(['jensen', *(getattr(error, 'command_chain', None) or [])])} --help`"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        first = error.unused_tokens[0]
        near = error.command_chain == ("train",) and get_close_matches(first, ["prior"])
        return f"unexpected argument {first!r}; {'did you mean `jensen train prior ...`?' if near else page}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        given = error.keyword or next((token.keyword for token in error.argument.tokens if token.keyword), None)
        return f"{given} needs a value; {page}" if given else f"{error.argument.name} is missing; {page}"
    return " ".join(str(error).split())
