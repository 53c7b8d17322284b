"""A quantiser's training step (forward, backward, moving averages) against vector-quantize-pytorch.

Both do the same work on the same vectors from the same codebook: nearest codes, straight-through gradient, commitment
penalty, moving averages with Laplace smoothing; no revival, and the peer's plain gradient in place of its rotation.
Seconds are medians of steps taken in turn, each contender in a process of its own. Memory is what the resident set of
a fresh process grows by over two steps, at its largest, above libraries, vectors and codebook.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.interleave import Contender, interleave, peak_memory
from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.nn.quantiser import VectorQuantiser

NAME = "vq"
PEER = "vector-quantize-pytorch"
DIM = 64
DECAY, COMMITMENT = 0.99, 0.25
SPEED_TARGET, MEMORY_TARGET = 1.5, 1.0
AT_ONCE = 4096  # vectors whose codes are compared: the peer's one-hot codes take much memory


@dataclass(frozen=True)
class Case:
    """Vectors, as a network gives them, and a codebook."""

    levels: int
    images: bool
    """(batch, channels, height, width); False: (batch, length, channels), the peer's own layout"""
    repeats: int
    batch: int = 64
    side: int = 32

    @property
    def name(self) -> str:
        """For the table."""
        return f"K {self.levels:,}, {'images' if self.images else 'rows'}"

    @property
    def vectors(self) -> int:
        """N."""
        return self.batch * self.side**2


CASES = (Case(512, True, 9), Case(512, False, 9), Case(8192, True, 3))


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, default=1, help="of torch")
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    cases = [replace(case, batch=1, repeats=2) for case in CASES[::2]] if options.quick else CASES
    rows: list[Row] = []
    notes = [f"{cases[0].vectors:,} vectors of {DIM} dimensions in float32, normally distributed, as are the codes."]
    for case in cases:
        found, note = measure(case, options.threads)
        rows += found
        notes.append(note)
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


def measure(case: Case, threads: int) -> tuple[list[Row], str]:
    """Rows of time and memory, and how far the two agree."""
    say(f"{case.name}: codes")
    note = agreement(case)
    say(f"{case.name}: memory")
    ours, peer = (growth(make, case, threads) for make in (our_step, peer_step))
    memory = row_of(case.name, ours, peer, PEER, "MB", target=MEMORY_TARGET, higher_is_better=False)
    say(f"{case.name}: time")
    found = interleave({"ours": partial(our_step, case), PEER: partial(peer_step, case)}, case.repeats, threads)
    spreads = " and ".join(f"{100 * measured.spread:.0f}%" for measured in found.values())
    seconds = row_of(
        case.name,
        1e3 * found["ours"].median,
        1e3 * found[PEER].median,
        PEER,
        "ms",
        target=SPEED_TARGET,
        higher_is_better=False,
        note=f"{case.repeats} steps each; largest minus smallest {spreads} of the median",
    )
    return [seconds, memory], note


def agreement(case: Case) -> str:
    """That both choose the same codes of all vectors, and learn the same codebook from some, in words.

    Raises:
        RuntimeError: they do not, beyond rounding.
    """
    rows, codebook, _ = problem(case)
    ours, peer = our_quantiser(codebook).eval(), peer_quantiser(codebook, images=False).eval()
    equal, worst = 0, 0.0
    with torch.no_grad():
        for part in rows.split(AT_ONCE):
            mine, its = ours(part.T[None]).codes.flatten(), peer(part[None])[1].flatten()
            equal += int((mine == its).sum())
            distances = [(part.double() - codebook[codes].double()).square().sum(1) for codes in (mine, its)]
            worst = max(worst, float(((distances[0] - distances[1]).abs() / distances[1]).max()))
        few = rows[:AT_ONCE]
        ours.train()(few.T[None])
        peer.train()(few[None])
        apart = float((ours.codebook.embedding - peer.codebook).abs().max())
    if worst > 1e-5 or apart > 1e-4:
        raise RuntimeError(f"{case.name}: codes differ by {worst:.2g} of their distance, codebooks by {apart:.2g}")
    others = f" (the others' squared distances to {worst:.1g} of them)" if equal < len(rows) else ""
    return (
        f"{case.name}: {100 * equal / len(rows):.4g}% of the codes are the same{others}, and codebooks after a step on "
        f"{len(few):,} vectors to {apart:.1g}."
    )


def problem(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (n, D), codebook (K, D), and a gradient for the embeddings (n, D)."""
    generator = torch.Generator().manual_seed(0)
    rows, codebook, gradient = (
        torch.randn(n, DIM, generator=generator) for n in (case.vectors, case.levels, case.vectors)
    )
    return rows, codebook, gradient


def laid_out(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors and gradient as images (batch, D, height, width), or as rows (batch, length, D); and the codebook."""
    rows, codebook, gradient = problem(case)
    if case.images:
        shape = (case.batch, DIM, case.side, case.side)
        return rows.view(shape), gradient.view(shape), codebook
    return rows.view(case.batch, -1, DIM), gradient.view(case.batch, -1, DIM), codebook


def our_quantiser(codebook: Tensor) -> VectorQuantiser:
    """Ours, with this codebook."""
    quantiser = VectorQuantiser(
        len(codebook), DIM, decay=DECAY, commitment=COMMITMENT, initial="random", revival=0.0, codebook="ema"
    )
    quantiser.codebook.embedding.copy_(codebook)
    quantiser.codebook.sums.copy_(codebook)
    return quantiser


def peer_quantiser(codebook: Tensor, images: bool) -> Any:
    """The peer's, with this codebook."""
    quantiser = import_module("vector_quantize_pytorch").VectorQuantize(
        dim=DIM,
        codebook_size=len(codebook),
        decay=DECAY,
        commitment_weight=COMMITMENT,
        rotation_trick=False,
        accept_image_fmap=images,
    )
    quantiser._codebook.embed.copy_(codebook[None])
    quantiser._codebook.embed_avg.copy_(codebook[None])
    return quantiser


def our_step(case: Case) -> Contender:
    """A training step of ours."""
    features, gradient, codebook = laid_out(case)
    quantiser = our_quantiser(codebook)
    if not case.images:  # our own layout, with nothing moved
        features, gradient = features.transpose(1, 2), gradient.transpose(1, 2)

    def step() -> Tensor:
        z = features.detach().requires_grad_()
        found = quantiser(z)
        torch.autograd.backward([found.embedding, found.penalties["commitment"]], [gradient, None])
        assert z.grad is not None
        return z.grad

    return step


def peer_step(case: Case) -> Contender:
    """The same of the peer."""
    features, gradient, codebook = laid_out(case)
    quantiser = peer_quantiser(codebook, case.images)

    def step() -> Tensor:
        z = features.detach().requires_grad_()
        embedding, _, commitment = quantiser(z)
        torch.autograd.backward([embedding, commitment], [gradient, None])
        assert z.grad is not None
        return z.grad

    return step


def growth(make: Callable[[Case], Contender], case: Case, threads: int) -> float:
    """MB by which the resident set of a fresh process grows over two steps, at its largest."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_growth, make, case, threads).result()


def _growth(make: Callable[[Case], Contender], case: Case, threads: int) -> float:
    torch.set_num_threads(threads)
    # What libraries load at their first call is no part of it.
    make(replace(case, batch=1, side=4, levels=64))()
    contender = make(case)
    before = peak_memory()
    for _ in range(2):
        contender()
    return max(peak_memory() - before, 0.1)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
