"""Conjugate models against scikit-learn, bayespy, gensim and hmmlearn: same data, same start, same threads.

Everything is float64, but for topic models, which are float32 on both sides.

Every part says in the notes what was held equal. `--only` runs some of the parts.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import torch
from threadpoolctl import threadpool_limits

from benchmarks.report import Machine, Report, Row, command_line, parser

NAME = "conjugate"
PARTS = {
    "iterations": "benchmarks.conjugate_iterations",
    "mixture": "benchmarks.conjugate_mixture",
    "hmm": "benchmarks.conjugate_hmm",
    "factors": "benchmarks.conjugate_factors",
    "lda": "benchmarks.conjugate_lda",
}
PEERS = ("sklearn", "bayespy", "gensim", "hmmlearn")


def main() -> int:
    """Measure, print, write; the exit code."""
    options_of = parser(NAME, __doc__)
    options_of.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    options_of.add_argument(
        "--threads", type=int, help="of torch and of the peers' BLAS and OpenMP; theirs if not given"
    )
    options = options_of.parse_args()
    missing = [peer for peer in PEERS if importlib.util.find_spec(peer) is None]
    if missing:
        print(f"{NAME} needs its peers ({', '.join(missing)}): pip install 'jensen[bench]'", file=sys.stderr)
        return 2
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    rows: list[Row] = []
    notes: list[str] = []
    with threadpool_limits(options.threads):
        for part in options.only:
            found, remarks = importlib.import_module(PARTS[part]).rows(options.quick)
            rows += found
            notes += remarks
    if options.quick:
        notes.append("--quick: little data and few repeats. These numbers mean nothing.")
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, rows, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
