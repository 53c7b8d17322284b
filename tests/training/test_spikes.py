"""Gradients that explode are left out, and what stopped being finite is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

from jensen.autoencoders import VAE
from jensen.bound import Level, Output
from jensen.config import Config, NetConfig
from jensen.data import Batch, Data, load_data
from jensen.errors import ConfigError, NonFiniteError
from jensen.objectives import Elbo, Factor
from jensen.training import Run, Trainer, fit, resume, spikes, train
from jensen.training.guard import Guard
from jensen.training.spikes import Spikes, where_not_finite
from jensen.training.step import TrainingStep

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]


def test_the_running_norm_by_hand() -> None:
    found = Spikes(3.0)
    assert [found.leaves_out(norm) for norm in (1000.0, 2.0, 4.0)] == [False] * 3
    assert found.running == pytest.approx(1006 / 3)
    assert not found.leaves_out(1005.9)  # just below three times that
    assert found.leaves_out(2000.0)
    mean = (1006 + 1005.9) / 4
    assert found.running == pytest.approx(mean + (3 * mean - mean) / 5)  # counted as the limit
    before = found.running
    assert found.leaves_out(math.nan)
    assert found.leaves_out(math.inf)
    assert found.running == before
    assert found.in_a_row == 3
    row = found.close_epoch()
    assert row == {"train/skipped": 3.0, "train/gradient_norm": pytest.approx((1006 + 1005.9 + 2000) / 5)}
    assert math.isnan(found.close_epoch()["train/gradient_norm"])


def test_the_first_norm_may_be_any_but_not_infinite() -> None:
    found = Spikes(2.0)
    assert found.leaves_out(math.inf)
    assert not found.leaves_out(1e9)
    assert found.in_a_row == 0


def test_a_norm_that_stays_large_becomes_the_usual_one() -> None:
    found = Spikes(10.0)
    for _ in range(500):
        assert not found.leaves_out(1.0)
    left_out = [found.leaves_out(100.0) for _ in range(60)]
    assert left_out[0]
    assert not left_out[-1]
    assert 20 < sum(left_out) < 40  # 1.09 ** 27 = 10
    assert found.too_many is None


def test_too_many_in_a_row() -> None:
    found = Spikes(2.0)
    found.leaves_out(7.0)
    for _ in range(99):
        assert found.leaves_out(math.nan)
        assert found.too_many is None
    found.leaves_out(math.nan)
    assert found.too_many is not None
    assert "100 steps in a row were left out" in found.too_many
    assert found.too_many.endswith("more than 2 times the running one, 7")


def exploding(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int], factor: float = 1e6) -> None:
    """Multiply the gradient of these steps, the first being 0; the loss that is logged stays what it is."""
    original, chosen = TrainingStep.forward, set(steps)

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        value, logged = original(self, batch, step)
        return (value * factor if step in chosen and torch.is_grad_enabled() else value), logged

    monkeypatch.setattr(TrainingStep, "forward", forward)


def small() -> VAE:
    torch.manual_seed(1)
    return VAE((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")


@pytest.fixture
def digits() -> Data:
    return load_data("digits", transform="none", limit=128)


@pytest.mark.parametrize("optimiser", ["adam", "adamax"])
@pytest.mark.parametrize(("factor", "clip"), [(1e6, None), (math.inf, None), (math.nan, 0.5), (1e6, 0.5)])
def test_a_step_left_out_changes_nothing(
    optimiser: str, factor: float, clip: float | None, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploding(monkeypatch, (3, 6), factor)
    states: list[list[Tensor]] = []
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        assert self.average is not None
        state = self.bare_optimiser.state_dict()["state"].values()
        tensors = [*self.bare.parameters(), *self.average.parameters(), *(v for kept in state for v in kept.values())]
        states.append([tensor.detach().clone() for tensor in tensors])

    monkeypatch.setattr(Trainer, "_step", step)
    settings: dict[str, Any] = {"optimiser": optimiser, "clip": clip, "ema": 0.5, "skip": 10.0}
    history = train(small(), digits, epochs=2, batch_size=32, accelerator="cpu", quiet=True, **settings)
    same = [all(map(torch.equal, states[i], states[i - 1])) for i in range(1, 8)]
    assert same == [False, False, True, False, False, True, False]
    assert history["train/skipped"] == [1.0, 1.0]


def test_without_skip_the_spike_goes_in(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    exploding(monkeypatch, (3,), math.inf)
    with pytest.raises(NonFiniteError):
        train(small(), digits, epochs=2, batch_size=32, accelerator="cpu", quiet=True)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("own", [False, True])
def test_the_norm_that_is_logged(clip: float | None, own: bool, digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean norm of the whole gradient, that of what an objective owns too, as it is before clipping."""
    norms: list[float] = []
    original = Guard.takes_step

    def takes_step(self: Guard) -> bool:
        norms.append(torch.cat([p.grad.flatten() for p in self.step.parameters() if p.grad is not None]).norm().item())
        return original(self)

    monkeypatch.setattr(Guard, "takes_step", takes_step)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", "quiet": True}
    model, objective = small(), Factor(latent=2, discriminator_width=8, discriminator_depth=1) if own else Elbo()
    before = deepcopy(objective)
    history = train(model, digits, objective, skip=50.0, clip=clip, **settings)
    expected = [sum(norms[:4]) / 4, sum(norms[4:]) / 4]
    assert history["train/gradient_norm"] == pytest.approx(expected)
    assert history["train/skipped"] == [0.0, 0.0]
    plain = train(small(), digits, before, clip=clip, **settings)
    assert "train/skipped" not in plain
    assert plain["train/elbo"] == history["train/elbo"]  # nothing was left out, so nothing is changed


def test_training_gives_up_where_every_step_is_left_out(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spikes, "TOO_MANY", 3)
    exploding(monkeypatch, range(2, 100), math.nan)
    with pytest.raises(NonFiniteError, match=r"^3 steps in a row .* in epoch 2, step 5\. The last good checkpoint is"):
        fit(tiny(train={"skip": 5.0}), tmp_path / "run", quiet=True)
    assert all(bool(value.isfinite().all()) for value in Run.open(tmp_path / "run").model().state_dict().values())


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_resumed_with_spikes(
    stop: int, tmp_path: Path, tiny: Tiny, same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps with eight times their gradient: the third is left out or not by what was seen before the stop."""
    config = tiny(train={"skip": 4.0, "ema": 0.9, "clip": 50.0})
    exploding(monkeypatch, (1, 5, 7), 8.0)
    whole = fit(config, tmp_path / "whole", quiet=True)
    assert whole.history()["train/skipped"] == [1.0, 1.0]  # after two, 4 times the running norm is more than that
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        self.stop.requested = self.position.step == stop

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "parts", quiet=True)
    same_runs(resume(tmp_path / "parts", quiet=True), whole)


def test_a_checkpoint_without_a_running_norm(run: Run) -> None:
    """As earlier versions wrote them."""
    file = next(run.checkpoints.glob("step-*")) / "state.pt"
    state = torch.load(file, weights_only=True)
    del state["spikes"]
    torch.save(state, file)
    (file.parent / "manifest.json").unlink()
    assert len(resume(run.path, epochs=3, quiet=True).history()["epoch"]) == 3


def normal(loc: float = 0.0, scale: float = 1.0) -> Normal:
    return Normal(torch.full((1, 3, 2), loc), torch.full((1, 3, 2), scale), validate_args=False)


def level(posterior: Distribution | None = None, prior: Distribution | None = None, z: float = 0.1) -> Level:
    return Level(torch.full((1, 3, 2), z), posterior or normal(), prior or normal())


def output(*levels: Level) -> Output:
    likelihood = Bernoulli(logits=torch.zeros(1, 3, 4))
    return Output(torch.zeros(1, 3, 4), likelihood, levels)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([level(), level(normal(math.nan)), level()], "level 2 of 3 (posterior mean; level 1 is nearest the data)"),
        (
            [level(), level(normal(scale=math.inf)), level(z=math.inf)],
            "level 2 of 3 (posterior standard deviation; also in 1; level 1 is nearest the data)",
        ),
        (
            [level(normal(math.nan), normal(math.nan)), level()],
            "level 2 of 2 (prior mean; level 1 is nearest the data)",
        ),
        (
            [level(z=math.nan), level(z=math.nan), level(z=math.nan)],
            "level 3 of 3 (z; also in 1, 2; level 1 is nearest the data)",
        ),
        ([level(), level(normal(scale=0.0))], "level 1 of 2 (KL; level 1 is nearest the data)"),
        ([level(normal(math.nan))], "posterior mean"),
        ([level(), level()], None),
        ([Level(torch.zeros(1, 3, 2), None, None)], None),
        ([Level(torch.full((1, 3, 2), math.nan), None, None)], "z"),
    ],
)
def test_where_not_finite_by_hand(levels: list[Level], expected: str | None) -> None:
    assert where_not_finite(output(*levels)) == expected


def test_what_a_discrete_level_cannot_have_is_no_fault() -> None:
    logits = torch.tensor([0.0, -math.inf]).expand(1, 3, 2)
    known, classes = Categorical(logits=logits), Categorical(logits=torch.zeros(1, 3, 2))
    integers = torch.zeros(1, 3, dtype=torch.int64)
    assert where_not_finite(output(Level(integers, known, classes), level())) is None
    lost = Categorical(logits=torch.full((1, 3, 2), math.nan), validate_args=False)
    assert (
        where_not_finite(output(Level(integers, lost, classes), level()))
        == "level 2 of 2 (posterior probs; level 1 is nearest the data)"
    )


class Three(VAE):
    """Three levels, each the one above plus noise; the weight of the second is lost in a given forward pass."""

    def __init__(self, lost_in: int, weight: float = math.nan) -> None:
        super().__init__((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")
        self.scales = nn.Parameter(torch.ones(3))
        self.passes, self.lost_in, self.weight = 0, lost_in, weight

    def forward(self, *given: Any, **known: Any) -> Output:
        if self.passes == self.lost_in:
            with torch.no_grad():
                self.scales[1] = self.weight
        self.passes += 1
        out = super().forward(*given, **known)
        (first,) = out.levels
        levels = [first]
        for scale in self.scales[1:]:
            above = levels[-1].z
            prior = Normal(above * scale, 1.0, validate_args=False)
            posterior = Normal(prior.loc + 0.1, 0.5, validate_args=False)
            levels.append(Level(posterior.rsample(), posterior, prior))
        return Output(out.target, out.likelihood, tuple(levels))


@pytest.mark.parametrize(
    ("passes", "epoch", "where"), [(2, 1, "step 3 .*on training data"), (4, 1, "step 4 .*on validation data")]
)
def test_a_nan_names_its_level(passes: int, epoch: int, where: str, digits: Data) -> None:
    level = r"in level 2 of 3 \(prior mean; also in 1; level 1 is nearest the data\)"
    with pytest.raises(NonFiniteError, match=rf"in epoch {epoch}, {where}, {level}\)\. A smaller"):
        train(Three(passes), digits, epochs=2, batch_size=32, accelerator="cpu", quiet=True)


def test_what_is_only_logged_has_no_graph(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[bool] = []

    def report(_: VAE, output: Output, *given: Any) -> dict[str, Tensor]:
        graphs.append(output.rate().requires_grad)
        return {"told": output.rate().mean()}

    monkeypatch.setattr(VAE, "report", report)
    history = train(small(), digits, epochs=1, batch_size=32, accelerator="cpu", quiet=True)
    assert graphs == [False] * 5
    assert history["train/told"] == pytest.approx(history["train/rate"])
    assert history["train/rate"] != history["valid/rate"]


def test_the_graph_is_let_go_of(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Output | None] = []
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        held.append(self.bare.output)

    monkeypatch.setattr(Trainer, "_step", step)
    train(small(), digits, epochs=2, batch_size=32, accelerator="cpu", quiet=True, ema=0.9)
    assert held == [None] * 8


class Recomputing(nn.Module):
    """A layer that can compute its activations anew."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpointing = False
        self.layer = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointing and self.training:
            out: Tensor = torch.utils.checkpoint.checkpoint(self._layer, x, use_reentrant=False)
            return out
        return self._layer(x)

    def _layer(self, x: Tensor) -> Tensor:
        self.passes += 1
        out: Tensor = self.layer(x)
        return out


def with_cells() -> VAE:
    model = small()
    model.decoder.net = nn.Sequential(Recomputing(), model.decoder.net, nn.Identity())
    return model


@pytest.mark.parametrize("ema", [None, 0.5])
def test_checkpointing_is_the_same_training_with_more_passes(ema: float | None, digits: Data) -> None:
    models = [with_cells(), with_cells()]
    histories = [
        train(model, digits, epochs=2, batch_size=32, accelerator="cpu", quiet=True, ema=ema, checkpointing=chosen)
        for model, chosen in zip(models, (False, True), strict=True)
    ]
    assert histories[0]["valid/elbo"] == histories[1]["valid/elbo"]
    cells = [next(module for module in model.modules() if isinstance(module, Recomputing)) for model in models]
    assert cells[1].checkpointing
    assert cells[1].passes == cells[0].passes + 8  # once more in the backward pass of each step
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name])


def test_checkpointing_of_a_model_that_cannot(tmp_path: Path, tiny: Tiny, digits: Data) -> None:
    with pytest.raises(ConfigError, match="checkpointing is for nets made of cells"):
        train(small(), digits, epochs=1, checkpointing=True, accelerator="cpu", quiet=True)
    with pytest.raises(ConfigError, match="checkpointing is for nets made of cells"):
        fit(tiny(train={"checkpointing": True}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
