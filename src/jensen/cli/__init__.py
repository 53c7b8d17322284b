"""The `jensen` command."""

from __future__ import annotations

from jensen.cli.app import main

__all__ = ["main"]
