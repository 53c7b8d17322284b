"""`deterministic`: what it sets while training lasts, and that it notices what does not repeat."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.bound import Output
from jensen.config import Config, NetConfig
from jensen.data import Data, load_data
from jensen.errors import ConfigError
from jensen.objectives import Elbo, Factor, Objective
from jensen.training import Run, Trainer, fit, resume, train
from jensen.training.determinism import WORKSPACE, only_deterministic

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", "quiet": True}


@pytest.fixture
def digits() -> Data:
    return load_data("digits", limit=128)  # binarised anew for each batch


def model(**net: Any) -> VAE:
    torch.manual_seed(1)
    return VAE((1, 8, 8), 2, net=NetConfig(**{"width": 8, **net}))


@pytest.mark.parametrize("kind", ["elbo", "factor"])
@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "clip": 1.0, "optimiser": "adamax"}])
def test_the_check_leaves_no_trace(kind: str, settings: dict[str, Any], digits: Data) -> None:
    def objective() -> Objective:
        torch.manual_seed(2)
        return Elbo() if kind == "elbo" else Factor(latent=2, discriminator_width=8, discriminator_depth=1)

    found, expected = (model(normalisation="batch") for _ in range(2))
    history = train(found, digits, objective(), deterministic=True, **settings, **QUICK)
    wanted = train(expected, digits, objective(), **settings, **QUICK)
    for name in wanted.keys() - {"seconds", "epoch_seconds", "images_per_second"}:
        assert history[name] == wanted[name]
    for name, value in expected.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])


def test_a_run_that_is_resumed_is_checked_and_the_same(
    tmp_path: Path, tiny: Tiny, same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(train={"deterministic": True, "ema": 0.5})
    whole = fit(config, tmp_path / "whole", quiet=True)
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        self.stop.requested = self.position.step == 3

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "parts", quiet=True)
    same_runs(resume(tmp_path / "parts", quiet=True), whole)


class Unseeded(VAE):
    """Draws noise that torch's seed does not reach: into the loss, or only into the statistics that it keeps."""

    def __init__(self, where: str) -> None:
        torch.manual_seed(1)
        super().__init__((1, 8, 8), 2, net=NetConfig(width=8))
        self.register_buffer("kept", torch.zeros(3))
        self.where, self.noise = where, random.Random(4)

    def forward(self, x: Tensor, *given: Any, **known: Any) -> Output:
        noise = self.noise.random()
        if self.where == "buffer":
            self.kept: Tensor = self.kept + noise
            return super().forward(x, *given, **known)
        return super().forward(x * (1 + 1e-3 * noise), *given, **known)


@pytest.mark.parametrize(("where", "named"), [("input", "term distortion"), ("buffer", "weight model.kept")])
def test_noise_that_the_seed_does_not_reach_is_named(where: str, named: str, digits: Data) -> None:
    learner = Unseeded(where)
    before = [parameter.clone() for parameter in learner.parameters()]
    with pytest.raises(
        ConfigError, match=f"step 1, taken twice from the same state, gave two values of {named}"
    ) as told:
        train(learner, digits, deterministic=True, **QUICK)
    assert "\n" not in str(told.value)
    assert all(map(torch.equal, learner.parameters(), before))
    train(learner, digits, **QUICK)  # without, nothing is looked at


def test_what_is_kept_outside_of_buffers_is_noticed(digits: Data) -> None:
    class Counting(VAE):
        calls = 0

        def forward(self, x: Tensor, *given: Any, **known: Any) -> Output:
            self.calls += 1
            return super().forward(x * (1 + 1e-3 * (self.calls > 2)), *given, **known)

    torch.manual_seed(1)
    with pytest.raises(ConfigError, match=r"step 1, taken twice"):  # the third call is the first of the second time
        train(Counting((1, 8, 8), 2, net=NetConfig(width=8)), digits, deterministic=True, **{**QUICK, "batch_size": 64})


def test_what_is_set_lasts_as_long_as_training(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    seen: list[tuple[bool, str | None, bool]] = []
    original = Trainer._step

    def now() -> tuple[bool, str | None, bool]:
        set_by_cudnn = torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        return torch.are_deterministic_algorithms_enabled(), os.environ.get(WORKSPACE), set_by_cudnn

    def step(self: Trainer, batch: Any) -> None:
        seen.append(now())
        original(self, batch)

    monkeypatch.setattr(Trainer, "_step", step)
    before = now()
    train(model(), digits, deterministic=True, **QUICK)
    assert seen == [(True, ":4096:8", True)] * 8
    assert now() == before == (False, None, False)
    train(model(), digits, **QUICK)
    assert seen[8:] == [before] * 8


def test_an_operation_that_has_no_such_form_is_named() -> None:
    told = r"^train\.deterministic: put_ does not have a deterministic implementation"
    with pytest.raises(ConfigError, match=told), only_deterministic(True):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_pass(digits: Data) -> None:
    with pytest.raises(RuntimeError, match="something else"), only_deterministic(True):
        raise RuntimeError("something else")
