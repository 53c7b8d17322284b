"""Train a VAE on the 1,797 handwritten digits that come with scikit-learn, evaluate it, and write a report.

Run by `make demo`. The same from the command line:

    jensen train --data digits --likelihood discretised-logistic --latent 10 --net-width 256 --net-depth 2 \
        --normalisation batch --epochs 100 --batch-size 64 --lr 2e-3 --decay cosine --run runs/demo
    jensen evaluate runs/demo
    jensen report runs/demo
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jensen import Config, evaluate, fit
from jensen.report import write_report

RUN = Path("runs/demo")

CONFIG = Config(
    data={"name": "digits"},
    model={
        "latent": 10,
        "likelihood": "discretised-logistic",
        "net": {"kind": "mlp", "width": 256, "depth": 2, "normalisation": "batch"},
    },
    train={"epochs": 100, "batch_size": 64, "lr": 2e-3, "decay": "cosine"},
)


def main() -> None:
    """Train, evaluate, report; a demo run from before is replaced."""
    if (RUN / "config.yaml").exists():
        shutil.rmtree(RUN)
    run = fit(CONFIG, RUN)
    evaluation = evaluate(run.model(), run.data().test, samples=5000)
    report = write_report(run, evaluation)

    table = Table(title=f"{evaluation.examples} test digits, nats per digit")
    for column in ("measure", "value", "what it is"):
        table.add_column(column)
    for row in evaluation.table():
        table.add_row(*row)
    console = Console()
    console.print(table)
    for warning in evaluation.warnings:
        console.print(warning)
    console.print(f"Open {report.resolve()} in a browser: curves, reconstructions, samples, the latent space, a walk.")


if __name__ == "__main__":
    main()
