"""What is not finite ends the training and is named, or is left out and counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from code_runs import tiny_prior, tiny_vqvae
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.bound import Output
from jensen.config import Config, NetConfig, TrainConfig
from jensen.data import Batch, Data, load_data
from jensen.errors import NonFiniteError
from jensen.objectives import Elbo, Factor, Objective
from jensen.training import Run, Trainer, fit, fit_prior, guard, resume, spikes, train
from jensen.training.guard import BROKEN
from jensen.training.progress import TrainingProgress
from jensen.training.step import TrainingStep

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", "quiet": True}


@pytest.fixture
def digits() -> Data:
    return load_data("digits", transform="none", limit=128)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Places of each batch that was trained on."""
    seen: list[list[int]] = []
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        seen.append(batch.index.tolist())
        original(self, batch)

    monkeypatch.setattr(Trainer, "_step", step)
    return seen


def breaking_gradient(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int], value: float = math.nan) -> None:
    """In these steps, the first being 0, the gradient of the encoder's first weight is not finite; the loss is."""
    original, chosen = TrainingStep.forward, set(steps)

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        loss, logged = original(self, batch, step)
        if step in chosen and torch.is_grad_enabled():
            weight = next(weight for name, weight in self.named_parameters() if "encoder" in name)
            loss = loss + (_Spoilt.apply(weight, value) * 0).sum()  # type: ignore[no-untyped-call]
        return loss, logged

    monkeypatch.setattr(TrainingStep, "forward", forward)


class _Spoilt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, value: float) -> Tensor:
        ctx.value = value
        return weight.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return torch.full_like(gradients[0], ctx.value), None


def model() -> VAE:
    torch.manual_seed(1)
    return VAE((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")


@pytest.mark.parametrize("lag", [0, 1, 3, 100])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_named(
    lag: int, value: float, clip: float | None, digits: Data, order: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a step is looked at only after others, as on a GPU."""
    monkeypatch.setattr(guard, "lag_of", lambda _: lag)
    breaking_gradient(monkeypatch, [2], value)
    first = next(name for name, _ in model().named_parameters() if "encoder" in name)
    with pytest.raises(NonFiniteError) as caught:
        train(model(), digits, clip=clip, **QUICK)
    said = str(caught.value)
    assert "\n" not in said
    assert f"epoch 1, step 3 (on the way back first that of model.{first}; the loss was finite)" in said
    assert f"The batch: training examples {', '.join(map(str, order[2][:8]))}, ... (32)" in said
    assert len(order) == (3 if lag == 0 else min(3 + lag, 4))  # an epoch has four steps


@pytest.mark.parametrize("lag", [0, 1])
def test_a_loss_that_is_not_finite_names_its_example(
    lag: int, tmp_path: Path, tiny: Tiny, order: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "lag_of", lambda _: lag)
    original = VAE.forward

    def forward(self: VAE, x: Tensor, *given: Any, **known: Any) -> Output:
        if self.training and len(order) == 6:
            x = x.index_fill(0, torch.tensor([5]), math.nan)
        return original(self, x, *given, **known)

    monkeypatch.setattr(VAE, "forward", forward)
    with pytest.raises(NonFiniteError, match=r"epoch 2, step 6 \(first in its term 'elbo', on training data") as caught:
        fit(tiny(model={"likelihood": "gaussian"}, data={"transform": "none"}), tmp_path / "run", quiet=True)
    file = tmp_path / "run" / BROKEN
    told = json.loads(file.read_text())
    assert (told["epoch"], told["step"], told["split"], told["not finite"]) == (2, 6, "training", "elbo")
    assert told["places"] == order[5]
    assert f"(all in {file})" in str(caught.value)
    if lag == 0:  # while what the model made of each is still there
        assert told["places not finite by themselves"] == [order[5][5]]
        assert f"Of the batch, training examples {order[5][5]} are where it is not finite" in str(caught.value)
    state = Run.open(tmp_path / "run").model("last").state_dict()
    assert all(bool(value.isfinite().all()) for value in state.values())


def test_data_that_a_transform_spoils_are_named(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(digits.train.transform_function).__call__
    calls = []

    def spoilt(self: Any, values: Tensor) -> Tensor:
        calls.append(1)
        made = original(self, values)
        return made.index_fill(0, torch.tensor([3]), math.nan) if len(calls) == 2 else made

    monkeypatch.setattr(type(digits.train.transform_function), "__call__", spoilt)
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 2 .*, training examples \d+ hold values that are not fin"):
        train(model(), digits, **QUICK)


def test_a_norm_that_is_infinite_of_finite_gradients_is_no_fault(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking_gradient(monkeypatch, [2], 3e38)
    history = train(model(), digits, lr=1e-30, on_nan="skip", **QUICK)
    assert history["train/not_finite"] == [0.0, 0.0]


@pytest.mark.parametrize("where", ["gradient", "loss"])
@pytest.mark.parametrize("settings", [{}, {"clip": 0.5}, {"skip": 50.0}, {"optimiser": "adamax"}])
def test_steps_are_left_out_and_counted(
    where: str, settings: dict[str, Any], digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, their average, the optimiser, statistics of batches: as if the step had not been."""
    if where == "gradient":
        breaking_gradient(monkeypatch, [1, 2, 6])
    else:
        breaking_loss(monkeypatch, [1, 2, 6])
    states: list[list[Tensor]] = []
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        assert self.average is not None
        kept = self.bare_optimiser.state_dict()["state"].values()
        tensors = [*self.bare.state_dict().values(), *self.average.state_dict().values()]
        states.append([t.detach().clone() for t in [*tensors, *(v for state in kept for v in state.values())]])

    monkeypatch.setattr(Trainer, "_step", step)
    torch.manual_seed(1)
    net = NetConfig(width=8, normalisation="batch")
    history = train(
        VAE((1, 8, 8), 2, net=net, likelihood="gaussian"), digits, on_nan="skip", ema=0.9, **settings, **QUICK
    )
    same = [len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(states[1:], states, strict=False)]
    assert same == [True, True, False, False, False, True, False]
    assert history["train/not_finite"] == [2.0, 1.0]
    assert all(map(math.isfinite, history["train/elbo"]))
    if "skip" in settings:
        assert history["train/skipped"] == [0.0, 0.0]


def breaking_loss(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int]) -> None:
    original, chosen = TrainingStep.forward, set(steps)

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        if step in chosen and self.training:
            batch = batch._replace(x=batch.x.index_fill(0, torch.tensor([0]), math.nan))
        return original(self, batch, step)

    monkeypatch.setattr(TrainingStep, "forward", forward)


def test_means_are_over_the_steps_that_were_taken(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[float] = []
    original = TrainingStep.forward

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        loss, logged = original(self, batch, step)
        if self.training:
            values.append(float(logged[0]))
        return loss, logged

    monkeypatch.setattr(TrainingStep, "forward", forward)
    breaking_loss(monkeypatch, [1])
    history = train(model(), digits, on_nan="skip", **{**QUICK, "epochs": 1})
    taken = [value for value in values if math.isfinite(value)]
    assert len(taken) == 3
    assert history["train/loss"] == pytest.approx([sum(taken) / 3])


def test_an_epoch_of_which_nothing_is_left_is_not_a_number(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking_loss(monkeypatch, range(4))
    history = train(model(), digits, on_nan="skip", **QUICK)
    assert history["train/not_finite"] == [4.0, 0.0]
    assert list(map(math.isnan, history["train/elbo"])) == [True, False]


def test_training_gives_up_where_too_many_are_lost(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spikes, "TOO_MANY", 3)
    breaking_gradient(monkeypatch, [0, 1, 3, 4, 5, 6])
    with pytest.raises(NonFiniteError, match=r"^3 steps in a row .* in epoch 2, step 6\. The last good checkpoint is"):
        fit(tiny(train={"on_nan": "skip"}), tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / BROKEN).read_text())["step"] == 6


def test_a_step_is_clipped_where_one_group_is_too_large_and_not_their_sum(digits: Data) -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimiser = torch.optim.SGD([{"params": [weight]} for weight in weights], lr=1.0)
    step = TrainingStep(model(), Elbo(), 128)
    look = guard.Guard(TrainConfig(clip=1.0), step, optimiser, digits.train, None, torch.device("cpu"))
    for gradients, counted, left in (((0.7, -0.7), 0.0, (0.7, -0.7)), ((4.0, 0.5), 1.0, (1.0, 0.5))):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.tensor([gradient])
        look._clip(look._norms(), 1.0)
        assert look.clipped == counted
        assert [weight.grad.item() for weight in weights if weight.grad is not None] == pytest.approx(left, rel=1e-4)


def test_the_norm_that_is_clipped_is_counted(digits: Data) -> None:
    assert train(model(), digits, clip=1e-3, **QUICK)["train/clipped"] == [4.0, 4.0]
    assert train(model(), digits, clip=1e6, **QUICK)["train/clipped"] == [0.0, 0.0]
    assert "train/clipped" not in train(model(), digits, **QUICK)


def test_clipping_on_a_device_that_is_not_waited_for_is_the_same(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(model(), digits, clip=5.0, **QUICK)
    assert 0 < plain["train/clipped"][0] <= 4
    monkeypatch.setattr(guard, "lag_of", lambda _: 1)
    later = train(model(), digits, clip=5.0, **QUICK)
    for name in ("train/clipped", "train/elbo", "valid/elbo"):
        assert later[name] == plain[name]


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_resumed_with_counters(
    stop: int, tmp_path: Path, tiny: Tiny, same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(train={"on_nan": "skip", "ema": 0.9, "clip": 5.0, "skip": 50.0})
    breaking_gradient(monkeypatch, [1, 5, 6])
    whole = fit(config, tmp_path / "whole", quiet=True)
    assert whole.history()["train/not_finite"] == [1.0, 2.0]
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        self.stop.requested = self.position.step == stop

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "parts", quiet=True)
    same_runs(resume(tmp_path / "parts", quiet=True), whole)


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_what_an_objective_owns_is_looked_at_too(on_nan: Any, digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TrainingStep.forward

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        loss, logged = original(self, batch, step)
        if step == 2 and torch.is_grad_enabled():
            own = list(self.objective.parameters())[-1]
            loss = loss + (_Spoilt.apply(own, math.nan) * 0).sum()  # type: ignore[no-untyped-call]
        return loss, logged

    monkeypatch.setattr(TrainingStep, "forward", forward)
    objective: Objective = Factor(latent=2, discriminator_width=8, discriminator_depth=1)
    if on_nan == "skip":
        history = train(model(), digits, objective, on_nan=on_nan, clip=1.0, **QUICK)
        assert history["train/not_finite"] == [1.0, 0.0]
        return
    with pytest.raises(NonFiniteError, match=r"step 3 .*first that of objective\.discriminator"):
        train(model(), digits, objective, **QUICK)


def test_a_prior_leaves_steps_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit(tiny_vqvae(), tmp_path / "run", quiet=True)
    original = TrainingStep.forward

    def forward(self: TrainingStep, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        loss, logged = original(self, batch, step)
        factor = math.nan if self.training and step == 1 else 1.0
        return loss * factor, logged * factor

    monkeypatch.setattr(TrainingStep, "forward", forward)
    prior = fit_prior(run, tiny_prior(on_nan="skip"), quiet=True)
    assert prior.history()["train/not_finite"] == [1.0, 0.0]


def test_validation_that_is_not_finite_ends_the_training_and_names_its_example(
    digits: Data, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = VAE.forward

    def forward(self: VAE, x: Tensor, *given: Any, **known: Any) -> Output:
        return original(self, x if self.training else x.index_fill(0, torch.tensor([7]), math.nan), *given, **known)

    monkeypatch.setattr(VAE, "forward", forward)
    with pytest.raises(NonFiniteError, match=r"on validation data.*Of the batch, validation examples 7 are where it"):
        fit(tiny(train={"on_nan": "skip"}), tmp_path / "run", quiet=True)


def test_the_bar_says_how_many_were_lost(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 1.0, "step": 4.0, "epoch_seconds": 1.0, "images_per_second": 9.0, "train/elbo": 1.0}
    TrainingProgress(2, 4).epoch({**row, "train/not_finite": 3.0})
    TrainingProgress(2, 4).epoch({**row, "train/not_finite": 0.0})
    said = capsys.readouterr().err.splitlines()
    assert "3 steps not finite" in said[0]
    assert "not finite" not in said[1]


def test_guarding_changes_nothing_where_all_is_well(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(model(), digits, Elbo(), **QUICK)
    left_out = train(model(), digits, Elbo(), on_nan="skip", **QUICK)
    assert left_out.pop("train/not_finite") == [0.0, 0.0]
    monkeypatch.setattr(guard, "lag_of", lambda _: 1)
    later = train(model(), digits, Elbo(), **QUICK)
    for name in plain.keys() - {"seconds", "epoch_seconds", "images_per_second"}:
        assert left_out[name] == plain[name] == later[name]
