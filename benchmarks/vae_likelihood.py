"""Test log-likelihood of a VAE and an IWAE on dynamically binarised MNIST, against the paper's and against pythae.

Model and protocol of Burda, Grosse & Salakhutdinov 2016 (Importance weighted autoencoders): one stochastic layer of
50, two hidden layers of 200 tanh units on both sides, Bernoulli likelihood, 5,000 importance samples on the 10,000 test
images. Training images are binarised anew in every epoch, the test images once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.mnist import LATENT, NET, SHAPE, TEST_SEED, VALIDATION, Score, binarised_test, say, score
from benchmarks.report import Machine, Report, Row, command_line, parser
from jensen.autoencoders import NeuralModel, make_model
from jensen.config import Config, DataConfig, ModelConfig, ObjectiveConfig, TrainConfig
from jensen.data import load_data
from jensen.errors import JensenError
from jensen.files import write_atomically, write_text
from jensen.objectives import make_objective
from jensen.training import Run, fit, resume, train

NAME = "vae_likelihood"
PAPER = "Burda et al. 2016"
PAPER_VAE, PAPER_IWAE = -86.76, -84.78  # nats; their table 1, one stochastic layer, IWAE with k = 50
VAE_SHARE = 1 / 3  # of the training time; the rest is the IWAE's, whose steps cost more
LEARNING_RATE = 2e-3  # of Adam, at first; cosine decay to 0
SAFETY = 0.98  # of a budget, so that an estimate that is a little short does not exceed it


@dataclass(frozen=True)
class Settings:
    """What was asked: two commands with equal settings can share a folder."""

    minutes: float
    peer_minutes: float
    k: int
    samples: int
    images: int | None
    limit: int | None
    probe_images: int
    seed: int

    @classmethod
    def of(cls, options: argparse.Namespace) -> Settings:
        """From the command line; --quick overrides budgets and sizes."""
        if options.quick:
            return cls(0.2, 0.05, options.k, 50, 500, 5120, 640, options.seed)
        return cls(options.minutes, options.peer_minutes, options.k, options.samples, None, None, 12_800, options.seed)


@dataclass(frozen=True)
class Trained:
    """How a model was trained."""

    epochs: int
    best_epoch: int
    seconds: float
    batch_size: int
    lr: float
    precision: str


class Stages:
    """Results by name in a folder: those that are there are not computed again."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file, text = folder / "settings.json", json.dumps(asdict(settings))
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise JensenError(f"{folder} holds stages of other settings ({file}): give the same ones or another --keep")
        write_text(file, text)

    def result(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` returns, or returned when this stage was done before."""
        file = self.folder / f"{name}.json"
        if file.exists():
            say(f"{name}: done before, taken from {file}")
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        result = compute()
        write_text(file, json.dumps(result))
        return result


def configuration(settings: Settings, kind: str, epochs: int = 1) -> Config:
    """The run of one model: vae or iwae."""
    iwae = kind == "iwae"
    return Config(
        seed=settings.seed,
        data=DataConfig(name="mnist", transform="binarise", validation=VALIDATION, limit=settings.limit),
        model=ModelConfig(latent=LATENT, likelihood="bernoulli", net=NET),
        objective=ObjectiveConfig(kind="iwae", samples=settings.k) if iwae else ObjectiveConfig(),
        train=TrainConfig(
            epochs=epochs,
            batch_size=64,
            lr=LEARNING_RATE,
            decay="cosine",
            accelerator="cpu",
            # 64 x 50 samples are matrix products large enough for bf16 to pay; one sample is not.
            precision="bf16" if iwae else "float32",
        ),
    )


def seconds_an_epoch(config: Config, images: int) -> float:
    """Measured on a throw-away model: steps on the first `images` training images, and a validation."""
    whole = len(load_data(config.data).train)
    data = load_data(config.data, limit=images)
    model = make_model(config.model, data)
    settings = config.train.model_dump() | {"epochs": 2}
    start = time.perf_counter()
    history = train(model, data, make_objective(config.objective), quiet=True, **settings)
    total = time.perf_counter() - start
    batch = config.train.batch_size
    step = history["epoch_seconds"][-1] / (len(data.train) // batch)
    around = (total - sum(history["epoch_seconds"])) / 2
    return step * (whole // batch) + around


def train_within(name: str, settings: Settings, kind: str, seconds: float, stages: Stages) -> tuple[Run, Trained]:
    """Train for as many epochs as fit into `seconds`; goes on where an earlier call in the same folder was stopped."""
    path = stages.folder / name
    if (path / "config.yaml").exists():
        run = Run.open(path)
        if not run.finished:
            say(f"{name}: going on with the run in {path}")
            run = resume(path)
    else:
        config = configuration(settings, kind)
        start = time.perf_counter()
        each = seconds_an_epoch(config, settings.probe_images if kind == "vae" else settings.probe_images // 5)
        left = seconds - (time.perf_counter() - start)
        epochs = max(1, int(SAFETY * left / each))
        say(f"{name}: {each:.1f} s an epoch, so {epochs} epochs in {seconds / 60:.1f} minutes")
        run = fit(configuration(settings, kind, epochs), path)
    history, how = run.history(), run.config.train
    scores = history["valid/iwae" if kind == "iwae" else "valid/elbo"]
    best = 1 + max(range(len(scores)), key=scores.__getitem__)
    return run, Trained(len(scores), best, history["seconds"][-1], how.batch_size, how.lr, how.precision)


def paper_row(name: str, kind: str, paper: float, settings: Settings, x: Tensor, stages: Stages) -> Row:
    """Our model, trained within its share of the budget, against the paper's figure."""
    share = VAE_SHARE if kind == "vae" else 1 - VAE_SHARE
    run, how = train_within(name, settings, kind, 60 * settings.minutes * share, stages)
    found = Score(**stages.result(f"{name}-score", lambda: asdict(score(run.model(), x, settings.samples, name))))
    label = "VAE" if kind == "vae" else f"IWAE k={settings.k}"
    note = (
        f"{difference(found.log_likelihood - paper)}; standard error {found.log_likelihood_error:.2f}; ELBO "
        f"{found.elbo:.2f} +- {found.elbo_error:.2f}; {how.epochs} epochs (best by validation: {how.best_epoch}) in "
        f"{how.seconds / 60:.1f} minutes of steps; batch {how.batch_size}, {how.precision}, Adam {how.lr:g}, cosine "
        "decay"
    )
    # Both are negative: above 1 where ours lies nearer to 0, that is, is better.
    ratio = paper / found.log_likelihood
    return Row(f"{label}, test log-likelihood", found.log_likelihood, paper, PAPER, "nats", ratio, None, note)


def equal_time_row(settings: Settings, x: Tensor, stages: Stages) -> Row:
    """Our VAE and pythae's, same networks, batch, learning rate, decay and seconds, scored by one estimator."""
    from benchmarks import pythae_vae

    its = stages.result("pythae", lambda: train_pythae(settings, stages.folder))
    peer = pythae_vae.make_peer(SHAPE, LATENT, NET)
    peer.load_state_dict(torch.load(stages.folder / "pythae.pt", weights_only=True))
    copied = pythae_vae.as_jensen(peer.eval())
    bound = pythae_vae.check_same_bound(peer, copied, x[:500])
    its_score = Score(**stages.result("pythae-score", lambda: asdict(score(copied, x, settings.samples, "pythae"))))

    def ours() -> dict[str, Any]:
        path = stages.folder / "vae-equal-time"
        shutil.rmtree(path, ignore_errors=True)  # half a run would have had more time than it tells
        start = time.perf_counter()
        _, how = train_within(path.name, settings, "vae", its["seconds"], stages)
        return asdict(how) | {"wall": time.perf_counter() - start}

    mine = stages.result("ours", ours)
    model: NeuralModel = Run.open(stages.folder / "vae-equal-time").model()
    my_score = Score(**stages.result("ours-score", lambda: asdict(score(model, x, settings.samples, "ours"))))
    gain = my_score.log_likelihood - its_score.log_likelihood
    note = (
        f"{difference(gain)}; standard errors {my_score.log_likelihood_error:.2f} and "
        f"{its_score.log_likelihood_error:.2f} (same images); ours {mine['epochs']} epochs in {mine['wall']:.0f} s "
        f"(time estimate, validation and checkpoints included), pythae {its['epochs']} epochs in "
        f"{its['seconds']:.0f} s with {its['workers']} loader workers (the faster of 0 and 1; no validation); both "
        f"batch {mine['batch_size']}, Adam {mine['lr']:g} with cosine decay. pythae's own forward pass gives ELBO "
        f"{bound:.2f} on the first {len(x[:500])} images, and so does our copy of its weights"
    )
    ratio = its_score.log_likelihood / my_score.log_likelihood
    case = "VAE, equal wall-clock, test log-likelihood"
    return Row(case, my_score.log_likelihood, its_score.log_likelihood, "pythae", "nats", ratio, 1.0, note)


def train_pythae(settings: Settings, folder: Path) -> dict[str, Any]:
    """Train pythae's VAE for the peer's minutes; its weights go to pythae.pt."""
    from benchmarks import pythae_vae

    config = configuration(settings, "vae")
    grey = load_data(config.data, transform="none").train
    images = grey.batch(torch.arange(len(grey))).x
    choice = {"batch_size": config.train.batch_size, "lr": config.train.lr, "cosine": True, "seed": settings.seed}

    def trial(workers: int) -> float:
        some = pythae_vae.Binarised(images[: settings.probe_images], torch.zeros(settings.probe_images))
        peer = pythae_vae.make_peer(SHAPE, LATENT, NET)
        return pythae_vae.train_peer(peer, some, epochs=1, workers=workers, **choice)[1]

    trial(0)  # the first use of anything is slow
    times = {workers: trial(workers) for workers in (0, 1)}
    workers = min(times, key=times.__getitem__)
    each = times[workers] * len(images) / settings.probe_images
    epochs = max(1, int(60 * settings.peer_minutes / each))
    say(f"pythae: {each:.1f} s an epoch, so {epochs} epochs in {settings.peer_minutes:.1f} minutes")
    torch.manual_seed(settings.seed)
    peer = pythae_vae.make_peer(SHAPE, LATENT, NET)
    data = pythae_vae.Binarised(images, torch.zeros(len(images)))
    peer, seconds = pythae_vae.train_peer(peer, data, epochs=epochs, workers=workers, **choice)
    write_atomically(folder / "pythae.pt", lambda path: torch.save(peer.state_dict(), path))
    return {"epochs": epochs, "seconds": seconds, "workers": workers}


def difference(nats: float) -> str:
    """In words."""
    return f"ours is {abs(nats):.2f} nats {'better' if nats > 0 else 'worse'}"


def measure(settings: Settings, folder: Path, quick: bool) -> Report:
    """All rows; stages that `folder` holds are not repeated."""
    stages = Stages(folder, settings)
    x = binarised_test(settings.images)
    rows = [
        equal_time_row(settings, x, stages),
        paper_row("vae", "vae", PAPER_VAE, settings, x, stages),
        paper_row("iwae", "iwae", PAPER_IWAE, settings, x, stages),
    ]
    notes = [
        f"Nats an image, {settings.samples:,} importance samples, {len(x):,} test images. Binarisation: dynamic for "
        f"training (a new Bernoulli draw of every grey level in every epoch); one draw, seed {TEST_SEED}, for the test "
        "images. Not comparable with the fixed binarisation of Larochelle. Ratio: peer / ours, above 1 where ours is "
        "better. Standard errors are over test images.",
        f"Trained on {1 - VALIDATION:.1%} of the 60,000 training images; the rest chose the epoch.",
    ]
    if quick:
        notes.append("--quick: tiny budgets, few samples and images. These numbers mean nothing.")
    return Report(NAME, Machine.here(command_line(NAME)), quick, rows, notes)


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--minutes", type=float, default=60.0, help="training time of VAE and IWAE together")
    options_of.add_argument(
        "--peer-minutes", type=float, default=5.0, help="training time of pythae, and of ours beside it"
    )
    options_of.add_argument("--k", type=int, default=50, help="samples of the IWAE bound")
    options_of.add_argument("--samples", type=int, default=5000, help="importance samples of the test log-likelihood")
    options_of.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    options_of.add_argument("--keep", type=Path, metavar="DIR", help="keep models here; a stopped benchmark goes on")
    options = options_of.parse_args()
    from benchmarks import pythae_vae  # noqa: F401  # leaves at once where pythae is missing

    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        try:
            report = measure(Settings.of(options), folder, options.quick)
        except JensenError as error:
            print(f"{NAME}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            say("stopped." + (f" The same command goes on with what is in {folder}." if options.keep else ""))
            return 130
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
