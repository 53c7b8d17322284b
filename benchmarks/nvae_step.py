"""A training step of NVAE, and decoding, against the published architecture written plainly in PyTorch.

Both have the same cells and sizes, shown by equal numbers of parameters and by the same ELBO from the same weights and
noise, and the same optimiser; the plain one (`benchmarks.models.plain_nvae`) is float32 in torch's usual layout. Random
binary images, Bernoulli likelihood, no spectral regularisation on either side. Speeds are medians of steps taken in
turn, each contender in a process of its own. Memory is what the resident set of a fresh process grows by, at its
largest, above the libraries: weights, gradients, the optimiser's state and activations of two steps.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.interleave import Contender, interleave, peak_memory
from benchmarks.models.plain_nvae import PlainNVAE
from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.autoencoders import NVAE
from jensen.config import NetConfig
from jensen.config.scales import parse_scales
from jensen.data import Batch
from jensen.objectives import Elbo
from jensen.training.step import TrainingStep, recompute_activations

NAME = "nvae_step"
PEER = "plain PyTorch"
SPEED_TARGET, MEMORY_TARGET = 1.5, 0.7
DECODED = (1, 64)


@dataclass(frozen=True)
class Case:
    """An architecture and a batch."""

    name: str
    side: int
    scales: tuple[str, ...]
    halvings: int
    stem: int
    batch: int
    repeats: int
    cells: int = 2


@dataclass(frozen=True)
class Way:
    """How ours is run."""

    name: str
    half: bool
    """bf16 autocast"""
    checkpointing: bool


CASES = (
    Case("small, 28x28", 28, ("5x8@32", "3x8@64"), halvings=1, stem=1, batch=32, repeats=5),
    Case("MNIST's, 32x32", 32, ("10x20@128", "5x20@256"), halvings=2, stem=2, batch=16, repeats=3),
)
CONVOLUTION = "convolutions"
KINDS = {
    CONVOLUTION: ("conv", "Depthwise"),
    "batch normalisation": ("batch_norm", "BatchNorm"),
    "the optimiser": ("Optimizer",),
    "elementwise": (
        "silu",
        "Silu",
        "mul",
        "Mul",
        "add",
        "Add",
        "sub",
        "div",
        "copy",
        "elu",
        "Elu",
        "exp",
        "tanh",
        "sig",
    ),
}
"""parts of the names of operations, in the profile"""
WAYS = (
    Way("float32", half=False, checkpointing=False),
    Way("bf16", half=True, checkpointing=False),
    Way("float32, checkpointing", half=False, checkpointing=True),
    Way("bf16, checkpointing", half=True, checkpointing=True),
)


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, default=1, help="of torch")
    options_of.add_argument("--profile", action="store_true", help="also say where the time of a step goes")
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    notes: list[str] = []
    for case in [replace(CASES[0], scales=("2x4@16", "4@32"), batch=4, repeats=2)] if options.quick else CASES:
        notes.append(agreement(case))
        rows += steps(case, options.threads)
        rows += decoding(case)
        if options.profile:
            notes += [f"{case.name}, {PEER}: {shares(plain_step(case))}"]
            notes += [f"{case.name}, {way.name}: {shares(our_step(case, way))}" for way in WAYS[:2]]
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


def our_model(case: Case) -> NVAE:
    """Ours."""
    net = NetConfig(kind="cells", depth=case.cells)
    return NVAE((1, case.side, case.side), case.scales, net=net, downsampling=2**case.halvings, stem=case.stem)


def plain_model(case: Case) -> PlainNVAE:
    """The plain one."""
    return PlainNVAE(1, case.side, parse_scales(case.scales), case.halvings, case.stem, case.cells)


def images(case: Case) -> Tensor:
    """(batch, 1, side, side) of zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(case.batch, 1, case.side, case.side, generator=generator).round()


def training(case: Case, model: NVAE) -> Callable[[Tensor], Tensor]:
    """The loss that our trainer differentiates."""
    step = TrainingStep(model, Elbo(), 60_000)

    def loss(x: Tensor) -> Tensor:
        value: Tensor = step(Batch(x, x, None, torch.arange(len(x))), 0)[0]
        step.output = None  # it keeps the whole graph
        return value

    return loss


def agreement(case: Case) -> str:
    """That both are the same model, in words: the same ELBO from the same weights and noise, in float64.

    Raises:
        RuntimeError: they are not.
    """
    ours, plain = our_model(case).double(), plain_model(case).double()
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
            its.copy_(mine)
        found = []
        for loss in (training(case, ours), plain):
            torch.manual_seed(0)
            found.append(float(loss(images(replace(case, batch=4)).double())))
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, plain)]
    apart = abs(found[0] - found[1]) / abs(found[1])
    if counts[0] != counts[1] or not apart < 1e-9:
        raise RuntimeError(f"{case.name}: parameters {counts}, minus the ELBO {found}: these are different models")
    scales = ",".join(case.scales)
    return (
        f"{case.name}: {scales}, {case.halvings} halvings and {case.stem} cells a size before, {case.cells} cells a "
        f"group on each way; batch {case.batch}. Parameters: ours {counts[0]:,}, plain {counts[1]:,}; with the same "
        f"weights and noise their ELBOs differ by {apart:.1g} of it."
    )


def our_step(case: Case, way: Way) -> Contender:
    """A training step of ours."""
    torch.manual_seed(0)
    model = our_model(case).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if way.checkpointing:
        recompute_activations(model)
    return stepping(training(case, model), model, images(case).to(memory_format=torch.channels_last), way.half)


def plain_step(case: Case) -> Contender:
    """The same of the plain one."""
    torch.manual_seed(0)
    model = plain_model(case)
    return stepping(model, model, images(case), half=False)


def stepping(loss: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor, half: bool) -> Contender:
    """Forward, backward, Adamax."""
    optimiser = torch.optim.Adamax(model.parameters(), 1e-3, eps=1e-3)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(x)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return float(value.detach())

    return step


def our_decoder(case: Case, count: int, half: bool) -> Contender:
    """Means of images from codes, by ours."""
    torch.manual_seed(0)
    model = our_model(case).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    z = torch.randn(count, model.latent)

    def decode() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            found: Tensor = model.decode(z)
            return found

    return decode


def plain_decoder(case: Case, count: int) -> Contender:
    """The same by the plain one."""
    torch.manual_seed(0)
    z = [torch.randn(count, *shape) for shape in our_model(case).level_shapes]
    model = plain_model(case).eval()

    def decode() -> Tensor:
        with torch.inference_mode():
            found: Tensor = model.decode(z)
            return found

    return decode


def steps(case: Case, threads: int) -> list[Row]:
    """Rows of images a second and of peak memory, the other figure beside each."""
    makers: dict[str, Callable[[Case], Contender]] = {way.name: partial(our_step, way=way) for way in WAYS}
    makers[PEER] = plain_step
    say(f"{case.name}: memory")
    memory = {name: growth(make, case, threads) for name, make in makers.items()}
    say(f"{case.name}: steps")
    found = interleave({name: partial(make, case) for name, make in makers.items()}, case.repeats, threads)
    speed = {name: case.batch / measured.median for name, measured in found.items()}
    fastest = max((way.name for way in WAYS), key=speed.__getitem__)
    rows = []
    for way in WAYS:
        faster, smaller = speed[way.name] / speed[PEER], memory[way.name] / memory[PEER]
        spreads = " and ".join(f"{100 * found[name].spread:.0f}%" for name in (way.name, PEER))
        note = f"{faster:.2f} of its speed with {smaller:.2f} of its memory; {case.repeats} steps each, "
        note += f"largest minus smallest {spreads} of the median"
        aims: list[float | None] = [SPEED_TARGET if way.name == fastest else None, None]
        if way.checkpointing:
            aims = [aims[0] or 1.0, 1 / MEMORY_TARGET]
        name = f"{case.name}, {way.name}"
        rows += [
            row_of(name, speed[way.name], speed[PEER], PEER, "images/s", target=aims[0], note=note),
            row_of(name, memory[way.name], memory[PEER], PEER, "MB", target=aims[1], higher_is_better=False, note=note),
        ]
    return rows


def decoding(case: Case) -> list[Row]:
    """Rows of milliseconds for an image and for a batch, all taken in turn in this process."""
    rows = []
    for count in DECODED:
        say(f"{case.name}: decoding {count}")
        contenders = {"float32": our_decoder(case, count, half=False), "bf16": our_decoder(case, count, half=True)}
        contenders[PEER] = plain_decoder(case, count)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(1 + 3 * case.repeats):
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender()
                if repeat > 0:
                    seconds[name].append(time.perf_counter() - start)
        *ours, plain = (1e3 * statistics.median(each) for each in seconds.values())
        rows += [
            row_of(f"{case.name}, {name}, decoding {count}", value, plain, PEER, "ms", higher_is_better=False)
            for name, value in zip(contenders, ours, strict=False)
        ]
    return rows


def growth(make: Callable[[Case], Contender], case: Case, threads: int) -> float:
    """MB by which the resident set of a fresh process grows over two steps, at its largest."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_growth, make, case, threads).result()


def _growth(make: Callable[[Case], Contender], case: Case, threads: int) -> float:
    torch.set_num_threads(threads)
    # What libraries load at their first call is no part of it.
    make(replace(case, scales=("2x2@8", "2@8"), batch=2))()
    before = peak_memory()
    contender = make(case)
    for _ in range(2):
        contender()
    return max(peak_memory() - before, 0.1)


def shares(contender: Contender) -> str:
    """What a step's time goes to, by the profiler, in words."""
    contender()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        contender()
    spent: Counter[str] = Counter()
    for event in found.events() or []:
        spent[_kind(event)] += event.self_cpu_time_total
    total = sum(spent.values())
    return ", ".join(f"{kind} {100 * time / total:.0f}%" for kind, time in spent.most_common())


def _kind(event: Any) -> str:
    """What an operation is, with those within a depthwise convolution's or convolution's backward pass named so."""
    chain = [event.name]
    while (event := event.cpu_parent) is not None:
        chain.append(event.name)
    backward = any("evaluate_function" in name for name in chain)
    for kind, words in KINDS.items():
        if any(word in name for word in words for name in chain):
            return kind + (" backward" if backward and kind == CONVOLUTION else "")
    return "other"


def say(text: str) -> None:
    """On standard error: where we are."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
