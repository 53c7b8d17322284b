"""Black-box VI of discrete latents that are scored: variance of the gradient, and what it does to the climb.

Two models: a mixture of normals whose assignments are latents, and a sigmoid belief network on binarised digits. The
score function is taken plain, Rao-Blackwellised, and with each control variate; summing over the discrete values
(enumeration) is the reference. All climb from the same start with the same number of steps and draws; where they are is
then evaluated without noise in the discrete latents. "ours" is what `fit` chooses where it cannot enumerate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Dirichlet, Normal

from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.gradients import Enumeration, Estimator, Mixed, Pathwise, ScoreFunction, VarianceReport, variance_report
from jensen.inference import Bound, Model, bernoulli, categorical, mean_field, real, simplex
from jensen.inference.target import Target

NAME = "bbvi"
OURS = "score + RB + leave-one-out"
REFERENCE = "enumeration"
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "score": lambda: ScoreFunction(),
    "score + leave-one-out": lambda: ScoreFunction(control_variate="leave_one_out"),
    "score + RB": lambda: ScoreFunction(rao_blackwell=True),
    "score + RB + running average": lambda: ScoreFunction(rao_blackwell=True, control_variate="average"),
    "score + RB + regression": lambda: ScoreFunction(rao_blackwell=True, control_variate="regression"),
    OURS: lambda: ScoreFunction(rao_blackwell=True, control_variate="leave_one_out"),
    REFERENCE: lambda: Enumeration(limit=4096),
}
RESULT_DRAWS = 1000
"""of the continuous latents when a climb's end is evaluated"""
COMPONENTS = 3


@dataclass(frozen=True)
class Size:
    """How much is done."""

    mixture_rows: int
    digits: int
    hidden: int
    """units of the belief network; summing over them takes 2 ** hidden evaluations"""
    samples: int
    """draws of a gradient"""
    repeats: int
    """gradients whose variance is taken"""
    steps: int
    """of a climb"""
    learning_rate: float


FULL = Size(mixture_rows=200, digits=200, hidden=6, samples=10, repeats=100, steps=300, learning_rate=0.05)
QUICK = Size(mixture_rows=60, digits=40, hidden=4, samples=4, repeats=10, steps=10, learning_rate=0.05)


@dataclass(frozen=True)
class Problem:
    """A model at its data with a start of q.

    Attributes:
        name: in the table.
        make: a target and a family at the start, the same at each call.
        scored: the discrete latent; what is continuous goes the pathwise way in all contenders.
        rows: of the data.
    """

    name: str
    make: Callable[[], tuple[Target, Any]]
    scored: str
    rows: int

    def estimator(self, name: str) -> Estimator:
        """A contender, with a memory of its own."""
        return Mixed({self.scored: ESTIMATORS[name]()}, default=Pathwise())


def mixture(size: Size) -> Problem:
    """Assignments of rows to three components with unknown means and weights."""
    generator = Generator().manual_seed(0)
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]], dtype=torch.float64)
    truth = torch.randint(0, COMPONENTS, (size.mixture_rows,), generator=generator)
    x = centres[truth] + torch.randn(size.mixture_rows, 2, generator=generator, dtype=torch.float64)

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {
            "means": Normal(0.0, 5.0).log_prob(z.means).sum(),
            "weights": Dirichlet(torch.ones_like(z.weights)).log_prob(z.weights),
            "assignment": Categorical(probs=z.weights).log_prob(z.assignment),
            "x": Normal(z.means[z.assignment], 1.0).log_prob(data.x).sum(-1),
        }

    def make() -> tuple[Target, Any]:
        latents = {
            "means": real(COMPONENTS, 2),
            "weights": simplex(COMPONENTS),
            "assignment": categorical(COMPONENTS, plate="rows"),
        }
        model = Model(latents, log_joint, plates={"rows": size.mixture_rows})
        family = mean_field(model)
        family.place({"means": centres / 2}, 0.3)
        return Target(model, {"x": x}), family

    return Problem("mixture", make, "assignment", size.mixture_rows)


def belief_network(size: Size) -> Problem:
    """p(h) and p(x | h) factorise into Bernoullis; weights and biases are learned with q."""
    pixels = torch.as_tensor(load_digits().data[: size.digits] > 7).to(torch.float64)

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {
            "hidden": Bernoulli(logits=z.prior).log_prob(z.hidden).sum(-1),
            "pixels": Bernoulli(logits=z.hidden @ z.weight + z.bias).log_prob(data.x).sum(-1),
        }

    def make() -> tuple[Target, Any]:
        weight = 0.1 * torch.randn(size.hidden, 64, generator=Generator().manual_seed(0), dtype=torch.float64)
        bias = torch.logit(pixels.mean(0).clamp(0.02, 0.98))
        model = Model(
            {"hidden": bernoulli(size.hidden, plate="rows")},
            log_joint,
            parameters={"prior": torch.zeros(size.hidden, dtype=torch.float64), "weight": weight, "bias": bias},
            plates={"rows": size.digits},
        )
        return Target(model, {"x": pixels}), mean_field(model)

    return Problem("network", make, "hidden", size.digits)


@dataclass(frozen=True)
class Climb:
    """Where an estimator came to: the ELBO in nats, and seconds a step."""

    elbo: float
    seconds: float
    target: Target
    family: Any


def climb(problem: Problem, name: str, size: Size) -> Climb:
    """Adam on the bound for a fixed number of steps."""
    target, family = problem.make()
    bound = Bound(target, family, problem.estimator(name), size.samples)
    optimiser = torch.optim.Adam(bound.parameters(), size.learning_rate, maximize=True)
    generator = Generator().manual_seed(1)
    start = time.perf_counter()
    for _ in range(size.steps):
        optimiser.zero_grad()
        bound(generator=generator).surrogate.backward()
        optimiser.step()
    seconds = (time.perf_counter() - start) / size.steps
    exact = Bound(target, family, problem.estimator(REFERENCE))
    continuous = [factor for factor in family(target.whole).factors if factor.has_rsample]
    with torch.no_grad():
        elbo = exact(samples=RESULT_DRAWS if continuous else 1, generator=generator).elbo
    return Climb(float(elbo), seconds, target, family)


def variances(problem: Problem, target: Target, family: Any, size: Size) -> VarianceReport:
    """Of every contender's gradient at the family's parameters."""
    contenders = {name: problem.estimator(name) for name in ESTIMATORS}
    return variance_report(target, family, samples=size.samples, repeats=size.repeats, estimators=contenders, seed=2)


def measure(size: Size) -> tuple[list[Row], list[str]]:
    """All rows of the table, and what else was seen."""
    rows: list[Row] = []
    notes: list[str] = []
    for problem in (mixture(size), belief_network(size)):
        climbs = {name: climb(problem, name, size) for name in ESTIMATORS}
        best = climbs[REFERENCE]
        for place, (target, family) in {"start": problem.make(), "end": (best.target, best.family)}.items():
            report = variances(problem, target, family, size)
            if place == "start":  # at the end, values so rare that no draw shows them make z-scores meaningless
                notes.append(f"{problem.name}, {place}: {report}")
            rows += _variance_rows(f"{problem.name}, {place}", report)
        rows += [
            row_of(
                f"{problem.name}, ELBO",
                -climbs[OURS].elbo / problem.rows,
                -climbs[name].elbo / problem.rows,
                name,
                "-nats a row",
                higher_is_better=False,
            )
            for name in ESTIMATORS
            if name != OURS
        ]
        notes += [
            f"{problem.name}, {name}: ELBO {found.elbo:.2f} nats, {1e3 * found.seconds:.2f} ms a step"
            for name, found in climbs.items()
        ]
    notes.append(
        f"mixture: {size.mixture_rows} rows, {COMPONENTS} components; network: {size.digits} digits, {size.hidden} "
        f"hidden units. Each gradient from {size.samples} draws; its variance is the sum over all parameters, from "
        f"{size.repeats} gradients. Climbs: {size.steps} steps of Adam, rate {size.learning_rate}. The end is that of "
        "the climb by enumeration. What is continuous goes the pathwise way everywhere, with noise of its own."
    )
    return rows, notes


def _variance_rows(case: str, report: VarianceReport) -> list[Row]:
    ours = report[OURS].variance
    return [
        row_of(case, ours, row.variance, row.name, "variance", higher_is_better=False)
        for row in report.rows
        if row.name != OURS and row.reason is None and row.variance > 0
    ]


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, default=1, help="of torch")
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    rows, notes = measure(QUICK if options.quick else FULL)
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
