"""Training speed and memory of our trainer against pythae's and against a bare PyTorch loop, on the same networks.

Images a second over whole epochs (medians of interleaved repeats, each contender in a process of its own) and the
largest resident set of each process. Same images, batch and threads; validation and saving off.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch

from benchmarks.interleave import Contender, Measured, interleave
from benchmarks.loops import Case, bare_loop, jensen_trainer, pythae_trainer, real_mnist
from benchmarks.report import Machine, Report, Row, command_line, parser, processor_flags, row_of
from jensen.config import NetConfig

Maker = Callable[[], Contender]

NAME = "vae_training"
OURS, BF16, BARE = "jensen", "jensen bf16 channels_last", "bare PyTorch loop"
PYTHAE, PYTHAE_FUSED = "pythae", "pythae, fused Adam"
BF16_FLAGS = ("amx_bf16", "avx512_bf16")  # of processors that multiply bf16 matrices
REPEATS = 7

MLP = Case("MLP 784-400-20", (1, 28, 28), 20, NetConfig(kind="mlp", width=400, depth=1), 128, 468, mnist=True)
CONV = Case("conv 64x64", (1, 64, 64), 10, NetConfig(kind="conv"), 128, 20, mnist=False)
QUICK_STEPS = {MLP.name: 40, CONV.name: 2}
QUICK_REPEATS = 3


def mlp_rows(case: Case, repeats: int, threads: int) -> list[Row]:
    """MLP: against pythae, as it comes and with our optimiser, and against the bare loop."""
    makers: dict[str, Maker] = {
        OURS: partial(jensen_trainer, case),
        BARE: partial(bare_loop, case),
        PYTHAE: partial(pythae_trainer, case, fused=False),
        PYTHAE_FUSED: partial(pythae_trainer, case, fused=True),
    }
    found = interleave(makers, repeats, threads)
    return rows_against(case, found, OURS, {PYTHAE: 2.0, PYTHAE_FUSED: None, BARE: 0.95})


def conv_rows(case: Case, repeats: int, threads: int) -> list[Row]:
    """Convolutions: float32, and bf16 with channels_last, both against the bare float32 loop."""
    makers: dict[str, Maker] = {
        OURS: partial(jensen_trainer, case),
        BF16: partial(jensen_trainer, case, precision="bf16", channels_last=True),
        BARE: partial(bare_loop, case),
    }
    found = interleave(makers, repeats, threads)
    has_bf16 = any(flag in processor_flags() for flag in BF16_FLAGS)
    return [
        *rows_against(case, found, OURS, {BARE: 0.95}),
        *rows_against(case, found, BF16, {BARE: 1.8 if has_bf16 else None}),
    ]


def rows_against(
    case: Case, found: Mapping[str, Measured], ours: str, targets: Mapping[str, float | None]
) -> list[Row]:
    """Speed with its target, and memory, of `ours` against each peer."""
    mine = found[ours]
    name = case.name if ours == OURS else f"{case.name}, bf16"
    rows = []
    for peer, target in targets.items():
        its = found[peer]
        note = (
            f"{1e3 * mine.median / case.steps:.2f} against {1e3 * its.median / case.steps:.2f} ms a step of "
            f"{case.batch_size}; repeats spread over {mine.spread:.0%} and {its.spread:.0%} of the median"
        )
        speeds = (case.images / mine.median, case.images / its.median)
        rows.append(row_of(name, *speeds, peer, "images/s", target=target, note=note))
    for peer in targets:
        its = found[peer]
        note = f"of this, libraries before any data: {mine.before:.0f} and {its.before:.0f} MB"
        peaks = (mine.peak, its.peak)
        rows.append(row_of(f"{name}, peak memory", *peaks, peer, "MB", higher_is_better=False, note=note))
    return rows


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, help="of each process; torch's choice if not given")
    options = options_of.parse_args()
    if importlib.util.find_spec("pythae") is None:
        print(f"{NAME} needs pythae, its peer: pip install 'jensen[bench]'", file=sys.stderr)
        return 2
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    threads = torch.get_num_threads()
    cases, repeats = [MLP, CONV], REPEATS
    if options.quick:
        cases, repeats = [replace(case, steps=QUICK_STEPS[case.name]) for case in cases], QUICK_REPEATS
    rows = [*mlp_rows(cases[0], repeats, threads), *conv_rows(cases[1], repeats, threads)]
    notes = [
        f"Medians of {repeats} interleaved repeats of {cases[0].steps} (MLP) and {cases[1].steps} (conv) steps; each "
        "contender in its own process, float32 unless said, fused Adam, except where the peer is pythae as it comes. "
        "Ours is the Trainer with its logging and its checks for NaN, and a validation on one image at the end of each "
        "repeat.",
        "The conv net is that of Burgess et al. 2018 (10 latents); bf16: autocast, with channels_last.",
        f"Images: {'MNIST' if real_mnist() else 'generated, 28x28 (JENSEN_DATA names no folder with mnist.npz)'} "
        "for the MLP, generated rectangles for the conv net; grey levels in [0, 1], not binarised.",
    ]
    if options.quick:
        notes.append("--quick: few steps and repeats. These numbers mean nothing.")
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
