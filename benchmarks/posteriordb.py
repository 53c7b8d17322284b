"""Black-box inference on posteriors with reference draws: posteriordb's, and five on generated data.

Ours is `fit(model, data)` with its defaults (mean field, from which linear response comes), and full rank. Errors are
in units of the reference's standard deviations. Truly converged: the ELBO is within 0.1 nat of the best that is known
of the family (long L-BFGS climbs on many fixed draws, from ours and from the reference), and, where ours is not
itself the best, every mean within 0.1 sd of that there. ELBOs of all, peers included, are taken on the same 10,000
draws under our log joint. Peers run with their usual settings until they reach the best ELBO that is known, rest
within 0.1 nat of it, or their time is over; the seconds that count are those until 0.1 nat below the best of that
run. Their compilation is not counted, and shown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks import models
from benchmarks.models import database
from benchmarks.report import Machine, Report, command_line, parser

NAME = "posteriordb"
PEERS = {"NumPyro": "numpyro", "Pyro": "pyro", "PyMC": "pymc"}
QUICK = ("eight_schools-eight_schools_noncentered", "mesquite-logmesquite_logvolume", "logistic")
DRAWS = 10_000


def main() -> int:
    """Measure, print, write; the exit code."""
    options = _options()
    if options.threads is not None:
        _limit(options.threads)
    try:
        root = database.folder()
    except FileNotFoundError as error:
        if not options.only or not set(options.only) <= set(models.GENERATED):
            print(error, file=sys.stderr)
            return 2
        root = None
    missing = [peer for peer in options.peers if importlib.util.find_spec(PEERS[peer]) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; pip install 'jensen[bench]', or --peers none", file=sys.stderr)
        return 2
    known = [*([] if root is None else database.names(root)), *models.GENERATED]
    names = options.only or (list(QUICK) if options.quick else known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"unknown posteriors: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    with threadpool_limits(options.threads):
        records = _measure(names, root, options)
    _report(records, options)
    return 0


def _options() -> argparse.Namespace:
    options_of = parser(NAME, __doc__)
    options_of.formatter_class = argparse.RawDescriptionHelpFormatter
    options_of.add_argument("--only", nargs="+", metavar="NAME", help="posteriors to run (all)")
    options_of.add_argument("--peers", nargs="+", default=list(PEERS), help="NumPyro, Pyro, PyMC (all), or none")
    options_of.add_argument("--budget", type=float, default=60.0, help="seconds of each peer on each posterior (60)")
    options_of.add_argument("--threads", type=int, help="of torch and of the peers' libraries; theirs if not given")
    options_of.add_argument(
        "--records", type=Path, metavar="FILE",
        help="append each posterior's numbers as they come; those already there are not measured again",
    )  # fmt: skip
    options = options_of.parse_args()
    options.peers = [] if options.peers == ["none"] else options.peers
    wrong = sorted(set(options.peers) - set(PEERS))
    if wrong:
        options_of.error(f"peers are {', '.join(PEERS)} or none, not {', '.join(wrong)}")
    if options.quick:
        options.budget = min(options.budget, 1.0)
    return options


def _limit(threads: int) -> None:
    """Of this process and of those that it starts, which read the environment when they import their libraries."""
    torch.set_num_threads(threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def _measure(names: list[str], root: Path | None, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from benchmarks.posteriordb_ours import warm_up
    from benchmarks.posteriordb_peers import Peer

    settings = {"peers": options.peers, "budget": options.budget, "quick": options.quick, "threads": options.threads}
    records = _kept(options.records, settings)
    peers = [Peer(name, root, options.threads) for name in options.peers]
    try:
        if set(names) - set(records):
            warm_up()
        for count, name in enumerate(names):
            if name not in records:
                records[name] = _posterior(name, root, peers, options.budget)
                _keep(options.records, {"posterior": name, "settings": settings, **records[name]})
            print(f"{count + 1}/{len(names)} {_line(name, records[name])}", file=sys.stderr, flush=True)
    finally:
        for peer in peers:
            peer.close()
    return {name: records[name] for name in names}


def _posterior(name: str, root: Path | None, peers: list[Any], budget: float) -> dict[str, Any]:
    from benchmarks.posteriordb_judge import Judge
    from benchmarks.posteriordb_ours import FAMILIES, ours

    case = models.case(name, root)
    judge = Judge(case, models.reference(name, root), DRAWS)
    starts = {}
    if root is not None and name not in models.GENERATED:
        latents = case.to_latents(database.read_draws(root, name))
        u = judge.target.coordinates.unconstrain(latents)
        starts["reference"] = (u.mean(0), u.std(0))
    record: dict[str, Any] = {family: ours(case, judge, family, starts) for family in FAMILIES}
    found = [record["mean_field"].get(key) for key in ("elbo", "best_elbo")]
    known = max((elbo for elbo in found if elbo is not None), default=None)
    record["peers"] = {peer.name: peer.climb(name, judge, budget, known) for peer in peers}
    return record


def _kept(path: Path | None, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Records of an earlier run with the same settings; the last line may be cut short."""
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.pop("settings") == settings:
            found[record.pop("posterior")] = record
    return found


def _keep(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_without_infinities(record), allow_nan=False) + "\n")


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(name: str, record: dict[str, Any]) -> str:
    parts = [name]
    for family in ("mean_field", "full_rank"):
        fit = record[family]
        told = {key: fit.get(key) for key in ("seconds", "error", "gap", "converged", "true")}
        parts.append(f"{family} " + (fit.get("failed") or ", ".join(f"{key} {_short(v)}" for key, v in told.items())))
    for peer, run in record["peers"].items():
        parts.append(f"{peer} " + (run.get("failed", "")[:70] or f"{run['seconds']:.2f} s"))
    return "; ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _report(records: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    from benchmarks.posteriordb_rows import rows, show_accuracy

    notes = [f"Peers' time on each posterior: {options.budget:g} s at most."]
    if options.quick:
        notes.append("--quick: few posteriors, little time for peers. These numbers mean nothing.")
    show_accuracy(records)
    found = rows(records, [name for name in records if name not in models.GENERATED])
    report = Report(NAME, Machine.here(command_line(NAME)), options.quick, found, notes)
    report.show()
    if options.json is not None:
        report.write(options.json)


if __name__ == "__main__":
    sys.exit(main())
