"""What an objective owns and says in training: its discriminator's weights, rate and norm, its schedule, its loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import Config, NetConfig
from jensen.data import Data, load_data
from jensen.errors import NonFiniteError
from jensen.objectives import Capacity, Context, Elbo, Factor, TotalCorrelation
from jensen.training import Run, Trainer, fit, resume, train

Tiny = Callable[..., Config]


@pytest.fixture
def digits() -> Data:
    return load_data("digits", transform="none", limit=128)


def small() -> VAE:
    torch.manual_seed(1)
    return VAE((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")


def quick(model: VAE, data: Data, objective: Any, **settings: Any) -> dict[str, list[float]]:
    values = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", "quiet": True, **settings}
    return train(model, data, objective, **values)


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[Trainer], object]) -> None:
    """Call `look` after every step."""
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        look(self)

    monkeypatch.setattr(Trainer, "_step", step)


def discriminating(**choices: Any) -> Factor:
    torch.manual_seed(2)
    return Factor(discriminator_width=8, discriminator_depth=2, latent=2, **choices)


def test_clipping_bounds_the_norm_of_each_group(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[list[float]] = []

    def look(trainer: Trainer) -> None:
        groups = [group["params"] for group in trainer.bare_optimiser.param_groups]
        norms.append([torch.cat([parameter.grad.flatten() for parameter in group]).norm().item() for group in groups])

    watch(monkeypatch, look)
    quick(small(), digits, discriminating(), clip=1e-4)
    assert [value for pair in norms for value in pair] == pytest.approx([1e-4] * 16, rel=1e-2)


def test_what_the_objective_owns_learns_at_its_own_rate(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up and decay scale it too; the first step of Adam moves each weight by the rate."""
    objective = discriminating(discriminator_lr=0.02)
    before = objective.discriminator[-1].weight.detach().clone()
    moved: list[Tensor] = []
    used: list[tuple[float, ...]] = []

    def look(trainer: Trainer) -> None:
        used.append(tuple(group["lr"] for group in trainer.bare_optimiser.param_groups))
        moved.append(objective.discriminator[-1].weight.detach() - before)

    watch(monkeypatch, look)
    quick(small(), digits, objective, lr=1e-3, warmup=2, epochs=1)
    factors = [0.5, 1.0, 1.0, 1.0]
    assert [pair[0] for pair in used] == pytest.approx([1e-3 * factor for factor in factors])
    assert [pair[1] for pair in used] == pytest.approx([0.02 * factor for factor in factors])
    assert moved[0].abs().max().item() == pytest.approx(0.01, rel=1e-3)


def test_the_auxiliary_loss_is_not_in_the_loss_that_is_logged(digits: Data) -> None:
    history = quick(small(), digits, discriminating(), epochs=1)
    parts = {name: history[f"train/{name}"][0] for name in ("loss", "distortion", "rate", "total_correlation")}
    assert parts["loss"] == pytest.approx(
        parts["distortion"] + parts["rate"] + 10 * parts["total_correlation"], rel=1e-5
    )
    assert 0.6 < history["train/discriminator"][0] < 0.8  # about ln 2


def test_a_lost_auxiliary_loss_is_named(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Factor.price

    def price(self: Factor, *inputs: Any) -> Any:
        found = original(self, *inputs)
        lost = found.auxiliary * math.nan
        return found._replace(terms={**found.terms, "discriminator": lost}, auxiliary=lost)

    monkeypatch.setattr(Factor, "price", price)
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1 \(first in its term 'discriminator', on training data"):
        quick(small(), digits, discriminating())


def test_what_an_objective_means_is_said_once(tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(objective={"kind": "beta"}, train={"epochs": 1})
    fit(config, tmp_path / "run")
    assert "normalised (x 2 latents / 64 values of a datum): 0.125" in capsys.readouterr().err
    resume(tmp_path / "run", epochs=2)
    assert "normalised" not in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "told"), [(8, False), (9, True)])
def test_a_schedule_longer_than_the_training_is_told(
    steps: int, told: bool, digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(small(), digits, Capacity(capacity_steps=steps), quiet=False)
    assert ("more steps than the 8 of this training" in capsys.readouterr().err) == told


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path, tiny: Tiny) -> None:
    """Groups of its optimiser have no scale, and there is no manifest."""
    run = fit(tiny(train={"epochs": 1}), tmp_path / "run", quiet=True)
    (folder,) = run.checkpoints.glob("step-*")
    state = torch.load(folder / "state.pt", weights_only=True)
    for group in state["optimiser"]["param_groups"]:
        del group["scale"]
    torch.save(state, folder / "state.pt")
    (folder / "manifest.json").unlink()
    resume(run.path, epochs=2, quiet=True)
    whole = fit(tiny(train={"epochs": 2}), tmp_path / "whole", quiet=True)
    found, expected = (Run.open(path).model("last").state_dict() for path in (run.path, whole.path))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def validated(monkeypatch: pytest.MonkeyPatch, kind: type[VAE] | type[AutoEncoder]) -> list[int]:
    """Sizes of the batches that models of a kind will see in evaluation mode."""
    seen: list[int] = []
    original = kind.forward

    def forward(self: Any, x: Tensor, *rest: Any, **beside: Any) -> Any:
        if not self.training:
            seen.append(len(x))
        return original(self, x, *rest, **beside)

    monkeypatch.setattr(kind, "forward", forward)
    return seen


@pytest.mark.parametrize(
    ("examples", "sizes"), [(40, [20, 20]), (41, [14, 14, 13]), (61, [16, 15, 15, 15]), (44, [15, 15, 14])]
)
def test_validation_batches_are_of_nearly_equal_size(
    examples: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 at most; else the last could be one example that has no other to be compared with."""
    data = load_data("digits", transform="none", limit=examples)
    seen = validated(monkeypatch, VAE)
    quick(small(), data, TotalCorrelation(samples=25), epochs=1, batch_size=20)
    assert seen == sizes


@pytest.mark.parametrize(("batch_size", "samples", "sizes"), [(1, 600, [3, 2]), (2, 200, [3, 2]), (4, 1, [5])])
def test_validation_batches_have_two_data_at_least(
    batch_size: int, samples: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And count by their size: the mean is that over single data."""
    data = load_data("digits", transform="none", limit=5)
    torch.manual_seed(1)
    model = AutoEncoder((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")
    seen = validated(monkeypatch, AutoEncoder)
    with torch.no_grad():
        each = [model(data.valid.batch(torch.tensor([i])).x).log_likelihood().item() for i in range(5)]
    seen.clear()
    history = quick(model, data, Elbo(samples), epochs=1, batch_size=batch_size, lr=1e-30)
    assert seen == sizes
    assert history["valid/log_likelihood"][0] == pytest.approx(sum(each) / 5, rel=1e-6)
    unweighted = (sum(each[:3]) / 3 + sum(each[3:]) / 2) / 2
    assert abs(unweighted / (sum(each) / 5) - 1) > 1e-4


class Penalised(VAE):
    """A penalty in training that evaluation does not have."""

    def forward(self, *inputs: Any, **beside: Any) -> Any:
        output = super().forward(*inputs, **beside)
        return replace(output, penalties={"spectral": torch.tensor(2.5)}) if self.training else output


def test_validation_may_log_fewer_terms(digits: Data, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Penalised((1, 8, 8), 2, net=NetConfig(width=8), likelihood="gaussian")
    history = quick(model, digits, Capacity(capacity_steps=4, max_capacity=2.0), epochs=3)
    assert history["train/spectral"] == [2.5] * 3
    assert "valid/spectral" not in history
    assert history["train/capacity"] == pytest.approx([0.75, 2.0, 2.0])
    assert history["valid/capacity"] == [2.0] * 3
    for loss, distortion, rate in zip(
        *(history[f"valid/{name}"] for name in ("loss", "distortion", "rate")), strict=True
    ):
        assert loss == pytest.approx(distortion + 1000 * abs(rate - 2.0), rel=1e-4)


def test_labelled_data_count_once_in_n_and_often_in_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """N is of the data, however often some are seen; the steps are of the longer epoch."""
    data = load_data("digits", transform="none", limit=128, condition="label", labelled=10)
    assert data.train.epoch_length > len(data.train) + 12
    torch.manual_seed(1)
    choices = {"net": NetConfig(width=4), "likelihood": "gaussian", "condition_shape": data.condition_shape}
    model = SemiSupervisedVAE((1, 8, 8), 2, **choices)
    sizes: set[int] = set()
    original = TotalCorrelation.price

    def price(self: TotalCorrelation, output: Any, rate: Tensor, context: Context) -> Any:
        sizes.add(context.dataset_size)
        return original(self, output, rate, context)

    monkeypatch.setattr(TotalCorrelation, "price", price)
    seen: list[int] = []
    step = Trainer._step

    def counted(self: Trainer, batch: Any) -> None:
        seen.append(len(batch.x))
        step(self, batch)

    monkeypatch.setattr(Trainer, "_step", counted)
    quick(model, data, TotalCorrelation(), epochs=1, batch_size=12)
    assert sizes == {len(data.train)}
    assert sum(seen) == data.train.epoch_length // 12 * 12
