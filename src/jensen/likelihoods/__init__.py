"""p(x | decoder output): one file a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jensen.config import AutoregressiveConfig
from jensen.config.columns import Column
from jensen.errors import ConfigError
from jensen.likelihoods.autoregressive import Autoregressive, AutoregressiveLikelihood
from jensen.likelihoods.base import Likelihood, at_least_float32, soft_clamp
from jensen.likelihoods.bernoulli import Bernoulli
from jensen.likelihoods.beta_binomial import BetaBinomial, BetaBinomialOnLevels
from jensen.likelihoods.categorical import Categorical, CategoricalOnLevels
from jensen.likelihoods.continuous_bernoulli import ContinuousBernoulli, ContinuousBernoulliOnInterval
from jensen.likelihoods.discretised_logistic import DiscretisedLogistic, LogisticOnLevels
from jensen.likelihoods.gaussian import Gaussian, GaussianLearned, GaussianPerPixel
from jensen.likelihoods.gaussian_optimal import GaussianOptimal, NormalOfBatch
from jensen.likelihoods.laplace import Laplace
from jensen.likelihoods.logistic_mixture import DiscretisedLogisticMixture, LogisticMixtureOnLevels
from jensen.likelihoods.multinomial import Multinomial, WordCounts
from jensen.likelihoods.student_t import StudentT
from jensen.likelihoods.table import TableDistribution, TableLikelihood
from jensen.nn.autoregressive import make_autoregressive

__all__ = [
    "Autoregressive",
    "AutoregressiveLikelihood",
    "Bernoulli",
    "BetaBinomial",
    "BetaBinomialOnLevels",
    "Categorical",
    "CategoricalOnLevels",
    "ContinuousBernoulli",
    "ContinuousBernoulliOnInterval",
    "DiscretisedLogistic",
    "DiscretisedLogisticMixture",
    "Gaussian",
    "GaussianLearned",
    "GaussianOptimal",
    "GaussianPerPixel",
    "Laplace",
    "Likelihood",
    "LogisticMixtureOnLevels",
    "LogisticOnLevels",
    "Multinomial",
    "NormalOfBatch",
    "StudentT",
    "TableDistribution",
    "TableLikelihood",
    "WordCounts",
    "at_least_float32",
    "make_autoregressive_likelihood",
    "make_likelihood",
    "soft_clamp",
]

CONTEXT_PLANES = 4  # that a decoder gives for each channel: more than a mean and a spread, less than a layer

_MAKERS: dict[str, Callable[[int | None, float], Likelihood]] = {
    "bernoulli": lambda levels, sigma: Bernoulli(),
    "gaussian": lambda levels, sigma: Gaussian(sigma),
    "gaussian-learned": lambda levels, sigma: GaussianLearned(sigma),
    "gaussian-per-pixel": lambda levels, sigma: GaussianPerPixel(),
    "gaussian-optimal": lambda levels, sigma: GaussianOptimal(),
    "laplace": lambda levels, sigma: Laplace(sigma),
    "student-t": lambda levels, sigma: StudentT(sigma),
    "continuous-bernoulli": lambda levels, sigma: ContinuousBernoulli(),
    "beta-binomial": lambda levels, sigma: BetaBinomial(_levels("beta-binomial", levels)),
    "discretised-logistic": lambda levels, sigma: DiscretisedLogistic(_levels("discretised-logistic", levels)),
    "discretised-logistic-mixture": lambda levels, sigma: DiscretisedLogisticMixture(
        _levels("discretised-logistic-mixture", levels)
    ),
    "categorical": lambda levels, sigma: Categorical(_levels("categorical", levels)),
}


def make_likelihood(
    name: str,
    *,
    levels: int | None = 256,
    sigma: float = 1.0,
    shape: tuple[int, ...] | None = None,
    autoregressive: AutoregressiveConfig | None = None,
    columns: Sequence[Column] = (),
) -> Likelihood:
    """The likelihood called `name` in a configuration.

    Args:
        name: one of `jensen.config.LIKELIHOODS`.
        levels: values that the data take (where these are not real numbers: discretised-logistic and its mixture,
            categorical, beta-binomial, autoregressive); None for real ones.
        sigma: standard deviation (gaussian), or the one to start from (gaussian-learned); scale to start from
            (laplace, student-t).
        shape: of what is predicted (autoregressive).
        autoregressive: the network (autoregressive); None: the default one.
        columns: what each column of a table holds (table); none: real numbers in all of them.

    Raises:
        ConfigError: no such likelihood, or one that the data do not allow.
    """
    if name == "autoregressive":
        return make_autoregressive_likelihood(shape, levels, autoregressive, channels=CONTEXT_PLANES)
    if name == "multinomial":
        return Multinomial(shape[0] if shape is not None and len(shape) == 1 else None)
    if name == "table":
        return _table(columns, shape, sigma)
    if name not in _MAKERS:
        raise ConfigError(f"no likelihood {name!r}; there are {', '.join(_MAKERS)}, autoregressive")
    return _MAKERS[name](levels, sigma)


def make_autoregressive_likelihood(
    shape: tuple[int, ...] | None,
    levels: int | None,
    config: AutoregressiveConfig | None = None,
    *,
    channels: int = 0,
    context: int = 0,
) -> AutoregressiveLikelihood:
    """An `AutoregressiveLikelihood` with a network of its own.

    Args:
        shape: of the values, (channels, *grid).
        levels: that they take.
        config: the network; None: the default one.
        channels: planes that a decoder gives for each channel.
        context: where there is no decoder (`channels` is 0): planes that the network is told.

    Raises:
        ConfigError: the values are not on levels, or on no grid.
    """
    if shape is None or len(shape) not in (2, 3):
        raise ConfigError(
            "likelihood autoregressive goes through the places of a grid: it needs images (channels, height, width) or "
            f"signals (channels, length), but what is predicted has shape {shape}"
        )
    levels = _levels("autoregressive", levels)
    config = AutoregressiveConfig() if config is None else config
    net = make_autoregressive(config, tuple(shape), levels, channels * shape[0] if channels else context)
    return AutoregressiveLikelihood(net, channels)


def _levels(name: str, levels: int | None) -> int:
    if levels is None:
        raise ConfigError(f"likelihood {name} needs grey levels or symbols, but these data are real numbers")
    return levels


def _table(columns: Sequence[Column], shape: tuple[int, ...] | None, sigma: float) -> TableLikelihood:
    """The columns' own; real ones where only their number is known."""
    if shape is not None and len(shape) != 1:
        raise ConfigError(f"likelihood table is for tables, (columns,), but what is predicted has shape {shape}")
    if not columns and shape is not None:
        columns = [Column(name=f"column {place}") for place in range(shape[0])]
    return TableLikelihood(columns, sigma)
