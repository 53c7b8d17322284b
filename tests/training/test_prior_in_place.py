"""What a prior is fitted to, what it is told, and where it fits: the codes of a run's best weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from code_runs import CPU, Parents, outputs, required, tiny_prior, tiny_vqvae
from safetensors.torch import load_file, save_file

from jensen.autoencoders.vqvae import VQVAE
from jensen.data import load_data
from jensen.errors import CheckpointError, ConfigError
from jensen.training import Run, StalePriorWarning, fit, fit_prior, resume, resume_prior
from jensen.training.codes import CodeSplit, code_data
from jensen.training.prior_run import digest


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Parents:
    return Parents(tmp_path_factory.mktemp("parents"))


@pytest.fixture
def copied(parents: Parents, tmp_path: Path) -> Callable[..., Run]:
    """A run of one's own."""
    return lambda name="static", to="run": parents.copy(name, tmp_path / to)


@pytest.mark.parametrize("name", ["static", "told", "two levels"])
def test_codes_as_data(name: str, copied: Callable[..., Run]) -> None:
    run = copied(name)
    model, images = run.model(), run.data()
    assert isinstance(model, VQVAE)
    codes = code_data(model, images, CPU)
    assert not isinstance(codes.train, CodeSplit)  # made once
    assert (codes.shape, codes.levels, codes.transform) == ((model.latent,), 6, "none")
    for part, own in ((codes.train, images.train), (codes.valid, images.valid), (codes.test, images.test)):
        places = torch.tensor([len(own) - 1, 0, 7])
        batch, seen = part.batch(places), own.batch(places)
        expected = model.encode(seen.x, seen.condition)
        assert batch.x.dtype == torch.float32
        assert torch.equal((batch.x * 5).round().long(), expected)
        assert batch.target is batch.x
        assert torch.equal(required(batch.label), required(seen.label))
        if name == "told":
            assert torch.equal(required(batch.condition), required(seen.condition))
    seen_levels: list[tuple[int, int]] = []
    code_data(model, images, CPU, lambda done, total: seen_levels.append((done, total)))
    assert seen_levels[-1] == (len(images.train) + len(images.valid) + len(images.test),) * 2


@pytest.mark.parametrize("name", ["binarised", "gumbel"])
def test_codes_are_made_anew_where_they_are_drawn(name: str, copied: Callable[..., Run]) -> None:
    run = copied(name)
    model = run.model()
    assert isinstance(model, VQVAE)
    codes = code_data(model, run.data(), CPU).to(CPU)
    assert isinstance(codes.train, CodeSplit)
    draws = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        draws.append(next(codes.train.batches(64, shuffle=torch.Generator().manual_seed(0))))
    assert torch.equal(draws[0].x, draws[2].x)
    assert not torch.equal(draws[0].x, draws[1].x)
    assert torch.equal(draws[0].index, draws[1].index)
    if name == "gumbel":  # draws from q, and not its likeliest codes
        x = run.data().train.batch(torch.zeros(2000, dtype=torch.long)).x
        torch.manual_seed(0)
        with torch.no_grad():
            level = model.levels(x[:1])[0][0]
        many = codes.train.batch(torch.zeros(2000, dtype=torch.long)).x.mul(5).round().long()
        shares = torch.nn.functional.one_hot(many, 6).float().mean(0)
        posterior: Any = level.posterior
        torch.testing.assert_close(shares, posterior.probs.reshape(4, 6), atol=0.05, rtol=0)


def test_a_dataset_of_codes_made_once_or_anew_is_the_same(copied: Callable[..., Run]) -> None:
    run = copied("told")
    model, images = run.model(), run.data()
    assert isinstance(model, VQVAE)
    once = code_data(model, images, CPU).train
    model.stochastic = True  # as if it were
    anew = code_data(model, images, CPU).train
    assert isinstance(anew, CodeSplit)
    places = torch.tensor([3, 1, 100])
    for a, b in zip(once.batch(places), anew.batch(places), strict=True):
        assert (a is None and b is None) or torch.equal(required(a), required(b))


def test_the_codes_are_those_of_the_best_weights(copied: Callable[..., Run]) -> None:
    """After the best epoch the encoder goes astray: the prior's score is the rate of the best weights all the same."""
    run = copied()
    file = next(run.checkpoints.glob("step-*")) / "weights.safetensors"
    weights = load_file(file)
    of_encoder = [name for name in weights if name.startswith("model.encoder")]
    assert of_encoder
    save_file({**weights, **{name: torch.randn_like(weights[name]) for name in of_encoder}}, file)
    (file.parent / "manifest.json").unlink()
    (run.checkpoints / "latest").touch()
    valid = run.data().valid
    x = valid.batch(torch.arange(len(valid))).x
    best, last = (run.model(which, prior=False) for which in ("best", "last"))
    assert isinstance(best, VQVAE)
    assert isinstance(last, VQVAE)
    assert float((best.encode(x) == last.encode(x)).float().mean()) < 0.5
    history = fit_prior(run, tiny_prior(lr=0.01), quiet=True).history()
    with torch.no_grad():
        rate = float(run.model(prior=True)(x).rate().mean())
    assert -max(history["valid/log_likelihood"]) == pytest.approx(rate, rel=1e-5)


def test_a_prior_of_other_weights_is_left_out(copied: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = copied()
    fit_prior(run, tiny_prior(condition="label"), quiet=True)
    assert run.told == "label"
    capsys.readouterr()
    run = resume(run.path, epochs=3)
    assert f"until jensen train prior --run {run.path} --replace" in capsys.readouterr().err
    again = f"other weights of the model: jensen train prior --run {run.path} --replace"
    with pytest.warns(StalePriorWarning, match="codes are taken as uniform: .*" + again):
        assert isinstance(model := run.model(), VQVAE)
    assert model.code_prior is None
    assert (run.told, run.facts.condition_shape, run.data().condition_shape) == (None, None, None)
    with pytest.raises(CheckpointError, match=again):
        run.model(prior=True)
    assert isinstance(model := run.model(prior=False), VQVAE)  # asked for: no warning
    with pytest.raises(CheckpointError, match="has been trained on since its prior was begun"):
        resume_prior(run, epochs=5, quiet=True)
    fit_prior(run, tiny_prior(), replace=True, quiet=True)
    assert isinstance(model := run.model(prior=True), VQVAE)
    assert model.code_prior is not None
    assert run.told is None


def test_of_the_best_weights_and_not_of_the_last(copied: Callable[..., Run]) -> None:
    run = copied()
    fit_prior(run, tiny_prior(), quiet=True)
    run.model("best", prior=True)
    run.model("last", prior=True)  # of one epoch: the same weights
    file = next(run.checkpoints.glob("step-*")) / "weights.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.startswith("model.decoder"))
    save_file({**weights, name: weights[name] + 1e-3}, file)
    (file.parent / "manifest.json").unlink()
    (run.checkpoints / "latest").touch()
    run.model("best", prior=True)
    with pytest.raises(CheckpointError, match="other weights"):
        run.model("last", prior=True)


def test_digests_tell_weights_apart() -> None:
    weights = {"model.a": torch.zeros(2, 3), "model.b": torch.ones(()), "objective.c": torch.ones(2)}
    others = [
        {**weights, "model.a": torch.zeros(3, 2)},
        {**weights, "model.a": torch.zeros(2, 3, dtype=torch.float64)},
        {**weights, "model.a": torch.tensor([[0, 0, 0], [0, 0, 1e-30]])},
        {**weights, "model.b": torch.tensor(1)},
        {"model.a": weights["model.a"], "model.c": weights["model.b"]},
    ]
    found = {digest(weights), *map(digest, others)}
    assert len(found) == 6
    assert digest({**weights, "objective.c": torch.zeros(2)}) == digest(weights)


def test_told_what_the_model_is_not(copied: Callable[..., Run]) -> None:
    run = copied("binarised")
    fit_prior(run, tiny_prior(condition="label", lr=0.02, epochs=12), quiet=True)
    assert (run.told, run.facts.condition_names, run.data().condition_shape) == ("label", tuple("0123456789"), (10,))
    assert run.own_facts.condition_shape is None
    batch = run.data().valid.batch(torch.arange(100))
    model, condition = run.model(), required(batch.condition)
    with torch.no_grad():
        right = float(model(batch.x, condition=condition).rate().mean())
        wrong = float(model(batch.x, condition=condition.roll(5, 1)).rate().mean())
    assert right < wrong
    assert model.sample(3, condition=torch.tensor([1, 2, 3])).shape == (3, 1, 8, 8)
    assert resume(run.path, epochs=2, quiet=True).history()["epoch"] == [1, 2]  # its own networks are told nothing


def test_told_what_the_model_is(copied: Callable[..., Run]) -> None:
    run = copied("told")
    found = fit_prior(run, tiny_prior(), quiet=True)
    assert (found.config.condition, found.facts.condition_shape) == ("label", (10,))
    assert run.model().sample(2, condition=torch.tensor([1, 2])).shape == (2, 1, 8, 8)
    with pytest.raises(
        ConfigError, match=r"condition: the model of \S+ is told label, and so is its prior; leave x away"
    ):
        fit_prior(run, tiny_prior(condition="x"), replace=True, quiet=True)
    assert run.model(prior=True) is not None


def test_told_properties(tmp_path: Path) -> None:
    config = tiny_vqvae(data={"name": "circles", "transform": "none"}, model={"downsampling": 8})
    run = fit(config, tmp_path / "run", quiet=True)
    found = fit_prior(run, tiny_prior(condition="x,radius", epochs=1), quiet=True)
    told = load_data("circles", limit=128, condition="x,radius").train.condition
    assert told is not None
    assert (found.facts.condition_shape, found.facts.condition_mean) == (told.shape, told.mean)
    assert run.told == "properties"
    model, output, batch = outputs(run)
    assert torch.isfinite(output.rate()).all()
    assert model.sample(2, condition=required(batch.condition)[:2]).shape == (2, *model.shape)
    assert run.facts.condition_mean == told.mean


def test_damaged_parts(copied: Callable[..., Run]) -> None:
    run = copied()
    path = fit_prior(run, tiny_prior(), quiet=True).path
    for name in ("codes.yaml", "data.yaml", "config.yaml"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[: len(whole) // 3])
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            run.model()
        assert run.model(prior=False).latent == 4
        (path / name).write_bytes(whole)
    (path / "data.yaml").write_text(
        (path / "data.yaml").read_text().replace("condition_shape: null", "condition_shape: [3]")
    )
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        run.model()
    (path / "codes.yaml").write_text("")
    assert fit_prior(run, tiny_prior(), replace=True, quiet=True).finished
    run.model(prior=True)
