"""The classifier that a class-conditional model is, by Bayes' rule: a check that it listens to its condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import importance_weighted_bound, log_weights
from jensen.data import Batch
from jensen.metrics.heldout import SplitLike, batch_on, measuring
from jensen.metrics.importance import draws_that_tell, output_chunks

__all__ = ["Classification", "class_log_likelihood", "classify"]

EXAMPLES = 1000
SAMPLES = 100
EXAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Classification:
    """What `classify` found. Log-likelihoods are in nats per example; errors are standard errors over examples.

    Attributes:
        examples: how many were classified.
        samples: importance samples for each example and class.
        classes: K.
        accuracy: share of examples whose class has the largest log p(x | y) + log p(y).
        chance: about the accuracy of a model that ignores its condition, the largest p(y).
        log_likelihood: mean log p(x | y) of the true class.
        marginal: mean log p(x) = log sum_y p(y) p(x | y).
        information: mean of log p(x | y) of the true class - log p(x): what the model takes the class to say of x.
        recognition: share of examples that q(y | x) classifies well; None where the model has none.
        confusion: how many examples of a class (row) were taken for a class (column).
        warnings: what to know about these numbers, in words.
        exact: whether each log p(x | y) is exact: there is no latent to sum out.
        deterministic: whether each log p(x | y) is a bound at the one code that the model gives x.
    """

    examples: int
    samples: int
    classes: int
    accuracy: float
    accuracy_error: float
    chance: float
    log_likelihood: float
    log_likelihood_error: float | None
    marginal: float
    marginal_error: float | None
    information: float
    information_error: float | None
    recognition: float | None
    recognition_error: float | None
    confusion: list[list[int]]
    warnings: list[str] = field(default_factory=list)
    exact: bool = False
    deterministic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning)."""

        def share(value: float, error: float | None) -> str:
            return f"{100 * value:.2f}%" + ("" if error is None else f" ± {100 * error:.2f}%")

        def nats(value: float, error: float | None) -> str:
            return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")

        rows = [
            (
                "Bayes accuracy",
                share(self.accuracy, self.accuracy_error),
                f"of argmax_y log p(x|y) + log p(y); {100 * self.chance:.0f}% if the condition is ignored",
            ),
            (
                "class log-likelihood",
                nats(self.log_likelihood, self.log_likelihood_error),
                f"nats, log p(x|y) of the true class, {self._how}",
            ),
            ("log-likelihood", nats(self.marginal, self.marginal_error), "nats, log p(x), y summed out"),
            (
                "what the class says",
                nats(self.information, self.information_error),
                f"nats, log p(x|y) - log p(x); at most {math.log(self.classes):.3f} with equally many a class",
            ),
        ]
        if self.recognition is not None:
            accuracy = share(self.recognition, self.recognition_error)
            rows.insert(1, ("recognition accuracy", accuracy, "of argmax_y q(y|x), the model's classifier net"))
        return rows

    @property
    def _how(self) -> str:
        if self.exact:
            return "exact"
        bound = f"importance-weighted with {self.samples} samples"
        return "a bound, at the code of x" if self.deterministic else bound


@torch.no_grad()
def class_log_likelihood(
    model: NeuralModel,
    x: Tensor,
    samples: int = SAMPLES,
    target: Tensor | None = None,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """Importance-weighted log p(x | y) for every class y in nats, (batch, K), in float64.

    A lower bound on average, for each class, that rises with `samples` (Burda et al. 2016); memory does not. Of an
    autoregressive density it is exact, from one pass; of a model whose code is a function of x it is the ELBO.

    Args:
        model: a model with a bound or a density, whose condition is a one-hot label, or a `SemiSupervisedVAE`.
        x: inputs, (batch, *shape).
        samples: draws of z for each datum and class.
        target: what the likelihood is about; None: x.
        mask: 1 where the target is scored and 0 where not; None: everywhere.

    Raises:
        ValueError: the model has no such condition, or samples is not positive.
    """
    if samples < 1:
        raise ValueError(f"samples should be at least 1, got {samples}")
    samples = draws_that_tell(model, samples)
    classes = _classes(model)
    batch = Batch(x, x if target is None else target, None, torch.arange(len(x)), mask=mask)
    if isinstance(model, SemiSupervisedVAE):
        # log p(x, y) of all classes from one pass.
        return _by_class(model, batch, samples, classes) - model.class_log_prior.double()
    one_hot = torch.eye(classes, device=x.device, dtype=x.dtype)
    columns = [
        _by_class(model, batch._replace(condition=label.expand(len(x), -1)), samples, 1)[:, 0] for label in one_hot
    ]
    return torch.stack(columns, 1)


def _by_class(model: NeuralModel, batch: Batch, samples: int, enumerated: int) -> Tensor:
    """log 1/S sum_s p(x, y, z_s) / q(z_s | x, y) for each enumerated y, (batch, enumerated), in float64."""
    total = torch.full((len(batch.x), enumerated), -torch.inf, dtype=torch.float64, device=batch.x.device)
    for rows, draws, output in output_chunks(model, batch, samples):
        weights = log_weights(output).double()
        if output.log_weights is not None:
            # The weights divide by q(y | x), which the shares hold too, over the number of draws.
            weights = weights + output.log_weights + math.log(draws)
        each = importance_weighted_bound(weights.view(draws, enumerated, -1)) + math.log(draws / samples)
        total[rows] = torch.logaddexp(total[rows], each.T)
    return total


@torch.no_grad()
def classify(
    model: NeuralModel,
    data: SplitLike,
    *,
    examples: int | None = EXAMPLES,
    samples: int = SAMPLES,
    class_prior: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Classification:
    """Classify held-out data by argmax_y log p(x | y) + log p(y), from importance-weighted likelihoods of each class.

    A model that ignores its condition gives every class the same likelihood, and so an accuracy of about 1 / K (of the
    largest p(y), where the classes are not equally likely); a warning says so.

    Args:
        model: a model with a bound or a density, whose condition is the one-hot label, or a `SemiSupervisedVAE`.
        data: a split with labels.
        examples: how many, chosen at random; None: all.
        samples: importance samples for each example and class.
        class_prior: p(y); None: the model's own if it has one, else uniform.
        seed: of the choice and of all noise; torch's global generator is left as it was.
        progress: called as progress(examples done, examples).

    Raises:
        ValueError: the data have no labels or the model no label for condition, or a number is not positive.
    """
    if samples < 1 or len(data) == 0 or (examples is not None and examples < 1):
        raise ValueError(
            f"classify needs samples >= 1, examples >= 1 and some data, got {samples} samples and "
            f"{examples} of {len(data)} examples"
        )
    classes = _classes(model)
    log_prior = _log_prior(model, class_prior, classes)
    samples = draws_that_tell(model, samples)
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(data), generator=generator)[:examples].sort().values
    found: list[Tensor] = []
    recognised: list[Tensor] = []
    labels: list[Tensor] = []
    with measuring(model, seed) as device:
        for some in places.split(EXAMPLES_AT_ONCE):
            batch = batch_on(data.batch(some), device)
            labels.append(_labels(batch, classes))
            found.append(class_log_likelihood(model, batch.x, samples, batch.target, mask=batch.mask).cpu())
            if isinstance(model, SemiSupervisedVAE):
                recognised.append(model.classify(batch.x).argmax(1).cpu())
            if progress is not None:
                progress(sum(map(len, found)), len(places))
    result = _summarise(torch.cat(found), torch.cat(labels), log_prior, samples, recognised)
    return replace(result, exact=model.latent == 0, deterministic=model.latent > 0 and not model.stochastic)


def _classes(model: NeuralModel) -> int:
    shape = model.condition_shape
    if shape is None or len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"a Bayes classifier needs a model whose condition is a label, (classes,), not {shape}")
    return shape[0]


def _log_prior(model: NeuralModel, given: Sequence[float] | None, classes: int) -> Tensor:
    if given is not None:
        prior = torch.as_tensor(given, dtype=torch.float64)
        if prior.shape != (classes,) or not bool((prior > 0).all()) or abs(prior.sum().item() - 1) > 1e-6:
            raise ValueError(f"class_prior should be {classes} positive numbers that sum to 1, got {list(given)}")
        return prior.log()
    if isinstance(model, SemiSupervisedVAE):
        return model.class_log_prior.double().cpu()
    return torch.full((classes,), -math.log(classes), dtype=torch.float64)


def _labels(batch: Batch, classes: int) -> Tensor:
    """The batch's labels on the CPU; ValueError unless the condition can be the label."""
    if batch.label is None:
        raise ValueError("a Bayes classifier needs data with labels, but these have none")
    label = batch.label.cpu()
    if not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise ValueError(f"labels {int(label.min())} .. {int(label.max())} for a model of {classes} classes")
    if batch.condition is not None:
        told = batch.condition.cpu()
        one_hot = F.one_hot(label, classes).to(told.dtype)
        if told.shape != one_hot.shape or not bool(((told == one_hot).all(1) | (told == 0).all(1)).all()):
            raise ValueError("a Bayes classifier needs a model whose condition is the label: use condition label")
    return label


def _summarise(
    found: Tensor, labels: Tensor, log_prior: Tensor, samples: int, recognised: list[Tensor]
) -> Classification:
    joint = found + log_prior
    guess = joint.argmax(1)
    classes = found.shape[1]
    own = found.gather(1, labels[:, None])[:, 0]
    marginal = joint.logsumexp(1)
    right = guess == labels
    chance = log_prior.max().exp().item()
    recognition = torch.cat(recognised) == labels if recognised else None
    confusion = torch.bincount(labels * classes + guess, minlength=classes**2).view(classes, classes)
    return Classification(
        examples=len(found),
        samples=samples,
        classes=classes,
        accuracy=_mean(right),
        accuracy_error=_share_error(right),
        chance=chance,
        log_likelihood=_mean(own),
        log_likelihood_error=_error(own),
        marginal=_mean(marginal),
        marginal_error=_error(marginal),
        information=_mean(own - marginal),
        information_error=_error(own - marginal),
        recognition=None if recognition is None else _mean(recognition),
        recognition_error=None if recognition is None else _share_error(recognition),
        confusion=confusion.tolist(),
        warnings=_warnings(_mean(right), len(right), chance),
    )


def _warnings(accuracy: float, examples: int, chance: float) -> list[str]:
    if accuracy >= chance + 3 * math.sqrt(chance * (1 - chance) / examples):
        return []
    return [
        f"The Bayes classifier is right for {100 * accuracy:.1f}% of {examples} examples, hardly more than the "
        f"{100 * chance:.1f}% of a guess: the decoder ignores the condition, or there are too few examples or samples "
        "to tell."
    ]


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


def _share_error(right: Tensor) -> float:
    share = _mean(right)
    return math.sqrt(share * (1 - share) / len(right))


def _error(values: Tensor) -> float | None:
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None
