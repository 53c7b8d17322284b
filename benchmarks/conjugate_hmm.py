"""Hidden Markov models against hmmlearn's variational ones: a part of `benchmarks.conjugate`.

Both take the same sweeps from the same sequences, priors and first posterior; that bound and parameters agree after the
same number of them is checked in the same run. hmmlearn has two passes in C, in log space (its default) and with scaled
probabilities; both are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from benchmarks.interleave import Contender, interleave
from benchmarks.report import Row, row_of
from jensen.families import Dirichlet, NormalWishart
from jensen.inference import State, evaluate
from jensen.inference.models.hmm import CategoricalEmissions, Emissions, GaussianEmissions, hidden_markov_model
from jensen.inference.models.sequences import Sequences
from jensen.inference.update import update

__all__ = ["Case", "HmmlearnSweeps", "Sweeps", "rows"]

Numbers = npt.NDArray[np.float64]

PEERS: Mapping[str, Literal["log", "scaling"]] = {"hmmlearn": "log", "hmmlearn, scaling": "scaling"}
COMPARED_SWEEPS = 3
TIMED_SWEEPS = 3
"""one after the other, as in a fit"""


@dataclass(frozen=True)
class Case:
    """Generated sequences, and a first posterior, the same in every process.

    Args:
        name: what it is about.
        lengths: shortest and longest sequence.
        columns: of normal observations; 0: symbols.
        symbols: how many, of categorical observations.
    """

    name: str
    sequences: int
    lengths: tuple[int, int]
    states: int
    columns: int = 0
    symbols: int = 0

    @property
    def title(self) -> str:
        """For the table."""
        low, high = self.lengths
        steps = f"{low:,}" if low == high else f"{low}-{high}"
        what = f"D {self.columns}" if self.columns else f"V {self.symbols}"
        return f"HMM, {self.name}: {self.sequences:,} of {steps} steps, {what}, K {self.states}"

    def data(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Observations (N, D), or (N, 1) symbols, and lengths (S,)."""
        rng = np.random.default_rng(0)
        lengths = rng.integers(self.lengths[0], self.lengths[1] + 1, self.sequences)
        total = int(lengths.sum())
        moves = rng.random(total) < 0.2
        jumps = np.where(moves, rng.integers(1, self.states, total) if self.states > 1 else 0, 0)
        path = jumps.cumsum() % self.states
        if self.columns:
            centres = 1.5 * rng.normal(size=(self.states, self.columns))
            x = centres[path] + rng.normal(size=(total, self.columns))
            return x - x.mean(0), lengths
        table = rng.dirichlet(np.full(self.symbols, 0.3), self.states).cumsum(1)
        return (rng.random(total)[:, None] > table[path]).sum(1).clip(max=self.symbols - 1)[:, None], lengths

    def start(self) -> dict[str, Numbers]:
        """The first posterior, by hmmlearn's names."""
        rng = np.random.default_rng(1)
        k, d = self.states, self.columns
        chain = {"startprob": 1 + rng.random(k), "transmat": 5 + rng.random((k, k)) + 20 * np.eye(k)}
        if not d:
            return {**chain, "emissionprob": 1 + 5 * rng.random((k, self.symbols))}
        means = rng.normal(size=(k, d))
        scale = np.tile(50.0 * np.eye(d), (k, 1, 1))
        return {**chain, "means": means, "beta": np.full(k, 20.0), "dof": np.full(k, 20.0 + d), "scale": scale}

    def prior(self) -> dict[str, Numbers]:
        """The same for the priors."""
        k, d = self.states, self.columns
        chain = {"startprob": np.full(k, 1 / k), "transmat": np.full((k, k), 1 / k)}
        if not d:
            return {**chain, "emissionprob": np.full((k, self.symbols), 1 / self.symbols)}
        scale = np.tile(np.eye(d), (k, 1, 1))
        return {**chain, "means": np.zeros((k, d)), "beta": np.ones(k), "dof": np.full(k, float(d)), "scale": scale}


def _families(given: Mapping[str, Numbers]) -> dict[str, Any]:
    """Posteriors or priors as ours, from hmmlearn's numbers."""
    t = {name: torch.as_tensor(value) for name, value in given.items()}
    chain: dict[str, Any] = {
        "initial": Dirichlet.from_standard(t["startprob"]),
        "transitions": Dirichlet.from_standard(t["transmat"]),
    }
    if "emissionprob" in t:
        return {**chain, "emissions": Dirichlet.from_standard(t["emissionprob"])}
    emissions = NormalWishart.from_standard(t["means"], t["beta"], t["dof"], torch.linalg.inv(t["scale"]))
    return {**chain, "emissions": emissions}


class Sweeps:
    """Our sweeps: called, it takes `count`, each with its ELBO, and gives the last."""

    def __init__(self, case: Case, count: int = 1) -> None:
        self.count = count
        x, lengths = case.data()
        values = torch.as_tensor(x) if case.columns else torch.as_tensor(x[:, 0])
        emissions: Emissions = GaussianEmissions("full") if case.columns else CategoricalEmissions()
        self.data = Sequences(values, lengths)
        self.model = hidden_markov_model(_families(case.prior()), emissions, _families(case.start()))
        self.state: State = self.model.start()

    def __call__(self) -> float:
        (block,) = self.model.order
        with torch.no_grad():
            for _ in range(self.count):
                found = evaluate(self.model, self.state, self.data, block)
                self.state = update(self.model, self.state, found, 1.0)
        return found.elbo


class HmmlearnSweeps:
    """What the loop of hmmlearn's `fit` does in an iteration: E-step, lower bound, M-step."""

    def __init__(self, case: Case, implementation: Literal["log", "scaling"], count: int = 1) -> None:
        from hmmlearn.vhmm import VariationalCategoricalHMM, VariationalGaussianHMM

        threadpool_limits(torch.get_num_threads())
        self.count = count
        self.x, self.lengths = case.data()
        kind = VariationalGaussianHMM if case.columns else VariationalCategoricalHMM
        self.model = kind(case.states, init_params="", implementation=implementation)
        self.model.n_features = case.columns or case.symbols
        for role, given in (("prior", case.prior()), ("posterior", case.start())):
            for name, value in given.items():
                setattr(self.model, f"{name}_{role}_", value)
        self.model._init(self.x, self.lengths)
        self.model._check()
        self.constant = 0.5 * case.columns * len(self.x) * np.log(2 * np.pi)  # which it leaves out of its bound

    def __call__(self) -> float:
        for _ in range(self.count):
            statistics, log_probability = self.model._do_estep(self.x, self.lengths)
            bound = self.model._compute_lower_bound(log_probability)
            self.model._do_mstep(statistics)
        return float(bound - self.constant)


CASES = (
    Case("Gaussian, many", sequences=500, lengths=(20, 180), states=8, columns=8),
    Case("Gaussian, one long", sequences=1, lengths=(50_000, 50_000), states=4, columns=4),
    Case("categorical, many", sequences=1_000, lengths=(5, 95), states=10, symbols=50),
    Case("categorical, one long", sequences=1, lengths=(50_000, 50_000), states=4, symbols=20),
)
QUICK = (
    Case("Gaussian, many", sequences=20, lengths=(5, 40), states=3, columns=3),
    Case("Gaussian, one long", sequences=1, lengths=(2_000, 2_000), states=3, columns=2),
    Case("categorical, many", sequences=20, lengths=(1, 40), states=3, symbols=10),
)


def rows(quick: bool) -> tuple[list[Row], list[str]]:
    """Seconds a sweep; remarks."""
    repeats, threads = (3, 1) if quick else (5, torch.get_num_threads())
    result = []
    for case in QUICK if quick else CASES:
        makers: dict[str, Callable[[], Contender]] = {"ours": partial(Sweeps, case, TIMED_SWEEPS)}
        makers |= {
            name: partial(HmmlearnSweeps, case, implementation, TIMED_SWEEPS) for name, implementation in PEERS.items()
        }
        found = interleave(makers, repeats, threads)
        agreement = _agreement(case)
        for peer in PEERS:
            note = f"repeats spread over {found['ours'].spread:.0%} and {found[peer].spread:.0%} of the median"
            times = (found["ours"].median / TIMED_SWEEPS, found[peer].median / TIMED_SWEEPS)
            result.append(
                row_of(case.title, *times, peer, "s/sweep", higher_is_better=False, note=f"{note}; {agreement}")
            )
    notes = [
        f"HMM: medians of {repeats} interleaved repeats, each contender in its own process, {threads} threads, "
        "float64; generated sequences, full covariances, equal priors and first posterior. A sweep includes its ELBO.",
    ]
    return result, notes


def _agreement(case: Case) -> str:
    """How far bound and parameters are apart after some sweeps; in log space hmmlearn loses digits on long ones."""
    mine, its = Sweeps(case), HmmlearnSweeps(case, "scaling")
    for _ in range(COMPARED_SWEEPS):
        elbo, theirs = mine(), its()
    transitions: Any = mine.state.q["transitions"]
    emissions: Any = mine.state.q["emissions"]
    last = "means" if case.columns else "emissionprob"
    pairs = {
        "transitions": (transitions.standard_parameters.concentration, its.model.transmat_posterior_),
        "emissions": (emissions.standard_parameters[0], getattr(its.model, f"{last}_posterior_")),
    }
    parts = [f"bounds {abs(elbo - theirs) / abs(theirs):.1e}"]
    parts += [f"{name} {float(np.abs(a.numpy() - b).max() / np.abs(b).max()):.1e}" for name, (a, b) in pairs.items()]
    return f"after {COMPARED_SWEEPS} sweeps relative differences are: {', '.join(parts)}"
