"""Normalising flows as q: neural spline couplings of the zuko library, over all continuous latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.model import Model
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, Family, FamilyMaker
from jensen.inference.variational.exponential import discrete_factor
from jensen.inference.variational.layout import Layout, continuous, standard_noise

__all__ = ["FlowFactor", "FlowPosterior", "flow"]

_LOG_2PI = math.log(2 * math.pi)
_UNIT = 0.03
"""of the nets' weights: a step that suits locations in standard deviations and logarithms would throw a net about"""


@dataclass(frozen=True, slots=True)
class _FlowDraw(Draw):
    """A draw that remembers its density, for the q that made it: it saves the way back through the flow."""

    log_density: Tensor | None = None
    origin: object = None


class _Couplings(nn.Module):
    """A lazy transform of zuko as a module that is evaluated where it is called: x to (f(x), log |df / dx|)."""

    lazy: Any

    def __init__(self, lazy: nn.Module) -> None:
        super().__init__()
        self.lazy = lazy

    def forward(self, x: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        transform = self.lazy(None)
        y, log_slope = (transform.inv if inverse else transform).call_and_ladj(x)
        return y, log_slope


class FlowPosterior(FactorPosterior):
    """u = loc + exp(log_scale) f(e), e standard normal and f an invertible net.

    Args:
        layout: which latents u is.
        loc: (D,).
        log_scale: (D,).
        net: (x, inverse) to f(x) or its inverse, and the log Jacobian, (samples, D) and (samples,).
        weights: the net's parameters at which it is taken.
    """

    def __init__(
        self, layout: Layout, loc: Tensor, log_scale: Tensor, net: nn.Module, weights: Mapping[str, Tensor]
    ) -> None:
        self.names, self.layout = layout.names, layout
        self.loc, self.log_scale, self.net, self.weights = loc, log_scale, net, dict(weights)
        self.elements = torch.Size()
        self.noise_shape = (layout.size,)

    def _through(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        y, log_slope = torch.func.functional_call(self.net, self.weights, (x, inverse))
        return y, log_slope

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.from_noise(standard_noise(samples, (self.layout.size,), self.loc, generator))

    def from_noise(self, noise: Tensor) -> Draw:
        inner, log_slope = self._through(noise, inverse=False)
        draw = self.layout.draw(self.loc + self.log_scale.exp() * inner)
        if not torch.is_grad_enabled():  # the density may be asked for with a gradient later
            return draw
        log_density = _log_normal(noise) - log_slope - self.log_scale.sum()
        return _FlowDraw(draw.values, draw.point, draw.log_jacobian, log_density, self)

    def log_prob(self, draw: Draw) -> Tensor:
        if isinstance(draw, _FlowDraw) and draw.origin is self and draw.log_density is not None:
            return draw.log_density - draw.log_jacobian
        inner = (draw.point - self.loc) * (-self.log_scale).exp()
        noise, log_slope = self._through(inner, inverse=True)
        return _log_normal(noise) + log_slope - self.log_scale.sum() - draw.log_jacobian

    def detach(self) -> Self:
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        return type(self)(self.layout, self.loc.detach(), self.log_scale.detach(), self.net, weights)


def _log_normal(noise: Tensor) -> Tensor:
    return -0.5 * (noise.square() + _LOG_2PI).sum(-1)


class FlowFactor(Factor):
    """A normalising flow over several latents' real coordinates: rational-quadratic spline couplings of zuko.

    Durkan et al. 2019, "Neural spline flows". f is the identity at the start (so q is N(loc, exp(2 log_scale))) and
    beyond 5 standard deviations; draws take one pass through each net, densities of other points two. Its hidden
    weights are random, the same for the same seed; the parameters `change` are what is added to them, in units in which
    one step size suits nets and locations.

    Args:
        variables: the latents.
        sizes: of the plates.
        transforms: couplings, one after another.
        hidden: widths of each coupling's net.
        bins: of the splines.
        seed: of the hidden weights.

    Raises:
        ImportError: zuko is not installed.
        TypeError: a latent is discrete.
        ValueError: no transforms.
    """

    fixed_draws = False  # a net can fit any fixed draws

    def __init__(
        self,
        variables: Mapping[str, Variable],
        sizes: Mapping[str, int],
        transforms: int = 2,
        hidden: Sequence[int] = (16, 16),
        bins: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if transforms < 1:
            raise ValueError(f"a flow needs at least one transform, got {transforms}")
        self.layout = Layout(variables, sizes)
        self.names, size = self.layout.names, self.layout.size
        self.loc = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        zuko = _import_zuko()
        # smooth activations, for Hessians; a lone coordinate has no net to shape
        net = {"hidden_features": tuple(hidden), "activation": nn.Tanh, "passes": 2} if size > 1 else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = _Couplings(zuko.flows.NSF(size, bins=bins, transforms=transforms, **net).transform.double())
        self.net.requires_grad_(False)
        self._to_identity()
        self.change = nn.ParameterList(torch.zeros_like(weight) for weight in self.net.parameters())

    @torch.no_grad()
    def _to_identity(self) -> None:
        """No outputs of the nets, which keep their hidden weights."""
        for transform in self.net.lazy.transforms:
            last = transform.hyper[-1] if hasattr(transform, "hyper") else transform
            for parameter in last.parameters():
                parameter.zero_()

    def forward(self, batch: Any = None) -> FlowPosterior:
        self.layout.need_all_rows(batch)
        starts = self.net.named_parameters()
        weights = {name: start + _UNIT * change for (name, start), change in zip(starts, self.change, strict=True)}
        return FlowPosterior(self.layout, self.loc, self.log_scale, self.net, weights)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters: see `Factor.place`; a normal distribution again, if any latent is placed."""
        if self.layout.place(self.loc, self.log_scale, centre, scale):
            for change in self.change:
                change.zero_()

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}: {self.layout.size} coordinates"


def _import_zuko() -> Any:
    """The library, without its switching off of torch's argument checks for the whole process.

    Raises:
        ImportError: it is not installed; says how to.
    """
    checks = Distribution._validate_args
    try:
        import zuko
    except ImportError:
        raise ImportError("normalising flows need the zuko library: pip install 'jensen[flows]'") from None
    finally:
        Distribution.set_default_validate_args(checks)
    return zuko


def flow(transforms: int = 2, hidden: Sequence[int] = (16, 16), bins: int = 8, seed: int = 0) -> FamilyMaker:
    """A family: a normalising flow over all continuous latents; discrete ones have their own factor.

    Arguments, and what is raised when the family is made: `FlowFactor`. Rows of a plate depend on each other, so there
    can be no minibatches where latents are on the plate of the rows.
    """

    def make(model: Model) -> Family:
        joined = continuous(model)
        factors = [FlowFactor(joined, model.plates, transforms, hidden, bins, seed)] if joined else []
        discrete = [discrete_factor(n, v, model.plates) for n, v in model.latents.items() if v.discrete]
        return Family([*factors, *discrete])

    return make
