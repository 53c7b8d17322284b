"""bayespy's ELBO and posterior means of a small Gaussian mixture with independent means and precisions, sweep by sweep.

    python tests/references/mixture_bayespy.py

writes mixture_bayespy.json beside this file (bayespy 0.6.6). Rows and first labels are those of the benchmark's case.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.conjugate_mixture import BayespySweeps, Case

SWEEPS = 8


def main() -> None:
    case = Case(200, 2, 3)
    peer = BayespySweeps(case)
    elbo = [float(peer.q.L[0])]
    for _ in range(SWEEPS):
        peer()
        elbo.append(float(peer.q.L[peer.q.iter - 1]))
    content = {
        "case": [case.rows, case.columns, case.components],
        "elbo": elbo,
        "means": peer.means.u[0].tolist(),
        "precisions": peer.precisions.u[0].tolist(),
    }
    path = Path(__file__).with_name("mixture_bayespy.json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
