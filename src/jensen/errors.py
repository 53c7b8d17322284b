"""What a user of Jensen may want to catch."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "JensenError",
    "NonFiniteError",
    "NotConjugateError",
    "NotConvergedWarning",
]


class JensenError(Exception):
    """Base of every error that Jensen raises on purpose; its message says what was wrong, where, and what to do."""


class ConfigError(JensenError, ValueError):
    """An unknown key, a wrong type, or an impossible combination of settings."""


class DataError(JensenError, ValueError):
    """Data that cannot be found, read or used as asked."""


class CheckpointError(JensenError):
    """A run directory or checkpoint that is missing, damaged, or does not fit the model."""


class NonFiniteError(JensenError, ArithmeticError):
    """A loss, weight or bound became NaN or infinite; what was good before (the last checkpoint) is kept."""


class NotConjugateError(JensenError, ValueError):
    """A term of a conjugate model is not linear in some latent's mean parameters, so that its update would be wrong."""


class NotConvergedWarning(UserWarning):
    """An inference ended before its criterion was met; the message says why and what to try."""
