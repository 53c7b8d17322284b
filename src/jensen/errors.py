"""What a user of Jensen may want to catch."""

from __future__ import annotations

__all__ = ["CheckpointError", "ConfigError", "DataError", "JensenError", "NonFiniteError"]


class JensenError(Exception):
    """Base of every error that Jensen raises on purpose; its message says what was wrong, where, and what to do."""


class ConfigError(JensenError, ValueError):
    """An unknown key, a wrong type, or an impossible combination of settings."""


class DataError(JensenError, ValueError):
    """Data that cannot be found, read or used as asked."""


class CheckpointError(JensenError):
    """A run directory or checkpoint that is missing, damaged, or does not fit the model."""


class NonFiniteError(JensenError, ArithmeticError):
    """A loss or weight became NaN or infinite; training stopped and the last good checkpoint is kept."""
