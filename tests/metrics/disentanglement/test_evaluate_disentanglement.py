"""All metrics at once: rows, notes, and plain values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from jensen.metrics.disentanglement import beta_vae_score, dci, evaluate_disentanglement, mig

RNG = np.random.default_rng(0)
Y = np.stack([RNG.integers(3, size=600), RNG.integers(5, size=600), np.full(600, 2)], 1)
Z = np.hstack([Y[:, :2] + 0.05 * RNG.normal(size=(600, 2)), 0.01 * Y[:, :1]])


def test_rows_and_values() -> None:
    seen: list[tuple[int, int]] = []
    found = evaluate_disentanglement(
        torch.from_numpy(Z),
        torch.from_numpy(Y),
        ["shape", "scale", "colour"],
        seed=1,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert found.factor_names == ["shape", "scale"]
    assert found.notes == ["colour does not vary and is left out"]
    rows = found.table()
    assert [row[0] for row in rows] == list(found.values())
    assert len(rows) == 10
    assert {row[0]: row[3] for row in rows}["FactorVAE score"] == "0.50 (chance) to 1"
    assert seen == [(i, 8) for i in range(1, 9)]
    y = Y[:, :2]
    forest = dci(Z, y, seed=1)
    assert found.values()["DCI disentanglement"] == forest.value
    assert found.values()["DCI completeness"] == forest.details["completeness"]
    assert found.values()["beta-VAE score"] == beta_vae_score(Z, y, seed=1).value
    assert rows[0][1] == f"{mig(Z, y).value:.3f}"
    assert (found.mutual_information == mig(Z, y).details["mutual_information"]).all()
    assert found.entropy == pytest.approx(mig(Z, y).details["entropy"])


def test_to_dict_is_plain_and_reproduces() -> None:
    found = evaluate_disentanglement(Z, Y).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found == evaluate_disentanglement(Z, Y).to_dict()
    assert found["factor_names"] == ["factor 0", "factor 1"]
    assert np.shape(found["mutual_information"]) == (3, 2)
    assert found["kl_per_dimension"] is None


def test_kl_says_which_codes_are_collapsed() -> None:
    """The third code is small but not collapsed if its KL says so; and the second is if its KL says so."""
    told = evaluate_disentanglement(Z, Y, kl_per_dimension=torch.tensor([1.0, 0.001, 1.0]))
    assert told.scores["FactorVAE score"].details["active"].tolist() == [True, False, True]
    untold = evaluate_disentanglement(Z, Y)
    assert untold.scores["FactorVAE score"].details["active"].tolist() == [True, True, False]
    assert told.kl_per_dimension is not None


def test_metrics_that_compare_are_left_out_by_name() -> None:
    found = evaluate_disentanglement(Z[:, :1], Y[:, :1], ["shape"])
    assert set(found.values()) == {"explicitness", "IRS"}
    assert "DCI is left out: it needs 2 factors" in found.notes
    assert "MIG is left out: it needs 2 codes" in found.notes


def test_discrete_follows_the_factors_that_vary() -> None:
    factors = Y[:, [2, 0, 1]].astype(float)
    found = evaluate_disentanglement(Z, factors, discrete=[True, False, True])
    by_line = evaluate_disentanglement(Z, Y[:, :2], discrete=[False, True])
    assert found.values() == by_line.values()
    assert found.values()["SAP"] != evaluate_disentanglement(Z, Y).values()["SAP"]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 100 examples, got 50"):
        evaluate_disentanglement(Z[:50], Y[:50])
    with pytest.raises(ValueError, match="none of the factors"):
        evaluate_disentanglement(Z, Y[:, 2:])
    with pytest.raises(ValueError, match="names"):
        evaluate_disentanglement(Z, Y, ["a"])
    with pytest.raises(ValueError, match="3 factors, but discrete"):
        evaluate_disentanglement(Z, Y, discrete=[True])
    with pytest.raises(ValueError, match="3 codes, but KLs"):
        evaluate_disentanglement(Z, Y, kl_per_dimension=np.ones(2))
    with pytest.raises(ValueError, match="600 examples"):
        evaluate_disentanglement(Z, Y[:10])
    with pytest.raises(ValueError, match="600 of 600 codes hold NaN"):
        evaluate_disentanglement(Z * np.nan, Y)
