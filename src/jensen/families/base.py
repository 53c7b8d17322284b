"""The contract of an exponential family, and all that follows from its log-partition alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint

from jensen.families.checks import as_tensors, check_shapes, check_symmetric, derived_violation, first_violation

__all__ = ["ExponentialFamily"]

N = TypeVar("N", bound=tuple[Any, ...])
M = TypeVar("M", bound=tuple[Any, ...])
S = TypeVar("S", bound=tuple[Any, ...])
R = TypeVar("R")


class ExponentialFamily(ABC, Generic[N, M, S]):
    """A batch of distributions q(z) = h exp(<eta, T(z)> - A(eta)) of one family.

    `eta` are the natural parameters, `T` the sufficient statistics, `A` the log-partition, and the mean parameters are
    `E_q[T(z)] = grad A(eta)`. Statistics are chosen so that the base measure h is constant (Poisson alone has
    h = 1/z!): then the gradient of an expected log joint in the mean parameters is the natural parameter of the
    optimal q (Hoffman et al. 2013, eq. 14). Parameters are named tuples of tensors of shape (*batch_shape, *event),
    natural and mean ones with the same fields in the same order; everything is differentiable in them. Densities are
    in nats.

    A subclass says what its parameters are (class attributes) and gives the methods marked abstract.

    Args:
        natural_parameters: taken as they are; `from_standard`, `from_natural`, `from_mean_parameters` check theirs.

    Attributes:
        event_dims: for each field of the natural (and mean) parameters, how many trailing dimensions belong to one
            distribution: 0 a number, 1 a vector, 2 a symmetric matrix.
        constraints: what each standard parameter must satisfy; its `event_dim` says the same for that field.
        has_rsample: whether samples can be differentiated in the parameters.
        constant_base_measure: False for Poisson alone; conjugate models then leave log h out of terms and entropy.
    """

    Natural: ClassVar[Any]
    Mean: ClassVar[Any]
    Standard: ClassVar[Any]
    event_dims: ClassVar[tuple[int, ...]]
    constraints: ClassVar[dict[str, Constraint]]
    has_rsample: ClassVar[bool] = True
    constant_base_measure: ClassVar[bool] = True

    def __init__(self, natural_parameters: N) -> None:
        shapes = [f.shape[: f.dim() - e] for f, e in zip(natural_parameters, self.event_dims, strict=True)]
        self.batch_shape = torch.broadcast_shapes(*shapes)
        self.natural_parameters: N = type(natural_parameters)(
            *(
                field if shape == self.batch_shape else field.expand(self.batch_shape + field.shape[len(shape) :])
                for field, shape in zip(natural_parameters, shapes, strict=True)
            )
        )
        self._kept: dict[str, Any] = {}

    # --- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def _from_standard(cls, *fields: Any) -> Self:
        """What every `from_standard` calls: tensors, checked, to natural parameters; raises ValueError."""
        standard = cls.Standard(*as_tensors(fields))
        check_shapes(cls.__name__, standard, [c.event_dim for c in cls.constraints.values()])
        fault = cls.fault_in(standard, given=True)
        if fault:
            raise ValueError(f"{cls.__name__}: {fault}")
        return cls(cls._to_natural(standard))

    @classmethod
    def _constraints(cls, size: int) -> Mapping[str, Constraint]:
        """`constraints` for events of dimension `size`: the same, unless a bound depends on the dimension."""
        return cls.constraints

    @classmethod
    def _constraints_of(cls, standard: Sequence[Tensor]) -> Mapping[str, Constraint]:
        sizes = [p.shape[-1] for p, c in zip(standard, cls.constraints.values(), strict=True) if c.event_dim]
        return cls._constraints(sizes[0] if sizes else 0)

    @classmethod
    def fault_in(cls, standard: S, given: bool = False) -> str | None:
        """What is wrong with these standard parameters, in words; None if nothing is.

        Args:
            standard: one for each of `constraints`.
            given: by the user, not computed from other parameters.
        """
        return (first_violation if given else derived_violation)(standard, cls._constraints_of(standard))

    @classmethod
    def from_natural(cls, *fields: Any) -> Self:
        """From natural parameters, in the order of `Natural`.

        Raises:
            ValueError: not finite, of another shape, or outside the natural domain; names the parameter and the first
                offending index.
        """
        natural = cls.Natural(*as_tensors(fields))
        check_shapes(cls.__name__, natural, cls.event_dims)
        check_symmetric(cls.__name__, natural, cls.event_dims)
        q = cls(natural)
        fault = cls.fault_in(q.standard_parameters)
        if fault:
            raise ValueError(f"{cls.__name__}: natural parameters outside their domain: {fault}")
        return q

    @classmethod
    @abstractmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """The member whose mean parameters are these (in the order of `Mean`), differentiable in them.

        Raises:
            ValueError: no member of the family has these mean parameters.
        """

    @classmethod
    def _checked_mean(cls, *fields: Any) -> M:
        """Mean parameters as tensors whose shapes fit together and whose matrices are symmetric."""
        mean: M = cls.Mean(*as_tensors(fields))
        check_shapes(cls.__name__, mean, cls.event_dims)
        check_symmetric(cls.__name__, mean, cls.event_dims)
        return mean

    @classmethod
    def _possible(cls, natural: N) -> Self:
        """The member found for given mean parameters; ValueError if there is none."""
        q = cls(natural)
        fault = cls.fault_in(q.standard_parameters)
        if fault:
            raise ValueError(f"{cls.__name__}: no member has these mean parameters: {fault}")
        return q

    @classmethod
    def from_unconstrained(cls, parameters: Sequence[Tensor]) -> Self:
        """The inverse of `unconstrained()`: any real tensors of those shapes give a member. Not checked."""
        bijections = (_bijection(c) for c in cls._constraints_of(parameters).values())
        return cls(cls._to_natural(cls.Standard(*(b(p) for b, p in zip(bijections, parameters, strict=True)))))

    def unconstrained(self) -> tuple[Tensor, ...]:
        """The standard parameters mapped to real numbers (`torch.distributions.biject_to` of each constraint)."""
        standard = self.standard_parameters
        bijections = (_bijection(c) for c in self._constraints_of(standard).values())
        return tuple(b.inv(p) for b, p in zip(bijections, standard, strict=True))

    # --- what a family gives ----------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def _to_natural(cls, standard: S) -> N:
        """Natural from standard parameters, unchecked."""

    @property
    @abstractmethod
    def standard_parameters(self) -> S:
        """The parameters of the textbooks; must not raise outside the natural domain (use inv_ex, cholesky_ex)."""

    @property
    @abstractmethod
    def event_shape(self) -> torch.Size:
        """Shape of one draw z."""

    @abstractmethod
    def log_partition(self) -> Tensor:
        """A(eta), shape `batch_shape`, nats."""

    @abstractmethod
    def sufficient_statistics(self, z: Any) -> M:
        """T(z) for z of shape (*anything, *event_shape), as mean parameters of shape (*anything, *event)."""

    @abstractmethod
    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Any:
        """Draws of shape (*shape, *batch_shape, *event_shape), without gradient."""

    @abstractmethod
    def to_torch(self) -> Distribution:
        """The same distributions as `torch.distributions` has them."""

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Any:
        """Reparameterised draws: as `sample`, differentiable in the parameters. TypeError for a discrete family."""
        raise TypeError(f"{type(self).__name__} is discrete: its draws have no gradient; use sample()")

    # --- what follows -----------------------------------------------------------------------------------------------

    @property
    def mean_parameters(self) -> M:
        """E_q[T(z)], the gradient of the log-partition; by autodiff unless the family has a closed form."""
        mean: M = self._once("mean", self._mean_parameters)
        return mean

    def _once(self, key: str, compute: Callable[[], R]) -> R:
        """What `compute` gives, kept for the next time, unless it has a history that one backward pass would use up."""
        if torch.is_grad_enabled() and any(f.requires_grad for f in self.natural_parameters):
            return compute()
        if key not in self._kept:
            self._kept[key] = compute()
        kept: R = self._kept[key]
        return kept

    def _mean_parameters(self) -> M:
        """By autodiff: families override it with a closed form."""
        fields = tuple(self.natural_parameters)
        outside = torch.is_grad_enabled() and any(f.requires_grad for f in fields)
        with torch.enable_grad():
            leaves = fields if outside else tuple(f.detach().requires_grad_() for f in fields)
            copy = type(self)(self.Natural(*leaves))
            gradients = torch.autograd.grad(copy.log_partition().sum(), leaves, create_graph=outside)
        mean: M = self.Mean(*self.symmetrised(gradients))
        return mean

    def log_base_measure(self, z: Any) -> Tensor | float:
        """log h, nats; a constant for all families but Poisson."""
        return 0.0

    def expected_log_base_measure(self) -> Tensor | float:
        """E_q[log h], nats."""
        return 0.0

    def log_prob(self, z: Any) -> Tensor:
        """log q(z) in nats, shape (*anything, *batch_shape), for z inside the support."""
        statistics = self.sufficient_statistics(z)
        return self.inner(self.natural_parameters, statistics) - self.log_partition() + self.log_base_measure(z)

    def dual(self) -> Tensor:
        """A*(m) = <eta, m> - A(eta), the Legendre dual of the log-partition: minus the entropy relative to h, nats."""
        return self.inner(self.natural_parameters, self.mean_parameters) - self.log_partition()

    def entropy(self) -> Tensor:
        """-E_q[log q(z)] in nats, shape `batch_shape`."""
        return -self.dual() - self.expected_log_base_measure()

    def kl_divergence(self, other: Self) -> Tensor:
        """KL(self || other) in nats: the Bregman divergence of the log-partition."""
        if type(other) is not type(self):
            raise TypeError(f"KL between two families: {type(self).__name__} and {type(other).__name__}")
        return self.inner(self._difference(other), self.mean_parameters) - self.log_partition() + other.log_partition()

    def _difference(self, other: Self) -> list[Tensor]:
        return [a - b for a, b in zip(self.natural_parameters, other.natural_parameters, strict=True)]

    @classmethod
    def inner(cls, natural: Sequence[Tensor], mean: Sequence[Tensor]) -> Tensor:
        """<eta, m>, summed over the event dimensions of each field and over the fields."""
        total: Tensor | None = None
        for eta, m, e in zip(natural, mean, cls.event_dims, strict=True):
            product = eta * m
            term = product.sum(dim=tuple(range(-e, 0))) if e else product
            total = term if total is None else total + term
        assert total is not None
        return total

    @classmethod
    def symmetrised(cls, fields: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients in the parameters' shapes with those of symmetric matrices made symmetric."""
        return tuple(symmetric(f) if e == 2 else f for f, e in zip(fields, cls.event_dims, strict=True))

    def moved(self, target: Sequence[Tensor], rho: float = 1.0) -> Self:
        """(1 - rho) eta + rho target: the natural-gradient step towards the natural parameters `target`."""
        if rho == 1:
            return type(self)(self.Natural(*target))
        return type(self)(
            self.Natural(*(torch.lerp(a, b, rho) for a, b in zip(self.natural_parameters, target, strict=True)))
        )

    def is_valid(self) -> bool:
        """Whether the natural parameters are finite and inside their domain."""
        finite = all(bool(f.isfinite().all()) for f in self.natural_parameters)
        return finite and self.fault_in(self.standard_parameters) is None

    # --- minimal coordinates ----------------------------------------------------------------------------------------

    @classmethod
    def to_minimal(cls, natural: Sequence[Tensor]) -> Tensor:
        """Natural parameters as one vector of shape (*batch, d), each symmetric matrix by its lower triangle."""
        return torch.cat([_vector(f, e) for f, e in zip(natural, cls.event_dims, strict=True)], dim=-1)

    @classmethod
    def minimal_mean(cls, mean: Sequence[Tensor]) -> Tensor:
        """Mean parameters in the coordinates dual to `to_minimal`: off-diagonal elements count twice."""
        parts = []
        for field, e in zip(mean, cls.event_dims, strict=True):
            doubled = 2 * field - torch.diag_embed(field.diagonal(dim1=-2, dim2=-1)) if e == 2 else field
            parts.append(_vector(doubled, e))
        return torch.cat(parts, dim=-1)

    @classmethod
    def from_minimal(cls, vector: Tensor) -> N:
        """The inverse of `to_minimal`, for families whose events all have the same size D."""
        size = _event_size(vector.shape[-1], cls.event_dims)
        lengths = [(1, size, size * (size + 1) // 2)[e] for e in cls.event_dims]
        fields = []
        for part, e in zip(vector.split(lengths, dim=-1), cls.event_dims, strict=True):
            fields.append(part.squeeze(-1) if e == 0 else part if e == 1 else _matrix(part, size))
        natural: N = cls.Natural(*fields)
        return natural

    @classmethod
    def _minimal_hessian(cls, vector: Tensor) -> Tensor:
        """Hessian of A in minimal coordinates, shape (*batch, d, d)."""

        def log_partition(v: Tensor) -> Tensor:
            return cls(cls.from_minimal(v)).log_partition()

        flat = vector.reshape(math.prod(vector.shape[:-1]), vector.shape[-1])
        hessian: Tensor = torch.func.vmap(torch.func.hessian(log_partition))(flat)
        return hessian.reshape(*vector.shape, vector.shape[-1])

    def fisher_information(self) -> Tensor:
        """The Fisher matrix of the natural parameters, shape (*batch_shape, d, d), in minimal coordinates.

        It is the Hessian of the log-partition, and invertible: a symmetric matrix counts by its lower triangle, a
        simplex by K - 1 coordinates (see `to_minimal`).
        """
        return self._minimal_hessian(self.to_minimal(self.natural_parameters).detach())

    # --- as a batch -------------------------------------------------------------------------------------------------

    def _map(self, change: Any) -> Self:
        return type(self)(
            self.Natural(*(change(f, e) for f, e in zip(self.natural_parameters, self.event_dims, strict=True)))
        )

    def __getitem__(self, index: Any) -> Self:
        """Some of the batch; the index is that of a tensor of shape `batch_shape`, without `...`."""
        return self._map(lambda field, _: field[index])

    def expand(self, batch_shape: Sequence[int]) -> Self:
        """The same distributions repeated to a larger batch."""
        return self._map(lambda field, e: field.expand(*batch_shape, *field.shape[field.dim() - e :]))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device or in another precision; arguments as `torch.Tensor.to`."""
        return self._map(lambda field, _: field.to(*args, **kwargs))

    def detach(self) -> Self:
        """Without history."""
        return self._map(lambda field, _: field.detach())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"


def symmetric(matrix: Tensor) -> Tensor:
    """(M + M^T) / 2: autodiff may put the gradient of a symmetric matrix on either side of the diagonal."""
    return (matrix + matrix.mT) / 2


def _bijection(constraint: Constraint) -> Any:
    """From real numbers to what the constraint allows; a matrix by its Cholesky factor (the upper triangle is idle)."""
    idle = isinstance(constraint, type(constraints.positive_definite))
    return transform_to(constraint) if idle else biject_to(constraint)


def _vector(field: Tensor, event_dim: int) -> Tensor:
    """One distribution's part of a field as a vector: (*batch, length)."""
    if event_dim == 0:
        return field.unsqueeze(-1)
    if event_dim == 1:
        return field
    rows, columns = torch.tril_indices(field.shape[-1], field.shape[-1], device=field.device)
    return field[..., rows, columns]


def _matrix(vector: Tensor, size: int) -> Tensor:
    """The symmetric matrix with this lower triangle; a gather, so that vmap and autodiff go through."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
    return vector[..., (high * (high + 1) // 2 + low).to(vector.device)]


def _event_size(length: int, event_dims: Sequence[int]) -> int:
    """D such that the fields' lengths add up to `length`."""
    scalars, vectors, matrices = (sum(e == n for e in event_dims) for n in (0, 1, 2))
    rest = length - scalars
    if matrices:  # matrices D(D+1)/2 + vectors D = rest
        b = vectors + matrices / 2
        return round((math.sqrt(b * b + 2 * matrices * rest) - b) / matrices)
    return rest // vectors if vectors else 0
