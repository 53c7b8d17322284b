"""The loop: what each knob does to the weights, what is logged, and when it stops."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from jensen.autoencoders import VAE, AutoEncoder, HierarchicalVAE
from jensen.config import Config, NetConfig, ObjectiveConfig, TrainConfig
from jensen.data import Data, load_data
from jensen.errors import ConfigError, NonFiniteError
from jensen.objectives import Balanced, Elbo, FreeBits, Iwae, Objective, Schedule, make_objective
from jensen.objectives.build import KINDS, name_of
from jensen.training import Run, Trainer, fit, train
from jensen.training.fabric import make_fabric

Tiny = Callable[..., Config]


@pytest.fixture
def digits() -> Data:
    return load_data("digits", transform="none", limit=128)


def small(kind: type[VAE] | type[AutoEncoder] = VAE, **choices: Any) -> VAE | AutoEncoder:
    torch.manual_seed(1)
    return kind((1, 8, 8), 2, **{"net": NetConfig(width=8), "likelihood": "gaussian", **choices})


def quick(model: VAE | AutoEncoder, data: Data, objective: Any = None, **settings: Any) -> dict[str, list[float]]:
    values = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", **settings}
    return train(model, data, objective, quiet=True, **values)


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_climbs_the_bound(digits: Data) -> None:
    model = small()
    history = quick(model, digits, epochs=15, lr=5e-3)
    assert history["train/elbo"][-1] > history["train/elbo"][0] + 1
    assert history["valid/elbo"][-1] > history["valid/elbo"][0] + 1
    assert not model.training


def test_one_step_of_adam_by_hand(digits: Data) -> None:
    """The first step of Adam moves each weight by lr in the direction of its gradient's sign, of the batch mean."""
    data = load_data("digits", transform="none", limit=32)
    model = small(AutoEncoder)
    before = weights(model)
    x = data.train.batch(torch.arange(32)).x
    expected = torch.cat(
        [g.flatten() for g in torch.autograd.grad(-model(x).log_likelihood().mean(), list(model.parameters()))]
    )
    quick(model, data, epochs=1, lr=1e-3)
    moved = before - weights(model)
    clear = expected.abs() > 1e-4
    torch.testing.assert_close(moved[clear], 1e-3 * expected.sign()[clear], rtol=1e-2, atol=1e-6)


def test_logged_terms_are_means_over_the_epoch_and_over_validation(digits: Data) -> None:
    """With a vanishing learning rate the model stays what it was, and a deterministic one can be scored by hand."""
    model = small(AutoEncoder)
    x, valid = (split.batch(torch.arange(len(split))).x for split in (digits.train, digits.valid))
    with torch.no_grad():
        expected = model(x).log_likelihood().mean().item(), model(valid).log_likelihood().mean().item()
    history = quick(model, digits, lr=1e-30)
    assert history["train/log_likelihood"] == pytest.approx([expected[0]] * 2, rel=1e-5)
    assert history["train/loss"] == pytest.approx([-expected[0]] * 2, rel=1e-5)
    assert history["valid/log_likelihood"] == pytest.approx([expected[1]] * 2, rel=1e-5)


def test_the_model_ends_with_its_best_weights(digits: Data) -> None:
    model = small(AutoEncoder)
    history = quick(model, digits, epochs=4, lr=1.0)  # much too large: the score falls
    best = max(history["valid/log_likelihood"])
    assert history["valid/log_likelihood"][-1] < best - 1
    with torch.no_grad():
        valid = model(digits.valid.batch(torch.arange(len(digits.valid))).x)
    assert valid.log_likelihood().mean().item() == pytest.approx(best, rel=1e-5)


def test_best_and_last_of_a_run(tmp_path: Path, tiny: Tiny) -> None:
    config = tiny(model={"kind": "autoencoder", "likelihood": "gaussian"}, train={"epochs": 4, "lr": 1.0})
    run = fit(config, tmp_path / "run", quiet=True)
    scores = run.history()["valid/log_likelihood"]
    assert scores[-1] < max(scores) - 1
    valid = run.data().valid
    x = valid.batch(torch.arange(len(valid))).x
    for which, expected in (("best", max(scores)), ("last", scores[-1])):
        with torch.no_grad():
            found = run.model(which)(x).log_likelihood().mean().item()  # type: ignore[arg-type]
        assert found == pytest.approx(expected, rel=1e-5)


def test_kl_weight_goes_by_the_step(digits: Data) -> None:
    schedule = Schedule(kind="linear", start=0.0, end=1.0, steps=4)
    history = quick(small(), digits, Elbo(kl_weight=schedule), epochs=6, batch_size=128)  # one step an epoch
    parts = zip(history["train/loss"], history["train/distortion"], history["train/rate"], strict=True)
    for step, (loss, distortion, rate) in enumerate(parts):
        assert loss == pytest.approx(distortion + min(1, step / 4) * rate, rel=1e-5)


@pytest.mark.parametrize("objective", [Iwae(4), Elbo(4)])
def test_objectives_get_their_samples(objective: Any, digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = VAE.forward

    def forward(self: VAE, x: Tensor, target: Tensor | None = None, samples: int = 1, **beside: Tensor | None) -> Any:
        seen.append(samples)
        return original(self, x, target, samples, **beside)

    monkeypatch.setattr(VAE, "forward", forward)
    quick(small(), digits, objective, epochs=1)
    assert set(seen) == {4}


def test_learning_rates_are_those_that_the_optimiser_used(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    watch(monkeypatch, lambda trainer: used.append(trainer.bare_optimiser.param_groups[0]["lr"]))
    history = quick(small(), digits, lr=1.0e-3, warmup=4, decay="cosine", epochs=3)
    expected = [0.25, 0.5, 0.75, 1.0, *[(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]]
    assert used == pytest.approx([1e-3 * factor for factor in expected])
    assert history["lr"] == pytest.approx([used[3], used[7], used[11]])


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[Trainer], object]) -> None:
    """Call `look` after every step."""
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        look(self)

    monkeypatch.setattr(Trainer, "_step", step)


def test_clipping_bounds_the_norm(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    def look(trainer: Trainer) -> None:
        gradients = [parameter.grad for parameter in trainer.bare.parameters() if parameter.grad is not None]
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())

    watch(monkeypatch, look)
    quick(small(), digits, clip=0.01)
    assert len(norms) == 8
    assert norms == pytest.approx([0.01] * 8, rel=1e-3)
    norms.clear()
    quick(small(), digits)
    assert min(norms) > 1


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_moving_average_by_hand(
    normalisation: str, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: list[dict[str, Tensor]] = []
    watch(monkeypatch, lambda trainer: path.append({k: v.clone() for k, v in trainer.bare.state_dict().items()}))
    net = {"width": 8, "normalisation": normalisation}
    config = tiny(train={"ema": 0.7, "lr": 0.01}, model={"net": net})
    run = fit(config, tmp_path / "run", quiet=True)
    learned = {name for name, _ in run.model().named_parameters()}
    average = path[0]
    for taken, state in enumerate(path[1:], 1):
        decay = min(0.7, (1 + taken) / (10 + taken))
        for name, value in state.items():
            if name.removeprefix("model.") in learned:
                average[name] = decay * average[name] + (1 - decay) * value
            else:
                average[name] = value  # statistics of batch normalisation go along
    found = load_file(next(run.checkpoints.glob("step-*")) / "average.safetensors")
    assert found.keys() == average.keys()
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    last = run.model("last").state_dict()
    assert all(torch.equal(value, found[f"model.{name}"]) for name, value in last.items())


def test_validation_scores_the_averaged_weights(digits: Data) -> None:
    plain = quick(small(), digits, epochs=3, lr=0.02)
    averaged = quick(small(), digits, epochs=3, lr=0.02, ema=0.95)
    assert averaged["train/elbo"] == plain["train/elbo"]
    assert averaged["valid/elbo"] != plain["valid/elbo"]


def test_early_stopping(digits: Data) -> None:
    history = quick(small(), digits, epochs=50, lr=1e-30, patience=3)
    assert history["epoch"] == [1, 2, 3, 4]  # none of the three after the first was better


def test_plateau_lowers_the_rate_of_a_run(digits: Data) -> None:
    history = quick(small(), digits, epochs=6, lr=1e-30, decay="plateau", plateau_patience=1)
    assert history["lr"] == [1e-30, 1e-30, 1e-30, 5e-31, 5e-31, 2.5e-31]


def test_early_stop_is_the_end(tmp_path: Path, tiny: Tiny) -> None:
    run = fit(tiny(train={"epochs": 50, "lr": 1e-30, "patience": 1}), tmp_path / "run", quiet=True)
    assert run.history()["epoch"] == [1, 2]
    assert run.finished


def test_the_last_smaller_batch_is_left_out_but_not_the_only_one() -> None:
    data = load_data("digits", limit=100)
    assert quick(small(likelihood="bernoulli"), data)["step"] == [3, 6]
    history = quick(small(likelihood="bernoulli"), data, batch_size=1000)
    assert history["step"] == [1, 2]
    assert history["images_per_second"] == pytest.approx([100 / s for s in history["epoch_seconds"]])


def test_every_epoch_has_its_own_order_and_the_same_validation_noise(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        seen.append(batch.index.tolist())
        original(self, batch)

    monkeypatch.setattr(Trainer, "_step", step)
    history = quick(small(), digits, lr=1e-30)
    epochs = [[i for batch in batches for i in batch] for batches in (seen[:4], seen[4:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(128))
    assert epochs[0] != epochs[1]
    assert history["valid/elbo"][0] == history["valid/elbo"][1]


def test_validation_leaves_the_noise_of_training_alone(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every epoch would begin with the same noise."""
    states: list[Tensor] = []
    original = Trainer._validate

    def validate(self: Trainer) -> Any:
        states.append(torch.get_rng_state())
        found = original(self)
        states.append(torch.get_rng_state())
        return found

    monkeypatch.setattr(Trainer, "_validate", validate)
    quick(small(), digits)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])


@pytest.mark.parametrize("setting", [{"precision": "bf16"}, {"channels_last": True}])
@pytest.mark.parametrize("net", ["conv", "resnet"])
def test_other_precision_and_layout_are_nearly_the_same(setting: dict[str, Any], net: str, digits: Data) -> None:
    config = NetConfig(kind=net, width=4, normalisation="batch")
    plain = quick(small(net=config), digits)["valid/elbo"]
    other = quick(small(net=config), digits, **setting)["valid/elbo"]
    tolerance = 2e-2 if "precision" in setting else 1e-4
    assert other == pytest.approx(plain, rel=tolerance)
    if "precision" in setting:
        assert other != plain


@pytest.mark.parametrize(
    "knob",
    [
        {"lr": 2e-3},
        {"optimiser": "adamax"},
        {"weight_decay": 0.5},
        {"batch_size": 16},
        {"eps": 1e-2},
        {"eps": 1e-2, "optimiser": "adamax"},
        {"warmup_share": 0.5},
    ],
)
def test_knobs_change_the_weights(knob: dict[str, Any], digits: Data) -> None:
    plain, other = small(), small()
    quick(plain, digits)
    quick(other, digits, **knob)
    assert (weights(plain) - weights(other)).abs().max() > 1e-4


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.soak
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_compiled_nets_do_the_same(net: str, digits: Data) -> None:
    from torch._dynamo.utils import counters

    config = NetConfig(kind=net, width=8)
    plain, compiled = small(net=config), small(net=config)
    expected = quick(plain, digits, ema=0.5)["valid/elbo"]
    counters.clear()
    assert quick(compiled, digits, ema=0.5, compile=True)["valid/elbo"] == pytest.approx(expected, rel=1e-4)
    assert counters["stats"]["unique_graphs"] >= 2  # encoder and decoder
    assert plain.state_dict().keys() == compiled.state_dict().keys()


def test_compile_reaches_nets_made_of_torch_modules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nn.Sequential.compile` compiles nothing: what is given to torch.compile should be code that it does not skip."""
    given: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: given.append(function) or function)
    model = small()
    x = torch.rand(3, 1, 8, 8)
    expected = model.encode(x)
    model.compile_nets()
    assert len(given) == 2
    assert all(function.__module__.startswith("jensen") for function in given)
    torch.testing.assert_close(model.encode(x), expected)


def test_tensorboard(tmp_path: Path, tiny: Tiny) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = fit(tiny(train={"tensorboard": True}), tmp_path / "run", quiet=True)
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("valid/elbo")]
    assert [step for step, _ in found] == [4, 8]
    assert [value for _, value in found] == pytest.approx(run.history()["valid/elbo"], rel=1e-5)


def test_a_far_too_large_rate_is_named_and_leaves_a_good_checkpoint(tmp_path: Path, tiny: Tiny) -> None:
    config = tiny(train={"lr": 1e30}, model={"likelihood": "gaussian"})
    with pytest.raises(NonFiniteError, match=r"epoch 1, step \d \(first in its term 'elbo'.*good checkpoint is kept"):
        fit(config, tmp_path / "run", quiet=True)
    run = Run.open(tmp_path / "run")
    assert not run.finished
    assert torch.isfinite(weights(run.model())).all()


def test_weights_lost_in_the_very_last_step_are_noticed(tmp_path: Path, tiny: Tiny, digits: Data) -> None:
    once = {"lr": 1e30, "epochs": 1, "batch_size": 128}
    with pytest.raises(NonFiniteError, match="validation data"):
        fit(tiny(train=once, model={"likelihood": "gaussian"}), tmp_path / "run", quiet=True)
    with pytest.raises(NonFiniteError, match="validation data"):
        quick(small(), digits, **once)


@pytest.mark.parametrize(("split", "where"), [("train", "on training data"), ("valid", "on validation data")])
def test_a_poisoned_datum(split: str, where: str) -> None:
    data = load_data("iris")
    assert isinstance(data.dataset.values, Tensor)
    data.dataset.values[data.splits[split][3]] = math.nan
    model = VAE((4,), 2, net=NetConfig(width=8), likelihood="gaussian")
    with pytest.raises(NonFiniteError, match=where):
        train(model, data, epochs=1, batch_size=32, accelerator="cpu", quiet=True)


def test_a_checkpoint_of_lost_weights_is_not_written(tmp_path: Path, digits: Data) -> None:
    config = TrainConfig(epochs=1, batch_size=32, accelerator="cpu")
    trainer = Trainer(
        small(),
        digits,
        Elbo(),
        config,
        make_fabric(config),
        seed=0,
        folder=tmp_path / "checkpoints",
        quiet=True,
        on_epoch=lambda position: None,
    )
    trainer.save()
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with torch.no_grad():
        next(trainer.bare.parameters())[0] = math.inf
    with pytest.raises(NonFiniteError, match=r"weight model\.encoder\S+ is not finite"):
        trainer.save()
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_wrong_settings(digits: Data) -> None:
    with pytest.raises(ConfigError, match="unknown key epoch"):
        quick(small(), digits, epoch=3)
    with pytest.raises(ConfigError, match=r"train: .*accelerator"):
        quick(small(), digits, accelerator="abacus")
    with pytest.raises(ConfigError, match=r"train: .*strategy"):
        quick(small(), digits, strategy="abacus")
    with pytest.raises(ConfigError, match="torch_xla"):
        make_fabric(TrainConfig(accelerator="tpu"))
    with pytest.raises(ConfigError, match="batch_size 7 should be a multiple of the 2 devices"):
        quick(small(), digits, batch_size=7, devices=2)
    with pytest.raises(ValueError, match="x should have shape"):
        quick(small(), load_data("iris"))


def test_a_line_an_epoch_where_there_is_no_terminal(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    train(small(), digits, epochs=2, batch_size=32, accelerator="cpu")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    encoder, decoder = 64 * 8 + 8 + 8 * 4 + 4, 2 * 8 + 8 + 8 * 64 + 64
    assert lines[0] == f"parameters {encoder + decoder:,}" == "parameters 1,156"
    assert lines[1].startswith("epoch 1/2  train/elbo -")
    assert "valid/elbo" in lines[2]
    quick(small(), digits)
    assert capsys.readouterr().err == ""


def test_train_refuses_a_discretised_likelihood_of_other_levels(digits: Data) -> None:
    with pytest.raises(ConfigError, match=r"levels=data\.levels"):
        train(VAE(digits.shape, 2, likelihood="discretised-logistic", levels=256), digits, epochs=1, quiet=True)


@pytest.mark.parametrize("objective", [FreeBits(), Balanced()])
def test_what_a_configuration_refuses_is_refused_in_python_too(objective: Objective, digits: Data) -> None:
    model = HierarchicalVAE((1, 8, 8), ["2@4", "1@4"], net="mlp")
    with pytest.raises(ConfigError, match="takes the term of each level for a KL, but in model hvae") as told:
        train(model, digits, objective, epochs=1, accelerator="cpu", quiet=True)
    name = "free-bits" if isinstance(objective, FreeBits) else "balanced"
    with pytest.raises(ConfigError, match=re.escape(str(told.value))):
        Config(model={"kind": "hvae"}, objective={"kind": name})


def test_objectives_know_their_names() -> None:
    class Own(FreeBits):
        """Another one of the kind."""

    for name in KINDS:
        assert name_of(make_objective(ObjectiveConfig(kind=name), 2)) == name
    assert name_of(Iwae(2)) == "iwae"
    assert name_of(Own()) == "free-bits"
