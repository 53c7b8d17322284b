"""`python -m jensen`: the command, also where Ctrl-C comes before it has been loaded."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run `jensen` with the arguments of the process and return its exit code."""
    try:
        from jensen.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
