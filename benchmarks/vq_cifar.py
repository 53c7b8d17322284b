"""Published figures of VQ-VAE on CIFAR-10: a notebook's curve of error and perplexity, and the paper's bits.

The curve (Sonnet's notebook): batch 32, 128 hidden channels, K = 512, D = 64, moving averages of decay 0.99, commitment
0.25 of means, Adam 3e-4, pixels in [-1/2, 1/2]; it prints the squared error over the variance of the data, averaged
over the last 100 steps: 0.483 after 100 steps, 0.105 after 1,000, 0.056 after 10,000, with a perplexity of about 327.
Its loss times D_x / 2 is ours in nats with a Gaussian of the data's variance, so the same steps are taken here.

The bits (van den Oord et al. 2017, section 4.1): 4.67 bits per dimension with 8 x 8 x 10 codes of 512 under a uniform
prior, 256 hidden channels, batch 128, Adam 2e-4, 250,000 steps. Here ten residual codebooks and a discretised logistic.

CIFAR-10 is downloaded, or found in JENSEN_DATA. `--data cifar10-subset` runs the same on 3,000 images that were
decoded from JPEG files, which are smoother and fewer: then the published numbers are no reference.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.mnist import say
from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.autoencoders import VQVAE
from jensen.config import Config, DataConfig, ModelConfig, NetConfig, QuantiserConfig, TrainConfig
from jensen.data import Data, load_data
from jensen.metrics import evaluate
from jensen.objectives import Elbo
from jensen.training import fit

NAME = "vq_cifar"
BATCH, LR, WINDOW = 32, 3e-4, 100
CODES, DIM, HIDDEN = 512, 64, 128
SONNET_COMMITMENT = 0.25
PUBLISHED = {100: 0.483, 1_000: 0.105, 10_000: 0.056}
PERPLEXITY = 327
BITS = 4.67


@dataclass(frozen=True)
class Point:
    """Means over the last 100 steps."""

    error: float
    """squared error over the variance of the data"""
    perplexity: float


def make(data: Data, variance: float, *, notebook: bool) -> VQVAE:
    """The notebook's model; `notebook`: with its start of the codebook too, random and never revived."""
    channels, height, width = data.shape
    values, places = channels * height * width, (height // 4) * (width // 4)
    quantiser = QuantiserConfig(
        codes=CODES, dim=DIM, commitment=SONNET_COMMITMENT * values / (2 * places * DIM), **_start(notebook)
    )
    return VQVAE(
        data.shape,
        downsampling=4,
        quantiser=quantiser,
        net=NetConfig(kind="conv", width=HIDDEN),
        likelihood="gaussian",
        sigma=math.sqrt(variance),
    )


def _start(notebook: bool) -> dict[str, object]:
    return {"initial": "random", "revival": 0.0} if notebook else {}


def endless(data: Data, seed: int) -> Iterator[Tensor]:
    """Batches of pixels in [-1/2, 1/2], epoch after epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for batch in data.train.batches(BATCH, shuffle=generator):
            if len(batch.x) == BATCH:
                yield batch.x - 0.5


def curve(model: VQVAE, data: Data, variance: float, steps: Sequence[int], device: torch.device) -> dict[int, Point]:
    """Error and perplexity after each of `steps`."""
    torch.manual_seed(0)
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    objective, found = Elbo(), dict[int, Point]()
    errors, perplexities = deque[Tensor](maxlen=WINDOW), deque[Tensor](maxlen=WINDOW)
    start = time.monotonic()
    for step, x in enumerate(endless(data, 0), 1):
        x = x.to(device)
        output = model(x)
        loss = objective(output).value
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            errors.append((output.likelihood.mean[0] - x).square().mean() / variance)
            perplexities.append(next(v for k, v in model.report(output).items() if "perplexity" in k))
        if step in steps:
            found[step] = Point(torch.stack(list(errors)).mean().item(), torch.stack(list(perplexities)).mean().item())
            say(f"step {step:,}: {found[step]}, {(time.monotonic() - start) / 60:.1f} min")
        if step >= max(steps):
            return found
    raise AssertionError("the batches never end")


def rows_of(found: dict[int, Point], name: str, reference: bool) -> list[Row]:
    """Ours beside the notebook's."""
    note = "" if reference else "other data than the notebook's: no reference"
    rows = [
        row_of(
            f"{name}: error after {step:,} steps",
            point.error,
            PUBLISHED[step],
            "Sonnet's notebook",
            "of variance",
            higher_is_better=False,
            note=note,
        )
        for step, point in found.items()
        if step in PUBLISHED
    ]
    last = found[max(found)]
    if max(found) in PUBLISHED:
        rows.append(row_of(f"{name}: perplexity", last.perplexity, PERPLEXITY, "Sonnet's notebook", "codes", note=note))
    return rows


def bits(name: str, epochs: int, width: int, limit: int | None) -> Row:
    """Bits per dimension of test images under the uniform prior, beside the paper's."""
    config = Config(
        data=DataConfig(name=name, transform="none", limit=limit),
        model=ModelConfig(
            kind="vqvae",
            likelihood="discretised-logistic",
            quantiser=QuantiserConfig(kind="residual", codes=CODES, books=10),
            net=NetConfig(kind="conv", width=width),
        ),
        train=TrainConfig(epochs=epochs, batch_size=128, lr=2e-4),
    )
    with TemporaryDirectory() as folder:
        run = fit(config, Path(folder) / "bits", quiet=True)
        found = evaluate(run.model(), run.data().test, samples=1)
        steps = int(run.history()["step"][-1])
    assert found.bits_per_dim is not None
    note = f"{steps:,} steps, {width} hidden channels; the paper 250,000 steps, 256 channels"
    return row_of(f"{name}: bits", found.bits_per_dim, BITS, "the paper", "bits/dim", higher_is_better=False, note=note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print, write."""
    options = _parser().parse_args(arguments)
    last = 20 if options.quick else options.steps
    name = "cifar10-subset" if options.quick and options.data is None else options.data or "cifar10"
    data = load_data(name, transform="none")
    pixels = torch.cat([batch.x for batch in data.train.batches(500)])
    variance = pixels.double().var(correction=0).item()
    steps = [step for step in (*PUBLISHED, last) if step <= last]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    if options.bits_epochs or options.quick:
        small = {"epochs": 1, "width": 8, "limit": 256}
        full = {"epochs": options.bits_epochs, "width": 256, "limit": None}
        rows.append(bits(name, **(small if options.quick else full)))
    for title, notebook in (("as the notebook", True), ("k-means and revival", False)):
        say(f"{name}, {title}: {last:,} steps on {device}")
        torch.manual_seed(0)
        found = curve(make(data, variance, notebook=notebook), data, variance, steps, device)
        rows += rows_of(found, f"{name}, {title}", name == "cifar10")
        rows += [] if rows else [_only(found, title)]
    notes = [f"variance of the data {variance:.5f}; the residual blocks are as wide as the rest, the notebook's 32"]
    report = Report(NAME, Machine.here(command_line(NAME, arguments)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)


def _only(found: dict[int, Point], title: str) -> Row:
    """A run too short for the notebook's first number."""
    step = max(found)
    return row_of(f"{title}: error after {step} steps", found[step].error, 1.0, "the mean image", "of variance")


def _parser() -> argparse.ArgumentParser:
    result = parser(NAME, __doc__)
    result.add_argument("--steps", type=int, default=10_000, help="of training")
    result.add_argument("--bits-epochs", type=int, default=0, help="also the paper's model, for so many epochs (641)")
    result.add_argument("--data", choices=("cifar10", "cifar10-subset"), help="other data than CIFAR-10")
    return result


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
