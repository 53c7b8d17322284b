"""Anomalies among the data of a run: what `jensen score` and `jensen evaluate --anomaly` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from jensen.errors import JensenError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from jensen.autoencoders import NeuralModel
    from jensen.data import Batch, Data, Split
    from jensen.metrics import Detection
    from jensen.training import Run

__all__ = ["SAMPLES", "Anomalies", "Given", "clean_values", "find_left_out", "require_left_out", "without_corruption"]

SAMPLES = 100
"""importance samples a datum: scores compare data with each other, and need no more"""
COMPARED = 10_000
"""training examples that the isolation forest and the principal components are fitted to, at most"""
SHARE = 0.99
FOREST, COMPONENTS = "isolation forest", "principal components"


@dataclass(frozen=True)
class Given:
    """Values from files, as a run's model sees its own data."""

    values: Tensor
    """(N, *shape): in [0, 1] where the data are on levels, standardised where they are not; NaN is a gap"""
    like: Split
    """of the run's data"""
    stored_levels: int | None
    """of the run's data before their transform"""
    condition: Tensor | None = None
    """what the model is told of each, unless it is a visible part of it"""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def levels(self) -> int | None:
        """As `Split.levels`."""
        return self.like.levels

    @property
    def transform(self) -> str:
        """As `Split.transform`."""
        return self.like.transform

    def batch(self, index: Tensor) -> Batch:
        """The data at these places."""
        from jensen.data import Batch
        from jensen.data.condition import VisiblePart

        x = self._seen(self.values[index])
        condition, mask = None if self.condition is None else self.condition[index], None
        if isinstance(self.like.condition, VisiblePart):
            condition, mask = self.like.condition(index, x)
        if self.like.gaps:
            mask = (~x.isnan()).to(x.dtype)
        return Batch(x, x, None, index, condition=condition, mask=mask)

    def _seen(self, values: Tensor) -> Tensor:
        """Through the transform, as stored values would be."""
        from jensen.data.transform import binarise

        if self.stored_levels is None:
            return values
        if self.transform in ("none", "dequantise"):
            return self.like.transform_function((values * (self.stored_levels - 1)).round())
        return binarise(values)


@dataclass(frozen=True)
class Anomalies:
    """How well each score finds the classes that were left out, among the test split.

    Attributes:
        scores: by name, AUROC, average precision and more, see `jensen.metrics.Detection`.
        found: share of the left-out examples that score above 99 % of the training data.
        alarms: share of the others that do.
    """

    left_out: list[str]
    anomalies: int
    others: int
    samples: int
    compared: int
    scores: dict[str, Detection]
    found: dict[str, float]
    alarms: dict[str, float]
    notes: list[str] = field(default_factory=list)

    def table(self) -> list[tuple[str, ...]]:
        """Rows (score, AUROC, average precision, found, alarms, meaning), the headings first."""
        from jensen.metrics.anomaly import METHODS, meaning

        about: dict[str, str] = {name: meaning(name, self.samples) for name in METHODS}
        about |= {
            FOREST: f"100 trees of 256 data (scikit-learn's settings), from {self.compared:,} training examples",
            COMPONENTS: f"squared error by those that explain 95 % of the variance, from {self.compared:,}",
        }
        rows: list[tuple[str, ...]] = [("score", "AUROC", "precision", "found", "alarms", "")]
        for name, score in self.scores.items():
            area = f"{score.auroc:.3f} ± {score.auroc_error:.3f}"
            shares = (f"{100 * self.found[name]:.1f} %", f"{100 * self.alarms[name]:.1f} %")
            rows.append((name, area, f"{score.average_precision:.3f}", *shares, about[name]))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)


def require_left_out(run: Run) -> None:
    """Raise `JensenError` unless classes were left out of the run's training."""
    data = run.config.data
    if data.target is not None:
        raise JensenError(f"{run.path} predicts {data.target!r} from a datum, and so finds no anomalies among data")
    if not data.leave_out:
        raise JensenError(
            f"{run.path} was trained on all classes, so there is none to find with --anomaly: train with --leave-out "
            f"CLASS, or score other data with `jensen score {run.path} FILES`"
        )


def find_left_out(run: Run, data: Data, model: NeuralModel, seed: int, progress: Any = None) -> Anomalies:
    """Score the test split by all methods, and by two that need no such model; write figures/roc.png.

    Raises:
        ValueError: the test split holds none of the classes, or nothing else.
    """
    import torch

    from jensen.metrics import AnomalyScorer, detection, isolation_forest_scores, pca_scores
    from jensen.metrics.anomaly import METHODS

    data = without_corruption(data)
    left_out = list(run.config.data.leave_out or ())
    anomalous = _anomalous(data, left_out)
    scorer = AnomalyScorer(model, data.train, samples=SAMPLES, seed=seed, progress=progress)
    own = scorer(data.test, progress)
    count = min(COMPARED, len(data.train))
    places = torch.linspace(0, len(data.train) - 1, count, dtype=torch.float64).round().long()
    seen, test = clean_values(data, data.train, places), clean_values(data, data.test)
    both = torch.cat([seen, test])
    forest, components = isolation_forest_scores(seen, both, seed), pca_scores(seen, both)
    values = {str(name): own.values[name] for name in METHODS if name in own.values}
    values |= {FOREST: forest[count:], COMPONENTS: components[count:]}
    limits = {str(name): scorer.threshold(name, SHARE) for name in scorer.methods}
    limits |= {FOREST: float(forest[:count].quantile(SHARE)), COMPONENTS: float(components[:count].quantile(SHARE))}
    above = {name: score > limits[name] for name, score in values.items()}
    _draw(run, values, anomalous, left_out)
    return Anomalies(
        left_out,
        int(anomalous.sum()),
        int((~anomalous).sum()),
        scorer.samples,
        count,
        {name: detection(score, anomalous) for name, score in values.items()},
        {name: over[anomalous].double().mean().item() for name, over in above.items()},
        {name: over[~anomalous].double().mean().item() for name, over in above.items()},
        _notes(run),
    )


def without_corruption(data: Data) -> Data:
    """The same data in the same splits, without the noise that a denoising model was trained with."""
    from jensen.data import prepare

    if data.config.corruption == "none":
        return data
    return prepare(data.dataset, data.config.model_copy(update={"corruption": "none"}), splits=data.splits)


def clean_values(data: Data, split: Split, places: Tensor | None = None) -> Tensor:
    """Values of a split as they are stored, in [0, 1] or standardised: without any noise, (N, *shape)."""
    from jensen.data.transform import Transform

    positions = split.indices.cpu() if places is None else split.indices.cpu()[places]
    seen = split.transform_function
    return Transform("none", data.dataset.levels, seen.mean, seen.sd)(data.dataset.values[positions])


def _anomalous(data: Data, left_out: list[str]) -> torch.Tensor:
    """Which examples of the test split are of the classes that were left out, (N,) bool."""
    import torch

    labels = data.test.labels
    if labels is None:  # impossible: they could not have been left out
        raise JensenError(f"{data.dataset.name} has no classes")
    names = data.class_names or tuple(str(number) for number in range(int(labels.max()) + 1))
    out = torch.tensor([name in left_out for name in names])
    return out[labels.cpu()]


def _draw(run: Run, values: Mapping[str, Tensor], anomalous: Tensor, left_out: list[str]) -> None:
    from jensen.metrics import roc
    from jensen.plots import roc_curves, save

    curves = {name: roc(score, anomalous) for name, score in values.items()}
    save(roc_curves(curves, title=f"Left out: {', '.join(left_out)}"), run.path / "figures" / "roc.png")


def _notes(run: Run) -> list[str]:
    notes = ["found and alarms are the shares of left-out and of other test examples above 99 % of the training data"]
    if run.config.data.condition == "label" and run.config.model.kind != "semi-supervised":
        notes.append("the model is told the true class, also of those that it was never trained on: log p(x | class)")
    return notes
