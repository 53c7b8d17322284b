"""`jensen report`: a page with all there is to see of a run."""

from __future__ import annotations

from jensen.cli.options import RunPath
from jensen.cli.screen import say

__all__ = ["report"]


def report(run: RunPath, /) -> None:
    """Write RUN/report.html, one file with all there is to see of a run.

    Curves, reconstructions, samples, latent space, and what `jensen evaluate`
    found, if it was asked before.

    jensen report runs/digits-vae
    """
    from jensen.report import write_report
    from jensen.training import Run

    say(str(write_report(Run.open(run))))
