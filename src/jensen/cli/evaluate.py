"""`jensen evaluate`: how good a run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from cyclopts import Parameter

from jensen.cli.alike import require_alike
from jensen.cli.evaluated import Written, write_evaluation
from jensen.cli.options import DataDirectory, RunPath, Seed, SplitName, whole
from jensen.cli.screen import progress, say, table, warn
from jensen.errors import JensenError

if TYPE_CHECKING:
    from jensen.autoencoders import EncoderDecoder
    from jensen.data import Data, Split
    from jensen.metrics import Evaluation
    from jensen.training import Run

__all__ = ["evaluate", "evaluate_run"]

CODES = 10_000
"""Examples, or codes drawn, for what is measured on the training split."""


class Found(Protocol):
    """What a measurement gives."""

    def table(self) -> Sequence[tuple[str, ...]]: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Extra:
    """A measurement beside the bound: its key in the JSON, where it was made, and what was found."""

    key: str
    title: str
    split: SplitName
    found: Found


def _flag(text: str) -> Parameter:
    return Parameter(negative="", help=text)


AskInformation = Annotated[
    bool,
    _flag(
        "also what the code knows: the KL split into mutual information with the data, total correlation and "
        "dimension-wise KL, from 10,000 codes against the aggregate posterior of the whole training split"
    ),
]
AskDisentanglement = Annotated[
    bool,
    _flag(
        "also MIG, SAP, DCI, modularity, IRS, beta-VAE and FactorVAE scores, from 10,000 examples of the training "
        "split (all, if fewer); for data with known factors"
    ),
]
Against = Annotated[
    list[Path] | None,
    Parameter(
        name="--against",
        metavar="RUN2",
        negative="",
        consume_multiple=False,
        help="also UDR: how far runs that differ in their seed alone found the same latents, from 10,000 examples of "
        "the training split; give it once for each other run. Runs of other data, model or objective are refused",
    ),
]
AskClassify = Annotated[
    bool,
    _flag(
        "also log p(x | class) and the Bayes classifier that it makes, on 500 examples of --split; for runs "
        "conditioned on labels"
    ),
]


def evaluate(
    run: RunPath,
    /,
    *,
    samples: Annotated[
        int, Parameter(converter=whole(1), metavar="INT", help="importance samples an example; fewer are quicker")
    ] = 5000,
    examples: Annotated[
        int | None,
        Parameter(
            converter=whole(1),
            metavar="INT",
            help="score the first so many of --split only: the bound takes examples x samples decodings, hours of "
            "dsprites without a GPU [default: all]",
        ),
    ] = None,
    split: Annotated[SplitName, Parameter(help="which part of the data")] = "test",
    information: AskInformation = False,
    disentanglement: AskDisentanglement = False,
    against: Against = None,
    classify: AskClassify = False,
    seed: Seed = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a table")] = False,
    data_directory: DataDirectory = None,
) -> None:
    """Evaluate a run on data it has not seen.

    Prints ELBO, importance-weighted log-likelihood, rate, distortion and more,
    with what they mean, and writes RUN/evaluation.json. What earlier calls
    measured beside the bound stays there, unless the run has been trained on
    since; what is measured again is replaced.

    jensen evaluate runs/digits-vae
    jensen evaluate runs/dsprites-vae --examples 1000 --samples 100
    jensen evaluate runs/digits-vae --samples 100 --json
    jensen evaluate runs/circles-beta --samples 100 --information --disentanglement
    jensen evaluate runs/seed-0 --against runs/seed-1 --against runs/seed-2
    jensen evaluate runs/mnist-classes --samples 100 --classify
    """
    from jensen.training import Run

    opened = Run.open(run)
    others = [Run.open(path) for path in against or ()]
    data = opened.data(data_directory)
    _check_kind(opened, {"--information": information, "--against": bool(others), "--classify": classify})
    require_alike(opened, others)
    if disentanglement:
        _check_factors(opened, data)
    part = _first(_part(data, split), examples)
    evaluation = _measured(opened, part, samples, seed)
    written = _written(opened, split, evaluation, [])
    stale = written.dropped
    extras = _Extras(opened, data, split, seed)
    found = extras.measured(information, disentanglement, others, classify)
    if found:
        written = _written(opened, split, evaluation, found)
    dropped = [name for name in stale if name not in {extra.key for extra in found}]
    if dropped:
        warn(f"dropped from {run / 'evaluation.json'}, as they were of other weights of the run: {', '.join(dropped)}")
    if as_json:
        say(written.text)
        return
    whole_split = len(_part(data, split))
    which = f"{len(part):,}" if len(part) == whole_split else f"the first {len(part):,} of {whole_split:,}"
    say(f"{run}: {which} examples of the {split} split")
    _print(evaluation, found)
    if written.kept:
        say(f"\nevaluation.json also keeps, from before: {', '.join(written.kept)}")


def evaluate_run(
    run: Run, *, samples: int, split: SplitName = "test", seed: int = 0, directory: Path | None = None
) -> Evaluation:
    """Evaluate a run's best weights and write evaluation.json in it."""
    evaluation = _measured(run, _part(run.data(directory), split), samples, seed)
    _written(run, split, evaluation, [])
    return evaluation


def _measured(run: Run, part: Split, samples: int, seed: int) -> Evaluation:
    from jensen.metrics import evaluate as measure

    model = _model(run)
    with progress(f"bound, {len(part):,} examples x {samples:,} samples") as moved:
        return measure(model, part, samples=samples, seed=seed, progress=moved)


def _part(data: Data, split: SplitName) -> Split:
    return {"train": data.train, "valid": data.valid, "test": data.test}[split]


def _first(split: Split, examples: int | None) -> Split:
    """The first examples of a split, in its order; all where no number is given, or there are no more."""
    return split if examples is None else replace(split, indices=split.indices[:examples])


def _model(run: Run) -> EncoderDecoder:
    import torch

    return run.model().to("cuda" if torch.cuda.is_available() else "cpu")


def _written(run: Run, split: SplitName, evaluation: Evaluation, extras: Sequence[Extra]) -> Written:
    """All that was found, in evaluation.json."""
    more = {extra.key: {"split": extra.split, **extra.found.to_dict()} for extra in extras}
    return write_evaluation(run, {"split": split, **evaluation.to_dict()}, more)


def _print(evaluation: Evaluation, extras: Sequence[Extra]) -> None:
    table(evaluation.table())
    remarks = [f"warning: {warning}" for warning in evaluation.warnings]
    for extra in extras:
        say(f"\n{extra.title}")
        table(extra.found.table())
        for name in ("warnings", "notes"):
            remarks += [f"{name[:-1]}: {text}" for text in getattr(extra.found, name, [])]
    for remark in remarks:
        say(remark)


def _check_kind(run: Run, flags: Mapping[str, bool]) -> None:
    """Raise `JensenError`, before any work is done, for what has no meaning for a run's model."""
    given = [flag for flag, wanted in flags.items() if wanted]
    if run.config.model.kind == "autoencoder" and given:
        raise JensenError(f"{run.path} is a plain auto-encoder: {given[0]} needs a posterior q(z | x); train model vae")
    if flags["--classify"] and run.told != "label":
        raise JensenError(
            f"{run.path} is not told a class, so it cannot classify; train with --condition label, or --model "
            "semi-supervised --condition label --labelled 100"
        )


def _check_factors(run: Run, data: Data) -> None:
    """Raise `JensenError` unless it is known what made the data."""
    if data.train.factors is None:
        raise JensenError(
            f"{run.path}: {run.config.data.name} has no known factors, which --disentanglement compares latents with; "
            "circles and dsprites have them. --against RUN2 needs none"
        )


class _Extras:
    """What can be measured beside the bound."""

    def __init__(self, run: Run, data: Data, split: SplitName, seed: int) -> None:
        self.run, self.data, self.split, self.seed = run, data, split, seed

    def measured(
        self, information: bool, disentanglement: bool, others: Sequence[Run], classification: bool
    ) -> list[Extra]:
        """All that was asked for.

        Raises:
            JensenError: the data do not allow it, e.g. fewer examples than a metric needs.
        """
        found = []
        try:
            if information:
                found.append(self.information())
            if disentanglement:
                found.append(self.disentanglement())
            if others:
                found.append(self.agreement(others))
            if classification:
                found.append(self.classification())
        except ValueError as error:
            raise JensenError(f"{self.run.path}: {error}") from None
        return found

    def information(self) -> Extra:
        """The rate, taken apart under the aggregate posterior of the training split."""
        from jensen.metrics.information import information

        with progress(f"information of {CODES:,} codes") as moved:
            found = information(_model(self.run), self.data.train, codes=CODES, seed=self.seed, progress=moved)
        title = f"Information, of {found.codes:,} codes against all {found.components:,} of the training split:"
        return Extra("information", title, "train", found)

    def disentanglement(self) -> Extra:
        """How far latents and factors correspond."""
        from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement

        train = self.data.train
        with progress("disentanglement: encoding"):
            pool = encode_pool(_model(self.run), train, CODES, self.seed)
        with progress("disentanglement: metrics") as moved:
            found = evaluate_disentanglement(
                pool.codes, pool.factors, train.factor_names, pool.kl_per_dimension, seed=self.seed, progress=moved
            )
        title = f"Disentanglement, of {found.examples:,} examples of the training split; higher is better:"
        return Extra("disentanglement", title, "train", found)

    def agreement(self, others: Sequence[Run]) -> Extra:
        """How far other runs found the same latents."""
        from jensen.cli.agreement import agreement

        with progress(f"agreement of {len(others) + 1} runs"):
            found = agreement([self.run, *others], self.data.train, CODES, self.seed)
        title = f"Agreement of {len(others) + 1} runs, on {found.examples:,} examples of the training split:"
        return Extra("udr", title, "train", found)

    def classification(self) -> Extra:
        """The Bayes classifier of a class-conditional model."""
        from jensen.metrics.classification import classify

        with progress("classification: log p(x | class)") as moved:
            found = classify(_model(self.run), _part(self.data, self.split), seed=self.seed, progress=moved)
        title = f"Classification of {found.examples:,} examples of the {self.split} split:"
        return Extra("classification", title, self.split, found)
