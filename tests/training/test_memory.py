"""Memory that does not do for a batch: which one it does for is found by trial, and training is as from the start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.bound import Output
from jensen.config import Config, NetConfig, TrainConfig
from jensen.data import Data, load_data
from jensen.errors import ConfigError
from jensen.objectives import Elbo, Factor, Objective
from jensen.training import Run, Trainer, fit, resume, train
from jensen.training.memory import is_full

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64, "accelerator": "cpu", "quiet": True}
CPU_FULL = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.fixture(autouse=True)
def _no_sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between trials garbage is swept up: a third of a second each in a process with all these tests."""
    monkeypatch.setattr("jensen.training.memory.gc.collect", lambda: 0)


@pytest.fixture
def digits() -> Data:
    return load_data("digits", transform="none", limit=128)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A forward pass of more than `training` (with gradients) or `validation` examples fails as an allocator does."""
    given: dict[str, Any] = {"training": 10**9, "validation": 10**9, "error": RuntimeError(CPU_FULL)}
    original = VAE.forward

    def forward(self: VAE, x: Tensor, *rest: Any, **known: Any) -> Output:
        if len(x) > given["training" if self.training else "validation"]:
            raise given["error"]
        return original(self, x, *rest, **known)

    monkeypatch.setattr(VAE, "forward", forward)
    return given


def model(**net: Any) -> VAE:
    torch.manual_seed(1)
    return VAE((1, 8, 8), 2, net=NetConfig(**{"width": 8, **net}), likelihood="gaussian")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError(CPU_FULL), True),
        (RuntimeError("not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_so(error: Exception, full: bool) -> None:
    assert is_full(error) is full


@pytest.mark.parametrize("error", [RuntimeError(CPU_FULL), MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_the_batch_that_would_do_is_named(error: Exception, digits: Data, room: dict[str, Any]) -> None:
    room |= {"training": 20, "error": error}
    with pytest.raises(
        ConfigError, match=r"batch_size 64 \(.+\); it does, as tried, for 16: .*--batch-size 16"
    ) as told:
        train(model(), digits, **QUICK)
    assert "\n" not in str(told.value)


def test_a_batch_larger_than_the_data_is_halved_from_what_there_is(digits: Data, room: dict[str, Any]) -> None:
    room["training"] = 70
    with pytest.raises(ConfigError, match=r"batch_size 100000 .* for 64: start"):
        train(model(), digits, **{**QUICK, "batch_size": 100_000})


def test_not_even_one(digits: Data, room: dict[str, Any]) -> None:
    room["training"] = 0
    with pytest.raises(ConfigError, match="nor, as tried, for a single example: take a smaller model"):
        train(model(), digits, **QUICK)
    with pytest.raises(ConfigError, match="does not do for a batch of 1 example: take a smaller model"):
        train(model(), digits, auto_batch=True, **QUICK)
    room["training"] = 1
    with pytest.raises(ConfigError, match="nor, as tried, for a single example"):  # it has no statistics
        train(model(normalisation="batch"), digits, **QUICK)


def test_other_errors_stay_what_they_are(digits: Data, room: dict[str, Any]) -> None:
    room |= {"training": 20, "error": RuntimeError("mat1 and mat2 shapes cannot be multiplied")}
    for auto in (False, True):
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            train(model(), digits, auto_batch=auto, **QUICK)


def test_memory_that_is_full_later_leaves_the_weights_of_the_last_step(
    digits: Data, room: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._step
    left: list[Tensor] = []

    def step(self: Trainer, batch: Any) -> None:
        if self.position.step == 3:
            left.extend(value.clone() for value in self.bare.state_dict().values())
            room["training"] = 8
        original(self, batch)

    monkeypatch.setattr(Trainer, "_step", step)
    learner = model(normalisation="batch")
    with pytest.raises(ConfigError, match="it does, as tried, for 8"):
        train(learner, digits, **QUICK)
    assert all(map(torch.equal, learner.state_dict().values(), left))


@pytest.mark.parametrize("kind", ["elbo", "factor"])
@pytest.mark.parametrize("net", [{}, {"normalisation": "batch", "activation": "elu"}])
def test_what_follows_is_as_with_that_batch_from_the_start(
    kind: str, net: dict[str, Any], digits: Data, room: dict[str, Any]
) -> None:
    def objective() -> Objective:
        torch.manual_seed(2)
        return Elbo() if kind == "elbo" else Factor(latent=2, discriminator_width=8, discriminator_depth=1)

    room["training"] = 31
    settings: dict[str, Any] = {**QUICK, "ema": 0.9, "warmup": 3, "decay": "cosine"}
    found, expected = model(**net), model(**net)
    history = train(found, digits, objective(), auto_batch=True, **settings)
    wanted = train(expected, digits, objective(), **{**settings, "batch_size": 16})
    assert history["step"] == [8, 16]
    for name in wanted.keys() - {"seconds", "epoch_seconds", "images_per_second"}:
        assert history[name] == wanted[name]
    for name, value in expected.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])


def test_a_run_keeps_the_batch_and_is_resumed_with_it(
    tmp_path: Path, tiny: Tiny, same_runs: SameRuns, room: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    room["training"] = 17
    whole = fit(tiny(train={"batch_size": 16, "warmup_share": 0.5}), tmp_path / "whole", quiet=True)
    original = Trainer._step

    def step(self: Trainer, batch: Any) -> None:
        original(self, batch)
        self.stop.requested = self.position.step == 5

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(train={"auto_batch": True, "warmup_share": 0.5}), tmp_path / "parts", quiet=True)
    room["training"] = 10**9  # another machine
    resumed = resume(tmp_path / "parts", quiet=True)
    same_runs(resumed, whole)
    assert resumed.config.train == whole.config.train.model_copy(update={"auto_batch": True})
    assert whole.config.train.batch_size == 16


def test_an_objective_that_compares_codes_needs_two(tmp_path: Path, tiny: Tiny, room: dict[str, Any]) -> None:
    room["training"] = 1
    with pytest.raises(ConfigError, match="compares the codes of a batch: batch_size 2 a device or more"):
        fit(tiny(train={"auto_batch": True}, objective={"kind": "mmd"}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_validation_goes_in_smaller_batches(
    digits: Data, room: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = train(model(), digits, **QUICK)
    room["validation"] = 40
    found = train(model(), digits, **{**QUICK, "quiet": False})
    assert found["train/elbo"] == wanted["train/elbo"]
    assert found["valid/elbo"] == pytest.approx(wanted["valid/elbo"], rel=2e-2)
    assert "validation batch that large: 32 at once" in capsys.readouterr().err


def test_validation_that_takes_no_three(digits: Data, room: dict[str, Any]) -> None:
    room["validation"] = 2
    with pytest.raises(ConfigError, match="memory does not do"):
        train(model(), digits, **QUICK)


def test_it_is_for_one_device() -> None:
    with pytest.raises(ConfigError, match="auto_batch tries batches on one device"):
        TrainConfig(auto_batch=True, devices=2)


LIMITED = """
import resource, sys
import torch
torch.set_num_threads(1)
from jensen.autoencoders import VAE
from jensen.config import NetConfig
from jensen.data import load_data
from jensen.training import train

class Large(VAE):
    def forward(self, x, *given, **known):
        room = torch.empty(len(x), 2**18)  # a megabyte an example, of which nothing is ever touched
        output = super().forward(x, *given, **known)
        del room
        return output

def run(**settings):
    torch.manual_seed(1)
    model = Large((1, 8, 8), 2, net=NetConfig(width=8), likelihood="bernoulli")
    return train(model, load_data("digits", limit=512), epochs=1, quiet=True, accelerator="cpu", **settings)

run(batch_size=8)  # what is loaded only when it is used
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, used + 200 * 2**20))
print(run(batch_size=512, auto_batch=sys.argv[1] == "auto")["step"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the address space")
@pytest.mark.parametrize("how", ["auto", pytest.param("told", marks=pytest.mark.soak)])
def test_an_allocator_that_really_fails(how: str) -> None:
    found = subprocess.run([sys.executable, "-c", LIMITED, how], capture_output=True, text=True, timeout=120)
    if how == "told":
        assert found.returncode == 1
        last = found.stderr.strip().splitlines()[-1]
        assert "memory does not do for batch_size 512" in last
        assert "it does, as tried, for 128: start" in last
    else:
        assert found.returncode == 0, found.stderr
        assert found.stdout.strip() == "[4]"
