"""What a gradient of the ELBO costs, against the number of latents and against the data.

A Bayesian logistic regression: D coefficients, N rows. One axis at a time grows; each point is the least of repeated
gradients, all contenders in turn. The peer is the same pathwise gradient of a diagonal normal q written by hand in
PyTorch, with nothing around it: a ratio below 1 is what generality costs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.gradients import Estimator, Pathwise, ScoreFunction
from jensen.inference import Bound, Model, full_rank, mean_field, real
from jensen.inference.target import Target
from jensen.inference.variational import Family, low_rank
from jensen.plots import save
from jensen.plots.scaling import loglog_scaling

NAME = "gradient_cost"
DRAWS = 8
ROWS, DIMENSIONS = 100, 20
"""of what does not grow"""
BATCH = 1_000
HAND = "by hand"
PATHWISE = "pathwise"
FULL_RANK_LIMIT = 1_000
"""a full-rank q has D^2 / 2 parameters"""


@dataclass(frozen=True)
class Size:
    """Which points, and how often."""

    dimensions: tuple[int, ...]
    rows: tuple[int, ...]
    repeats: int
    """of each gradient; fewer where one takes long"""
    budget: float
    """seconds for the repeats of one contender at one point"""


FULL = Size((10, 100, 1_000, 10_000, 100_000), (100, 1_000, 10_000, 100_000, 1_000_000), 50, 4.0)
QUICK = Size((10, 1_000), (100, 10_000), 3, 0.2)

Gradient = Callable[[], object]


@lru_cache(maxsize=1)
def data(rows: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Covariates (N, D) and answers (N,), 0 or 1."""
    generator = Generator().manual_seed(0)
    x = torch.randn(rows, dimensions, generator=generator, dtype=torch.float64) / dimensions**0.5
    y = (torch.rand(rows, generator=generator, dtype=torch.float64) < 0.5).to(torch.float64)
    return x, y


def likelihood(logits: Tensor, answers: Tensor) -> Tensor:
    """log p(y | logits) of each row."""
    return answers * logits - F.softplus(logits)


def bound(rows: int, dimensions: int, family: Callable[[Model], Family], estimator: Estimator) -> Bound:
    """Ours: a log joint, a family and an estimator."""
    x, y = data(rows, dimensions)

    def log_joint(z: Any, batch: Any) -> Mapping[str, Tensor]:
        w, covariates, answers = z.w, batch.x, batch.y
        return {
            "prior": -0.5 * w.square().sum(),
            "likelihood": likelihood(covariates @ w, answers),
        }

    model = Model({"w": real(dimensions)}, log_joint, plates={"rows": rows})
    return Bound(Target(model, {"x": x, "y": y}), family(model), estimator, DRAWS)


def ours(made: Bound, batch: int | None = None) -> Gradient:
    """A gradient of a bound, on all rows or on a random minibatch."""
    generator = Generator().manual_seed(1)
    parameters = [p for p in made.parameters() if p.requires_grad]
    rows = made.target.rows

    def gradient() -> object:
        chosen = None
        if batch is not None and rows is not None:
            chosen = made.target.batch(torch.randint(rows, (batch,), generator=generator))
        return torch.autograd.grad(made(chosen, generator=generator).surrogate, parameters)

    return gradient


def by_hand(rows: int, dimensions: int) -> Gradient:
    """The pathwise gradient of a diagonal normal q."""
    x, y = data(rows, dimensions)
    generator = Generator().manual_seed(1)
    loc = torch.zeros(dimensions, dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros(dimensions, dtype=torch.float64, requires_grad=True)

    def gradient() -> object:
        noise = torch.randn(DRAWS, dimensions, generator=generator, dtype=torch.float64)
        w = loc + log_scale.exp() * noise
        elbo = (likelihood(w @ x.T, y).sum(1) - 0.5 * w.square().sum(1)).mean() + log_scale.sum()
        return torch.autograd.grad(elbo, [loc, log_scale])

    return gradient


def contenders(rows: int, dimensions: int, *, minibatches: bool) -> dict[str, Gradient]:
    """What is timed at a point."""
    leave_one_out = ScoreFunction(rao_blackwell=True, control_variate="leave_one_out")
    found = {
        HAND: by_hand(rows, dimensions),
        PATHWISE: ours(bound(rows, dimensions, mean_field, Pathwise())),
        "score, leave-one-out": ours(bound(rows, dimensions, mean_field, leave_one_out)),
        "pathwise, rank 5": ours(bound(rows, dimensions, low_rank(5), Pathwise())),
    }
    if dimensions <= FULL_RANK_LIMIT:
        found["pathwise, full rank"] = ours(bound(rows, dimensions, full_rank, Pathwise()))
    if minibatches and rows >= BATCH:
        found[f"pathwise, {BATCH} rows a batch"] = ours(bound(rows, dimensions, mean_field, Pathwise()), BATCH)
    return found


def timed(gradients: Mapping[str, Gradient], size: Size) -> dict[str, float]:
    """Least seconds of each, taken in turn: what else the machine does only adds."""
    seconds: dict[str, list[float]] = {name: [] for name in gradients}
    for gradient in gradients.values():
        gradient()
    for _ in range(size.repeats):
        for name, gradient in gradients.items():
            if sum(seconds[name]) < size.budget:
                start = time.perf_counter()
                gradient()
                seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def measure(size: Size, picture: Path | None) -> tuple[list[Row], list[str]]:
    """The table's rows, and the picture."""
    axes: dict[str, Sequence[tuple[int, int, int]]] = {
        "latents": [(d, ROWS, d) for d in size.dimensions],
        "rows": [(n, n, DIMENSIONS) for n in size.rows],
    }
    rows: list[Row] = []
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    notes = [f"q's diagonal but where said otherwise, {DRAWS} draws a gradient, float64."]
    for axis, points in axes.items():
        panel = panels.setdefault(axis, {})
        for at, count, dimensions in points:
            found = timed(contenders(count, dimensions, minibatches=axis == "rows"), size)
            for name, seconds in found.items():
                line = panel.setdefault(name, ([], []))
                line[0].append(at)
                line[1].append(1e3 * seconds)
            case = f"{dimensions:,} latents, {count:,} rows"
            rows.append(
                row_of(case, 1e3 * found[PATHWISE], 1e3 * found[HAND], HAND, "ms a gradient", higher_is_better=False)
            )
            rows += [
                row_of(case, 1e3 * found[PATHWISE], 1e3 * found[name], name, "ms a gradient", higher_is_better=False)
                for name in found
                if name not in (PATHWISE, HAND)
            ]
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure = loglog_scaling(panels, y="ms a gradient", title=f"A gradient of the ELBO from {DRAWS} draws")
        notes.append(f"picture: {save(figure, picture)}")
    return rows, notes


def main() -> int:
    """Measure, print, draw, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, default=1, help="of torch")
    options_of.add_argument("--picture", type=Path, default=Path("runs/gradient_cost.png"), metavar="FILE")
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    rows, notes = measure(QUICK if options.quick else FULL, options.picture)
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
