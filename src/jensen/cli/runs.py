"""`jensen runs`: the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.deep import latents_in_words
from jensen.cli.history import best
from jensen.cli.infer_facts import FACTS_FILE, Facts
from jensen.cli.infer_file import FILE_FACTS, FIT_FILE, FileFacts
from jensen.cli.infer_models import bound_name
from jensen.cli.infer_run import InferenceRun, is_interrupted
from jensen.cli.models import codes_in_words
from jensen.cli.options import POSTERIOR_FILE
from jensen.cli.screen import say, table
from jensen.errors import CheckpointError, DataError, JensenError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["runs"]


def runs(root: Annotated[Path, Parameter(name="ROOT", help="folder of runs")] = Path("runs"), /) -> None:
    """List the runs in a folder: how far each came, and how to go on.

    jensen runs
    jensen runs experiments
    jensen runs runs/digits-vae
    """
    from jensen.training import Run, list_runs

    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is no folder")
    there = _folders(root)
    found = [] if there == {root} else list_runs(root)
    rows = [_row(run) for run in found]
    for path in sorted(there - {run.path for run in found}):
        try:
            if (path / FILE_FACTS).is_file():
                rows.append(_from_file(path))
                continue
            if (path / FIT_FILE).is_file():
                rows.append(_saved(path))
                continue
            if is_interrupted(path):
                InferenceRun.open(path)  # says what happened, and how to repair it
            rows.append(_inferred(path) if (path / POSTERIOR_FILE).is_file() else _row(Run.open(path)))
        except JensenError as error:
            say(f"unreadable: {error}")
    if not rows:
        say(f"no runs in {root}; `jensen train --data digits --epochs 100` makes one")
        return
    table(sorted(rows), ("run", "data", "model", "epochs", "validation", "state"))


def _folders(root: Path) -> set[Path]:
    """The folders that hold a run: those in `root`, or itself where it is one. The prior over a run's codes is none."""
    names = ("config.yaml", FACTS_FILE, FILE_FACTS)
    if any((root / name).is_file() for name in names):
        return {root}
    there = {file.parent for name in names for file in root.glob(f"*/{name}")}
    return {path for path in there if not (path / "codes.yaml").is_file()}


def _inferred(path: Path) -> tuple[str, ...]:
    """A run of `jensen infer`, without its estimator."""
    from jensen.inference.store import load_posterior

    facts = Facts.read(path) if (path / FACTS_FILE).is_file() else None
    settings = load_posterior(path).settings
    fit, arguments = settings.get("fit"), settings.get("arguments")
    if not isinstance(fit, dict) or not {"n_iter", "elbo", "converged", "stop_reason"} <= set(fit):
        raise JensenError(f"{path} holds a posterior without what a fit writes; run `jensen infer` again")
    state = "finished" if fit["converged"] else f"not settled: {fit['stop_reason']}"
    steps = f"{fit['n_iter']:,} steps"
    data, model = ("-", "saved from Python") if facts is None else (Path(facts.source).stem, facts.model)
    bound = bound_name(arguments.get("bound") if isinstance(arguments, dict) else None)
    return str(path), data, model, steps, f"{bound.replace('ELBO', 'elbo')} {fit['elbo']:,.2f}", state


def _from_file(path: Path) -> tuple[str, ...]:
    """A run of `jensen infer FILE.py`."""
    facts = FileFacts.read(path)
    data = "-" if facts.data is None else Path(facts.data).stem
    state = "finished" if facts.converged else f"not converged: {facts.reason}"
    model, steps = Path(facts.file).name, f"{facts.evaluations:,} gradients"
    return str(path), data, model, steps, f"elbo {facts.elbo:,.2f}", state


def _saved(path: Path) -> tuple[str, ...]:
    """A fit that Python has saved, or that `jensen infer FILE.py` was killed over."""
    import yaml

    try:
        said = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        elbo, state = float(said["elbo"]), "finished" if said["converged"] else f"not converged: {said['reason']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / 'config.yaml'} is missing or damaged: {error}") from None
    return str(path), "-", "saved from Python", "-", f"elbo {elbo:,.2f}", state


def _row(run: Run) -> tuple[str, ...]:
    from jensen.training.portable import is_portable

    config = run.config
    try:
        history, finished, model, after = run.history(), run.finished, _model(run), _prior_state(run)
    except JensenError as error:
        return str(run.path), config.data.title, config.model.kind, "-", "-", f"damaged: {error}"
    if is_portable(run.path):
        return str(run.path), config.data.title, model, "-", "-", "saved model: no training state"
    top = best(history)
    done = len(history.get("epoch", []))
    return (
        str(run.path),
        config.data.title,
        model,
        f"{done} of {config.train.epochs}",
        f"{top.name} {top.value:.2f}" if top else "-",
        after if finished else f"stopped: jensen train --resume {run.path}",
    )


def _model(run: Run) -> str:
    """The model, the size of its code, and how far the prior over it came."""
    config = run.config.model
    if config.kind == "autoregressive":
        return f"{config.kind} {config.autoregressive.kind}"
    if config.kind != "vqvae":
        return f"{config.kind} {latents_in_words(run)}"
    words, prior = f"{config.kind} {codes_in_words(run)}", run.prior
    if prior is None:
        return words
    return f"{words}, prior {len(prior.history().get('epoch', []))} of {prior.config.train.epochs}"


def _prior_state(run: Run) -> str:
    """The state of a run whose model is finished: its prior's, if that is not in order."""
    from jensen.training.checkpoint import load_state

    prior = run.prior
    fault = None if prior is None else run.unfit(prior)
    if fault is not None:
        return fault
    if prior is None or prior.finished:
        return "finished"
    try:
        load_state(prior.checkpoints, mmap=True)
    except CheckpointError as error:
        return f"prior stopped and damaged ({error}): jensen train prior --run {run.path} --replace"
    return f"prior stopped: jensen train prior --resume {run.path}"
