"""Inference runs: folders with a posterior, what it is of, its table and its page."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.estimates import write_estimates
from jensen.cli.infer_data import again
from jensen.cli.infer_facts import FACTS_FILE, Facts, Loaded
from jensen.cli.infer_models import Model
from jensen.cli.options import POSTERIOR_FILE
from jensen.errors import CheckpointError, DataError, JensenError

if TYPE_CHECKING:
    from jensen.cli.present import Presentation
    from jensen.report import InferencePage, Row

__all__ = ["TABLE_FILE", "InferenceRun", "estimator_class", "is_inference_run", "is_interrupted", "refuse_taken"]

TABLE_FILE = "posterior.csv"
_STANDARDISED = " Columns were standardised: all numbers are in units of their standard deviations, from their means."


def estimator_class(model: Model, variant: str) -> Any:
    """The class that fits a model."""
    module, name = model.estimators[variant].split(":")
    return getattr(import_module(f"jensen.estimators.{module}"), name)


def is_inference_run(path: Path) -> bool:
    """Whether the folder is one of `jensen infer`, as opposed to one of `jensen train`."""
    return (path / FACTS_FILE).is_file() and (path / POSTERIOR_FILE).is_file()


def is_interrupted(path: Path) -> bool:
    """Whether `jensen infer` was killed while it wrote this folder: the posterior comes after the facts."""
    return (path / FACTS_FILE).is_file() and not (path / POSTERIOR_FILE).is_file()


@dataclass(frozen=True)
class InferenceRun:
    """A fitted estimator, and what it was fitted to."""

    path: Path
    facts: Facts
    estimator: Any

    @classmethod
    def open(cls, path: Path) -> InferenceRun:
        """Read a run that `write` has written.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        if is_interrupted(path):
            raise CheckpointError(
                f"{path} was interrupted while it was written and holds no posterior; write it anew with "
                f"`jensen infer ... --run {shlex.quote(str(path))} --force`"
            )
        if not is_inference_run(path):
            saved = (path / POSTERIOR_FILE).is_file()
            what = "was saved from Python, and is no run of `jensen infer`" if saved else "is no run of `jensen infer`"
            what = what if path.exists() else "does not exist"
            raise CheckpointError(f"{path} {what}; `jensen runs` lists those that there are")
        facts = Facts.read(path)
        variant = facts.variant if facts.variant in facts.spec.estimators else ""
        if variant not in facts.spec.estimators:
            raise CheckpointError(f"{path / FACTS_FILE}: model {facts.model} has no variant {facts.variant!r}")
        return cls(path, facts, estimator_class(facts.spec, variant).load(path))

    def write(self) -> None:
        """Data's facts, posterior, and table; the posterior comes last, with it the folder is a run."""
        self.path.mkdir(parents=True, exist_ok=True)
        # One that is written over goes first: facts and posterior of two fits must never stand together.
        (self.path / POSTERIOR_FILE).unlink(missing_ok=True)
        self.facts.write(self.path)
        self.estimator.save(self.path)
        write_estimates(self.path / TABLE_FILE, self.presentation.estimates(), self.facts.level)

    @property
    def presentation(self) -> Presentation:
        """How the model shows itself."""
        from jensen.cli.present import present

        return present(self.facts, self.estimator)

    def write_page(self, data: Loaded | None = None, notes: tuple[str, ...] = ()) -> Path:
        """report.html; `data` None: they are read again, and pictures that need them left out if they are gone."""
        from jensen.report import write_inference_report

        if data is None:
            try:
                data = again(self.facts)
            except DataError as error:
                text = f"The data of this run could not be read, so pictures that need them are missing: {error}"
                notes = (*notes, text)
        if data is not None and data.facts.rows != self.facts.rows:
            now, then = f"{data.facts.rows:,}", f"{self.facts.rows:,}"
            notes = (
                *notes,
                f"The data have changed since the fit: {now} rows, then {then}. Pictures show the new ones.",
            )
        return write_inference_report(self.path, self._page(data, notes))

    def _page(self, data: Loaded | None, notes: tuple[str, ...]) -> InferencePage:
        from jensen.report import InferencePage

        shown = self.presentation
        if not self.estimator.converged_:
            reason = self.estimator.stop_reason_
            notes = (
                f"The {shown.bound} had not settled when the fit ended ({reason}): raise --max-iter, or --tol.",
                *notes,
            )
        where = shlex.quote(str(self.path))
        name = type(self.estimator).__name__
        module = type(self.estimator).__module__
        return InferencePage(
            title=self.path.resolve().name,
            summary=shown.summary() + (_STANDARDISED if self.facts.standardise else ""),
            facts=self._facts(data),
            estimates=shown.estimates(),
            level=self.facts.level,
            everything=TABLE_FILE,
            pictures=[shown.elbo(), *shown.pictures(data)],
            notes=notes,
            configuration=(self.path / "config.yaml").read_text(encoding="utf-8", errors="replace"),
            commands=[
                ("Predict for other data", f"jensen infer predict {where} --data FILE --output predictions.csv"),
                ("Use it in Python", f"from {module} import {name}\nmodel = {name}.load({str(self.path)!r})"),
                ("Write this page anew", f"jensen report {where}"),
            ],
        )

    def _facts(self, data: Loaded | None) -> list[Row]:
        from jensen.report import Row

        fitted, shown = self.estimator, self.presentation
        settled = f"Passes over the data until the {shown.bound} settled."
        sweeps = settled if fitted.converged_ else "Passes over the data."
        rows = [
            Row(shown.bound, f"{fitted.elbo_:,.2f}".replace("-", "−"), "nats", shown.bound_meaning),
            Row("Steps", f"{fitted.n_iter_:,}", "", f"{sweeps} It ended because {fitted.stop_reason_}."),
            Row("Rows", f"{self.facts.rows:,}", "", f"Read from {self.facts.source}."),
            Row("Time", f"{self.facts.seconds:.3g}", "s", "Of the fit, without reading the data."),
        ]
        if data is None:
            return [*rows, *shown.own_facts()]
        with warnings.catch_warnings():
            # Of one row there is no R squared: the page says "nan", and a warning about code would not help.
            warnings.simplefilter("ignore")
            return [*rows, *shown.own_facts(), *shown.data_facts(data)]


def refuse_taken(path: Path, force: bool) -> None:
    """Raise JensenError if `path` is taken: by a file, by a run of `jensen train`, or by any run without `force`."""
    if not path.exists():
        return
    if not path.is_dir():
        raise JensenError(f"{path} is a file; choose another --run")
    if is_inference_run(path):
        if not force:
            raise JensenError(f"{path} holds a posterior already; choose another --run, or --force to write over it")
    elif any(path.iterdir()) and not (path / FACTS_FILE).is_file():
        raise JensenError(f"{path} exists and holds something else; choose another --run")
