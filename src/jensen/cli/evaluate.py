"""`jensen evaluate`: how good a run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.alike import require_alike
from jensen.cli.evaluated import Written, write_evaluation
from jensen.cli.extras import Asked, Extra, Extras, split_of
from jensen.cli.options import DataDirectory, RunPath, Seed, SplitName, whole
from jensen.cli.screen import progress, say, table, warn
from jensen.errors import JensenError

if TYPE_CHECKING:
    from jensen.data import Data, Split
    from jensen.metrics import Evaluation
    from jensen.training import Run

__all__ = ["evaluate", "evaluate_run"]


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
AskQuality = Annotated[
    bool,
    _flag(
        "also how good 1,000 samples are, in the eyes of a small classifier trained on the same data: Fréchet and "
        "kernel distance of features, confidence, diversity; for labelled images"
    ),
]
AskAnomaly = Annotated[
    bool,
    _flag(
        "also how well the classes that training left out (--leave-out) are found in the test split: ROC of every "
        "score of `jensen score`, beside an isolation forest and principal components"
    ),
]
AskCompression = Annotated[
    bool,
    _flag(
        "also bytes against PSNR and SSIM of the first 500 images of --split, kept as codes in 32 to 2 bits a number, "
        "beside JPEG and WebP"
    ),
]


def evaluate(
    run: RunPath,
    /,
    *,
    samples: Annotated[
        int,
        Parameter(
            converter=whole(1),
            metavar="INT",
            help="importance samples an example; fewer are quicker: 100 do for a vqvae whose codes are drawn (gumbel), "
            "which takes minutes with more. One, where nothing is drawn",
        ),
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
    quality: AskQuality = False,
    anomaly: AskAnomaly = False,
    compression: AskCompression = False,
    seed: Seed = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a table")] = False,
    data_directory: DataDirectory = None,
) -> None:
    """Evaluate a run on data it has not seen.

    Prints ELBO, importance-weighted log-likelihood, rate, distortion and more,
    with what they mean, and writes RUN/evaluation.json. What earlier calls
    measured beside the bound stays there, unless the run has been trained on
    since; what is measured again is replaced.

    Of a vqvae also how its codes are used, and their bits under each prior;
    of documents also the perplexity of their words.

    jensen evaluate runs/digits-vae
    jensen evaluate runs/digits-vqvae --quality
    jensen evaluate runs/digits-vae --samples 100 --compression
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
    asked = Asked(information, disentanglement, others, classify, quality, anomaly, compression)
    asked.check(opened)
    require_alike(opened, others)
    if disentanglement:
        _check_factors(opened, data)
    part = _first(split_of(data, split), examples)
    extras = Extras(opened, data, split, part, seed)
    evaluation = _measured(extras, samples)
    written = _written(opened, split, evaluation, [])
    stale = written.dropped
    found = extras.measured(asked)
    if found:
        written = _written(opened, split, evaluation, found)
    dropped = [name for name in stale if name not in {extra.key for extra in found}]
    if dropped:
        warn(f"dropped from {run / 'evaluation.json'}, as they were of other weights of the run: {', '.join(dropped)}")
    if as_json:
        say(written.text)
        return
    whole_split = len(split_of(data, split))
    which = f"{len(part):,}" if len(part) == whole_split else f"the first {len(part):,} of {whole_split:,}"
    say(f"{run}: {which} examples of the {split} split")
    _print(evaluation, found)
    if written.kept:
        say(f"\nevaluation.json also keeps, from before: {', '.join(written.kept)}")


def evaluate_run(
    run: Run, *, samples: int, split: SplitName = "test", seed: int = 0, directory: Path | None = None
) -> Evaluation:
    """Evaluate a run's best weights and write evaluation.json in it."""
    data = run.data(directory)
    extras = Extras(run, data, split, split_of(data, split), seed)
    evaluation = _measured(extras, samples)
    _written(run, split, evaluation, extras.measured(Asked()))
    return evaluation


def _measured(extras: Extras, samples: int) -> Evaluation:
    from jensen.metrics import evaluate as measure

    label = f"bound, {len(extras.part):,} examples" + (f" x {samples:,} samples" if extras.model.stochastic else "")
    with progress(label) as moved:
        return measure(extras.model, extras.part, samples=samples, seed=extras.seed, progress=moved)


def _first(split: Split, examples: int | None) -> Split:
    """The first examples of a split, in its order; all where no number is given, or there are no more."""
    return split if examples is None else replace(split, indices=split.indices[:examples])


def _written(run: Run, split: SplitName, evaluation: Evaluation, extras: Sequence[Extra]) -> Written:
    """All that was found, in evaluation.json."""
    more = {extra.key: {"split": extra.split, **extra.found.to_dict()} for extra in extras}
    return write_evaluation(run, {"split": split, **evaluation.to_dict()}, more)


def _print(evaluation: Evaluation, extras: Sequence[Extra]) -> None:
    table(evaluation.table())
    remarks = _remarks(evaluation)
    for extra in extras:
        say(f"\n{extra.title}")
        table(extra.found.table())
        remarks += _remarks(extra.found)
    for remark in remarks:
        say(remark)


def _remarks(found: object) -> list[str]:
    """Its warnings and notes, where it has any."""
    return [f"{name[:-1]}: {text}" for name in ("warnings", "notes") for text in getattr(found, name, [])]


def _check_factors(run: Run, data: Data) -> None:
    """Raise `JensenError` unless it is known what made the data."""
    if data.train.factors is None:
        raise JensenError(
            f"{run.path}: {run.config.data.title} has no known factors, which --disentanglement compares latents with; "
            "circles and dsprites have them. --against RUN2 needs none"
        )
