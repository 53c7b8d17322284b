"""How the time and memory of a Gaussian mixture grow, and a stream from disk in constant memory.

python -m benchmarks.mixture_growth scaling --picture FILE  time and memory over N, D and K
python -m benchmarks.mixture_growth stream --rows 10000000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.conjugate_mixture import CACHED, CHUNKED, SKLEARN, Case, SklearnSweeps, ours
from benchmarks.interleave import Contender, Measured, interleave, peak_memory
from jensen.estimators.mixture import BayesianMixture
from jensen.plots import save
from jensen.plots.scaling import loglog_scaling

Array = npt.NDArray[np.float64]

BASE = Case(30_000, 16, 16)
GROWTH: dict[str, tuple[str, Sequence[int]]] = {
    "N": ("rows", (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    "D": ("columns", (4, 8, 16, 32, 64)),
    "K": ("components", (4, 8, 16, 32, 64, 128)),
}
PEER_LIMIT = 60_000_000
"""N K D of the largest case that scikit-learn is given"""


def scaling(picture: Path, quick: bool, threads: int) -> None:
    """Measure seconds a sweep and peak memory while N, D and K grow one by one; print them and draw both."""
    panels: dict[str, dict[str, dict[str, tuple[list[float], list[float]]]]] = {"seconds a sweep": {}, "MB": {}}
    for axis, (field, sizes) in GROWTH.items():
        lines: dict[str, list[tuple[float, float, float]]] = {}
        for size in sizes[:2] if quick else sizes:
            case = replace(BASE, **{field: size})  # type: ignore[arg-type]
            for name, found in _measured(case, threads).items():
                sweeps = 1 if name == SKLEARN else 2
                lines.setdefault(name, []).append((size, found.median / sweeps, found.peak - found.before))
                print(f"{case.name:50} {name:16} {found.median / sweeps:9.4f} s/sweep {lines[name][-1][2]:8.0f} MB")
        for place, what in ((1, "seconds a sweep"), (2, "MB")):
            panels[what][axis] = {
                name: ([p[0] for p in points], [max(p[place], 1e-6) for p in points]) for name, points in lines.items()
            }
    for what, panel in panels.items():
        path = picture.with_stem(f"{picture.stem}_{'time' if what != 'MB' else 'memory'}")
        title = "Gaussian mixture, full covariances" + (": memory over that of the libraries" if what == "MB" else "")
        print(save(loglog_scaling(panel, y=what, title=title), path))


def _measured(case: Case, threads: int) -> dict[str, Measured]:
    makers: dict[str, Callable[[], Contender]] = {
        CHUNKED: partial(ours, case, cache=False, count=2),
        CACHED: partial(ours, case, cache=True, count=2),
    }
    if case.rows * case.components * case.columns <= PEER_LIMIT:
        makers[SKLEARN] = partial(SklearnSweeps, case)
    result: dict[str, Measured] = {}
    for name, maker in makers.items():  # one process at a time: the largest take much memory
        result |= interleave({name: maker}, 3, threads)
    return result


def stream(count: int, columns: int = 8, components: int = 10, batch: int = 50_000) -> None:
    """Write `count` generated rows to disk, stream them through `partial_fit`, print peak memory on the way."""
    rng = np.random.default_rng(0)
    centres = 5 * rng.normal(size=(components, columns))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        _generate(path, count, centres, batch, rng)
        size = path.stat().st_size / 1e6
        print(f"{count:,} rows of {columns} columns on disk: {size:,.0f} MB")
        model = BayesianMixture(components, mean_precision=0.01, n_init=5, total_size=count, random_state=0)
        start = time.perf_counter()
        base = peak_memory()
        steps = -(-count // batch)
        for step, rows_ in enumerate(_batches(path, batch), start=1):
            model.partial_fit(rows_)
            if step in (1, 2, 5) or step % max(1, steps // 8) == 0:
                print(
                    f"batch {step:5}/{steps}, {time.perf_counter() - start:7.1f} s, ELBO estimate {model.elbo_:.6g}, "
                    f"peak memory {peak_memory():.0f} MB ({peak_memory() - base:.0f} since before the first batch)",
                    flush=True,
                )
    large = model.weights_ > 0.01
    nearest = np.linalg.norm(model.means_[large][:, None] - centres, axis=-1).min(0)
    print(f"{large.sum()} components above 1%; true means are at most {nearest.max():.3g} from a posterior mean")


def _generate(path: Path, count: int, centres: Array, batch: int, rng: np.random.Generator) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (count, centres.shape[1])}
    with path.open("wb") as file:  # not through a map: its pages would count as this process's memory
        np.lib.format.write_array_header_1_0(file, header)
        for i in range(0, count, batch):
            here = centres[rng.integers(len(centres), size=min(batch, count - i))]
            file.write((here + rng.normal(size=here.shape)).astype("<f8").tobytes())


def _batches(path: Path, size: int) -> Iterator[Array]:
    """Rows of a .npy file; mapped anew for each batch, so that pages that were read do not pile up in memory."""
    count = len(np.load(path, mmap_mode="r"))
    for i in range(0, count, size):
        yield np.array(np.load(path, mmap_mode="r")[i : i + size])


def main() -> int:
    """Growth or a stream; the exit code."""
    options_of = argparse.ArgumentParser(
        prog="python -m benchmarks.mixture_growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = options_of.add_subparsers(dest="command", required=True)
    growth = commands.add_parser("scaling", help="time and memory over N, D and K")
    growth.add_argument("--picture", type=Path, default=Path("runs/mixture_scaling.png"))
    growth.add_argument("--threads", type=int, default=torch.get_num_threads())
    growth.add_argument("--quick", action="store_true")
    streamed = commands.add_parser("stream", help="rows from disk in constant memory")
    streamed.add_argument("--rows", type=int, default=10_000_000)
    options = options_of.parse_args()
    if options.command == "scaling":
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        scaling(options.picture, options.quick, options.threads)
    else:
        stream(options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
