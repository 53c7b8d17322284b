"""p(x | decoder output): one file a likelihood."""

from __future__ import annotations

from collections.abc import Callable

from jensen.errors import ConfigError
from jensen.likelihoods.base import Likelihood, at_least_float32, soft_clamp
from jensen.likelihoods.bernoulli import Bernoulli
from jensen.likelihoods.discretised_logistic import DiscretisedLogistic, LogisticOnLevels
from jensen.likelihoods.gaussian import Gaussian, GaussianLearned, GaussianPerPixel

__all__ = [
    "Bernoulli",
    "DiscretisedLogistic",
    "Gaussian",
    "GaussianLearned",
    "GaussianPerPixel",
    "Likelihood",
    "LogisticOnLevels",
    "at_least_float32",
    "make_likelihood",
    "soft_clamp",
]

_MAKERS: dict[str, Callable[[int | None, float], Likelihood]] = {
    "bernoulli": lambda levels, sigma: Bernoulli(),
    "gaussian": lambda levels, sigma: Gaussian(sigma),
    "gaussian-learned": lambda levels, sigma: GaussianLearned(sigma),
    "gaussian-per-pixel": lambda levels, sigma: GaussianPerPixel(),
    "discretised-logistic": lambda levels, sigma: DiscretisedLogistic(_grey_levels(levels)),
}


def make_likelihood(name: str, *, levels: int | None = 256, sigma: float = 1.0) -> Likelihood:
    """The likelihood called `name` in a configuration.

    Args:
        name: bernoulli, gaussian, gaussian-learned, gaussian-per-pixel or discretised-logistic.
        levels: grey levels of the data (discretised-logistic); None for real values.
        sigma: standard deviation (gaussian), or the one to start from (gaussian-learned).

    Raises:
        ConfigError: no such likelihood, or one that the data do not allow.
    """
    if name not in _MAKERS:
        raise ConfigError(f"no likelihood {name!r}; there are {', '.join(_MAKERS)}")
    return _MAKERS[name](levels, sigma)


def _grey_levels(levels: int | None) -> int:
    if levels is None:
        raise ConfigError("likelihood discretised-logistic needs grey levels, but these data are real numbers")
    return levels
