"""Latents' shapes, their transforms from the real numbers, and the vector of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from jensen.inference import Model
from jensen.inference.coordinates import Coordinates
from jensen.inference.supports import (
    Variable,
    bernoulli,
    bounded,
    categorical,
    correlation_cholesky,
    ordered,
    poisson,
    positive,
    real,
    simplex,
    unit_interval,
)

SIZES = {"rows": 5, "groups": 2}
Maker = Callable[..., Variable]

# name: (maker with a plate or none, shape of one, shape of its real coordinates)
CONTINUOUS: Mapping[str, tuple[Maker, tuple[int, ...], tuple[int, ...]]] = {
    "real": (lambda plate=None: real(3, plate=plate), (3,), (3,)),
    "number": (lambda plate=None: real(plate=plate), (), ()),
    "positive": (lambda plate=None: positive(2, 3, plate=plate), (2, 3), (2, 3)),
    "unit_interval": (lambda plate=None: unit_interval(2, plate=plate), (2,), (2,)),
    "bounded": (lambda plate=None: bounded(-2.0, 5.0, 4, plate=plate), (4,), (4,)),
    "simplex": (lambda plate=None: simplex(2, 4, plate=plate), (2, 4), (2, 3)),
    "ordered": (lambda plate=None: ordered(2, 3, plate=plate), (2, 3), (2, 3)),
    "correlation": (lambda plate=None: correlation_cholesky(3, plate=plate), (3, 3), (3,)),
}
DISCRETE: Mapping[str, tuple[Maker, int | None]] = {
    "bernoulli": (bernoulli, 2),
    "categorical": (lambda *shape, plate=None: categorical(4, *shape, plate=plate), 4),
    "poisson": (poisson, None),
}


def points(variable: Variable, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = variable.unconstrained_shape(SIZES)
    return spread * torch.randn(6, *shape, dtype=torch.float64, generator=generator)


def on_support(name: str, value: Tensor) -> bool:
    """By hand, not by the constraint's own word."""
    if name == "positive":
        return bool((value > 0).all())
    if name == "unit_interval":
        return bool(((value > 0) & (value < 1)).all())
    if name == "bounded":
        return bool(((value > -2) & (value < 5)).all())
    if name == "simplex":
        return bool((value > 0).all()) and torch.allclose(value.sum(-1), torch.ones(()).double())
    if name == "ordered":
        return bool((value.diff(dim=-1) > 0).all())
    if name == "correlation":
        ones = torch.ones((), dtype=torch.float64)
        lower = torch.equal(value, value.tril()) and bool((value.diagonal(dim1=-2, dim2=-1) > 0).all())
        return lower and torch.allclose((value @ value.mT).diagonal(dim1=-2, dim2=-1), ones)
    return bool(value.isfinite().all())


@pytest.mark.parametrize("plate", [None, "rows"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_shapes(name: str, plate: str | None) -> None:
    maker, shape, coordinates = CONTINUOUS[name]
    variable = maker(plate=plate)
    rows = () if plate is None else (5,)
    assert variable.shape == shape
    assert variable.full_shape(SIZES) == (*rows, *shape)
    assert variable.unconstrained_shape(SIZES) == (*rows, *coordinates)
    assert variable.elements(SIZES) == (*rows, *shape[: len(shape) - variable.event_dim])
    assert not variable.discrete
    assert variable.size is None


@pytest.mark.parametrize("plate", [None, "rows"])
@pytest.mark.parametrize("name", DISCRETE)
def test_shapes_of_discrete_latents(name: str, plate: str | None) -> None:
    maker, size = DISCRETE[name]
    variable = maker(3, plate=plate)
    rows = () if plate is None else (5,)
    assert variable.full_shape(SIZES) == (*rows, 3) == variable.elements(SIZES)
    assert variable.discrete
    assert variable.size == size
    with pytest.raises(TypeError, match="a discrete latent has no transform"):
        _ = variable.transform


@pytest.mark.parametrize("spread", [1.0, 4.0])
@pytest.mark.parametrize("plate", [None, "rows"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_transforms_go_onto_the_support_and_back(name: str, plate: str | None, spread: float) -> None:
    variable = CONTINUOUS[name][0](plate=plate)
    u = points(variable, spread)
    value = variable.transform(u)
    assert value.shape == (6, *variable.full_shape(SIZES))
    assert on_support(name, value)
    assert bool(variable.support.check(value).all())
    torch.testing.assert_close(variable.transform.inv(value), u, atol=1e-6, rtol=1e-6)


def free(name: str, value: Tensor) -> Tensor:
    """The entries of a value that its density is with respect to."""
    if name == "simplex":
        return value[..., :-1].reshape(-1)
    if name == "correlation":
        row, column = torch.tril_indices(3, 3, -1)
        return value[..., row, column].reshape(-1)
    return value.reshape(-1)


@pytest.mark.parametrize("plate", [None, "rows"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_jacobians_against_autograd(name: str, plate: str | None) -> None:
    variable = CONTINUOUS[name][0](plate=plate)
    model = Model({"z": variable, "before": positive()}, lambda z, data: z.before, plates=SIZES)
    coordinates = Coordinates(model)
    generator = torch.Generator().manual_seed(5)
    vector = torch.randn(2, coordinates.size, dtype=torch.float64, generator=generator)

    def whole(u: Tensor) -> Tensor:
        values, _ = coordinates.constrain(u.unsqueeze(0))
        return torch.cat([free(name, values["z"]), values["before"].reshape(-1)])

    values, found = coordinates.constrain(vector)
    for s in range(2):
        jacobian = torch.autograd.functional.jacobian(whole, vector[s])
        assert isinstance(jacobian, Tensor)
        torch.testing.assert_close(found[s], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(coordinates.unconstrain(values), vector)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_far_from_zero_values_and_gradients_stay_finite(name: str) -> None:
    """Where a climb overshoots: 30 on the real scale, e^30 on that of a positive number."""
    variable = CONTINUOUS[name][0]()
    for sign in (1.0, -1.0):
        u = torch.full((1, *variable.unconstrained_shape({})), 30.0 * sign, dtype=torch.float64, requires_grad=True)
        value = variable.transform(u)
        log_jacobian = variable.transform.log_abs_det_jacobian(u, value)
        assert bool(value.isfinite().all())
        assert bool(log_jacobian.isfinite().all())
        (slope,) = torch.autograd.grad(log_jacobian.sum() + value.square().log1p().sum(), u)
        assert bool(slope.isfinite().all())


def test_the_vector_names_its_entries() -> None:
    latents = {"mu": real(), "w": simplex(3), "k": categorical(3), "theta": positive(2, plate="groups")}
    coordinates = Coordinates(Model(latents, lambda z, data: z.mu, plates={"groups": 2}))
    assert coordinates.size == 1 + 2 + 4
    assert coordinates.names == ["mu", "w[0]", "w[1]", "theta[0,0]", "theta[0,1]", "theta[1,0]", "theta[1,1]"]
    assert coordinates.slices == {"mu": slice(0, 1), "w": slice(1, 3), "theta": slice(3, 7)}
    parts = coordinates.split(torch.arange(7.0).unsqueeze(0))
    assert parts["theta"].tolist() == [[[3.0, 4.0], [5.0, 6.0]]]


@pytest.mark.parametrize(
    ("variable", "unbounded"),
    [
        (real(), True),
        (positive(), True),
        (ordered(3), True),
        (poisson(), True),
        (bounded(0.0, 9.0), False),
        (unit_interval(), False),
        (simplex(3), False),
        (correlation_cholesky(2), False),
        (bernoulli(), False),
        (categorical(3), False),
    ],
)
def test_which_supports_have_no_uniform_distribution(variable: Variable, unbounded: bool) -> None:
    assert variable.unbounded is unbounded


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: real(0), r"positive whole numbers, got \(0,\)"),
        (lambda: real(-2), r"positive whole numbers, got \(-2,\)"),
        (lambda: positive(2.5), r"positive whole numbers, got \(2.5,\)"),
        (lambda: real([3]), "positive whole numbers"),
        (lambda: bounded(1.0, 1.0), "low < high, got 1.0 and 1.0"),
        (lambda: bounded(2.0, 1.0, 3), "low < high, got 2.0 and 1.0"),
        (lambda: bounded(0.0, math.inf), "finite"),
        (lambda: bounded(math.nan, 1.0), "finite"),
        (lambda: simplex(), "at least two entries"),
        (lambda: simplex(3, 1), "at least two entries"),
        (lambda: ordered(), r"the vector's length: ordered\(3\)"),
        (lambda: correlation_cholesky(1), "at least two dimensions, got 1"),
        (lambda: categorical(1), "at least two values, got 1"),
        (lambda: categorical(2.5), "at least two values, got 2.5"),
    ],
)
def test_shapes_that_cannot_be_are_told(make: Callable[[], Variable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
