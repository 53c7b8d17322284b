"""Rows of a table: real numbers, categories and counts beside each other, each column by its own distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from jensen.config.columns import Column
from jensen.errors import ConfigError
from jensen.likelihoods.base import Likelihood, soft_clamp
from jensen.nn.table_features import TableFeatures

__all__ = ["Layout", "TableDistribution", "TableLikelihood"]

LOG_SIGMA_LIMIT = 7.0
LOG_MEAN_LIMIT = 30.0
LOG_DISPERSION_LIMIT = 7.0
START_LOG_DISPERSION = 2.0
"""a variance of m + m^2 / 7: not far from a Poisson's, so that early draws have no long tail"""


@dataclass(frozen=True)
class Layout:
    """Where the numbers for each column are among what a decoder gives for a row.

    First a mean for every real column, then a log mean for every count, then the logits of the categorical columns:
    those with as many categories beside each other, so that they are worked on together.
    """

    real: tuple[int, ...]
    """places of the real columns"""
    counts: tuple[int, ...]
    groups: tuple[tuple[int, tuple[int, ...]], ...]
    """(categories, places of the columns with so many), few categories first"""
    width: int
    """columns"""
    size: int = field(init=False)
    """numbers of a row"""

    def __post_init__(self) -> None:
        logits = sum(categories * len(places) for categories, places in self.groups)
        object.__setattr__(self, "size", len(self.real) + len(self.counts) + logits)

    @classmethod
    def of(cls, columns: Sequence[Column]) -> Layout:
        """That of a table with these columns.

        Raises:
            ConfigError: there are none, or a categorical one without categories.
        """
        places: dict[str, list[int]] = {"real": [], "count": [], "categorical": []}
        for place, column in enumerate(columns):
            places[column.kind].append(place)
        if not columns:
            raise ConfigError("likelihood table needs columns; this table has none")
        empty = next((columns[i].name for i in places["categorical"] if not columns[i].categories), None)
        if empty is not None:
            raise ConfigError(f"likelihood table: column {empty!r} is categorical but has no categories")
        groups: dict[int, list[int]] = {}
        for place in places["categorical"]:
            groups.setdefault(len(columns[place].categories), []).append(place)
        return cls(
            tuple(places["real"]),
            tuple(places["count"]),
            tuple((size, tuple(groups[size])) for size in sorted(groups)),
            len(columns),
        )

    @property
    def order(self) -> tuple[int, ...]:
        """Places of the columns in the order of their numbers."""
        return (*self.real, *self.counts, *(place for _, places in self.groups for place in places))

    def split(self, numbers: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(..., size) as (..., reals), (..., counts), and (..., columns, categories) for each group."""
        sizes = [len(self.real), len(self.counts), *(size * len(places) for size, places in self.groups)]
        real, counts, *logits = numbers.split(sizes, -1)
        groups = zip(logits, self.groups, strict=True)
        return real, counts, [flat.unflatten(-1, (len(places), size)) for flat, (size, places) in groups]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """A number a column, (..., columns), from parts in `order`."""
        numbers = torch.cat(list(parts), -1)
        back = torch.tensor(self.order, device=numbers.device).argsort()
        return numbers.index_select(-1, back)

    def values(self, expectations: Tensor) -> Tensor:
        """A value a column, (..., columns), from (mean) expectations as `TableDistribution.expectations` gives them."""
        real, counts, groups = self.split(expectations)
        return self.joined([real, counts, *(shares.argmax(-1).to(real.dtype) for shares in groups)])


class TableLikelihood(Likelihood):
    """p(x | z) = prod_d p(x_d | z) over the columns of a table, which are independent given z.

    - real: N(x; y, sigma_d^2), y from the decoder, sigma_d learned, one a column;
    - count: negative binomial with mean m = exp(y) and variance m + m^2 / r_d, r_d learned, one a column;
    - categorical: softmax of K numbers from the decoder; x is the place of the category.

    What is missing (NaN) is left out of the sum by the mask of the model's `Output`: exact, as the columns are
    independent given z (Nazabal et al. 2020, "Handling incomplete heterogeneous data using VAEs", eq. 4). There the
    decoder gives a variance for each datum too. Here it is one a column: with some hundreds of rows a variance for each
    datum shrinks wherever the decoder happens to come near, which the bound rewards and held-out rows pay for. Counts
    of real tables vary more than a Poisson's, which the negative binomial contains as r_d grows.

    Args:
        columns: what each holds.
        sigma: standard deviation of the real columns to start from.

    Raises:
        ConfigError: no columns, or a categorical one without categories.
    """

    def __init__(self, columns: Sequence[Column], sigma: float = 1.0) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.layout = Layout.of(self.columns)
        self.draws = False
        """whether what stands for p(x | z) is a draw, as of new rows, and not its mean and most probable categories"""
        start = LOG_SIGMA_LIMIT * torch.atanh(torch.tensor(sigma).log() / LOG_SIGMA_LIMIT)
        if not bool(torch.isfinite(start)):
            raise ValueError(f"a learned sigma should lie between exp(-7) = 0.0009 and exp(7) = 1097, got {sigma}")
        if self.layout.real:
            self.log_sigma = nn.Parameter(start.expand(len(self.layout.real)).clone())
        if self.layout.counts:
            self.log_dispersion = nn.Parameter(torch.full((len(self.layout.counts),), START_LOG_DISPERSION))

    def planes(self, shape: tuple[int, ...]) -> int:
        if shape != (self.layout.width,):
            raise ConfigError(f"likelihood table is of {self.layout.width} columns, but the data have shape {shape}")
        return self.layout.size

    def features(self) -> TableFeatures:
        return TableFeatures(self.columns)

    def distribution(self, *parameters: Tensor) -> TableDistribution:
        (numbers,) = parameters
        none = numbers.new_zeros(0)
        sigma = soft_clamp(self.log_sigma, LOG_SIGMA_LIMIT).exp() if self.layout.real else none
        log_r = soft_clamp(self.log_dispersion, LOG_DISPERSION_LIMIT) if self.layout.counts else none
        return TableDistribution(numbers, self.layout, sigma, log_r, has_mean=not self.draws)

    def check_data(self, levels: int | None, transform: str) -> None:
        if levels is not None:
            raise ConfigError(
                f"likelihood table is for tables, but these data take {levels} levels: use bernoulli, "
                "discretised-logistic or categorical"
            )

    def extra_repr(self) -> str:
        real, counts = len(self.layout.real), len(self.layout.counts)
        return f"{real} real, {counts} counts, {self.layout.width - real - counts} categorical"


class TableDistribution(Distribution):
    """p(row | z), batch shape (..., columns).

    Args:
        numbers: (..., layout.size), from the decoder.
        layout: where they belong.
        sigma: of the real columns, (reals,).
        log_r: log dispersion of the counts, (counts,).
        has_mean: whether the mean stands for it, or a draw.
    """

    arg_constraints = {}  # noqa: RUF012  as torch declares it

    def __init__(self, numbers: Tensor, layout: Layout, sigma: Tensor, log_r: Tensor, *, has_mean: bool = True) -> None:
        self.layout, self.sigma, self.log_r, self.has_mean = layout, sigma, log_r, has_mean
        self.real, counts, self.logits = layout.split(numbers)
        self.log_mean = soft_clamp(counts, LOG_MEAN_LIMIT)
        super().__init__(torch.Size((*numbers.shape[:-1], layout.width)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of each column, (..., columns); `value` broadcasts against the batch.

        On the CPU a value that is no category or no count (a gap among them) is a ValueError; elsewhere the program
        would have to wait for the device, and the nearest category or count is scored.
        """
        lead = torch.broadcast_shapes(value.shape[:-1], self._batch_shape[:-1])
        parts = []
        if self.layout.real:
            parts.append(self._of_reals(self._at(value, self.layout.real)))
        if self.layout.counts:
            parts.append(self._of_counts(self._at(value, self.layout.counts)))
        for logits, (size, places) in zip(self.logits, self.layout.groups, strict=True):
            parts.append(_of_categories(self._at(value, places), logits, size))
        return self.layout.joined([part.expand(*lead, part.shape[-1]) for part in parts])

    @staticmethod
    def _at(value: Tensor, places: tuple[int, ...]) -> Tensor:
        return value.index_select(-1, torch.tensor(places, device=value.device))

    def _of_reals(self, value: Tensor) -> Tensor:
        nats: Tensor = Normal(self.real, self.sigma, validate_args=False).log_prob(value)
        return nats

    def _of_counts(self, value: Tensor) -> Tensor:
        """log NB(x; m, r) = log G(x + r) / (G(r) x!) + r log r / (r + m) + x log m / (r + m)."""
        if not value.is_cuda and not bool(((value >= 0) & (value == value.round())).all()):
            raise ValueError("a count should be 0, 1, 2, ...; other values (or gaps) are in its column")
        # The differences of large log-gammas and of large products would lose the digits of single precision.
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        x, log_r, log_m = (t.to(wide) for t in (value.clamp_min(0).round(), self.log_r, self.log_mean))
        r, total = log_r.exp(), torch.logaddexp(log_r, log_m)
        ways = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
        return (ways + r * (log_r - total) + x * (log_m - total)).to(self.log_mean.dtype)

    @property
    def mean(self) -> Tensor:
        """Expectation of real numbers and counts, and the place of the most probable category, (..., columns)."""
        return self.layout.values(self.expectations)

    @property
    def expectations(self) -> Tensor:
        """Expectation of real numbers and counts, probability of every category: (..., layout.size)."""
        return torch.cat([self.real, self.log_mean.exp(), *(part.softmax(-1).flatten(-2) for part in self.logits)], -1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Rows, (*sample_shape, ..., columns)."""
        lead = (*sample_shape, *self._batch_shape[:-1])
        real, counts = (part.expand(*lead, part.shape[-1]) for part in (self.real, self.log_mean))
        parts = [torch.normal(real, self.sigma.expand_as(real)), self._drawn_counts(counts)]
        for logits in self.logits:
            noise = -torch.empty(*lead, *logits.shape[-2:], device=logits.device).exponential_().log()
            parts.append((logits + noise).argmax(-1).to(real.dtype))  # the Gumbel trick
        return self.layout.joined(parts)

    def _drawn_counts(self, log_mean: Tensor) -> Tensor:
        """A Poisson whose rate is a Gamma of shape r and mean m."""
        r = self.log_r.exp().expand_as(log_mean)
        return torch.poisson(torch._standard_gamma(r) * (log_mean - self.log_r).exp())


def _of_categories(value: Tensor, logits: Tensor, size: int) -> Tensor:
    """Nats of each column, (..., columns): `value` places (..., columns), `logits` (..., columns, categories)."""
    if not value.is_cuda and not bool(((value >= 0) & (value < size) & (value == value.round())).all()):
        raise ValueError(f"a category should be its place, 0 to {size - 1}; other values (or gaps) are in its column")
    index = value.nan_to_num().round().long().clamp(0, size - 1)
    log_p = logits.log_softmax(-1)
    lead = torch.broadcast_shapes(index.shape, log_p.shape[:-1])
    return log_p.expand(*lead, size).gather(-1, index.expand(lead)[..., None])[..., 0]
