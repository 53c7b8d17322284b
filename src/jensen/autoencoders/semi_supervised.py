"""A VAE with a class among its latents, for data of which only some labels are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, register_kl

from jensen.autoencoders.condition import checked_mask, checked_shape
from jensen.autoencoders.path import path_between
from jensen.autoencoders.vae import VAE, FullGaussian
from jensen.bound import Level, Output
from jensen.config import ModelKind, NetConfig
from jensen.likelihoods import at_least_float32
from jensen.nn import make_encoder
from jensen.nn.features import Seen

__all__ = ["ClassOutput", "ClassPosterior", "SemiSupervisedVAE"]


class ClassPosterior(Categorical):
    """A categorical distribution that may rule classes out: logits of -inf, whose KL has gradients without NaN."""


@register_kl(ClassPosterior, Categorical)  # type: ignore[untyped-decorator]
def _kl(q: ClassPosterior, p: Categorical) -> Tensor:
    # 0 log 0 = 0: what torch makes of it has the right value, but a NaN for a gradient.
    ratio = (q.logits - p.logits).masked_fill(q.logits.isneginf(), 0.0)
    return (q.logits.exp() * ratio).sum(-1)


@dataclass(frozen=True, slots=True)
class ClassOutput(Output):
    """What `SemiSupervisedVAE` returns.

    Attributes:
        belief: log q(y | x) in nats, (batch, classes), also of data whose class is known.
    """

    belief: Tensor | None = None


class SemiSupervisedVAE(VAE):
    """p(y) p(z) p(x | y, z) with a class y that is known for some data only: model M2 of Kingma et al. 2014.

    Kingma, Rezende, Mohamed & Welling 2014, "Semi-supervised learning with deep generative models". The condition of a
    datum is its one-hot label, or a row of zeros where the label is unknown. With L(x, y) = E_q(z|x,y)[log p(x | y, z)]
    - KL(q(z | x, y) || p(z)) + log p(y), the bound is L(x, y) where y is known (eq. 6), and else (eq. 7)

        sum_y q(y | x) L(x, y) + H(q(y | x)) <= log p(x).

    The sum over y is exact: samples enumerate the classes (sample s K + k is draw s for class k), and both bounds are
    the ELBO of an `Output` whose first level is y. Every row is decoded for all K classes, known or not, so that no
    device has to be asked which are which: a step costs as much as K steps of a VAE.

    A known label says nothing about q(y | x) in that bound. So in training `penalties` has `classification`, the mean
    over the batch's labelled rows of -log q(y | x) times `classifier_weight` (0 without such rows): eq. 9, whose alpha
    is this weight times the number of data if each is seen once an epoch. (The paper's 0.1 N is a weight of 0.1.) In
    evaluation mode there is no such term, so that validation compares bounds, and `report` says how good q(y | x) is.
    An importance-weighted bound sums over y whatever q(y | x) is, so with `Iwae` the classifier learns from the labels
    alone.

    Where labelled data are repeated within an epoch (`labelled_share` in the configuration of the data), they count as
    often in the bound as they are seen, more than the others: what is maximised is then not eq. 8, and as a batch's
    mean bound weighs data by how often they are seen, the weight of its classification is not exactly alpha / N. Both
    are as written if labelled data are not repeated and every batch has some.

    Large images may need a larger weight: where the bound is some 100 nats, q(y | x) otherwise commits itself early to
    classes that the decoder does not know yet. On MNIST with 100 labels 50 is better than 1, on 8 x 8 digits 1 to 10
    is better than 50. Batch normalisation (`NetConfig`) helps with both: `examples/semi_supervised.py`.

    With an unknown class, the code of a datum and what is decoded from it are means under q(y | x).

    Args:
        shape: see `EncoderDecoder`.
        latent: dimension of z.
        condition_shape: (K,), K classes.
        classifier_weight: see above.
        classifier: own network (batch, *shape) -> (batch, K) of logits in place of one like the encoder's.
        class_prior: p(y); None: uniform.
        net: of encoder, decoder and classifier.
        **choices: of `VAE`; prior learned is p(z | y).

    Raises:
        ConfigError: a net or the likelihood do not fit the data.
        ValueError: condition_shape is no number of classes, or class_prior no distribution over them.
    """

    kind: ModelKind = "semi-supervised"
    class_log_prior: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int = 16,
        *,
        condition_shape: tuple[int, ...],
        classifier_weight: float = 1.0,
        classifier: nn.Module | None = None,
        class_prior: Sequence[float] | None = None,
        net: NetConfig | str = "auto",
        **choices: object,
    ) -> None:
        condition_shape = checked_shape(condition_shape, own=True) or ()
        if len(condition_shape) != 1 or condition_shape[0] < 2:
            raise ValueError(f"condition_shape should be (classes,), of 2 classes or more, got {condition_shape}")
        if not (classifier_weight >= 0 and math.isfinite(classifier_weight)):
            raise ValueError(f"classifier_weight should be 0 or more and finite, got {classifier_weight}")
        super().__init__(shape, latent, condition_shape=condition_shape, net=net, **choices)  # type: ignore[arg-type]
        if self.mixture is not None or isinstance(self.encoder, FullGaussian):
            raise ValueError("a model with unknown classes has prior standard or learned, and posterior diagonal")
        self.classes = condition_shape[0]
        self.classifier_weight = classifier_weight
        net = NetConfig(kind=net) if isinstance(net, str) else net
        seen = self.likelihood.features() if self.target_shape == self.shape else None
        if classifier is None:
            own = make_encoder(net, shape if seen is None else (seen.size,), self.classes)
            self.classifier: nn.Module = own if seen is None else Seen(seen, own)
        else:
            self.classifier = classifier
        if classifier is not None or class_prior is not None:
            self.config = None
        elif self.config is not None:
            self.config = self.config.model_copy(update={"classifier_weight": classifier_weight})
        self.register_buffer("class_log_prior", _log_prior(class_prior, self.classes))

    @property
    def enumerated(self) -> int:
        """How many codes a draw decodes: one for each class."""
        return self.classes

    def _nets(self) -> list[nn.Module]:
        return [*super()._nets(), self.classifier]

    def classify(self, x: Tensor) -> Tensor:
        """log q(y | x) in nats, (batch, classes); ValueError if x has another shape than the model's."""
        self._check_input(x)
        return F.log_softmax(at_least_float32(self.classifier(x)), -1)

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """The terms of the bound; levels (y, z), and `samples` draws of z for each class. See `EncoderDecoder`."""
        expected = self._checked(x, target)
        observed = checked_mask(mask, len(x), self.target_shape)
        batch, k = len(x), self.classes
        log_q = self.classify(x)
        given = self._given(condition, batch)
        label = ClassPosterior(logits=_told(log_q, given)[None, :, None], validate_args=False)
        q = self._posteriors(x)
        z = q.rsample(torch.Size([samples])).flatten(0, 1)
        y = torch.arange(k, device=x.device).repeat(samples)[:, None, None].expand(-1, batch, 1)
        levels = (
            Level(y, label, Categorical(logits=self.class_log_prior, validate_args=False)),
            Level(z, _repeated(q, samples), self._priors(samples)),
        )
        return ClassOutput(
            expected,
            self.decoder(z, self._every().repeat(samples, 1, 1)),
            levels,
            mask=observed,
            log_weights=label.logits[0, :, 0].T.repeat(samples, 1) - math.log(samples),
            penalties=self._penalties(log_q, given),
            belief=log_q,
        )

    @torch.no_grad()
    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """`accuracy`: share of the rows whose label the model was not told for which argmax q(y | x) is the truth.

        Where it was told all labels, as where all of a data set are known, it is the share of all rows: q(y | x) is
        made without a look at the label, though in training it may have been learned from it. Nothing without labels.
        """
        if label is None or not isinstance(output, ClassOutput) or output.belief is None:
            return {}
        right = (output.belief.argmax(-1) == label).to(output.belief.dtype)
        given = self._given(condition, len(label))
        if given is None:
            return {"accuracy": right.mean()}
        hidden = (~given.any(-1)).to(right.dtype)
        counted = torch.where(hidden.any(), hidden, torch.ones_like(hidden))  # chosen on the device: nobody waits
        return {"accuracy": (counted * right).sum() / counted.sum()}

    def _penalties(self, log_q: Tensor, given: Tensor | None) -> dict[str, Tensor]:
        if not self.training:
            return {}
        if given is None:
            return {"classification": log_q.new_zeros(())}
        surprise = -(given * log_q).sum() / given.sum().clamp_min(1.0)
        return {"classification": self.classifier_weight * surprise}

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Normal:
        """q(z | x, y), batch shape (batch, latent).

        Where y is unknown q(z | x) is a mixture over the classes; this is the Gaussian of its means and variances.

        Raises:
            ValueError: x or condition have another shape than the model's.
        """
        weights = self._weights(x, condition).T.unsqueeze(-1)
        q = self._posteriors(x)
        mean = (weights * q.loc).sum(0)
        variance = (weights * (q.variance + (q.loc - mean).square())).sum(0)
        return Normal(mean, variance.sqrt(), validate_args=False)

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Posterior mean of z, (batch, latent): that of the class where it is known, else its mean under q(y | x)."""
        return self.posterior(x, condition).mean

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean of p(x | y, z), (..., *target_shape), for codes (..., batch, latent) and labels (batch, classes).

        Where y is unknown it is the mean of p(x | z): over the classes as p(y), whatever z (as p(y | z) if the prior
        of z is learned).

        Raises:
            ValueError: codes or condition have another shape than the model's.
        """
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"codes should have {self.latent} numbers each, got shape {tuple(z.shape)}")
        given = None if condition is None else self._condition(condition, *z.shape[:-1], exact=False)
        if given is not None and bool(given.any(-1).all()):
            return super().decode(z, given)
        of_class = self._priors(1).log_prob(z.expand(self.classes, *z.shape).reshape(self.classes, -1, self.latent))
        log_p = F.log_softmax(of_class.sum(-1).T + self.class_log_prior, -1).reshape(*z.shape[:-1], self.classes)
        return self._mixture(z, _told(log_p, given).exp())

    @torch.no_grad()
    def reconstruct(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Decode each datum's code for its class, (batch, *target_shape); the mean under q(y | x) if it is unknown."""
        return self._mixture(self._posteriors(x).loc, self._weights(x, condition), own=True)

    @torch.no_grad()
    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int = 9,
        path: Literal["linear", "spherical"] = "linear",
        condition: Tensor | None = None,
    ) -> Tensor:
        """Decoded walk between two data, (steps, *target_shape): their codes as `path` says, their q(y | x) linearly.

        A condition (classes,) is the class of all steps.
        """
        ends = torch.stack([start, end])
        given = None if condition is None else self._condition(condition)
        both = None if given is None else given.expand(2, -1)
        codes, weights = self.encode(ends, both), self._weights(ends, both)
        return self._mixture(path_between(codes[0], codes[1], steps, path), path_between(weights[0], weights[1], steps))

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        """New data, (n, *target_shape); see `VAE.sample`. Classes that no condition gives are drawn from p(y)."""
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        drawn = self._drawn(self.class_log_prior.expand(n, -1))
        given = self._given(condition, n, exact=False)
        if given is not None:
            drawn = torch.where(given.any(-1, keepdim=True), given, drawn)
        return super().sample(n, temperature, condition=drawn)

    @torch.no_grad()
    def neighbours(self, x: Tensor, n: int = 1, condition: Tensor | None = None) -> Tensor:
        """New data near each x: decoded draws of q(y, z | x), (n, batch, *target_shape); see `VAE.neighbours`."""
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        weights = self._weights(x, condition)
        y = self._drawn(weights.log().expand(n, -1, -1))
        z = self._posteriors(x).rsample(torch.Size([n]))
        chosen = (y.movedim(-1, 1).unsqueeze(-1) * z).sum(1)
        neighbours: Tensor = self.decoder(chosen, y).mean
        return neighbours

    def _drawn(self, logits: Tensor) -> Tensor:
        """One-hot draws, (..., classes)."""
        return F.one_hot(Categorical(logits=logits, validate_args=False).sample(), self.classes).to(logits.dtype)

    def _every(self) -> Tensor:
        """Every class, one-hot, (classes, 1, classes)."""
        return torch.eye(self.classes, device=self.class_log_prior.device, dtype=self.class_log_prior.dtype)[:, None]

    def _posteriors(self, x: Tensor) -> Normal:
        """q(z | x, y) of every class, batch shape (classes, batch, latent)."""
        self._check_input(x)
        every = self._every().expand(-1, len(x), -1).flatten(0, 1)
        q = self._posterior(x.repeat(self.classes, *[1] * (x.ndim - 1)), every)
        assert isinstance(q, Normal)
        shape = (self.classes, len(x), self.latent)
        return Normal(q.loc.view(shape), q.scale.view(shape), validate_args=False)

    def _priors(self, samples: int) -> Normal:
        """p(z | y) of enumerated classes, batch shape () or (samples x classes, 1, latent)."""
        prior = self._prior(self._every()[:, 0])
        assert isinstance(prior, Normal)
        if self.prior_net is None:
            return prior
        return _repeated(Normal(prior.loc.unsqueeze(1), prior.scale.unsqueeze(1), validate_args=False), samples)

    def _given(self, condition: Tensor | None, batch: int, *, exact: bool = True) -> Tensor | None:
        """The labels as one-hot rows, zero where unknown; None: all are."""
        return None if condition is None else self._condition(condition, batch, exact=exact)

    def _weights(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Probability of each class, (batch, classes): q(y | x), or 1 and 0 where it is known."""
        return _told(self.classify(x), self._given(condition, len(x))).exp()

    def _mixture(self, z: Tensor, weights: Tensor, own: bool = False) -> Tensor:
        """Mean over classes, weights (..., classes), of what codes (..., latent) decode to: (..., *target_shape).

        own: each class has codes of its own, (classes, ..., latent).
        """
        z = z if own else z.expand(self.classes, *z.shape)
        lead = z.shape[1:-1]
        means: Tensor = self.decoder(z.reshape(self.classes, -1, self.latent), self._every()).mean
        mixed = torch.einsum("kn...,nk->n...", means, weights.reshape(-1, self.classes).to(means.dtype))
        return mixed.reshape(*lead, *self.target_shape)


def _told(log_q: Tensor, given: Tensor | None) -> Tensor:
    """Log-probabilities of the classes, those of a one-hot label where there is one."""
    if given is None:
        return log_q
    certain = torch.zeros_like(log_q).masked_fill(given == 0, -torch.inf)
    return torch.where(given.any(-1, keepdim=True), certain, log_q)


def _repeated(normal: Normal, samples: int) -> Normal:
    """Batch shape (classes, ...) to (samples x classes, ...)."""
    if samples == 1:
        return normal
    return Normal(normal.loc.repeat(samples, 1, 1), normal.scale.repeat(samples, 1, 1), validate_args=False)


def _log_prior(prior: Sequence[float] | None, classes: int) -> Tensor:
    if prior is None:
        return torch.full((classes,), -math.log(classes))
    values = torch.as_tensor(prior, dtype=torch.float64)
    if values.shape != (classes,) or not bool((values > 0).all()) or abs(float(values.sum()) - 1) > 1e-6:
        raise ValueError(f"class_prior should be {classes} positive numbers that sum to 1, got {list(prior)}")
    return values.log().to(torch.get_default_dtype())
