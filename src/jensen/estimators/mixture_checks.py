"""What a mixture's arguments and rows must be, and what stands in for those that were not given."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.inference.models.mixture_kernels import Covariance

__all__ = [
    "as_responsibilities",
    "check_choices",
    "check_finite",
    "covariance_prior_of",
    "degrees_of_freedom_of",
    "mean_prior_of",
    "positive",
    "units_of",
]

Array = npt.NDArray[np.float64]

_CHOICES = {
    "covariance_type": ("full", "diag", "spherical", "tied"),
    "weight_prior": ("dirichlet", "process"),
    "init": ("kmeans", "random"),
}
_MOST_NAMED = 5
_LARGEST_EXPONENT = 900


def check_choices(estimator: Any) -> None:
    """Refuse arguments of a mixture that are none of their choices, or no counts, with ValueError."""
    for name, choices in _CHOICES.items():
        value = getattr(estimator, name)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    for name in ("n_components", "n_init", "max_iter", "batch_size", "chunk_size", "total_size"):
        value = getattr(estimator, name)
        optional = name in ("batch_size", "chunk_size", "total_size")
        if not (optional and value is None) and not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"{name} must be a whole number, at least 1{', or None' * optional}; got {value!r}")


def check_finite(rows: Array) -> None:
    """Refuse NaN and infinity, saying where the first of them stands."""
    if np.isfinite(rows.sum(dtype=np.float64)):  # a sum is NaN or infinite if an entry is
        return
    bad = ~np.isfinite(rows)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        what = "NaN" if np.isnan(rows[row, column]) else "infinity"
        raise ValueError(
            f"Input X contains {what}: row {row}, column {column} (of {int(bad.sum())} such entries); "
            "leave these rows out or fill them in"
        )


def positive(name: str, value: Any) -> float:
    """A positive finite number; raises ValueError."""
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def units_of(rows: Array, *, one_unit: bool) -> tuple[Array, Array]:
    """Where to put the origin, and powers of two near each column's spread (a quarter of its range).

    Dividing by a power of two rounds nothing, and keeps squares of very large or small numbers inside of float64.
    """
    centre = rows.mean(0)
    spread = (rows.max(0) / 4 - rows.min(0) / 4).astype(np.float64)
    if one_unit:
        spread = np.full_like(spread, spread.max())
    exponent = np.log2(np.where(spread > 0, spread, 1.0)).round().clip(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return centre, np.exp2(exponent)


def as_responsibilities(given: npt.ArrayLike, shape: tuple[int, int]) -> Tensor:
    """(N, K) rows on the simplex; raises ValueError."""
    array = np.asarray(given, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"responsibilities must have shape (rows, components) = {shape}, got {array.shape}")
    wrong = ~((array >= 0).all(1) & (np.abs(array.sum(1) - 1) < 1e-6))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"responsibilities must not be negative and sum to 1 in each row; row {row} is {array[row]}")
    return torch.from_numpy(array)


def mean_prior_of(given: npt.ArrayLike | None, x: Tensor, centre: Array, scale: Array) -> Tensor:
    """The prior mean in the computation's coordinates; the rows' mean if none is given."""
    if given is None:
        return x.mean(0)
    mean = np.asarray(given, dtype=np.float64)
    if mean.shape != centre.shape or not np.isfinite(mean).all():
        raise ValueError(
            f"mean_prior must have one finite entry a column, {len(centre)}, got shape {mean.shape}: {mean}"
        )
    return torch.from_numpy((mean - centre) / scale)


def degrees_of_freedom_of(given: Any, covariance: Covariance, dim: int) -> float:
    """nu, default D."""
    if given is None:
        return float(dim)
    value = positive("degrees_of_freedom", given)
    if covariance in ("full", "tied") and value <= dim - 1:
        raise ValueError(
            f"degrees_of_freedom must be above D - 1 = {dim - 1} for {covariance!r} covariances, got {value:g}"
        )
    return value


def covariance_prior_of(given: npt.ArrayLike | None, covariance: Covariance, x: Tensor, scale: Array) -> Tensor:
    """The Wishart's inverse scale in the computation's coordinates: (D, D), (D,) or a number."""
    if given is None:
        return _sample_covariance(covariance, x)
    array = np.asarray(given, dtype=np.float64)
    dim = len(scale)
    shape = {"full": (dim, dim), "tied": (dim, dim), "diag": (dim,), "spherical": ()}[covariance]
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(
            f"covariance_prior must be finite and of shape {shape} for {covariance!r} covariances; "
            f"got shape {array.shape}"
        )
    if covariance == "spherical":
        array = array / scale[0] ** 2
        good = bool(array > 0)
    elif covariance == "diag":
        array = array / scale**2
        good = bool((array > 0).all())
    else:
        array = array / np.outer(scale, scale)
        symmetric = np.allclose(array, array.T, rtol=1e-8, atol=0)
        array = (array + array.T) / 2
        good = symmetric and not _is_singular(array)
    if not good:
        wanted = "positive" if array.ndim < 2 else "symmetric and positive definite"
        raise ValueError(f"covariance_prior must be {wanted}, got {np.asarray(given)!r}")
    return torch.as_tensor(array)


def _sample_covariance(covariance: Covariance, x: Tensor) -> Tensor:
    """What stands in for the prior; a degenerate one gives no proper prior, so it is refused."""
    if len(x) < 2:
        raise ValueError(
            "one row (n_samples = 1) has no covariance to take the prior from: give covariance_prior, or more rows"
        )
    mean = x.mean(0)
    found = (x.T @ x - len(x) * torch.outer(mean, mean)) / (len(x) - 1)
    variances = found.diagonal()
    constant = torch.nonzero(x.amax(0) == x.amin(0)).flatten().tolist()
    if constant if covariance != "spherical" else len(constant) == x.shape[1]:
        named = ", ".join(map(str, constant[:_MOST_NAMED])) + (", ..." if len(constant) > _MOST_NAMED else "")
        raise ValueError(
            f"columns without variation ({named}) give no prior for their variance: leave them out, or give "
            "covariance_prior"
        )
    if covariance == "diag":
        return variances
    if covariance == "spherical":
        return variances.mean()
    if _is_singular(found.numpy()):
        raise ValueError(
            f"the covariance of the {len(x)} rows is singular: columns are linearly dependent, or there are not more "
            f"rows than columns ({x.shape[1]}); give covariance_prior, leave columns out, or use covariance_type='diag'"
        )
    return found


def _is_singular(matrix: Array) -> bool:
    """Whether the correlations have no positive smallest eigenvalue, to working precision."""
    deviations = np.sqrt(np.diag(matrix))
    if not (deviations > 0).all():
        return True
    smallest = float(np.linalg.eigvalsh(matrix / np.outer(deviations, deviations))[0])
    return smallest < 10 * len(matrix) * float(np.finfo(np.float64).eps)
