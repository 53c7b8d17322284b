"""Lengths as a share of the training: the same training as with the steps that they come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jensen.autoencoders import VAE
from jensen.config import Config, NetConfig, Schedule, TrainConfig
from jensen.data import load_data
from jensen.errors import ConfigError
from jensen.objectives import Elbo, Factor
from jensen.training import Run, fit, resume, train
from jensen.training.shares import in_steps, objective_in_steps, steps_an_epoch

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]


def test_a_schedule_over_a_training() -> None:
    schedule = Schedule(kind="linear", start=1.0, end=3.0, share=0.25)
    assert schedule.over(80) == Schedule(kind="linear", start=1.0, end=3.0, steps=20)
    assert [schedule.over(80)(step) for step in (0, 5, 10, 20, 79)] == [1.0, 1.5, 2.0, 3.0, 3.0]
    assert schedule.over(1).steps == schedule.over(2).steps == 1
    assert [schedule.over(total).steps for total in (9, 11)] == [2, 3]  # of 2.25 and 2.75
    fixed = Schedule(kind="cosine", steps=7)
    assert fixed.over(1000) is fixed
    assert Schedule().over(1000) == Schedule()


def test_a_schedule_that_does_not_know_its_length_says_so() -> None:
    with pytest.raises(ConfigError, match=r"takes a share \(0.25\) of a training whose length it does not know"):
        Schedule(kind="linear", share=0.25)(3)


def test_every_share_of_a_configuration() -> None:
    config = Config(
        data={"condition": "label", "labelled": 10, "labelled_share": 0.5},
        model={"kind": "semi-supervised"},
        objective={"kl_weight": {"kind": "cyclical", "share": 0.5, "cycles": 2}},
        train={"warmup_share": 0.1},
    )
    found = in_steps(config, 40)
    assert found.objective.kl_weight == Schedule(kind="cyclical", steps=20, cycles=2)
    assert (found.train.warmup, found.train.warmup_share) == (4, None)
    assert found.data == config.data  # another kind of share
    assert Config(**found.model_dump()) == found
    assert in_steps(found, 1000) == found
    assert in_steps(TrainConfig(warmup_share=0.001), 40).warmup == 1
    assert [in_steps(TrainConfig(warmup_share=share), 40).warmup for share in (0.06, 0.07)] == [2, 3]  # 2.4 and 2.8


@pytest.mark.parametrize(
    ("batch_size", "world", "steps"), [(32, 1, 4), (33, 1, 3), (500, 1, 1), (32, 2, 4), (96, 2, 1)]
)
def test_steps_an_epoch(batch_size: int, world: int, steps: int) -> None:
    data = load_data("digits", limit=128)
    assert steps_an_epoch(data, TrainConfig(batch_size=batch_size), world) == steps


SHARES: dict[str, Any] = {
    "objective": {"kl_weight": {"kind": "linear", "share": 0.5}},
    "train": {"warmup_share": 0.25, "decay": "cosine", "lr_min": 1e-4},
}
STEPS: dict[str, Any] = {
    "objective": {"kl_weight": {"kind": "linear", "steps": 4}},
    "train": {"warmup": 2, "decay": "cosine", "lr_min": 1e-4},
}


def test_a_run_keeps_the_steps(tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    """Eight steps in all: a share of them is what so many steps are, also where the run goes on for longer."""
    shares = fit(tiny(**SHARES), tmp_path / "shares", quiet=True)
    steps = fit(tiny(**STEPS), tmp_path / "steps", quiet=True)
    same_runs(shares, steps)
    assert shares.config == steps.config
    saved = yaml.safe_load((shares.path / "config.yaml").read_text())
    assert saved["objective"]["kl_weight"]["steps"] == 4
    assert saved["objective"]["kl_weight"]["share"] is None
    assert (saved["train"]["warmup"], saved["train"]["warmup_share"]) == (2, None)
    longer = [resume(run.path, epochs=4, quiet=True) for run in (shares, steps)]
    same_runs(*longer)
    assert longer[0].config.objective.kl_weight.steps == 4


@pytest.mark.parametrize(
    ("part", "other"),
    [("objective", {"kl_weight": {"kind": "linear", "share": 1.0}}), ("train", {"warmup_share": 1.0})],
)
def test_shares_change_the_training(part: str, other: dict[str, Any], tmp_path: Path, tiny: Tiny) -> None:
    runs = [
        fit(tiny(**{part: change}), tmp_path / str(i), quiet=True) for i, change in enumerate((SHARES[part], other))
    ]
    assert runs[0].history()["train/loss"][-1] != runs[1].history()["train/loss"][-1]


def test_in_python_the_objective_stays_what_it_was() -> None:
    data = load_data("digits", limit=128)

    def history(objective: Elbo, **settings: Any) -> dict[str, list[float]]:
        torch.manual_seed(1)
        model = VAE((1, 8, 8), 2, net=NetConfig(width=8))
        found = train(model, data, objective, epochs=2, batch_size=32, accelerator="cpu", quiet=True, **settings)
        return {name: values for name, values in found.items() if "second" not in name}

    by_share = Elbo(kl_weight=Schedule(kind="linear", share=0.5))
    by_steps = Elbo(kl_weight=Schedule(kind="linear", steps=4))
    expected = history(by_steps, warmup=2)
    assert history(by_share, warmup_share=0.25) == expected
    assert by_share.kl_weight == Schedule(kind="linear", share=0.5)
    assert history(by_share, warmup_share=0.25) == expected
    assert objective_in_steps(by_steps, 8) is by_steps


def test_what_an_objective_owns_is_trained_with_a_share_too() -> None:
    objective = Factor(
        latent=2, discriminator_width=8, discriminator_depth=1, kl_weight=Schedule(kind="linear", share=1)
    )
    before = [weight.detach().clone() for weight in objective.parameters()]
    data = load_data("digits", limit=64)
    model = VAE((1, 8, 8), 2, net=NetConfig(width=8))
    train(model, data, objective, epochs=1, batch_size=32, accelerator="cpu", quiet=True)
    after = list(objective.parameters())
    assert before
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
