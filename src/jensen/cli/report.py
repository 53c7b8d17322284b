"""`jensen report`: a page with all there is to see of a run."""

from __future__ import annotations

from jensen.cli.infer_file import FILE_FACTS, FileFacts
from jensen.cli.infer_run import InferenceRun, is_interrupted
from jensen.cli.options import POSTERIOR_FILE, AnyRunPath
from jensen.cli.screen import say
from jensen.errors import JensenError

__all__ = ["report"]


def report(run: AnyRunPath, /) -> None:
    """Write RUN/report.html, one file with all there is to see of a run.

    Curves, reconstructions, samples (a class a row, or the hidden part filled
    in, where the model was told something), latent space, what each latent does
    and which factor it knows, and what `jensen evaluate` found, if it was asked
    before; of a posterior the bound, the model's own pictures, means and
    intervals.

    jensen report runs/digits-vae
    jensen report runs/iris-mixture
    """
    if (run / FILE_FACTS).is_file():
        # Pictures need the model, and so its code, which reading a run never runs.
        if not (run / "report.html").is_file():
            raise JensenError(f"{run} has lost its report: `jensen infer {FileFacts.read(run).file}` writes it anew")
        say(str(run / "report.html"))
        return
    if (run / POSTERIOR_FILE).is_file() or is_interrupted(run):
        say(str(InferenceRun.open(run).write_page()))
        return
    from jensen.report import write_report
    from jensen.training import Run

    say(str(write_report(Run.open(run))))
