"""Numbers that are constant by construction have no row in tables: zeros of a Cholesky factor, and its first 1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import LKJCholesky, MultivariateNormal, Normal

from jensen.inference import FitResult, Model, correlation_cholesky, fit, load_fit, real, simplex

ROWS = ["R[1,0]", "R[1,1]", "R[2,0]", "R[2,1]", "R[2,2]"]


def correlated() -> Model:
    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {
            "mu": Normal(0, 1).log_prob(z.mu).sum(),
            "R": LKJCholesky(3, 2.0).log_prob(z.R),
            "y": MultivariateNormal(torch.zeros(3), scale_tril=z.R).log_prob(data.y - z.mu[0]),
            "last": Normal(0, 0.5).log_prob(z.last),
        }

    return Model({"mu": real(2), "R": correlation_cholesky(3), "last": real()}, log_joint, plates={"rows": 20})


Y = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def result() -> FitResult:
    return fit(correlated(), {"y": Y}, n_starts=1)


def test_the_summary_leaves_them_out(result: FitResult) -> None:
    summary = result.summary()
    assert summary.names == ["mu[0]", "mu[1]", *ROWS, "last"]
    draws = result.sample(20_000)
    for name in ROWS:
        i, j = int(name[2]), int(name[4])
        assert summary[name]["mean"] == pytest.approx(float(draws["R"][:, i, j].mean()), abs=0.02)
        assert summary[name]["sd"] > 0
    with pytest.raises(KeyError, match=r"there is no 'R\[0,1\]'"):
        summary["R[0,1]"]


def test_every_column_keeps_its_row(result: FitResult) -> None:
    """What linear response and the fixed draws say of `last`, whose posterior is N(0, 0.5), stands beside it."""
    row = result.summary()["last"]
    assert row["sd"] == pytest.approx(0.5, rel=0.05)
    assert row["sd (LR)"] == pytest.approx(0.5, rel=0.01)
    assert row["sd (IW)"] == pytest.approx(0.5, rel=0.1)
    assert result.summary()["mu[1]"]["sd (LR)"] == pytest.approx(1.0, rel=0.01)
    columns = result.summary().columns
    assert {len(column) for column in columns.values()} == {8}
    assert bool((columns["sd (LR)"] > 0).all())


def test_they_are_left_out_of_stored_fits_too(result: FitResult, tmp_path: Any) -> None:
    result.save(tmp_path)
    loaded = load_fit(tmp_path, correlated())
    assert loaded.summary().names == result.summary().names
    torch.testing.assert_close(loaded.summary().columns["sd (LR)"], result.summary().columns["sd (LR)"])


def test_which_numbers_vary() -> None:
    assert correlation_cholesky(2).varying({}).tolist() == [[False, False], [True, True]]
    whole = correlation_cholesky(3, plate="rows").varying({"rows": 2})
    assert whole.shape == (2, 3, 3)
    assert whole.sum() == 2 * 5
    for variable in (real(), real(2, 2), simplex(3)):
        assert bool(variable.varying({}).all())
