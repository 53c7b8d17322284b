"""Deep VAEs train without a NaN: in float32 and bf16, on data that are hard on them, at rates that are too large."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders import NVAE, DeepVAE, HierarchicalVAE, LadderVAE
from jensen.autoencoders.hierarchy import gaussian
from jensen.autoencoders.ladder import precision_weighted
from jensen.autoencoders.nvae import residual_normal
from jensen.bound import Level, Output
from jensen.config import NetConfig, Schedule
from jensen.data import Data, load_data
from jensen.objectives import Balanced, Context, Elbo
from jensen.training import train

MODELS: dict[str, type[DeepVAE]] = {"hvae": HierarchicalVAE, "ladder": LadderVAE, "nvae": NVAE}
SCALES = {"mlp": ("8@128", "4@64"), "conv": ("2@16", "2@16"), "cells": ("2x2@8",)}
EVERY = list(product(MODELS, SCALES))
NATURAL = [("hvae", "mlp"), ("ladder", "mlp"), ("nvae", "cells")]
WARM_UP = Schedule(kind="linear", share=0.3)
ADAM = {"lr": 1e-3}
ADAMAX = {"optimiser": "adamax", "lr": 1e-2, "decay": "cosine", "lr_min": 1e-4}


def deep(
    kind: str, net: str, shape: tuple[int, ...] = (1, 8, 8), scales: Sequence[str] | None = None, **choices: Any
) -> DeepVAE:
    """A small model with batch normalisation."""
    norm = choices.pop("norm", "batch")
    # Cells have norms and nonlinearities of their own.
    own = {"depth": 1} if net == "cells" else {"activation": "leaky-relu", "normalisation": norm}
    config = NetConfig.model_validate({"kind": net, **own})
    if net != "mlp":
        choices = {"downsampling": 2, "stem": 1, **choices}
    return MODELS[kind](shape, scales or SCALES[net], net=config, **choices)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", transform="binarise")


@pytest.fixture(scope="module")
def reference(digits: Data) -> float:
    """Mean log-likelihood of validation digits under independent pixels, whose means are those of training digits."""
    draws = [digits.train.batch(torch.arange(len(digits.train))).x for _ in range(20)]
    mean = torch.stack(draws).mean((0, 1)).clamp(0.01, 0.99)
    x = digits.valid.batch(torch.arange(len(digits.valid))).x
    return float((x * mean.log() + (1 - x) * (1 - mean).log()).flatten(1).sum(1).mean())


def trained(kind: str, net: str, seed: int, digits: Data, **settings: Any) -> dict[str, list[float]]:
    """The history of a training as a user would set it up: Adam, or of cells what NVAE's authors have."""
    torch.manual_seed(seed)
    own = {"spectral": 1e-2} if net == "cells" else {}
    settings = {"batch_size": 64, "accelerator": "cpu", **(ADAMAX if net == "cells" else ADAM), **settings}
    objective = (Elbo if kind == "hvae" else Balanced)(kl_weight=WARM_UP)  # terms of an hvae are no KLs to balance
    return train(deep(kind, net, **own), digits, objective, seed=seed, quiet=True, **settings)


def require_climbed(history: dict[str, list[float]], at_least: float) -> None:
    for name, values in history.items():
        assert all(math.isfinite(value) for value in values), name
    kls = {name: values for name, values in history.items() if name.startswith("valid/kl_level_")}
    assert len(kls) == 2
    assert min(min(values) for values in kls.values()) > -0.5  # estimated at draws, of hvae below its top level
    assert history["valid/elbo"][-1] > at_least
    # The rate is that of the levels.
    assert sum(values[-1] for values in kls.values()) == pytest.approx(history["valid/rate"][-1], rel=1e-4, abs=1e-4)


def goal(net: str, reference: float) -> float:
    """Better than independent pixels; for nets that begin slowly, half the way there from pixels of mean 1/2."""
    return reference + 0.5 if net == "mlp" else (reference - 64 * math.log(2)) / 2


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", MODELS)
def test_it_trains_without_a_nan(kind: str, precision: str, seed: int, digits: Data, reference: float) -> None:
    history = trained(kind, "mlp", seed, digits, precision=precision, epochs=8)  # of 19 steps
    require_climbed(history, goal("mlp", reference))


@pytest.mark.parametrize(("precision", "seed"), [("float32", 0), ("bf16", 1), ("bf16", 2)])
def test_cells_train_without_a_nan(precision: str, seed: int, digits: Data, reference: float) -> None:
    require_climbed(trained("nvae", "cells", seed, digits, precision=precision, epochs=5), goal("cells", reference))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("kind", "net"), EVERY)
def test_every_net_trains_long_without_a_nan(
    kind: str, net: str, precision: str, seed: int, digits: Data, reference: float
) -> None:
    history = trained(kind, net, seed, digits, precision=precision, epochs=10 if net == "cells" else 20)
    require_climbed(history, goal(net, reference))


def climb(
    model: DeepVAE, x: Tensor, *, steps: int = 25, lr: float = 1e-3, batch: int = 32, bf16: bool = False
) -> list[float]:
    """Losses of a training without any of the loop's nets to catch it: loss and every gradient have to be finite."""
    optimiser = torch.optim.Adam(model.parameters(), lr)
    objective = Elbo(kl_weight=Schedule(kind="linear", steps=max(1, steps // 3)))
    losses = []
    model.train()
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = model(x[torch.randint(len(x), (batch,))])
            loss = objective(output, Context(step)).value
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        assert math.isfinite(losses[-1]), step
        for name, weight in model.named_parameters():
            assert weight.grad is None or bool(weight.grad.isfinite().all()), (step, name)
        optimiser.step()
    return losses


def bound(model: DeepVAE, x: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        output = model(x)
        return float((output.log_likelihood() - output.rate()).mean())


def images(n: int = 64) -> Tensor:
    """Squares of 8x8 pixels somewhere on images of them, with noise."""
    corner = torch.randint(0, 5, (n, 2, 1))
    places = torch.arange(8)
    inside = (places >= corner) & (places < corner + 4)
    square = (inside[:, 0, :, None] & inside[:, 1, None, :]).float()
    return (square - torch.rand(n, 8, 8).lt(0.05).float()).abs()[:, None]


HARD: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "zeros": ("bernoulli", lambda: torch.zeros(40, 1, 8, 8)),
    "ones": ("discretised-logistic", lambda: torch.ones(40, 1, 8, 8)),
    "grey": ("gaussian-learned", lambda: torch.full((40, 1, 8, 8), 0.5)),
    "one image": ("gaussian-per-pixel", lambda: images(1).expand(40, 1, 8, 8)),
}


@pytest.mark.parametrize("data", HARD)
@pytest.mark.parametrize("kind", MODELS)
def test_data_that_are_all_the_same(kind: str, data: str) -> None:
    """Batch normalisation sees no variance, and a learned sigma wants to vanish."""
    likelihood, make = HARD[data]
    x = make()
    model = deep(kind, "mlp", scales=("3@16", "2@8"), likelihood=likelihood, levels=3)
    losses = climb(model, x, lr=1e-2, steps=40, bf16=data in ("ones", "grey"))
    assert losses[-1] < losses[0]
    assert math.isfinite(bound(model, x))
    assert bool(model.sample(4).isfinite().all())


@pytest.mark.parametrize(("kind", "net"), EVERY)
def test_two_data_a_batch(kind: str, net: str) -> None:
    x = images(2)
    model = deep(kind, net)
    climb(model, x, batch=2, lr=1e-2, steps=10)
    assert math.isfinite(bound(model, x))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("kind", "net"), [("hvae", "mlp"), ("ladder", "mlp"), ("nvae", "mlp"), ("ladder", "conv")])
def test_a_learning_rate_that_is_too_large(kind: str, net: str, norm: str) -> None:
    x = images()
    model = deep(kind, net, norm=norm)
    losses = climb(model, x, lr=3e-2, steps=30, bf16=True)
    if norm == "batch":  # without it the loss of convolutions jumps about at this rate, but stays finite
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("kind", MODELS)
def test_tables_of_huge_values(kind: str, norm: str) -> None:
    """Unscaled columns around 30,000: log-likelihoods of minus billions, and heads in the flat of their clamps."""
    x = 1e4 * torch.randn(200, 5) + 3e4
    model = deep(kind, "mlp", (5,), ("4@16", "3@8"), likelihood="gaussian-learned", norm=norm)
    before = bound(model, x)
    losses = climb(model, x, lr=3e-2, steps=40)
    assert losses[-1] < losses[0]
    assert bound(model, x) > before
    assert bool(model.sample(10).isfinite().all())


@pytest.mark.parametrize("kind", MODELS)
def test_a_tiny_sigma_in_bf16(kind: str) -> None:
    x = torch.randn(100, 5)
    model = deep(kind, "mlp", (5,), ("4@16", "3@8"), likelihood="gaussian", sigma=1e-4, norm="none")
    losses = climb(model, x, steps=50, lr=1e-2, bf16=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("kind", "net", "scales"),
    [
        ("hvae", "mlp", ("24x2@16",)),
        ("ladder", "mlp", ("24x2@16",)),
        ("nvae", "mlp", ("24x2@16",)),
        ("ladder", "conv", ("16x2@8", "8x2@8")),
        ("nvae", "cells", ("16x2@8", "8x2@8")),
    ],
)
def test_many_groups(kind: str, net: str, scales: tuple[str, ...]) -> None:
    x = images()
    model = deep(kind, net, scales=scales, norm="none")
    assert len(model.level_shapes) == 24
    climb(model, x, lr=1e-2, steps=8 if net == "mlp" else 2, bf16=net == "conv")
    for temperature in (0.0, 1.0):
        assert bool(model.eval().sample(4, temperature).isfinite().all())


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("kind", MODELS)
def test_many_latents(kind: str, net: str) -> None:
    model, x = deep(kind, net, scales=("64@8", "64@8")), images()
    before = bound(model, x)
    climb(model, x, lr=1e-2, steps=20)
    assert bound(model, x) > before + 1


@pytest.mark.parametrize("likelihood", ["discretised-logistic", "discretised-logistic-mixture", "gaussian-per-pixel"])
@pytest.mark.parametrize(("kind", "net"), NATURAL)
def test_likelihoods_in_bf16(kind: str, net: str, likelihood: str) -> None:
    x = images()
    model = deep(kind, net, likelihood=likelihood, levels=2)
    losses = climb(model, x, lr=1e-2, steps=6 if net == "cells" else 25, bf16=True)
    assert losses[-1] < losses[0]


def parts(level: Level) -> dict[str, Tensor]:
    assert isinstance(level.posterior, Normal)
    assert isinstance(level.prior, Normal)
    q, p = level.posterior, level.prior
    return {"z": level.z, "q mean": q.loc, "q scale": q.scale, "p mean": p.loc, "p scale": p.scale}


@pytest.mark.parametrize(("kind", "net"), EVERY)
def test_the_bound_is_in_float32_under_autocast(kind: str, net: str) -> None:
    x, model = images(8), deep(kind, net, spectral=1e-2)
    seen: set[torch.dtype] = set()
    for step in model.way_down.steps[:-1]:  # the nets themselves work in bf16
        step.register_forward_hook(lambda _, __, state: seen.add(state.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x, samples=2)
        loss = Elbo()(output, Context())
        terms = {
            "log-likelihood": output.log_likelihood(),
            "rate": output.rate(),
            "sampled rate": output.rate(analytic=False),
            "loss": loss.value,
            "score": loss.score,
            **output.penalties,
            **model.report(output),
        }
    for level in output.levels:
        terms |= {**parts(level), "KL": level.kl(), "log q": level.log_q(), "log p": level.log_p()}
        assert {name for name, value in terms.items() if value.dtype != torch.float32} == set()
    assert torch.bfloat16 in seen
    assert_rate_as_in_float64(output, kind)


def assert_rate_as_in_float64(output: Output, kind: str) -> None:
    """KL = log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2 from the levels' parameters, in float64.

    Of hvae below its top level log q - log p at z, the prior there being told of that z.
    """
    expected = torch.zeros((), dtype=torch.float64)
    for place, level in enumerate(output.levels):
        of = {name: value.detach().double() for name, value in parts(level).items()}
        ratio = of["q scale"] / of["p scale"]
        if kind == "hvae" and place > 0:
            from_q, from_p = ((of["z"] - of[f"{by} mean"]) / of[f"{by} scale"] for by in "qp")
            each = -ratio.log() + 0.5 * (from_p.square() - from_q.square())
        else:
            distance = (of["q mean"] - of["p mean"]) / of["p scale"]
            each = -ratio.log() + 0.5 * (ratio.square() + distance.square() - 1)
        expected = expected + each.flatten(2).sum(2)
    torch.testing.assert_close(output.rate().double(), expected, rtol=1e-4, atol=1e-3)


FAR = torch.tensor([-1e30, -1e4, -50.0, -5.0, 0.0, 5.0, 50.0, 1e4, 1e30])


def test_scales_stay_within_their_clamp() -> None:
    raw = torch.stack([torch.zeros(9), FAR], 1).requires_grad_()
    scale = gaussian(raw).scale
    found = scale.detach()
    assert math.exp(-5.001) < float(found.min()) < 1.02 * math.exp(-5)
    assert 0.98 * math.exp(5) < float(found.max()) < math.exp(5.001)
    scale.log().sum().backward()
    assert raw.grad is not None
    assert bool(raw.grad.isfinite().all())
    assert float(raw.grad[4, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize("rule", [precision_weighted, residual_normal], ids=["ladder", "nvae"])
def test_posteriors_at_extreme_scales(rule: Callable[[Normal, Normal], Normal]) -> None:
    """Of every pair that the clamps let through; gradients too, against float64."""

    def kl_and_gradients(dtype: torch.dtype) -> tuple[Tensor, ...]:
        log_sigma = torch.tensor([-5.0, -2.5, 0.0, 2.5, 5.0], dtype=dtype)
        log_p, log_q = (each.clone().requires_grad_() for each in torch.meshgrid(log_sigma, log_sigma, indexing="ij"))
        mean = torch.full_like(log_p, 3.0).requires_grad_()
        prior = Normal(torch.full_like(mean, -2.0), log_p.exp())
        kl = torch.distributions.kl_divergence(rule(Normal(mean, log_q.exp()), prior), prior)
        return kl, *torch.autograd.grad(kl.sum(), [log_p, log_q, mean])

    wide = kl_and_gradients(torch.float64)
    size = 1 + wide[0].detach()  # where a gradient is a small difference, of terms of this size
    for found, expected in zip(kl_and_gradients(torch.float32), wide, strict=True):
        assert bool(found.isfinite().all())
        assert float(((found - expected).detach().abs() / size).max()) < 1e-4


@pytest.mark.parametrize(("kind", "net"), EVERY)
def test_heads_in_the_flat_of_their_clamps(kind: str, net: str) -> None:
    """Weights of the heads times 10^4: scales at both ends, means far off, and still a finite bound and gradient."""
    model = deep(kind, net)
    with torch.no_grad():
        for weight in [*model.way_up.heads.parameters(), *model.way_down.heads.parameters()]:
            weight.mul_(1e4)
    climb(model, images(), steps=3)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretised-logistic-mixture"])
@pytest.mark.parametrize(("kind", "net"), EVERY)
def test_cold_samples_are_images(kind: str, net: str, likelihood: str) -> None:
    """With and without readjusted batch normalisation; of a new model, and after one step."""
    model = deep(kind, net, likelihood=likelihood, levels=2)
    for steps in (0, 1):
        climb(model, images(), steps=steps, lr=1e-2)
        model.eval()
        for temperature in (0.0, 0.3, 1.0):
            samples = [model.sample(3, temperature)]
            with model.readjusted(temperature, n=4, batches=2):
                samples.append(model.sample(3, temperature))
            for x in samples:
                assert x.shape == (3, 1, 8, 8)
                assert bool(x.isfinite().all())
                assert 0 <= float(x.min()) <= float(x.max()) <= 1
