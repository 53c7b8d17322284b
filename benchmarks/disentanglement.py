"""Disentanglement on generated dSprites: five objectives at equal time, a trade-off curve, and speed against pythae.

Quality: VAE, beta-VAE, capacity control, beta-TCVAE and FactorVAE with the same network, batch, optimiser and minutes.
ELBO, distortion and rate are of test images; the metrics have the posterior means of test images; MI, TC and
dimension-wise KL are under the aggregate posterior of the whole training split. Speed: see `disentanglement_speed`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import disentanglement_quality as quality
from benchmarks.disentanglement_curve import BETAS, QUICK_BETAS, Point, curve, figure
from benchmarks.disentanglement_quality import MODELS, Score, Settings, Trained
from benchmarks.disentanglement_speed import CASES, QUICK_REPEATS, REPEATS, agreement, quick_cases, speed_rows
from benchmarks.mnist import say
from benchmarks.report import FILE_WIDTH, Machine, Report, Row, command_line, parser, row_of
from jensen.data.dsprites import fetch_dsprites
from jensen.errors import JensenError
from jensen.plots.files import save

NAME = "disentanglement"
PARTS = ("quality", "curve", "speed")
CURVE_SHARE = 1 / 6  # of a model's minutes, for each point of the curve
CURVE_IMAGES = 65_536  # training images of the curve: their aggregate posterior takes seconds, not minutes
PUBLISHED = {
    ("beta-TCVAE", "mig_without_shape"): (0.50, "Chen et al. 2018 (about; shape not counted)"),
    ("beta-VAE", "beta_vae"): (0.9923, "Higgins et al. 2017"),
}
WORDS = {"mig_without_shape": "MIG without shape", "beta_vae": "beta-VAE score"}
COMPARED = {"mig": ("MIG", True), "total_correlation": ("total correlation", False)}


@dataclass(frozen=True)
class Disentangled(Report):
    """A report with the models and the points of the curve."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def show(self, console: Console | None = None) -> None:
        """The models, the curve, and what every report has."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console.width = FILE_WIDTH
        if self.models:
            console.print(_models_table(self.models))
        if self.curve:
            console.print(_curve_table(self.curve))
        super().show(console)


def quality_rows(scores: dict[str, tuple[Trained, Score]]) -> list[Row]:
    """Against published figures, and against the plain VAE of the same minutes."""
    rows = []
    for (model, name), (published, source) in PUBLISHED.items():
        if model not in scores:
            continue
        trained, score = scores[model]
        note = f"{trained.steps:,} steps of {quality.BATCH} images; another budget and network than the published one"
        value: float = getattr(score, name)
        rows.append(
            Row(f"{model}, {WORDS[name]}", value, published, source, "1 is best", value / published, None, note)
        )
    if "VAE" not in scores:
        return rows
    plain = scores["VAE"][1]
    for model, (_, score) in scores.items():
        for name, (words, higher) in COMPARED.items():
            mine, its = getattr(score, name), getattr(plain, name)
            if model != "VAE" and mine > 0 and its > 0:  # an estimate of a total correlation near 0 may be negative
                unit = "1 is best" if higher else "nats"
                rows.append(row_of(f"{model}, {words}", mine, its, "VAE, same minutes", unit, higher_is_better=higher))
    return rows


def measure(options: argparse.Namespace, folder: Path) -> Disentangled:
    """All that was asked for."""
    quick, parts = options.quick, options.only or PARTS
    whole = Settings(options.codes, 10_000, 10_000, options.images, options.seed)
    few = Settings(min(options.codes, 2_000), 10_000, 10_000, CURVE_IMAGES, options.seed)
    if quick:
        whole = few = Settings(100, 1_000, 500, 640, options.seed)
    seconds = 0.0 if quick else 60 * options.minutes
    rows: list[Row] = []
    scores: dict[str, tuple[Trained, Score]] = {}
    points: list[Point] = []
    notes = []
    if "quality" in parts:
        for name, objective in MODELS.items():
            if options.models and name not in options.models:
                continue
            trained = quality.train_within(name, objective, whole, seconds, folder)
            scores[name] = trained, quality.score_run(name, whole, folder)
        rows += quality_rows(scores)
        notes += quality_notes(whole, scores)
    if "curve" in parts:
        points = curve(QUICK_BETAS if quick else options.betas, few, CURVE_SHARE * seconds, folder)
        notes.append(
            f"Curve: {few.limit:,} training images, {few.codes:,} codes, {CURVE_SHARE:.2g} of the minutes each."
        )
    if "speed" in parts:
        cases, repeats = (quick_cases(), QUICK_REPEATS) if quick else (CASES, REPEATS)
        rows += speed_rows(cases, repeats, torch.get_num_threads())
        notes += speed_notes()
    if quick:
        notes.append("--quick: one short epoch, few images, steps and repeats. These numbers mean nothing.")
    return Disentangled(
        NAME,
        Machine.here(command_line(NAME)),
        quick,
        rows,
        notes,
        {name: {**asdict(trained), **asdict(score)} for name, (trained, score) in scores.items()},
        [asdict(point) for point in points],
    )


def quality_notes(settings: Settings, scores: dict[str, tuple[Trained, Score]]) -> list[str]:
    """What a reader needs to judge the scores."""
    ramp = quality.RAMP_SHARE
    return [
        f"Quality: net {quality.NET.kind} (Burgess et al. 2018), {quality.LATENT} latents, batch {quality.BATCH}, Adam "
        f"{quality.LR:g}, bf16; whole epochs within the minutes: "
        + ", ".join(f"{name} {trained.steps:,} steps" for name, (trained, _) in scores.items())
        + f". Last weights, seed {settings.seed}.",
        f"ELBO, distortion, rate: {settings.held_out:,} test images. MIG (20 bins), FactorVAE and beta-VAE scores: "
        f"posterior means of {settings.pool:,} test images. MI, TC, dwKL: {settings.codes:,} codes under the aggregate "
        f"posterior of {'all' if settings.limit is None else f'{settings.limit:,}'} training images.",
        f"capacity: C rises from 0 to 25 nats over {ramp:.0%} of the steps first planned, not "
        "over 100,000; a longer budget that continues the run keeps that ramp.",
    ]


def speed_notes() -> list[str]:
    """What was timed, and whether the losses agree."""
    apart = agreement(CASES[0].net)
    return [
        f"Speed: medians of interleaved repeats, each contender in its own process, {torch.get_num_threads()} threads. "
        "pythae, jensen: forward pass, loss, backward passes and fused Adam on slices of a float32 tensor in memory. "
        "Trainers: as they come; pythae's with its own loader and Adam without fusing.",
        "Same weights, images and draws of z, ours minus pythae's, in nats an example: beta-TCVAE by weighted sampling "
        f"{apart['weighted']:+.2g}, by stratified sampling {apart['stratified']:+.2g} (pythae puts the weights "
        f"into the first columns, not on the diagonal); FactorVAE without its TC {apart['elbo']:+.2g}.",
        "pythae's FactorVAE reconstructs half of each batch, and differentiates its discriminator's loss through the "
        "encoder too, in a second backward pass.",
    ]


def _models_table(models: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="dSprites: nats per image, and scores", title_justify="left")
    columns = {
        "steps": "steps", "elbo": "ELBO", "distortion": "distortion", "rate": "rate", "mutual_information": "MI",
        "total_correlation": "TC", "dimension_wise_kl": "dwKL", "mig": "MIG", "mig_without_shape": "MIG*",
        "factor_vae": "FactorVAE", "beta_vae": "beta-VAE",
    }  # fmt: skip
    table.add_column("model")
    for words in columns.values():
        table.add_column(words, justify="right")
    for name, values in models.items():
        table.add_row(name, *(_cell(values[key]) for key in columns))
    published = dict.fromkeys(columns, "")
    published.update(mig_without_shape="0.50")
    table.add_row("beta-TCVAE, published", *published.values())
    published.update(mig_without_shape="", beta_vae="0.992")
    table.add_row("beta-VAE, published", *published.values())
    table.caption = "MIG*: shape not counted"
    return table


def _curve_table(points: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Trade-off, nats per image", title_justify="left")
    for key in points[0]:
        table.add_column(key.replace("_", " "), justify="left" if key == "method" else "right")
    for point in points:
        table.add_row(*(_cell(value) for value in point.values()))
    return table


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--minutes", type=float, default=60.0, help="of training for each of the models")
    options_of.add_argument("--images", type=int, metavar="N", help="train on the first N images only, not on all")
    options_of.add_argument("--models", choices=list(MODELS), action="append", help="these only (may be repeated)")
    options_of.add_argument("--betas", type=float, nargs="+", default=BETAS, help="of the curve")
    options_of.add_argument("--threads", type=int, help="torch's choice if not given")
    options_of.add_argument("--codes", type=int, default=10_000, help="codes against the whole training split")
    options_of.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    options_of.add_argument("--only", choices=PARTS, action="append", help="this part (may be repeated); all if absent")
    options_of.add_argument("--keep", type=Path, metavar="DIR", help="keep models here; a stopped benchmark goes on")
    options_of.add_argument("--figure", type=Path, metavar="FILE", help="write the trade-off curve there")
    options = options_of.parse_args()
    if importlib.util.find_spec("pythae") is None and "speed" in (options.only or PARTS):
        print(f"{NAME} needs pythae, its peer: pip install 'jensen[bench]'", file=sys.stderr)
        return 2
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            fetch_dsprites()
            report = measure(options, folder)
        except JensenError as error:
            print(f"{NAME}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            say("stopped." + (f" The same command goes on with what is in {folder}." if options.keep else ""))
            return 130
    report.show()
    if options.json is not None:
        report.write(options.json)
    if options.figure is not None and report.curve:
        save(figure([Point(**point) for point in report.curve]), options.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
