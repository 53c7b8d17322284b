"""VQ-VAE on MNIST and OMNIGLOT: bits, codes in use with and without revival, samples of the prior and of uniform codes.

Every model has the same network, batch, optimiser, seed and epochs; only the care for the codebook differs. The
likelihood is a discretised logistic over the 256 grey levels, so that bits per dimension are those of a lossless code:
what the codes cost and what the decoder leaves unsaid. The prior is a gated PixelCNN over the codes of the first model.
Fréchet and kernel distances are between features of test images and of samples, by a classifier trained here on the
same data; those of validation images say how small they can be. OMNIGLOT is the reduction in `jensen data`,
its classes are the 50 alphabets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.mnist import say
from benchmarks.report import FILE_WIDTH, Machine, Report, Row, command_line, parser, row_of
from jensen.autoencoders import VQVAE
from jensen.config import (
    AutoregressiveConfig,
    Config,
    DataConfig,
    ModelConfig,
    NetConfig,
    PriorConfig,
    QuantiserConfig,
    TrainConfig,
)
from jensen.data import Data
from jensen.metrics import evaluate
from jensen.metrics.classifier import fit_classifier
from jensen.metrics.codes import code_usage
from jensen.metrics.quality import generation_quality
from jensen.plots import class_grid, save
from jensen.plots import code_usage as usage_figure
from jensen.training import Run, fit, fit_prior, resume, resume_prior

NAME = "vqvae"
DATA = ("mnist", "omniglot")
VARIANTS = {
    "k-means and revival": QuantiserConfig(),
    "k-means, no revival": QuantiserConfig(revival=0.0),
    "random start, no revival": QuantiserConfig(revival=0.0, initial="random"),
}
BATCH, LR, PRIOR_LR = 128, 1e-3, 1e-3
PICTURED = 12
SHOWN = ("frechet", "kernel", "kernel_error", "confidence", "entropy")
FAST: dict[str, Any] = {
    "batch_size": BATCH,
    "decay": "cosine",
    "accelerator": "cpu",
    "precision": "bf16",
    "channels_last": True,
}


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    epochs: int
    prior_epochs: int
    width: int
    limit: int | None = None
    test: int | None = None
    samples: int = 5_000
    classifier_epochs: int = 3


@dataclass(frozen=True)
class Score:
    """One model on the test images; bits per dimension unless said."""

    minutes: float
    bits_uniform: float
    bits_learned: float | None
    code_uniform: float | None
    code_learned: float | None
    distortion: float
    """nats an image"""
    perplexity: float
    used: float
    """share of the codes"""


@dataclass(frozen=True)
class Measured(Report):
    """A report with all that was measured, by data set and model."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)

    def show(self, console: Console | None = None) -> None:
        """The models, the quality of samples, and what every report has."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console.width = FILE_WIDTH
        for title, found in (("models, test images", self.models), ("samples", self.quality)):
            table = Table(title=title, title_justify="left")
            table.add_column("")
            columns = list(next(iter(found.values()), {}))
            for column in columns:
                table.add_column(column.replace("_", " "), justify="right")
            for name, values in found.items():
                table.add_row(name, *(_short(values[column]) for column in columns))
            console.print(table)
        super().show(console)


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def configuration(data: str, quantiser: QuantiserConfig, sizes: Sizes) -> Config:
    """The run of one model."""
    return Config(
        data=DataConfig(name=data, transform="none", limit=sizes.limit),
        model=ModelConfig(
            kind="vqvae",
            likelihood="discretised-logistic",
            quantiser=quantiser,
            net=NetConfig(kind="conv", width=sizes.width),
        ),
        train=TrainConfig(**FAST, epochs=sizes.epochs, lr=LR),
    )


def trained(name: str, config: Config, path: Path) -> Run:
    """The run at `path`: made, gone on with, or as it is if it is finished."""
    if not (path / "config.yaml").exists():
        say(f"{name}: training for {config.train.epochs} epochs in {path}")
        return fit(config, path, quiet=True)
    run = Run.open(path)
    if not run.finished:
        say(f"{name}: going on with {path}")
        return resume(path, quiet=True)
    return run


def with_prior(name: str, run: Run, sizes: Sizes) -> None:
    """Train a prior over the codes of a run, unless it has one."""
    if run.prior is not None:
        if not run.prior.finished:
            resume_prior(run, quiet=True)
        return
    say(f"{name}: training the prior for {sizes.prior_epochs} epochs")
    config = PriorConfig(
        net=AutoregressiveConfig(width=64, depth=8),
        train=TrainConfig(**FAST, epochs=sizes.prior_epochs, lr=PRIOR_LR, clip=1.0),
    )
    fit_prior(run, config, quiet=True)


def score(run: Run, data: Data, sizes: Sizes) -> Score:
    """Of a run's best weights."""
    model = run.model()
    assert isinstance(model, VQVAE)
    test = _first(data, sizes.test)
    usage = code_usage(model, test)
    learned = None if model.code_prior is None else evaluate(model, test, samples=1)
    plain = run.model(prior=False)
    uniform = evaluate(plain, test, samples=1)
    assert uniform.bits_per_dim is not None
    assert uniform.distortion is not None
    return Score(
        minutes=run.history()["seconds"][-1] / 60,
        bits_uniform=uniform.bits_per_dim,
        bits_learned=None if learned is None else learned.bits_per_dim,
        code_uniform=usage.bits_per_dim_uniform,
        code_learned=usage.bits_per_dim_learned,
        distortion=uniform.distortion,
        perplexity=usage.levels[0].perplexity,
        used=usage.levels[0].share,
    )


def _first(data: Data, count: int | None) -> Any:
    from dataclasses import replace

    return data.test if count is None else replace(data.test, indices=data.test.indices[:count])


@torch.no_grad()
def drawn(model: VQVAE, count: int, prior: bool, seed: int = 0) -> Tensor:
    """New images (count, C, H, W): of the learned prior, or of uniform codes."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        parts = []
        for done in range(0, count, 500):
            size = min(500, count - done)
            codes = torch.randint(model.code_levels, (size, model.latent))
            parts.append(model.sample(size) if prior else model.decode(codes))
    return torch.cat(parts)


def sampled(name: str, run: Run, data: Data, sizes: Sizes, folder: Path) -> tuple[dict[str, dict[str, Any]], Tensor]:
    """Quality of the prior's samples, of uniform codes, of reconstructions; and a picture."""
    say(f"{name}: training a classifier")
    classifier = fit_classifier(data, epochs=sizes.classifier_epochs, seed=0, quiet=True, cache=folder)
    say(f"{name}: the classifier has {classifier.accuracy:.1%} of the test images right")
    model = run.model()
    assert isinstance(model, VQVAE)
    prior, uniform = drawn(model, sizes.samples, True), drawn(model, sizes.samples, False)
    count = min(sizes.samples, len(data.test))
    test = data.test.batch(torch.arange(count)).x
    images = {"prior": prior, "uniform codes": uniform, "reconstructions": _reconstructed(model, test)}
    found = {}
    for kind, values in images.items():
        quality = generation_quality(values, data, classifier)
        found[f"{name}, {kind}"] = {key: getattr(quality, key) for key in SHOWN}
    found[f"{name}, validation images"] = {key: getattr(quality.real, key) for key in SHOWN}
    rows = torch.cat([test[: 2 * PICTURED], prior[: 2 * PICTURED], uniform[: 2 * PICTURED]])
    return found, rows.unflatten(0, (6, PICTURED))


def _reconstructed(model: VQVAE, x: Tensor) -> Tensor:
    return torch.cat([model.reconstruct(part) for part in x.split(500)])


def rows_of(data: str, models: dict[str, Score], quality: dict[str, dict[str, Any]]) -> list[Row]:
    """What can be set side by side."""
    first, *others = models
    best = models[first]
    rows = [row_of(f"{data}: codes in use", best.used, models[name].used, name, "share of 512") for name in others]
    rows += [row_of(f"{data}: perplexity", best.perplexity, models[name].perplexity, name, "codes") for name in others]
    if best.bits_learned is not None and best.code_learned is not None and best.code_uniform is not None:
        pairs = [("bits of the image", best.bits_learned, best.bits_uniform)]
        pairs.append(("bits of the code", best.code_learned, best.code_uniform))
        for what, learned, uniform in pairs:
            rows.append(
                row_of(f"{data}: {what}", learned, uniform, "uniform prior", "bits/dim", higher_is_better=False)
            )
        prior, uniform_codes = (quality[f"{data}, {kind}"] for kind in ("prior", "uniform codes"))
        for key, unit in (("frechet", "Fréchet"), ("kernel", "kernel")):
            ours, theirs = max(prior[key], 1e-9), max(uniform_codes[key], 1e-9)
            rows.append(
                row_of(f"{data}: samples", ours, theirs, "uniform codes", f"{unit} distance", higher_is_better=False)
            )
    return rows


def run_all(names: Sequence[str], sizes: Sizes, folder: Path, pictures: Path | None) -> Measured:
    """Every model of every data set."""
    models: dict[str, dict[str, Any]] = {}
    quality: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for name in names:
        scores = {}
        for variant, quantiser in VARIANTS.items():
            path = folder / name / variant.replace(", ", "-").replace(" ", "-")
            run = trained(f"{name}, {variant}", configuration(name, quantiser, sizes), path)
            if variant == next(iter(VARIANTS)):
                with_prior(name, run, sizes)
                found, tiles = sampled(name, run, run.data(), sizes, folder)
                quality |= found
                if pictures is not None:
                    _draw(name, tiles, pictures)
            scores[variant] = score(run, run.data(), sizes)
            models[f"{name}, {variant}"] = asdict(scores[variant])
        rows += rows_of(name, scores, quality)
        if pictures is not None:
            _draw_usage(name, folder, sizes, pictures)
    notes = [
        f"{sizes.epochs} epochs of batches of {BATCH}, width {sizes.width}, K = 512, D = 64; the prior "
        f"{sizes.prior_epochs} epochs; distances from {sizes.samples:,} samples."
    ]
    return Measured(NAME, Machine.here(command_line(NAME)), sizes.limit is not None, rows, notes, models, quality)


def _draw(name: str, tiles: Tensor, pictures: Path) -> None:
    names = ("test images", "", "learned prior", "", "uniform codes", "")
    save(class_grid(tiles, names, title=f"{name}: samples of the codes' prior"), pictures / f"vqvae-{name}.png")


def _draw_usage(name: str, folder: Path, sizes: Sizes, pictures: Path) -> None:
    counts = {}
    for variant in VARIANTS:
        run = Run.open(folder / name / variant.replace(", ", "-").replace(" ", "-"))
        counts[variant] = code_usage(run.model(), _first(run.data(), sizes.test)).levels[0].counts
    save(usage_figure(counts, title=f"{name}: how often each code is used"), pictures / f"vqvae-usage-{name}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _parser().parse_args(arguments)
    sizes = Sizes(options.epochs, options.prior_epochs, options.width)
    if options.quick:
        sizes = Sizes(1, 1, 16, limit=512, test=256, samples=200, classifier_epochs=1)
    names = tuple(options.data or (DATA[:1] if options.quick else DATA))
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run_all(names, sizes, folder, options.pictures)
    report.show()
    if options.json is not None:
        report.write(options.json)


def _parser() -> argparse.ArgumentParser:
    result = parser(NAME, __doc__)
    result.add_argument("--epochs", type=int, default=10, help="of each model")
    result.add_argument("--prior-epochs", type=int, default=20, help="of the prior")
    result.add_argument("--width", type=int, default=64, help="channels of the network; the paper's has 256")
    result.add_argument("--data", action="append", choices=DATA, help="one data set only; may be given again")
    result.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs there, and go on with what is there")
    result.add_argument("--pictures", type=Path, metavar="DIR", help="also draw samples and use of the codes there")
    return result


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
