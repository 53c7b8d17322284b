"""Text as integers: a one-dimensional VQ-VAE on the documentation of Python, and a transformer that writes its codes.

Two characters become one code of 256. The script prints test text beside what is restored from its codes, the bits
per character under the uniform and under the learned prior, and text that is drawn from the prior.

    python examples/vqvae_text.py [--epochs 3] [--prior-epochs 4] [--run DIRECTORY]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

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
from jensen.data import to_text
from jensen.metrics import evaluate
from jensen.metrics.codes import code_usage
from jensen.training import Run, fit, fit_prior

SHOWN = 4


def configuration(epochs: int) -> Config:
    """Codes of two characters each, 64 for a window of 128; without batch normalisation it learns far more slowly."""
    return Config(
        data=DataConfig(name="text"),
        model=ModelConfig(
            kind="vqvae",
            likelihood="categorical",
            downsampling=2,
            quantiser=QuantiserConfig(codes=256),
            net=NetConfig(width=128, normalisation="batch"),
        ),
        train=TrainConfig(epochs=epochs, batch_size=32, lr=2e-3, decay="cosine"),
    )


def show(run: Run) -> None:
    """Restored and drawn text, and what it costs."""
    model, data = run.model(), run.data()
    assert isinstance(model, VQVAE)
    symbols = data.dataset.symbols
    x = data.test.batch(torch.arange(SHOWN)).x
    for truth, restored in zip(to_text(x, symbols), to_text(model.decode(model.encode(x)), symbols), strict=True):
        print(f"test      {truth!r}\nrestored  {restored!r}\n")
    for line in to_text(model.sample(SHOWN, temperature=0.8), symbols):
        print(f"drawn     {line!r}\n")
    evaluation, usage = evaluate(model, data.test, samples=1), code_usage(model, data.test)
    for name, value, meaning in [*evaluation.table(), *usage.table()]:
        print(f"{name:24} {value:>18}  {meaning}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="of the VQ-VAE")
    parser.add_argument("--prior-epochs", type=int, default=4, help="of the prior")
    parser.add_argument("--run", type=Path, help="keep the run there")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        run = fit(configuration(options.epochs), options.run or Path(folder) / "text")
        prior = PriorConfig(
            net=AutoregressiveConfig(kind="transformer", width=128, depth=4),
            train=TrainConfig(epochs=options.prior_epochs, batch_size=64, lr=1e-3, decay="cosine"),
        )
        fit_prior(run, prior)
        show(run)


if __name__ == "__main__":
    main()
