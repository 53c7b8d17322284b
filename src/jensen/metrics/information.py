"""What the codes of a trained model say of the data: mutual information, total correlation, dimension-wise KL."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from jensen.aggregate import log_aggregate
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Level
from jensen.chained import Chained
from jensen.metrics.heldout import SplitLike, measuring

__all__ = ["Information", "information"]

DATA_AT_ONCE = 500  # encoded together
CODES_AT_ONCE = 500  # looked at together: how often progress is told
NEAR_SATURATION = 0.5  # nats


@dataclass(frozen=True)
class Information:
    """What `information` found, in nats per example; errors are standard errors over the codes.

    Attributes:
        components: N, the data whose posteriors make up q(z).
        codes: how many z were drawn from q(z).
        index_code_mi: I(x; z) = E log q(z | x) - log q(z), at most ln N; I(x, c; z) of a conditional prior.
        total_correlation: KL(q(z) || prod_d q(z_d)).
        dimension_wise_kl: sum_d KL(q(z_d) || p(z_d)).
        rate: E KL(q(z | x) || p(z)), the sum of these three at the same codes.
        marginal_kl: KL(q(z) || p(z)) = rate - index_code_mi.
        per_dimension_kl: KL(q(z_d) || p(z_d)) of each dimension.
        per_dimension_kl_error: their standard errors.
        warnings: what to mind in reading the numbers.
        conditional_prior: whether the prior p(z | c) differs between data. There is no one p(z) then: the KLs of the
            aggregate from it are None, and `prior_term` is the third part of the rate in place of dimension_wise_kl.
        prior_term: E log prod_d q(z_d) - log p(z | c): no KL, and it may be negative. None without such a prior.
        enumerated_label: whether a class is summed out of q(z | x). The rate is then that of z alone, without what the
            class costs.
        notes: what the numbers are about.
    """

    components: int
    codes: int
    index_code_mi: float
    index_code_mi_error: float
    total_correlation: float
    total_correlation_error: float
    dimension_wise_kl: float | None
    dimension_wise_kl_error: float | None
    rate: float
    rate_error: float
    marginal_kl: float | None
    marginal_kl_error: float | None
    per_dimension_kl: list[float] | None
    per_dimension_kl_error: list[float] | None
    warnings: list[str] = field(default_factory=list)
    conditional_prior: bool = False
    prior_term: float | None = None
    prior_term_error: float | None = None
    enumerated_label: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def saturated(self) -> bool:
        """Whether the mutual information is so near to ln N, its largest value, that more data would have raised it."""
        return self.index_code_mi > math.log(self.components) - NEAR_SATURATION

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning)."""

        def value(name: str) -> str:
            return f"{getattr(self, name):z.3f} ± {getattr(self, f'{name}_error'):.3f}"

        bound = f"at most ln N = {math.log(self.components):.2f}" + (", which it reaches" if self.saturated else "")
        mutual = "I(x, c; z)" if self.conditional_prior else "I(x; z)"
        rows = [
            ("mutual information", value("index_code_mi"), f"nats, {mutual}: what a code says of its datum; {bound}"),
            (
                "total correlation",
                value("total_correlation"),
                "nats, KL(q(z) || prod q(z_d)): dependence between latents; 0 if independent",
            ),
        ]
        if self.conditional_prior:
            meaning = "nats, E log prod q(z_d) - log p(z | c); no KL and may be negative"
            rows.append(("prior term", value("prior_term"), meaning))
        else:
            meaning = "nats, sum of KL(q(z_d) || p(z_d)): how far single latents are from the prior"
            rows.append(("dimension-wise KL", value("dimension_wise_kl"), meaning))
        rows.append((self._rate_name, value("rate"), f"nats, {self._rate_meaning}: the sum of these three"))
        if self.marginal_kl is not None:
            meaning = "nats, KL(q(z) || p(z)): rate less mutual information"
            rows.append(("marginal KL", value("marginal_kl"), meaning))
        if self.per_dimension_kl is not None:
            largest = sorted(self.per_dimension_kl, reverse=True)[:5]
            shown = " ".join(f"{kl:z.2f}" for kl in largest)
            rows.append(("KL per latent", shown, f"nats, of q(z_d): the {len(largest)} largest"))
        return rows

    @property
    def _rate_name(self) -> str:
        return "rate of z" if self.enumerated_label else "rate"

    @property
    def _rate_meaning(self) -> str:
        if self.enumerated_label:  # under a prior of the class it is no KL: q(z | x) is of all classes
            prior = "E log q(z|x) - log p(z|y)" if self.conditional_prior else "E KL(q(z|x) || p(z))"
            return f"{prior} with the class summed out"
        return "E KL(q(z|x,c) || p(z|c))" if self.conditional_prior else "E KL(q(z|x) || p(z))"


@torch.no_grad()
def information(
    model: NeuralModel,
    split: SplitLike,
    *,
    codes: int = 10_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Information:
    """The KL of a trained model taken apart under the aggregate posterior of a whole split.

    A reader learns how many nats of the rate tell data apart (the mutual information), how many are spent on latents
    that depend on each other, and how many on latents that are not distributed like the prior. The last two together,
    KL(q(z) || p(z)), say how far the codes are from what `sample` decodes: nats that cost rate and carry nothing. The
    mutual information is that of the index of the datum, so it cannot pass ln N of the split; near it (within 0.5
    nat) the number says only that codes tell all data apart, the true I(x; z) may be larger by any amount, and what
    is missing in it is in the total correlation.

    Hoffman & Johnson 2016 (ELBO surgery) and Chen et al. 2018 (section 3), with q(z) = 1/N sum_n q(z | x_n) over all
    N data of the split instead of a minibatch. Each datum is encoded once, so data that are binarised at random are
    drawn once. Then `codes` pairs of a datum, uniformly with replacement, and a z from q(z | x) are drawn, and q(z)
    and q(z_d) computed at each from all N posteriors, in float32, averaged in float64.

    For a conditional model the datum is x with its condition c, so that the mutual information is I(x, c; z). Where
    the prior p(z | c) differs between data, there is no p(z) that q(z) could be compared with: the KLs from it are
    None, and what the rate has beside mutual information and total correlation is `prior_term`, which may be negative
    (the mutual information, which counts what z says of c, may then exceed the rate, which does not). Where a label is
    enumerated, q(z | x) is the mixture over the label.

    Args:
        model: a VAE with one level of latents (beside an enumerated label).
        split: data; for the terms of the training bound, the training data.
        codes: draws of z; standard errors fall with its square root, the time grows with codes x N x latents.
        seed: of all noise; torch's global generator is left as it was.
        progress: called as progress(codes done, codes).

    Raises:
        ValueError: no data, fewer than two codes, or a model without one level of continuous latents with posterior and
            prior.
    """
    if codes < 2 or len(split) == 0:
        raise ValueError(
            f"information needs at least 2 codes and some data, got {codes} codes and {len(split)} examples"
        )
    with measuring(model, seed) as device:
        encoded = _encode(model, split, device)
        found = _at_codes(encoded, torch.randint(len(split), (codes,)).to(device), progress)
    return _summarise(found, len(split), encoded.differs, encoded.log_weights is not None)


@dataclass(frozen=True)
class _Encoded:
    """Of all N data: q(z | x), (labels, N, *dims); p(z), likewise or scalar; log q(label | x), (labels, N), or None."""

    posterior: Distribution
    prior: Distribution
    log_weights: Tensor | None

    @property
    def differs(self) -> bool:
        """Whether the prior is not the same for all data and labels."""
        if self.prior.batch_shape.numel() == 1:
            return False
        each = _parameters(self.prior).values()
        return not all(torch.allclose(values, values[:1, :1].expand_as(values)) for values in each)


def _encode(model: NeuralModel, split: SplitLike, device: torch.device) -> _Encoded:
    posteriors, priors, weights = [], [], []
    for start in range(0, len(split), DATA_AT_ONCE):
        batch = split.batch(torch.arange(start, min(start + DATA_AT_ONCE, len(split))))
        condition = None if batch.condition is None else batch.condition.to(device)
        levels, log_weights = model.levels(batch.x.to(device), condition)
        level = _latents(levels, log_weights)
        assert level.posterior is not None
        assert level.prior is not None
        posteriors.append(level.posterior)
        priors.append(level.prior)
        if log_weights is not None:
            weights.append(log_weights)
    constant = priors[0].batch_shape.numel() == 1
    return _Encoded(
        _joined(posteriors),
        priors[0] if constant else _joined([_leading(p, q) for p, q in zip(priors, posteriors, strict=True)]),
        torch.cat(weights, 1) if weights else None,
    )


def _latents(every: tuple[Level, ...], log_weights: Tensor | None) -> Level:
    """The level that is no enumerated label."""
    if not every:
        raise ValueError("information is about a code, but this model has none: it is a density of x itself")
    if not any(level.z.is_floating_point() for level in every):
        raise ValueError(
            "information is about latents with a density, but the codes of this model are integers: their cost in bits "
            "under each prior is that of `jensen.metrics.code_usage`"
        )
    levels = [
        level
        for level in every
        if log_weights is None or level.posterior is None or not level.posterior.has_enumerate_support
    ]
    if len(levels) != 1 or levels[0].posterior is None or levels[0].prior is None:
        raise ValueError(
            f"information is about one level of latents with a posterior and a prior, but there are {len(levels)} "
            "levels or one without"
        )
    if isinstance(levels[0].posterior, Chained) or isinstance(levels[0].prior, Chained):
        raise ValueError(
            "information takes the rate apart latent by latent, but those of a mixture as prior or a full covariance "
            "depend on each other"
        )
    return levels[0]


def _parameters(distribution: Distribution) -> dict[str, Tensor]:
    """Parameters that make the distribution anew, each of its batch shape."""
    names = set(distribution.arg_constraints)
    if {"probs", "logits"} <= names:  # two names of one
        names.remove("probs")
    if not names or len(distribution.event_shape):
        raise ValueError(f"information needs a factorised posterior and prior, got {type(distribution).__name__}")
    return {name: getattr(distribution, name).expand(distribution.batch_shape) for name in sorted(names)}


def _made(kind: Distribution, parameters: dict[str, Tensor]) -> Distribution:
    make: Callable[..., Distribution] = type(kind)
    return make(**parameters, validate_args=False)


def _joined(parts: list[Distribution]) -> Distribution:
    """One distribution of the batches of all parts, along their second dimension."""
    each = [_parameters(part) for part in parts]
    return _made(parts[0], {name: torch.cat([own[name] for own in each], 1) for name in each[0]})


def _leading(prior: Distribution, posterior: Distribution) -> Distribution:
    """The prior with the posterior's batch and latents, and labels where its own differ with them."""
    expanded: Distribution = prior.expand(torch.broadcast_shapes(prior.batch_shape, (1, *posterior.batch_shape[1:])))
    return expanded


def _picked(distribution: Distribution, label: Tensor | None, index: Tensor) -> Distribution:
    """Of some data, (codes, *dims), or with every label, (labels, codes, *dims), where `label` is None."""
    parameters = _parameters(distribution)
    if label is None:
        return _made(distribution, {name: values[:, index] for name, values in parameters.items()})
    return _made(
        distribution,
        {name: values[label if len(values) > 1 else 0, index] for name, values in parameters.items()},
    )


def _at_codes(encoded: _Encoded, index: Tensor, progress: Callable[[int, int], None] | None) -> list[Tensor]:
    """log q(z | x), log q(z), (codes,), and log q(z_d), log p(z_d), (codes, latents), at one code of each datum."""
    components = encoded.posterior.batch_shape[:2]
    weights = None
    if encoded.log_weights is not None:
        own = encoded.log_weights.expand(components).reshape(1, -1)
        weights = own - math.log(components[1])
    constant = encoded.prior.batch_shape.numel() == 1
    parts = []
    for some in index.split(CODES_AT_ONCE):
        label = torch.zeros_like(some)
        if encoded.log_weights is not None:
            label = torch.multinomial(encoded.log_weights[:, some].exp().t(), 1).squeeze(1)
        z = _picked(encoded.posterior, label, some).sample()
        dims = z.ndim - 1
        log_q = _picked(encoded.posterior, None, some).log_prob(z).flatten(2).sum(2)
        if encoded.log_weights is not None:
            log_q = log_q + encoded.log_weights[:, some]
        prior = encoded.prior if constant else _picked(encoded.prior, label, some)
        joint, each = log_aggregate(z, encoded.posterior, weights, dims=dims)
        parts.append([torch.logsumexp(log_q, 0), joint, each.flatten(1), prior.log_prob(z).flatten(1)])
        if progress is not None:
            progress(sum(len(part[0]) for part in parts), len(index))
    return [torch.cat(values).double() for values in zip(*parts, strict=True)]


def _summarise(found: list[Tensor], components: int, conditional: bool, enumerated: bool) -> Information:
    log_q, joint, each, prior = found

    def mean(values: Tensor) -> tuple[float, float]:
        return values.mean().item(), (values.std() / math.sqrt(len(values))).item()

    kl = each - prior
    mi, tc, third = mean(log_q - joint), mean(joint - each.sum(1)), mean(kl.sum(1))
    rate, marginal = mean(log_q - prior.sum(1)), mean(joint - prior.sum(1))
    nothing: tuple[float | None, float | None] = (None, None)
    dimension_wise, prior_term = (nothing, third) if conditional else (third, nothing)
    result = Information(
        components,
        len(joint),
        *mi,
        *tc,
        *dimension_wise,
        *rate,
        *(nothing if conditional else marginal),
        per_dimension_kl=None if conditional else kl.mean(0).tolist(),
        per_dimension_kl_error=None if conditional else (kl.std(0) / math.sqrt(len(kl))).tolist(),
        conditional_prior=conditional,
        prior_term=prior_term[0],
        prior_term_error=prior_term[1],
        enumerated_label=enumerated,
    )
    _explain(result)
    return result


def _explain(found: Information) -> None:
    """Add what a reader should mind."""
    if found.saturated:
        mutual = "I(x, c; z)" if found.conditional_prior else "I(x; z)"
        found.warnings.append(
            f"The mutual information is within {NEAR_SATURATION} nat of ln {found.components} = "
            f"{math.log(found.components):.2f}, the most that so many data can show: the codes tell nearly all of them "
            f"apart, and {mutual} under the distribution of the data may be larger. The total correlation holds what "
            "does not fit."
        )
    if found.conditional_prior:
        read = "rate of the ELBO" if found.enumerated_label else "rate"
        found.warnings.append(
            "The prior p(z | c) differs between data, so there is no one p(z) from which the codes of all data could "
            f"have a KL, and none is given: read the {read}, which is what the code says of x beyond c."
        )
    if found.enumerated_label:
        found.notes.append(
            "The rate of z is that of q(z | x) with the class summed out; the rate of the ELBO is larger, as it counts "
            "z for each class and KL(q(y | x) || p(y)), the rate of the class."
        )
