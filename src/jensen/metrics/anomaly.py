"""How anomalous a datum is, by what a model of the data says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Output, importance_weighted_bound, log_weights
from jensen.data import Batch
from jensen.metrics.complexity import MOST_LEVELS, code_length
from jensen.metrics.heldout import SplitLike, batch_on, measuring
from jensen.metrics.importance import draws_that_tell, output_chunks

__all__ = ["METHODS", "AnomalyScorer", "Method", "Scores", "available", "meaning"]

Method = Literal["elbo", "importance", "reconstruction", "typicality", "ratio", "background"]
METHODS: tuple[Method, ...] = get_args(Method)

AT_ONCE = 500
MIXED = 2_654_435_761  # 2^32 over the golden ratio: seeds and places do not meet
VALUES_IN_A_PIECE = 2**24  # of x: 64 MB
REFERENCE = 2_000
"""training examples that are scored, at most: a 99 % quantile needs no more"""

Progress = Callable[[int, int], None]
Kind = Literal["latents", "code", "density", "plain"]
"""Of a model: it draws latents; its code is a function of x and has a prior; it has no code; its code has no prior"""


def meaning(method: Method, samples: int) -> str:
    """The score in words, in nats, with its source."""
    return {
        "elbo": "-ELBO: E_q[-log p(x|z)] + KL(q(z|x) || p(z))",
        "importance": f"-log p(x), by {samples} importance samples" if samples > 1 else "-log p(x)",
        "reconstruction": "E_q[-log p(x|z)], without what the code costs",
        "typicality": "|log p(x) - its mean over the training data| (Nalisnick et al. 2019b)",
        "ratio": "-log p(x) less the code length by PNG (Serrà et al. 2020)",
        "background": "-log p(x) + log p(x) of the background model (Ren et al. 2019)",
    }[method]


@dataclass(frozen=True)
class Scores:
    """Of N data, in nats.

    Attributes:
        values: method -> (N,) float64; higher is more anomalous.
        log_likelihood: the best there is of log p(x), (N,) float64: itself, by importance samples, or the ELBO; None of
            a plain auto-encoder.
    """

    values: Mapping[Method, Tensor]
    log_likelihood: Tensor | None

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


@dataclass(frozen=True)
class _Terms:
    """What one model says of each datum, (N,) float64 in nats."""

    likelihood: Tensor
    """E_q[log p(x | z)]"""
    elbo: Tensor | None
    log_likelihood: Tensor | None


class AnomalyScorer:
    """Scores of data that grow with how anomalous they are, by a model trained on what is normal.

    With log p(x) by k importance samples (Burda et al. 2016), in nats:

    - ``elbo``: -ELBO(x), the KL in closed form where there is one, the rest averaged over the k draws;
    - ``importance``: -log p(x);
    - ``reconstruction``: -E_q[log p(x | z)];
    - ``typicality``: |log p(x) - m|, m the mean of log p over training data: anomalies may be too probable as well
      (Nalisnick, Matsukawa, Teh & Lakshminarayanan 2019, "Detecting out-of-distribution inputs to deep generative
      models using typicality", for a batch of one);
    - ``ratio``: -log p(x) - L(x), L the length of a general lossless code in nats, `code_length`: a likelihood ratio
      against a model of all images (Serrà et al. 2020, there in bits per dimension);
    - ``background``: -log p(x) + log p_0(x), p_0 another model, of what normal data and anomalies have in common
      (Ren et al. 2019, "Likelihood ratios for out-of-distribution detection").

    Without a code log p(x) is exact; where the code is a function of x (VQ-VAE) it is the ELBO. A plain auto-encoder
    has ``reconstruction`` alone. Of a conditional model all is about p(x | c), of a semi-supervised one about p(x): it
    is told no label. The same seed gives the same scores of the same data in the same order; memory is bounded.

    Args:
        model: trained; where it is, it computes.
        training: what it was trained on; at most 2,000 examples, evenly spaced, are looked at.
        methods: the scores; None: all that are available.
        background: a model of the same kind of data, for ``background``.
        samples: k.
        seed: of all noise; torch's global generator is left as it was.
        progress: called as progress(examples done, examples).

    Attributes:
        methods: the scores.
        reference: `Scores` of the training data, from which thresholds are had.
        typical: m; None of a plain auto-encoder.

    Raises:
        ValueError: a method is not available, or training is empty, or samples not positive.
    """

    def __init__(
        self,
        model: NeuralModel,
        training: SplitLike,
        methods: Sequence[Method] | None = None,
        *,
        background: NeuralModel | None = None,
        samples: int = 100,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if samples < 1 or len(training) == 0:
            raise ValueError(f"scores need samples >= 1 and training data, got {samples} and {len(training)} examples")
        self.model, self.background, self.seed = model, background, seed
        self.samples = draws_that_tell(model, samples)
        self._draws = samples  # a background model may draw though the model does not
        said = available(model, training, background)
        wanted = [name for name in METHODS if said[name] is None] if methods is None else list(dict.fromkeys(methods))
        for method in wanted:
            if (reason := said.get(method, f"there are {', '.join(METHODS)}")) is not None:
                raise ValueError(f"no score {method!r}: {reason}")
        self.methods: tuple[Method, ...] = tuple(wanted)
        places = torch.linspace(0, len(training) - 1, min(REFERENCE, len(training)), dtype=torch.float64).round().long()
        self.typical: float | None = None
        first = self._measured(training, places, progress)
        if first[0].log_likelihood is not None:
            self.typical = first[0].log_likelihood.mean().item()
        self.reference = self._scores(*first)

    def __call__(self, data: SplitLike, progress: Progress | None = None) -> Scores:
        """Scores of all of `data`, which look like the training data.

        Raises:
            ValueError: there are none.
        """
        if len(data) == 0:
            raise ValueError("there is nothing to score")
        return self._scores(*self._measured(data, torch.arange(len(data)), progress))

    def threshold(self, method: Method, share: float = 0.99) -> float:
        """The score that this share of the training data does not exceed."""
        return float(self.reference.values[method].quantile(share))

    def _measured(
        self, data: SplitLike, places: Tensor, progress: Progress | None
    ) -> tuple[_Terms, _Terms | None, Tensor | None]:
        """What the model and the background model say of data, and the lengths of their codes."""
        own, others, lengths = [], [], []
        for done, batch in _batches(data, places, self.seed, [self.model, self.background]):
            own.append(_terms(self.model, batch, self.samples))
            if "background" in self.methods and self.background is not None:
                others.append(_terms(self.background, batch, draws_that_tell(self.background, self._draws)))
            if "ratio" in self.methods:
                lengths.append(code_length(_levels_of(batch.target, data), data.levels or 2))
            if progress is not None:
                progress(done, len(places))
        return _joined(own), _joined(others) if others else None, torch.cat(lengths) if lengths else None

    def _scores(self, own: _Terms, other: _Terms | None, lengths: Tensor | None) -> Scores:
        values: dict[Method, Tensor] = {}
        for method in self.methods:
            if method == "reconstruction":
                values[method] = -own.likelihood
                continue
            assert own.log_likelihood is not None
            match method:
                case "elbo":
                    assert own.elbo is not None
                    values[method] = -own.elbo
                case "importance":
                    values[method] = -own.log_likelihood
                case "typicality":
                    assert self.typical is not None
                    values[method] = (own.log_likelihood - self.typical).abs()
                case "ratio":
                    assert lengths is not None
                    values[method] = -own.log_likelihood - lengths
                case "background":
                    assert other is not None
                    assert other.log_likelihood is not None
                    values[method] = other.log_likelihood - own.log_likelihood
        return Scores(values, own.log_likelihood)


def available(model: NeuralModel, data: SplitLike, background: NeuralModel | None = None) -> dict[str, str | None]:
    """Of each method, why there is no such score of these data; None: there is."""
    batch = next(_batches(data, torch.arange(1), 0, [model]))[1]
    kind = _kind(model, batch)
    prior = "a plain auto-encoder has no distribution over its codes, so no log p(x); train model vae"
    said: dict[str, str | None] = dict.fromkeys(METHODS, prior if kind == "plain" else None)
    said["reconstruction"] = None
    if kind == "density":
        said["elbo"] = said["reconstruction"] = "the model has no code; importance is log p(x) itself"
    if kind == "code":
        said["importance"] = "the code is a function of x, so that log p(x) is not known; elbo is its bound"
    if kind == "plain":
        return said
    said["ratio"] = _no_code_length(model, data, batch)
    if background is None:
        said["background"] = "it needs a background model"
    elif (background.shape, background.likelihood.levels) != (model.shape, model.likelihood.levels):
        said["background"] = (
            f"the background model is of data {background.shape} of {background.likelihood.levels} levels, the model "
            f"of {model.shape} of {model.likelihood.levels}"
        )
    elif _asks(background) not in (None, _asks(model)):
        said["background"] = "the background model is told another condition than the model"
    elif _kind(background, _told(background, batch)) == "plain":
        said["background"] = f"of the background model, {prior}"
    return said


def _no_code_length(model: NeuralModel, data: SplitLike, batch: Batch) -> str | None:
    levels = data.levels
    if levels is None or levels > MOST_LEVELS or batch.target.ndim < 3:
        return f"it needs images or signals on at most {MOST_LEVELS} levels"
    if batch.mask is not None or batch.target.shape != batch.x.shape:
        return "it needs the probability of the whole image, and a part or something else is predicted"
    if model.likelihood.levels not in (None, levels):
        return (
            f"p(x) is no probability of {levels} levels: use likelihood discretised-logistic, or binarised data "
            "with bernoulli"
        )
    return None


def _kind(model: NeuralModel, batch: Batch) -> Kind:
    with measuring(model, 0) as device, torch.no_grad():
        output = _output(model, batch_on(batch, device))
    if not output.levels:
        return "density"
    if not output.probabilistic:
        return "plain"
    return "latents" if model.stochastic else "code"


def _output(model: NeuralModel, batch: Batch) -> Output:
    output: Output = model(batch.x, batch.target, condition=batch.condition, mask=batch.mask)
    return output


def _batches(
    data: SplitLike, places: Tensor, seed: int, models: Sequence[NeuralModel | None]
) -> Iterator[tuple[int, Batch]]:
    """Pieces of data where the first model is, with noise that depends on seed and place alone, and how far they go.

    A piece's size does not depend on the model, so that two models see the same noise.
    """
    with ExitStack() as stack:
        for model in reversed([model for model in models if model is not None]):
            device = stack.enter_context(measuring(model, seed))
        size = math.prod(data.batch(places[:1]).x.shape)
        for piece in places.split(max(1, min(AT_ONCE, VALUES_IN_A_PIECE // size))):
            torch.manual_seed((seed * MIXED + int(piece[0])) % 2**32)  # of which the CPU looks at 32 bits only
            with torch.no_grad():
                yield int((places <= piece[-1]).sum()), _told(models[0], batch_on(data.batch(piece), device))


def _told(model: NeuralModel | None, batch: Batch) -> Batch:
    """The batch as a model that says log p(x) of it sees it: a semi-supervised one is told no label."""
    if isinstance(model, SemiSupervisedVAE) and batch.condition is not None:
        return batch._replace(condition=torch.zeros_like(batch.condition))
    return batch._replace(condition=None) if model is not None and _asks(model) is None else batch


def _asks(model: NeuralModel) -> tuple[int, ...] | None:
    """Shape of what a model, or the prior over its codes, is told of each datum; None: nothing."""
    if model.condition_shape is not None:
        return model.condition_shape
    prior = getattr(model, "code_prior", None)
    return prior.condition_shape if isinstance(prior, NeuralModel) else None


@torch.no_grad()
def _terms(model: NeuralModel, batch: Batch, samples: int) -> _Terms:
    batch = _told(model, batch)
    zeros = torch.zeros(len(batch.x), dtype=torch.float64, device=batch.x.device)
    likelihood, rate, weighted = zeros.clone(), zeros.clone(), zeros - torch.inf
    output = None
    for rows, draws, output in output_chunks(model, batch, samples):
        log_likelihood = output.log_likelihood()
        likelihood[rows] += output.expectation(log_likelihood.double()) * (draws / samples)
        if not output.probabilistic:
            continue
        rate[rows] += output.expectation(output.rate().double()) * (draws / samples)
        if model.stochastic:
            weights = log_weights(output, log_likelihood).double()
            each = importance_weighted_bound(weights, output.log_weights) + math.log(draws / samples)
            weighted[rows] = torch.logaddexp(weighted[rows], each)
    assert output is not None
    if not output.levels:
        return _Terms(likelihood.cpu(), None, likelihood.cpu())
    if not output.probabilistic:
        return _Terms(likelihood.cpu(), None, None)
    elbo = likelihood - rate
    return _Terms(likelihood.cpu(), elbo.cpu(), (weighted if model.stochastic else elbo).cpu())


def _joined(parts: Sequence[_Terms]) -> _Terms:
    def whole(name: str) -> Tensor | None:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(values) if values else None

    likelihood = whole("likelihood")
    assert likelihood is not None
    return _Terms(likelihood, whole("elbo"), whole("log_likelihood"))


def _levels_of(values: Tensor, data: SplitLike) -> Tensor:
    """What a model sees of values on levels, as the levels themselves."""
    levels = data.levels or 2
    if data.transform == "dequantise":
        return (values * levels).floor().clamp(0, levels - 1).long()
    return (values * (levels - 1)).round().long()
