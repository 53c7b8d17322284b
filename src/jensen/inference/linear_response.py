"""What the curvature of a bound at its optimum says: covariances by linear response, errors from finite draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy

import torch
from torch import Tensor

from jensen.inference.conjugate_gradients import conjugate_gradients
from jensen.inference.curvature import Problems
from jensen.inference.draws import matched, pairs
from jensen.inference.objective import Bound

__all__ = ["LARGEST", "WRITTEN", "Response", "linear_response", "response_of", "response_of_mean"]

WRITTEN = 1000
"""parameters up to which the Hessian is written down"""
_NUMBERS = 50_000_000
"""in one intermediate result of all its columns, up to which it is written down without a shortcut"""
LARGEST = 50
"""coordinates up to which there are linear responses beyond that"""
_PRODUCTS, _PROBES, _TOLERANCE = 500, 16, 1e-6
_CHUNK = 16
_DRAWS, _AT_ONCE = 1_000, 16
"""of means whose Jacobians are taken, and rows of these together"""


class Response:
    """H^-1, H the Hessian of a minus bound at an optimum: how the optimum moves if the bound is tilted.

    Written down and factorised for P <= `WRITTEN` parameters; else by conjugate gradients with Hessian-vector products.

    Args:
        problems: one function of P parameters, the minus bound.
        x: the optimum, (P,).
        free: which parameters move, (P,) of booleans; all if None.
        hessian: if it is known already, (P, P).
        idle: curvature, where H has a unit diagonal, up to which a direction does not count; see `newton`.

    Attributes:
        definite: whether H is positive definite as far as is known: with conjugate gradients, along what was solved.
        solved: whether all systems were solved to the tolerance.
    """

    def __init__(
        self,
        problems: Problems,
        x: Tensor,
        free: Tensor | None = None,
        hessian: Tensor | None = None,
        idle: float = 0.0,
    ) -> None:
        self._idle = idle
        self.definite = self.solved = True
        self._free = torch.ones_like(x, dtype=torch.bool) if free is None else free
        self._hessian: Tensor | None = None
        if len(x) <= WRITTEN and (hessian is not None or problems.columns_cost(x) <= _NUMBERS):
            self._hessian = problems.hessian(x.unsqueeze(0))[0] if hessian is None else hessian
            self._factorise(self._hessian)
            return
        times = problems.product(x.unsqueeze(0))
        mask = self._free.to(x.dtype)

        def masked(vectors: Tensor) -> Tensor:
            return times((vectors * mask).unsqueeze(1)).squeeze(1) * mask

        self._times = masked
        probes = torch.randn(_PROBES, len(x), dtype=x.dtype, generator=torch.Generator().manual_seed(0)).sign()
        probes = probes.to(x.device)
        diagonal = (probes * self._times(probes)).mean(0).abs()  # Bekas, Kokiopoulou & Saad 2007
        self._diagonal = diagonal.maximum(1e-6 * diagonal.mean()).clamp(min=torch.finfo(x.dtype).tiny)

    @property
    def written(self) -> bool:
        """Whether H was written down."""
        return self._hessian is not None

    def fixing(self, free: Tensor) -> Response:
        """The response of some parameters while the others are held."""
        other = copy(self)
        other.definite = other.solved = True
        other._free = free
        if self._hessian is not None:
            other._factorise(self._hessian)
        else:
            mask = free.to(self._diagonal.dtype)
            other._times = lambda vectors: self._times(vectors * mask) * mask
        return other

    def _factorise(self, hessian: Tensor) -> None:
        part = hessian[self._free][:, self._free]
        diagonal = part.diagonal()
        self._unit = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
        scaled = self._unit.unsqueeze(-1) * part * self._unit
        if self._idle > 0:
            eigenvalues, vectors = torch.linalg.eigh(scaled)
            raised = torch.where(eigenvalues.abs() <= self._idle, 1.0, eigenvalues)
            scaled = vectors * raised @ vectors.T
        self._factor, failed = torch.linalg.cholesky_ex(scaled)
        pivots = self._factor.diagonal().square()
        floor = 8 * len(part) * torch.finfo(part.dtype).eps
        self.definite = bool((failed == 0) & (diagonal > 0).all() & (pivots > floor).all())

    def solve(self, right: Tensor) -> Tensor:
        """H^-1 b for each of (K, P) right-hand sides; zero for parameters that are held."""
        if self._hessian is not None:
            found = torch.zeros_like(right)
            scaled = (right[:, self._free] * self._unit).T
            found[:, self._free] = torch.cholesky_solve(scaled, self._factor).T * self._unit
            return found
        parts = []
        for part in right.split(_CHUNK):
            solution = conjugate_gradients(
                self._times,
                part * self._free,
                tolerance=_TOLERANCE,
                products=_PRODUCTS,
                precondition=lambda v: v / self._diagonal,
            )
            self.definite &= bool(solution.definite.all())
            self.solved &= bool((solution.residual <= _TOLERANCE).all())
            parts.append(solution.x)
        return torch.cat(parts)


def linear_response(bound: Bound, flat: Tensor, response: Response) -> Tensor | None:
    """Covariance of the latents' real coordinates by linear response, (D, D), in the order of `Bound.mean`.

    If the log joint is tilted by t^T u, the optimal E_q[u] moves by J H^-1 J^T t to first order, J the Jacobian of
    E_q[u] in q's parameters; were q exact, this derivative would be the posterior covariance, and for a mean-field q it
    is much nearer to it than q's own (Giordano, Broderick & Jordan 2018, "Covariances, robustness, and variational
    Bayes", equation 14). Exact for Gaussian posteriors.

    Args:
        bound: whose family knows the mean of its coordinates; else there is no answer, None.
        flat: the optimum, (P,).
        response: H^-1 there, the model's own parameters held. None, too, where it is not positive definite, or where
            it needs conjugate gradients and D > `LARGEST`.
    """
    jacobian = _jacobian(bound, flat, WRITTEN if response.written else LARGEST)
    if jacobian is None or not response.definite:
        return None
    covariance = jacobian @ response.solve(jacobian).T
    if not (response.definite and response.solved):
        return None
    return 0.5 * (covariance + covariance.T)


def response_of(
    bound: Bound, flat: Tensor, response: Response, function: Callable[[Mapping[str, Tensor]], Tensor]
) -> Tensor | None:
    """Covariance of functions of the continuous latents by linear response, (K, K): `linear_response` for E_q[g].

    J is then the Jacobian of E_q[g] in all of q's parameters, so that a positive latent's spread is corrected on its
    own scale, and not by the exponential of a normal with more spread.

    Args:
        bound: at its optimum `flat`, (P,).
        response: H^-1 there, the model's own parameters held.
        function: values on the supports, (samples, *shape) each, to (samples, K).

    Returns:
        None where the response is not positive definite, or not solved.
    """
    assert bound.noise_size is not None
    halves = torch.randn(_DRAWS // 2, bound.noise_size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    noise = pairs(matched(halves)).to(flat)

    def means(x: Tensor) -> Tensor:
        return function(bound.values(x, noise)).mean(0)

    with torch.no_grad():
        count = len(means(flat))
    rows = []
    for first in range(0, count, _AT_ONCE):
        last = min(count, first + _AT_ONCE)
        with torch.enable_grad():
            leaf = flat.detach().expand(last - first, -1).clone().requires_grad_()
            each = torch.func.vmap(means)(leaf)[:, first:last]
            rows.append(torch.autograd.grad(each.diagonal().sum(), leaf)[0])
    jacobian = torch.cat(rows)
    covariance = jacobian @ response.solve(jacobian).T
    return 0.5 * (covariance + covariance.T) if response.definite and response.solved else None


def _jacobian(bound: Bound, flat: Tensor, largest: int) -> Tensor | None:
    """Of `Bound.mean`, (D, P); None where the mean is not known or has more than `largest` numbers."""
    try:
        size = len(bound.mean(flat))
    except TypeError:
        return None
    if not 0 < size <= largest:
        return None
    with torch.enable_grad():
        leaf = flat.detach().expand(size, -1).clone().requires_grad_()
        means = torch.func.vmap(bound.mean)(leaf)
        (jacobian,) = torch.autograd.grad(means.diagonal().sum(), leaf)
    return jacobian


def response_of_mean(bound: Bound, flat: Tensor, moves: Tensor) -> Tensor | None:
    """How E_q of the real coordinates moves, (K, D), if the parameters move by (K, P); None where it is not known."""
    try:
        with torch.enable_grad():
            leaf = flat.detach().expand(len(moves), -1).clone().requires_grad_()
            means = torch.func.vmap(bound.mean)(leaf)
            # J^T v is linear in v: its derivative in v along a move is J times the move.
            weight = torch.zeros_like(means, requires_grad=True)
            (back,) = torch.autograd.grad((means * weight).sum(), leaf, create_graph=True)
            (forward,) = torch.autograd.grad((back * moves).sum(), weight)
    except TypeError:
        return None
    return forward
