"""Deep VAEs: the comparison of Sønderby et al. 2016 on MNIST and OMNIGLOT, NVAE, and a small colour set.

Models of one data set have the same batch, optimiser, epochs and seed. BN is batch normalisation, WU a KL weight that
rises linearly from 0 to 1 over a tenth of the training. MNIST is binarised anew in every epoch, the test images once;
so is OMNIGLOT, in the reduction of `jensen data` (its numbers do not compare with the papers', their order may). The
bound with 5,000 importance samples is of 1,000 test images, spread evenly over all (the first ones of MNIST are
easier) and the same for all models; its Monte Carlo error is had from two halves of the samples. KL and active units
(whose mean KL is above 0.01 nats, as in the paper) are of all test images. The colour set is the first thousands of
CIFAR-10 after JPEG compression, in bits per dimension.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.mnist import TEST_SEED, say
from benchmarks.report import FILE_WIDTH, Machine, Report, Row, command_line, parser, row_of
from benchmarks.vqvae import trained
from jensen.autoencoders import NeuralModel
from jensen.config import Config, DataConfig, ModelConfig, NetConfig, ObjectiveConfig, Schedule, TrainConfig
from jensen.data import Data, load_data
from jensen.data.transform import binarise
from jensen.metrics import importance_weighted_log_likelihood
from jensen.metrics.levels import level_uses
from jensen.training import Run

NAME = "hierarchy"
FIVE = ("64@512", "32@256", "16@128", "8@64", "4@32")
PUBLISHED = {"mnist": {"LVAE-5": 82.12, "LVAE-5 long": 81.74, "NVAE small": 78.01}}
"""nats, 5,000 samples (Sønderby et al. 2016, 2,000 epochs); of NVAE 1,000 samples and its full size"""
PASS = 84.0
IMAGES_AT_ONCE = 100
WARM_UP = 0.1
BATCH, LR, EMA = 256, 2e-3, 0.998
COLOUR = "cifar10-subset"


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    epochs: dict[str, int]
    """by data set, and of single models"""
    limit: int | None = None
    images: int = 1_000
    samples: int = 5_000
    test: int | None = None


FULL = Sizes({"mnist": 40, "omniglot": 30, COLOUR: 3, "LVAE-5 long": 400, "NVAE small": 6})
QUICK = Sizes({"mnist": 2, "omniglot": 2, COLOUR: 1, "LVAE-5 long": 2, "NVAE small": 1}, 1_000, 20, 50, 200)


def dense(kind: str, scales: Sequence[str] = FIVE, *, normalised: bool = True) -> ModelConfig:
    """Fully connected, as in the paper."""
    net = NetConfig(kind="mlp", activation="leaky-relu", normalisation="batch" if normalised else "none")
    return ModelConfig.model_validate({"kind": kind, "scales": tuple(scales), "net": net})


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    model: ModelConfig
    warm_up: bool = True
    train: dict[str, Any] = field(default_factory=dict)
    objective: str = "elbo"


FEW = 0.98  # averages over fewer steps, where there are few
NVAE_TRAIN: dict[str, Any] = {"optimiser": "adamax", "lr": 1e-2, "channels_last": True, "batch_size": 64}
CELLS = NetConfig(kind="cells", depth=1)
LOGISTIC = {"likelihood": "discretised-logistic-mixture"}
CASES: dict[str, dict[str, Case]] = {
    "mnist": {
        "VAE": Case(dense("hvae", FIVE[:1], normalised=False), warm_up=False),
        "HVAE-5": Case(dense("hvae", normalised=False), warm_up=False),
        "HVAE-5+BN": Case(dense("hvae"), warm_up=False),
        "HVAE-5+BN+WU": Case(dense("hvae")),
        "LVAE-2": Case(dense("ladder", FIVE[:2])),
        "LVAE-5": Case(dense("ladder")),
        "LVAE-5 long": Case(dense("ladder")),
        "NVAE small": Case(
            ModelConfig(kind="nvae", scales=("2x4@16", "2x8@32"), net=CELLS, stem=1, spectral=1e-2),
            train=NVAE_TRAIN,
            objective="balanced",
        ),
    },
    "omniglot": {"HVAE-5+BN+WU": Case(dense("hvae")), "LVAE-5": Case(dense("ladder"))},
    COLOUR: {
        "VAE": Case(
            ModelConfig.model_validate(
                {"kind": "vae", "latent": 128, "net": NetConfig(kind="conv", width=64)} | LOGISTIC
            ),
            train={"channels_last": True, "batch_size": 32, "ema": FEW},
        ),
        "LVAE": Case(
            ModelConfig.model_validate(
                {"kind": "ladder", "scales": ("2x8@64", "2x8@64"), "downsampling": 2, **LOGISTIC}
                | {"net": NetConfig(kind="conv", activation="silu", normalisation="batch")}
            ),
            train={"channels_last": True, "batch_size": 32, "ema": FEW},
        ),
        "NVAE": Case(
            ModelConfig.model_validate(
                {"kind": "nvae", "scales": ("2x8@64", "2x8@64"), "downsampling": 2, "spectral": 1e-2, **LOGISTIC}
                | {"net": CELLS}
            ),
            train=NVAE_TRAIN | {"batch_size": 32, "ema": FEW},
            objective="balanced",
        ),
    },
}


@dataclass(frozen=True)
class Score:
    """Of one model on test images, in nats unless said; levels are those of the paper, nearest the data first."""

    epochs: int
    minutes: float
    parameters: int
    elbo: float
    elbo_error: float
    log_likelihood: float
    log_likelihood_error: float
    """standard error over the images"""
    monte_carlo_error: float
    bits_per_dim: float
    kl_per_level: list[float]
    active_units: list[str]
    """of each level, with the number of units"""


@dataclass(frozen=True)
class Measured(Report):
    """A report with what was measured of every model, by data set."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def show(self, console: Console | None = None) -> None:
        """The models, and what every report has."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console.width = FILE_WIDTH
        for data, found in self.models.items():
            table = Table(title=f"{data}, test images", title_justify="left")
            for column in ("model", "epochs", "minutes", "ELBO", "log p(x)", "bits/dim", "KL by level", "active"):
                table.add_column(column, overflow="fold")
            for name, score in found.items():
                table.add_row(name, *_cells(score))
            console.print(table)
        super().show(console)


def _cells(score: dict[str, Any]) -> tuple[str, ...]:
    likelihood = (
        f"{score['log_likelihood']:.2f} ± {score['log_likelihood_error']:.2f} ({score['monte_carlo_error']:.3f})"
    )
    return (
        str(score["epochs"]),
        f"{score['minutes']:.1f}",
        f"{score['elbo']:.2f} ± {score['elbo_error']:.2f}",
        likelihood,
        f"{score['bits_per_dim']:.4f}",
        " ".join(f"{kl:.2f}" for kl in score["kl_per_level"]),
        " ".join(score["active_units"]),
    )


def configuration(data: str, name: str, case: Case, sizes: Sizes) -> Config:
    """The run of one model."""
    epochs = sizes.epochs.get(name, sizes.epochs[data])
    share = WARM_UP if case.objective == "elbo" else 0.3
    weight = Schedule(kind="linear", share=share) if case.warm_up else Schedule()
    settings = {"batch_size": BATCH, "lr": LR, "ema": EMA, "precision": "bf16", "decay": "cosine", "accelerator": "cpu"}
    return Config(
        data=DataConfig(
            name=data, transform="none" if data == COLOUR else "binarise", limit=sizes.limit, validation=1 / 60
        ),
        model=case.model,
        objective=ObjectiveConfig.model_validate({"kind": case.objective, "kl_weight": weight}),
        train=TrainConfig(**{**settings, **case.train, "epochs": epochs}),
    )


def test_images(data: Data, name: str, count: int | None) -> Tensor:
    """Test images, (n, *shape): grey levels, or binarised once."""
    x = data.test.batch(torch.arange(len(data.test))).x
    x = x if name == COLOUR else binarise(x, torch.Generator().manual_seed(TEST_SEED))
    return x[:count]


@torch.no_grad()
def score(run: Run, x: Tensor, sizes: Sizes) -> Score:
    """Of a run's best weights; the importance-weighted bound of `sizes.images` of x, spread evenly.

    Args:
        run: the run.
        x: test images.
        sizes: images and samples.
    """
    model = run.model().eval()
    torch.manual_seed(7)
    bounds, kl = [], []
    for part in x.split(500):
        output = model(part)
        bounds.append((output.log_likelihood() - output.rate()).mean(0).double())
        kl.append(torch.cat([level.kl().mean(0).flatten(1) for level in output.levels], 1))
    some = x[:: max(1, len(x) // sizes.images)][: sizes.images]
    halves = torch.stack([_bound(model, some, sizes.samples // 2) for _ in range(2)])
    weighted = torch.logsumexp(halves, 0) - math.log(2)
    elbo = torch.cat(bounds)
    history = run.history()
    uses = level_uses(torch.cat(kl).double().mean(0), [level.z.shape[2:] for level in output.levels])[::-1]
    best = weighted.mean().item() if len(weighted) else elbo.mean().item()
    return Score(
        epochs=len(history["epoch"]),
        minutes=history["seconds"][-1] / 60,
        parameters=sum(p.numel() for p in model.parameters()),
        elbo=elbo.mean().item(),
        elbo_error=_error(elbo),
        log_likelihood=best,
        log_likelihood_error=_error(weighted),
        monte_carlo_error=(halves[0] - halves[1]).square().mean().div(4 * len(weighted)).sqrt().item(),
        bits_per_dim=-best / x[0].numel() / math.log(2),
        kl_per_level=[use.kl for use in uses],
        active_units=[f"{use.active_units}/{use.latent}" for use in uses],
    )


def _bound(model: NeuralModel, x: Tensor, samples: int) -> Tensor:
    parts = [importance_weighted_log_likelihood(model, part, samples=samples) for part in x.split(IMAGES_AT_ONCE)]
    return torch.cat(parts)


def _error(values: Tensor) -> float:
    return (values.std() / math.sqrt(len(values))).item()


def rows(data: str, scores: dict[str, Score]) -> list[Row]:
    """Beside published numbers, and the LVAE that is to pass -84."""
    found = []
    for name, published in PUBLISHED.get(data, {}).items():
        if name in scores:
            ours = -scores[name].log_likelihood
            note = "the published one was trained for longer"
            found.append(
                row_of(f"{data} {name}", ours, published, "published", "nats", higher_is_better=False, note=note)
            )
    if "LVAE-5 long" in scores and data == "mnist":
        ours = -scores["LVAE-5 long"].log_likelihood
        found.append(row_of("mnist LVAE-5 long", ours, PASS, "asked", "nats", target=1.0, higher_is_better=False))
    return found


def measure(chosen: Sequence[str], sizes: Sizes, folder: Path) -> dict[str, dict[str, Score]]:
    """Scores by data set and model.

    Args:
        chosen: ``DATA`` or ``DATA/MODEL``; nothing: all.
        sizes: how much is done.
        folder: of the runs.
    """
    found: dict[str, dict[str, Score]] = {}
    for data_name, cases in CASES.items():
        wanted = {
            name: case
            for name, case in cases.items()
            if not chosen or data_name in chosen or f"{data_name}/{name}" in chosen
        }
        if not wanted:
            continue
        data = load_data(data_name, transform="none", validation=1 / 60)
        x = test_images(data, data_name, sizes.test)
        for name, case in wanted.items():
            label = f"{data_name}/{name}"
            run = trained(label, configuration(data_name, name, case, sizes), folder / data_name / name)
            say(f"{label}: measuring")
            found.setdefault(data_name, {})[name] = made = score(run, x, sizes)
            say(f"{label}: {made}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print, and write the JSON."""
    options = parser(NAME, __doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="DATA[/MODEL]", help="these alone")
    options.add_argument("--images", type=int, help="test images for the importance-weighted bound, in place of 1,000")
    options.add_argument("--samples", type=int, help="importance samples, in place of 5,000")
    options.add_argument("--keep", type=Path, metavar="DIR", help="keep runs there, and go on with those there are")
    given: argparse.Namespace = options.parse_args(arguments)
    sizes = QUICK if given.quick else FULL
    sizes = replace(sizes, images=given.images or sizes.images, samples=given.samples or sizes.samples)
    with TemporaryDirectory() as temporary:
        found = measure(given.only, sizes, given.keep or Path(temporary))
    report = Measured(
        NAME,
        Machine.here(command_line(NAME, arguments)),
        given.quick,
        [row for data, scores in found.items() for row in rows(data, scores)],
        (
            f"log p(x): bound with {sizes.samples:,} importance samples of {sizes.images:,} test images, ± "
            "standard error over the images (in brackets the Monte Carlo error).",
        ),
        {data: {name: vars(score) for name, score in scores.items()} for data, scores in found.items()},
    )
    report.show()
    if given.json is not None:
        report.write(given.json)


if __name__ == "__main__":
    main(sys.argv[1:])
