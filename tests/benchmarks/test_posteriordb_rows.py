"""What the posteriors' benchmark concludes from its records, and its measures on posteriors that have closed forms."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.models.case import Case, Reference
from benchmarks.posteriordb_best import polish
from benchmarks.posteriordb_judge import Judge
from benchmarks.posteriordb_peers import Look, done
from benchmarks.posteriordb_rows import FAILED, rows

from benchmarks import posteriordb
from jensen.inference.model import Model
from jensen.inference.supports import positive, real

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)


def _gaussian() -> Judge:
    """log joint of a correlated normal, normalised: the evidence is 1."""

    def log_joint(z: Any, data: Any) -> torch.Tensor:
        off = z.x - MEAN
        return -0.5 * off @ PRECISION @ off + 0.5 * torch.logdet(PRECISION) - math.log(2 * math.pi)

    sds = torch.linalg.inv(PRECISION).diagonal().sqrt()
    reference = Reference(("x[1]", "x[2]"), MEAN, sds, torch.zeros(2))
    return Judge(Case(Model({"x": real(2)}, log_joint), {}, "none"), reference)


def _fit(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "seconds": 0.1,
        "cpu_seconds": 0.1,
        "error": 0.02,
        "worst_error": 0.03,
        "sd_ratio": 0.8,
        "k_hat": 0.3,
        "evaluations": 20,
    }
    good |= {"elbo": -10.0, "converged": True, "true": True, "linear_response": {"sd_ratio": 1.0}}
    return good | changes


def _peer(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "seconds": 2.0,
        "cpu_seconds": 2.0,
        "steps": 1000,
        "compile_seconds": 5.0,
        "elbo": -10.0,
        "rested": True,
        "error": 0.05,
    }
    return good | changes


def _record(mean_field: dict[str, Any], **peers: dict[str, Any]) -> dict[str, Any]:
    return {"mean_field": mean_field, "full_rank": {"failed": "not run"}, "peers": peers}


def test_the_fastest_peer_counts_and_failures_are_infinite() -> None:
    records = {
        "a": _record(_fit(), NumPyro=_peer(seconds=0.5), Pyro=_peer(), PyMC={"failed": "did not compile"}),
        "b": _record(_fit(elbo=-10.2), NumPyro=_peer()),
        "c": _record({"failed": "ValueError"}, NumPyro=_peer()),
    }
    found = rows(records, list(records))
    by_peer = {(row.case, row.peer_name): row for row in found[:4]}
    assert by_peer["a", "NumPyro"].ratio == pytest.approx(5.0)
    assert by_peer["a", "Pyro"].ratio == pytest.approx(20.0)
    assert by_peer["b", "NumPyro"].ours == FAILED  # 0.2 nat short of the peer
    assert by_peer["c", "NumPyro"].ours == FAILED
    speed = [row for row in found if row.case.startswith("seconds")]
    assert speed[-1].ratio < 1e-8
    assert not speed[-1].met
    assert all(math.isfinite(row.ours) and math.isfinite(row.ratio) for row in found)


def test_the_targets_count_every_posterior() -> None:
    records = {str(k): _record(_fit()) for k in range(31)} | {"x": _record(_fit(error=5.0, true=False))}
    found = {row.case: row for row in rows(records, list(records))}
    assert found["median error of means"].ours == pytest.approx(0.02)
    assert found["converged as reported and truly"].ours == 31
    assert found["converged as reported and truly"].met
    assert found["failed but reported converged"].ours == 1
    assert not found["failed but reported converged"].met
    honest = {**records, "x": _record(_fit(converged=False, true=False))}
    assert {row.case: row for row in rows(honest, list(honest))}["failed but reported converged"].met


@pytest.mark.parametrize(("ratio", "met"), [(0.89, False), (0.91, True), (1.09, True), (1.11, False)])
def test_sd_ratios_are_judged_on_both_sides(ratio: float, met: bool) -> None:
    records = {"a": _record(_fit(linear_response={"sd_ratio": ratio}))}
    found = {row.case: row for row in rows(records, ["a"])}
    assert found["median sd ratio, linear response"].met is met


def test_the_judge_knows_elbos_and_errors() -> None:
    judge = _gaussian()
    sds = PRECISION.diagonal().rsqrt()
    # E[log joint] + entropy in closed form: at the best independent normal it is -KL = 0.5 (log det P - sum log P_ii)
    expected = 0.5 * float(torch.logdet(PRECISION) - PRECISION.diagonal().log().sum())
    assert judge.elbo(MEAN, sds) == pytest.approx(expected, abs=0.05)
    accuracy = judge.accuracy(judge.normal_draws(MEAN + torch.tensor([0.5, 0.0]) * judge.reference.sds, sds))
    assert accuracy.worst_error == pytest.approx(0.5, abs=0.05)
    assert accuracy.error == pytest.approx(0.25, abs=0.05)
    assert accuracy.sd_ratio == pytest.approx(float((sds / judge.reference.sds).median()), abs=0.03)
    assert judge.elbo(MEAN, torch.full((2,), math.nan)) == -math.inf


def test_the_judge_puts_sites_where_its_coordinates_are() -> None:
    model = Model({"b": positive(), "a": real(2)}, lambda z, _: -z.b - z.a.square().sum() / 2)
    judge = Judge(Case(model, {}, "none"), Reference((), torch.zeros(0), torch.zeros(0), torch.zeros(0)), 10)
    loc, scale = judge.vectors({"a": ([1.0, 2.0], [3.0, 4.0]), "b": (5.0, 6.0)})
    assert loc.tolist() == [5.0, 1.0, 2.0]
    assert scale.tolist() == [6.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="latents are"):
        judge.vectors({"a": ([1.0, 2.0], [3.0, 4.0])})


def test_polishing_finds_the_best_of_each_family() -> None:
    judge = _gaussian()
    far = MEAN + 2.0, torch.full((2,), 3.0, dtype=torch.float64)
    independent, dense = polish(judge, *far), polish(judge, *far, dense=True)
    assert independent is not None
    assert dense is not None
    torch.testing.assert_close(independent.loc, MEAN, atol=0.02, rtol=0.0)
    torch.testing.assert_close(independent.factor.diagonal(), PRECISION.diagonal().rsqrt(), atol=0.0, rtol=0.03)
    torch.testing.assert_close(dense.factor @ dense.factor.mT, torch.linalg.inv(PRECISION), atol=0.05, rtol=0.05)
    assert dense.elbo == pytest.approx(0.0, abs=0.02)


def test_a_climb_ends_at_the_best_or_where_doubling_its_steps_gains_nothing() -> None:
    rising = [Look(float(k), float(k), 1000 * k, -10.0 / k) for k in range(1, 9)]
    assert not done([], None)
    assert not done(rising, None)
    resting = [*rising, Look(20.0, 20.0, 400_000, -1.245)]
    assert done(resting, None)
    assert done(resting, known=-1.2)
    assert not done(resting, known=0.0)  # it crawls, far below
    assert done(rising, known=-1.26)
    assert not done([Look(1.0, 1.0, 200, -1.0), Look(2.0, 2.0, 400, -1.0)], known=-0.95)  # too early to tell


def test_records_are_kept_and_only_those_of_the_same_settings_are_used(tmp_path: Path) -> None:
    path, settings = tmp_path / "new" / "records.jsonl", {"budget": 1.0}
    record = _record(_fit(k_hat=math.inf))
    posteriordb._keep(path, {"posterior": "a", "settings": settings, **record})
    posteriordb._keep(path, {"posterior": "b", "settings": {"budget": 2.0}, **record})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"posterior": "c", "sett')  # killed here
    found = posteriordb._kept(path, settings)
    assert list(found) == ["a"]
    assert found["a"]["mean_field"]["k_hat"] is None
    assert posteriordb._kept(None, settings) == {}
    assert json.loads(path.read_text().splitlines()[0])["mean_field"]["seconds"] == 0.1


def test_a_posterior_is_measured(tmp_path: Path) -> None:
    options = argparse.Namespace(peers=[], budget=1.0, quick=True, threads=1, records=tmp_path / "records.jsonl")
    found = posteriordb._measure(["poisson"], None, options)["poisson"]["mean_field"]
    assert found["true"] is True
    assert found["error"] < 0.1
    assert found["linear_response"]["sd_ratio"] == pytest.approx(1.0, abs=0.1)
    assert found["best_elbo"] == pytest.approx(found["elbo"], abs=0.1)
