"""Seconds to draw 64 grids of codes: incrementally, and by all of the net again for every value.

"ours" is `draw`: a PixelCNN that keeps its layers' activations, a transformer that keeps its keys and values. The peer
is the same net with the same weights, whose full forward is asked for the logits of one value at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.interleave import Contender, Measured, interleave
from benchmarks.report import Machine, Report, Row, command_line, parser, row_of
from jensen.config import AutoregressiveConfig
from jensen.nn.autoregressive import AutoregressiveNet, draw, make_autoregressive

NAME = "generation"
KINDS = ("pixelcnn", "transformer")
NAIVE = "full forward for every value"
LIMIT = "10 s"
SECONDS = 10.0
"""in which the grids should be there, on two cores"""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    grids: int
    sides: tuple[int, ...]
    nets: tuple[tuple[int, int], ...]
    """width and depth"""
    levels: int
    batch: int
    """of a training step"""
    repeats: int


FULL = Size(64, (7, 8), ((64, 8), (128, 12)), 512, 128, 3)
QUICK = Size(4, (3,), ((8, 2),), 16, 4, 1)


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--threads", type=int, default=2, help="of torch")
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    rows, notes = measure(QUICK if options.quick else FULL, options.threads)
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


def measure(size: Size, threads: int) -> tuple[list[Row], list[str]]:
    """Rows of every net and grid, and notes on what a step of training takes."""
    rows, notes = [], [described(size)]
    for width, depth in size.nets:
        for kind in KINDS:
            config = AutoregressiveConfig.model_validate({"kind": kind, "width": width, "depth": depth})
            for side in size.sides:
                shape = (1, side, side)
                say(f"{kind}, width {width}, depth {depth}: {side}x{side}")
                makers: dict[str, Callable[[], Contender]] = {
                    "ours": partial(drawing, config, shape, size, naive=False),
                    "peer": partial(drawing, config, shape, size, naive=True),
                }
                rows += generation_rows(config, side, size, interleave(makers, size.repeats, threads))
            shape = (1, size.sides[0], size.sides[0])
            step = interleave({"step": partial(training, config, shape, size)}, 2 * size.repeats, threads)["step"]
            parameters = sum(weight.numel() for weight in net_for(config, shape, size).parameters())
            notes.append(
                f"{kind}, width {width}, depth {depth}, {parameters:,} weights: a step of training on {size.batch} "
                f"grids of {shape[1]}x{shape[2]} takes {step.median:.2f} s on {threads} thread(s) "
                f"(median of {len(step.seconds)})."
            )
    return rows, notes


def generation_rows(config: AutoregressiveConfig, side: int, size: Size, measured: dict[str, Measured]) -> list[Row]:
    """Against the limit, and against the naive way."""
    case = f"{size.grids} grids of {side}x{side}: {config.kind}, width {config.width}, depth {config.depth}"
    ours, peer = measured["ours"], measured["peer"]
    note = f"medians of {len(ours.seconds)} in turn; spread {ours.spread:.0%}, peer {peer.spread:.0%}"
    row = partial(row_of, case, ours.median, unit="s", higher_is_better=False)
    return [
        row(peer=SECONDS, peer_name=LIMIT, target=1.0),
        row(peer=peer.median, peer_name=NAIVE, target=1.0, note=note),
    ]


def drawing(config: AutoregressiveConfig, shape: tuple[int, ...], size: Size, *, naive: bool) -> Contender:
    """Draws all grids."""
    net = net_for(config, shape, size)
    return partial(draw_naively if naive else draw, net, size.grids)


@torch.no_grad()
def draw_naively(net: AutoregressiveNet[Any], n: int) -> Tensor:
    """As `draw`, for one channel, with all of the net computed again for every value."""
    net.eval()
    x = torch.zeros(n, *net.shape, dtype=torch.int64)
    for i in range(x[0].numel()):
        logits = net(x).flatten(1, -2)[:, i]
        x.view(n, -1)[:, i] = torch.multinomial(logits.softmax(-1), 1)[:, 0]
    return x


def training(config: AutoregressiveConfig, shape: tuple[int, ...], size: Size) -> Contender:
    """One step of Adam on the likelihood of a batch."""
    net = net_for(config, shape, size).train()
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    x = torch.randint(size.levels, (size.batch, *shape))

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x).flatten(0, -2), x.flatten()).backward()
        optimiser.step()

    return step


def net_for(config: AutoregressiveConfig, shape: tuple[int, ...], size: Size) -> AutoregressiveNet[Any]:
    """Both ways of drawing, and every process, have the same weights."""
    torch.manual_seed(0)
    return make_autoregressive(config, shape, size.levels)


def described(size: Size) -> str:
    return (
        f"Codes take {size.levels} values; nets are untrained, which costs the same. The limit of {LIMIT} is for two"
        " cores. Each contender is a process of its own, warmed up once."
    )


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
