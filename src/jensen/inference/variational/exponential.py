"""Factors of q that are exponential families on the latent's own support: Gamma, Beta, Dirichlet, Bernoulli, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from jensen.families import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    ExponentialFamily,
    Gamma,
    InverseGamma,
    Normal,
    Poisson,
)
from jensen.families.special import root
from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, rows_of
from jensen.inference.variational.layout import cut_plate

__all__ = ["ExponentialFactor", "ExponentialPosterior", "discrete_factor"]

AnyFamily = ExponentialFamily[Any, Any, Any]

_SURE = 1000.0
"""log odds of what is certain"""


class ExponentialPosterior(FactorPosterior):
    """One latent whose elements have independent distributions `q` of an exponential family, on its own support.

    The point of a draw is the value itself. Normal draws are made of noise; those of Gamma, Beta and Dirichlet are
    differentiated implicitly (Figurnov, Mohamed & Mnih 2018), which needs a generator; discrete ones have no gradient.

    Args:
        name: the latent.
        q: a batch of distributions, one for each element.
        plate: that the first dimension of the batch runs over.
        support_size: values that an element can take; None if they are not finitely many.
    """

    def __init__(self, name: str, q: AnyFamily, plate: str | None = None, support_size: int | None = None) -> None:
        self.names, self.q, self.plate, self.support_size = (name,), q, plate, support_size
        self.elements = q.batch_shape
        self.has_rsample = q.has_rsample
        self.noise_shape = tuple(q.batch_shape) if isinstance(q, Normal) else None

    def _draw(self, values: Tensor) -> Draw:
        return Draw({self.names[0]: values}, values)

    def _for(self, generator: Generator | None) -> AnyFamily:
        """q where the generator is, since random numbers are made on its device."""
        return self.q if generator is None else self.q.to(generator.device)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        values = self._for(generator).rsample((samples,), generator)
        return self._draw(values.to(self.q.natural_parameters[0].device))

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        values = self._for(generator).sample((samples,), generator)
        return self._draw(values.to(self.q.natural_parameters[0].device))

    def from_noise(self, noise: Tensor) -> Draw:
        if not isinstance(self.q, Normal):
            return super().from_noise(noise)
        loc, scale = self.q.standard_parameters
        return self._draw(loc + scale * noise)

    def log_prob(self, draw: Draw) -> Tensor:
        return self.q.log_prob(draw.point)

    def enumerate(self) -> Draw:
        if self.support_size is None:
            return super().enumerate()
        like = self.q.natural_parameters[0]
        dtype = torch.int64 if isinstance(self.q, Categorical) else like.dtype
        values = torch.arange(self.support_size, device=like.device).to(dtype)
        return self._draw(values.reshape(-1, *(1 for _ in self.elements)).expand(-1, *self.elements))

    def entropy(self) -> Tensor:
        return self.q.entropy()

    def detach(self) -> Self:
        return type(self)(self.names[0], self.q.detach(), self.plate, self.support_size)


class ExponentialFactor(Factor):
    """q of one latent as an exponential family of the library on the latent's own support.

    The parameters are real numbers without limits: of Bernoulli, Categorical and Poisson the natural parameters in
    minimal coordinates (log odds, logits less the last one, log rate), of the others `unconstrained()` (logarithms of
    concentrations and rates; mean and log standard deviation).

    Args:
        name: the latent.
        variable: its shape and support.
        sizes: of the plates.
        family: for `real` Normal, `positive` Gamma or InverseGamma, `unit_interval` Beta, `simplex` Dirichlet,
            `bernoulli` Bernoulli, `categorical` Categorical, `poisson` Poisson.

    Raises:
        ValueError: the family's support is not the latent's.
        TypeError: the family cannot be a factor.
    """

    def __init__(self, name: str, variable: Variable, sizes: Mapping[str, int], family: type[AnyFamily]) -> None:
        super().__init__()
        self._kind = _kind_of(name, variable, family)
        self.names, self.family, self.plate = (name,), family, variable.plate
        self._cut = cut_plate(variable.plate, sizes)
        self.support_size = variable.size
        start = self._kind.start(variable, variable.full_shape(sizes))
        self.raw = nn.ParameterList(start)

    def forward(self, batch: Any = None) -> ExponentialPosterior:
        raw = [rows_of(parameter, self._cut, batch) for parameter in self.raw]
        return ExponentialPosterior(self.names[0], self._member(raw), self.plate, self.support_size)

    def _member(self, raw: Sequence[Tensor]) -> AnyFamily:
        if self.family in _DISCRETE.values():  # natural, not through probabilities, which round to 0 and 1
            vector = raw[0] if self.family.event_dims[0] else raw[0].unsqueeze(-1)
            return self.family(self.family.from_minimal(vector))
        return self.family.from_unconstrained(raw)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters so that q is centred at real coordinates, as in the other factors.

        Gamma and InverseGamma: E_q and standard deviation of log z are exactly these. Beta and Dirichlet: E_q[z] is
        the transformed centre, and the coordinates' average variance scale^2.
        """
        name = self.names[0]
        if name in centre and self._kind.place is not None:
            spread = torch.as_tensor(scale[name] if isinstance(scale, Mapping) else scale, dtype=centre[name].dtype)
            for parameter, value in zip(self.raw, self._kind.place(centre[name], spread), strict=True):
                parameter.copy_(value)

    @torch.no_grad()
    def settle(self, log_q: Tensor) -> None:
        """Set the parameters of a Bernoulli or Categorical q from log q of each value, (values, *elements)."""
        # Infinite odds times a probability of 0 would be NaN. It is not the odds that are limited, but how far a value
        # may be behind the likeliest: odds against a last value that is impossible would all be alike.
        finite = log_q.log_softmax(0).clamp(min=-_SURE)
        odds = finite[1:] - finite[:1] if self.family is Bernoulli else finite[:-1] - finite[-1:]
        self.raw[0].copy_(odds[0] if self.family is Bernoulli else odds.movedim(0, -1))

    def mean(self) -> Tensor:
        """E_q of the real coordinates (those of the support's transform), flat, (D,); empty for a discrete latent."""
        if self._kind.mean is None:
            return torch.empty(0, dtype=torch.float64)
        flat: Tensor = self._kind.mean(self._member(list(self.raw))).reshape(-1)
        return flat

    def extra_repr(self) -> str:
        return f"{self.names[0]}: {self.family.__name__}"


def discrete_factor(name: str, variable: Variable, sizes: Mapping[str, int]) -> ExponentialFactor:
    """The factor of a discrete latent: Bernoulli, Categorical or Poisson, uniform (rate 1) at the start."""
    if variable.family is None:
        raise TypeError(f"latent {name!r} is continuous")
    return ExponentialFactor(name, variable, sizes, _DISCRETE[variable.family])


# --- what each family needs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """How a family serves as a factor: on which support, where it is placed, what its coordinates' mean is."""

    support: Constraint | str  # of continuous latents; the variable's `family` of discrete ones
    place: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None = None  # (centre, scale) to unconstrained parameters
    mean: Callable[[Any], Tensor] | None = None

    def start(self, variable: Variable, shape: torch.Size) -> list[nn.Parameter]:
        """Parameters for a latent of this full shape: N(0, 1) in its coordinates, or uniform."""
        if self.place is not None:
            zeros = torch.zeros(variable.transform.inverse_shape(shape), dtype=torch.float64)
            return [
                nn.Parameter(p.clone(memory_format=torch.contiguous_format))
                for p in self.place(zeros, zeros.new_ones(()))
            ]
        last = (variable.size - 1,) if variable.family == "categorical" and variable.size else ()
        return [nn.Parameter(torch.zeros((*shape, *last), dtype=torch.float64))]


def _matching(variance_at: Callable[[Tensor], Tensor], variance: Tensor, guess: Tensor) -> Tensor:
    """Logarithm of the concentration t > 0 at which a decreasing variance_at(t) is `variance`, elementwise."""

    def increasing(v: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = v.detach().requires_grad_()
            excess = variance.log() - variance_at(leaf.exp()).log()
            (slope,) = torch.autograd.grad(excess.sum(), leaf)
        return excess.detach(), slope

    return root(increasing, guess.log(), -60.0, 60.0)


def _place_gamma(centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Var log z = trigamma(a), E log z = digamma(a) - log b."""
    variance = scale.square().expand(centre.shape)
    log_a = _matching(lambda t: torch.polygamma(1, t), variance, 0.5 + 1 / variance)
    return log_a, torch.digamma(log_a.exp()) - centre


def _place_inverse_gamma(centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    log_a, log_b = _place_gamma(-centre, scale)
    return log_a, log_b


def _place_beta(centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Var logit z = trigamma(a) + trigamma(b) with a = t sigmoid(centre), b = t sigmoid(-centre)."""
    one, zero = torch.sigmoid(centre), torch.sigmoid(-centre)
    variance = scale.square().expand(centre.shape)
    guess = 1 + 1 / (variance * one * zero)
    log_t = _matching(lambda t: torch.polygamma(1, t * one) + torch.polygamma(1, t * zero), variance, guess)
    return log_t + one.log(), log_t + zero.log()


def _place_dirichlet(centre: Tensor, scale: Tensor) -> tuple[Tensor]:
    """Var of stick k's logit = trigamma(alpha_k) + trigamma(alpha_{k+1} + ...), averaged over the sticks."""
    proportions = torch.distributions.StickBreakingTransform()(centre)
    rest = _beyond(proportions)
    variance = scale.square().expand(centre.shape).mean(-1)

    def average(t: Tensor) -> Tensor:
        one, zero = t.unsqueeze(-1) * proportions[..., :-1], t.unsqueeze(-1) * rest
        return (torch.polygamma(1, one) + torch.polygamma(1, zero)).mean(-1)

    log_t = _matching(average, variance, proportions.shape[-1] * (1 + 1 / variance))
    return (log_t.unsqueeze(-1) + proportions.log(),)


def _beyond(parts: Tensor) -> Tensor:
    """Sums of what comes after each entry but the last, (..., K - 1)."""
    return parts.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def _mean_normal(q: Normal) -> Tensor:
    return q.standard_parameters.loc


def _mean_gamma(q: Gamma) -> Tensor:
    return q.mean_parameters.log


def _mean_inverse_gamma(q: InverseGamma) -> Tensor:
    return q.mean_parameters.log


def _mean_beta(q: Beta) -> Tensor:
    return torch.digamma(q.standard_parameters.concentration1) - torch.digamma(q.standard_parameters.concentration0)


def _mean_dirichlet(q: Dirichlet) -> Tensor:
    concentration = q.standard_parameters.concentration
    left = torch.arange(concentration.shape[-1] - 1, 0, -1, dtype=concentration.dtype, device=concentration.device)
    return torch.digamma(concentration[..., :-1]) - torch.digamma(_beyond(concentration)) + left.log()


_DISCRETE: dict[str, type[AnyFamily]] = {"bernoulli": Bernoulli, "categorical": Categorical, "poisson": Poisson}
_KINDS: dict[type[AnyFamily], _Kind] = {
    Normal: _Kind(constraints.real, lambda centre, scale: (centre, scale.log().expand(centre.shape)), _mean_normal),
    Gamma: _Kind(constraints.positive, _place_gamma, _mean_gamma),
    InverseGamma: _Kind(constraints.positive, _place_inverse_gamma, _mean_inverse_gamma),
    Beta: _Kind(constraints.unit_interval, _place_beta, _mean_beta),
    Dirichlet: _Kind(constraints.simplex, _place_dirichlet, _mean_dirichlet),
    Bernoulli: _Kind("bernoulli"),
    Categorical: _Kind("categorical"),
    Poisson: _Kind("poisson"),
}


def _kind_of(name: str, variable: Variable, family: type[AnyFamily]) -> _Kind:
    kind = _KINDS.get(family)
    if kind is None:
        known = ", ".join(f.__name__ for f in _KINDS)
        raise TypeError(
            f"{getattr(family, '__name__', family)!r} cannot be the factor of latent {name!r}: take one of {known}, or "
            "blocks([...]) for what depends on each other"
        )
    found: Constraint | str = variable.family or variable.support
    if found is not kind.support and found != kind.support:
        fits = [f.__name__ for f, k in _KINDS.items() if k.support is found or k.support == found]
        raise ValueError(
            f"{family.__name__} does not fit latent {name!r}, whose support is {found}: "
            + (f"take {' or '.join(fits)}" if fits else "no exponential family here has it")
        )
    return kind
