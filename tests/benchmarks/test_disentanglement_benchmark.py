from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from benchmarks.disentanglement import Disentangled, quality_rows
from benchmarks.disentanglement_curve import Point, figure
from benchmarks.disentanglement_quality import (
    MODELS,
    Few,
    Score,
    Settings,
    Trained,
    configuration,
    score_run,
    train_within,
)
from benchmarks.report import Machine
from rich.console import Console

from benchmarks import disentanglement_quality as quality
from jensen.config import NetConfig, ObjectiveConfig
from jensen.data import load_data
from jensen.training import Run

TINY = Settings(codes=20, pool=300, held_out=50, limit=128)
VAE_SCORE = Score(-100.0, 1.0, 80.0, 20.0, 4.0, 0.1, 10.0, 6.0, 0.2, 0.25, 0.5, 0.6)


@pytest.fixture(autouse=True)
def small_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "NET", NetConfig(kind="mlp", width=8, depth=1))


def scored(**changes: float) -> tuple[Trained, Score]:
    return Trained(2, 1000, 60.0), replace(VAE_SCORE, **changes)


def test_rows_are_above_one_where_ours_is_better() -> None:
    scores = {name: scored() for name in MODELS}
    scores["beta-TCVAE"] = scored(mig=0.4, mig_without_shape=0.5, total_correlation=1.0)
    scores["beta-VAE"] = scored(beta_vae=0.5, total_correlation=8.0)
    ratios = {row.case: row.ratio for row in quality_rows(scores) if row.peer_name.startswith("VAE")}
    assert ratios["beta-TCVAE, MIG"] == pytest.approx(2.0)
    assert ratios["beta-TCVAE, total correlation"] == pytest.approx(4.0)
    assert ratios["beta-VAE, total correlation"] == pytest.approx(0.5)
    published = {row.case: row for row in quality_rows(scores) if not row.peer_name.startswith("VAE")}
    assert published["beta-TCVAE, MIG without shape"].ratio == pytest.approx(0.5 / 0.5)
    assert published["beta-VAE, beta-VAE score"].ratio == pytest.approx(0.5 / 0.9923)
    assert all(row.target is None for row in published.values())


def test_negative_estimate_of_total_correlation_gives_no_ratio() -> None:
    scores = {name: scored() for name in MODELS} | {"capacity": scored(total_correlation=-0.01)}
    assert "capacity, total correlation" not in {row.case for row in quality_rows(scores)}


def test_ramp_of_capacity_follows_the_budget_and_nothing_else_changes() -> None:
    configs = {name: configuration(objective, TINY, epochs=3, steps=600) for name, objective in MODELS.items()}
    assert configs["capacity"].objective.capacity_steps == 300
    for name, config in configs.items():
        assert config.train == configs["VAE"].train
        assert config.model == configs["VAE"].model
        assert config.data == configs["VAE"].data
        assert name == "capacity" or config.objective == MODELS[name]


def test_larger_budget_continues_a_run_and_the_same_one_leaves_it(tmp_path: Path) -> None:
    objective = ObjectiveConfig(kind="beta", beta=4.0)
    first = train_within("model", objective, TINY, 0.0, tmp_path)
    assert (first.epochs, first.steps) == (1, 2)
    before = (tmp_path / "model" / "metrics.csv").read_text()
    assert train_within("model", objective, TINY, 0.0, tmp_path) == first
    each = first.seconds / first.epochs
    longer = train_within("model", objective, TINY, 3.5 * each / quality.SAFETY, tmp_path)
    assert longer.epochs == 3
    assert (tmp_path / "model" / "metrics.csv").read_text().startswith(before)


def test_stopped_run_goes_on_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(path: Path, rows: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("jensen.training.train"), "write_metrics", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_within("model", MODELS["VAE"], TINY, 0.0, tmp_path)
    assert not Run.open(tmp_path / "model").finished
    assert train_within("model", MODELS["VAE"], TINY, 0.0, tmp_path).epochs == 1
    whole = train_within("whole", MODELS["VAE"], TINY, 0.0, tmp_path)
    assert whole.steps == 2
    one, other = (Run.open(tmp_path / name).model("last").state_dict() for name in ("model", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_scores_are_kept_until_the_weights_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(model: object, data: object, settings: Settings) -> Score:
        asked.append(settings)
        return VAE_SCORE

    monkeypatch.setattr(quality, "score_model", counted)
    first = train_within("model", MODELS["VAE"], TINY, 0.0, tmp_path)
    assert score_run("model", TINY, tmp_path) == VAE_SCORE == score_run("model", TINY, tmp_path)
    assert len(asked) == 1
    score_run("model", replace(TINY, codes=30), tmp_path)
    assert len(asked) == 2
    train_within("model", MODELS["VAE"], TINY, 2.5 * first.seconds / quality.SAFETY, tmp_path)
    score_run("model", replace(TINY, codes=30), tmp_path)
    assert len(asked) == 3


def test_scores_of_a_trained_model_fit_together(tmp_path: Path) -> None:
    train_within("model", MODELS["VAE"], TINY, 0.0, tmp_path)
    score = score_run("model", TINY, tmp_path)
    assert score.elbo == pytest.approx(-score.distortion - score.rate, abs=1e-3)
    gaps = score.mig_by_factor
    assert list(gaps) == ["shape", "scale", "orientation", "x", "y"]
    assert score.mig == pytest.approx(sum(gaps.values()) / 5)
    assert score.mig_without_shape == pytest.approx((sum(gaps.values()) - gaps["shape"]) / 4)
    assert sum(score.kl_per_dimension) == pytest.approx(score.rate, rel=0.05)  # other test images
    assert 0.2 <= score.beta_vae <= 1.0


def test_few_are_the_first_of_a_split() -> None:
    test = load_data("dsprites").test
    few = Few(test, 7)
    assert len(few) == 7
    assert few.levels == 2
    assert torch.equal(few.batch(torch.tensor([3])).x, test.batch(torch.tensor([3])).x)
    assert len(Few(test, 10**9)) == len(test)


def test_figure_has_a_line_for_each_method_and_a_label_for_each_beta() -> None:
    points = [
        Point(method, beta, 10, 50.0 + beta, 10.0, tc / beta, 0.1, 0.2)
        for method, tc in (("beta-VAE", 4.0), ("beta-TCVAE", 2.0))
        for beta in (1.0, 4.0)
    ]
    axes = figure(points).axes[0]
    drawn = [container.lines[0] for container in axes.containers]
    assert [list(line.get_xdata()) for line in drawn] == [[4.0, 1.0], [2.0, 0.5]]
    assert [list(line.get_ydata()) for line in drawn] == [[51.0, 54.0], [51.0, 54.0]]
    assert [text.get_text() for text in axes.texts].count("4") == 2


def test_report_shows_and_keeps_models_and_curve(tmp_path: Path) -> None:
    trained, score = scored()
    models = {"VAE": {**trained.__dict__, **score.__dict__}}
    point = Point("beta-VAE", 2.0, 10, 55.5, 10.0, 1.25, 0.1, 0.2)
    report = Disentangled("some", Machine.here("some"), False, [], [], models, [point.__dict__])
    with (tmp_path / "shown").open("w") as file:
        report.show(Console(file=file, width=200))
    shown = (tmp_path / "shown").read_text()
    assert "-100.00" in shown
    assert "55.50" in shown
    report.write(tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["models"]["VAE"]["mig"] == 0.2
    assert found["curve"][0]["total_correlation"] == 1.25


def test_losses_of_the_peer_agree_where_they_should() -> None:
    pytest.importorskip("pythae")
    from benchmarks.disentanglement_speed import agreement

    apart = agreement(NetConfig(kind="mlp", width=8, depth=1), batch_size=16)
    assert abs(apart["weighted"]) < 1e-2
    assert abs(apart["elbo"]) < 1e-2
    assert abs(apart["stratified"]) > 0.1  # its weights are not on the diagonal


def test_steps_of_the_peer_train_it() -> None:
    pytest.importorskip("pythae")
    from benchmarks.disentanglement_speed import images

    from benchmarks import pythae_disentanglement as peers

    x, net = images(16), NetConfig(kind="mlp", width=32, depth=1)
    torch.manual_seed(0)
    step = peers.tc_step(peers.make_tc((1, 64, 64), 4, net, beta=6.0), lr=1e-2, dataset_size=1000)
    losses = [step(x) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    model = peers.make_factor((1, 64, 64), 4, net, gamma=10.0)
    step = peers.factor_step(model, lr=1e-2, discriminator_lr=1e-4)
    before = [weight.detach().clone() for weight in model.parameters()]
    losses = [step(x) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
