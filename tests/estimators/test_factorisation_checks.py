"""scikit-learn's checks of the factorisations."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jensen.estimators.factorisation import GaussianFactorisation, PoissonFactorisation


class _NoPairs:
    """scikit-learn's checks would call `predict` with X; here it takes pairs of users and items."""

    @property
    def predict(self) -> Any:
        raise AttributeError("takes pairs")


class CheckedGaussian(_NoPairs, GaussianFactorisation):
    pass


class CheckedPoisson(_NoPairs, PoissonFactorisation):
    pass


@parametrize_with_checks(
    [CheckedGaussian(2, max_iter=6), CheckedPoisson(2, fractional=True, rate_shape=None, max_iter=10)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)
