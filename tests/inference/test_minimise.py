"""Minimising many problems at once, against SciPy's minimisers and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from jensen.inference.conjugate_gradients import conjugate_gradients
from jensen.inference.curvature import Problems
from jensen.inference.minimise import minimise
from jensen.inference.newton import newton
from jensen.inference.quasi_newton import inverse_times, quasi_newton


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(-1)


def logistic(x: Tensor) -> Tensor:
    """Logistic regression with a standard normal prior: convex."""
    size = x.shape[1]
    design, labels = random(80, size, seed=1), (random(80, seed=2) > 0).double()
    score = x @ design.T
    return (torch.nn.functional.softplus(score) - labels * score).sum(-1) + 0.5 * x.square().sum(-1)


def student(x: Tensor) -> Tensor:
    """-log density of a correlated t with 3 degrees of freedom, centred at 1: not convex far out."""
    size = x.shape[1]
    factor = torch.eye(size, dtype=x.dtype) + 0.5 * torch.ones(size, size, dtype=x.dtype)
    u = (x - 1) @ factor
    return 0.5 * (3 + size) * torch.log1p(u.square().sum(-1) / 3)


def scipy_minimum(function: Callable[[Tensor], Tensor], start: Tensor) -> float:
    def pair(x: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.tensor(x, dtype=torch.float64)[None].requires_grad_()
        value = function(leaf)
        value.sum().backward()
        return float(value.detach()), leaf.grad[0].numpy()

    found = minimize(pair, start.numpy(), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    return float(found.fun)


@pytest.mark.parametrize("function", [rosenbrock, logistic, student])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("way", ["hessians", "conjugate gradients", "l-bfgs"])
def test_agrees_with_scipy_from_every_start(function: Callable[[Tensor], Tensor], size: int, way: str) -> None:
    start = 1.5 * random(4, size, seed=3)
    options = {"hessians": {}, "conjugate gradients": {"dense": 0}, "l-bfgs": {"second_order": False}}[way]
    found = minimise(function, start, tolerance=1e-9, evaluations=2000, **options)
    expected = [scipy_minimum(function, each) for each in start]
    np.testing.assert_allclose(found.value.numpy(), expected, atol=2e-8)
    assert bool(found.converged.all()), found.reasons
    assert float(found.decrement.max()) < 1e-9


def test_ill_conditioned_quadratic_takes_one_newton_step_in_any_units() -> None:
    size = 20
    turn, _ = torch.linalg.qr(random(size, size))
    hessian = turn @ torch.diag(torch.logspace(-5, 5, size, dtype=torch.float64)) @ turn.T
    centre = random(size, seed=4)

    def quadratic(x: Tensor) -> Tensor:
        return 0.5 * ((x - centre) @ hessian * (x - centre)).sum(-1)

    found = newton(Problems(quadratic), random(2, size, seed=5), tolerance=1e-9, steps=20)
    assert bool(found.settled.all())
    torch.testing.assert_close(found.value, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.x, centre.expand(2, size), atol=1e-3, rtol=0)


def test_units_of_the_parameters_change_neither_the_answer_nor_the_work() -> None:
    units = torch.logspace(-6, 6, 5, dtype=torch.float64)
    start = random(3, 5, seed=6)
    plain = newton(Problems(rosenbrock), start, tolerance=1e-9, steps=100)
    problems = Problems(lambda x: rosenbrock(x / units))
    scaled = newton(problems, start * units, tolerance=1e-9, steps=100)
    torch.testing.assert_close(scaled.x / units, plain.x, atol=1e-6, rtol=0)
    assert bool(scaled.settled.all())


def test_decrement_is_what_is_left_to_gain() -> None:
    """Two evaluations short of the optimum the model's promise is the true gap, whatever the units."""
    found = minimise(logistic, torch.zeros(1, 4, dtype=torch.float64), tolerance=1e-2)
    best = minimise(logistic, torch.zeros(1, 4, dtype=torch.float64), tolerance=1e-12)
    before = 0.01  # settled at a decrement below this, then one more step was taken
    assert float(found.decrement) < before
    assert 0 <= float(found.value - best.value) < float(found.decrement)


def test_hessians_of_both_kinds_match_numeric_differences() -> None:
    x = random(3, 6, seed=7)
    problems = Problems(rosenbrock)
    problems(x)
    step = 1e-5
    numeric = torch.stack(
        [(problems(x + step * e)[1] - problems(x - step * e)[1]) / (2 * step) for e in torch.eye(6, dtype=x.dtype)], -1
    )
    torch.testing.assert_close(problems._copies(x), numeric, atol=1e-5, rtol=1e-7)
    torch.testing.assert_close(problems._columns(x, 4), numeric, atol=1e-5, rtol=1e-7)
    torch.testing.assert_close(problems.hessian(x), numeric, atol=1e-5, rtol=1e-7)
    vectors = random(2, 3, 6, seed=8)
    expected = torch.einsum("rij,krj->kri", numeric, vectors)
    torch.testing.assert_close(problems.product(x)(vectors), expected, atol=1e-4, rtol=1e-6)


def test_regions_without_values_are_walls() -> None:
    def barrier(x: Tensor) -> Tensor:
        return -torch.log(1 - x.square().sum(-1)) + 3 * x.sum(-1)

    start = torch.tensor([[0.1, 0.1], [0.6, 0.6], [-0.3, 0.0]], dtype=torch.float64)
    # On the diagonal x = (a, a): 4 a / (1 - 2 a^2) + 6 = 0.
    a = (4 - math.sqrt(16 + 288)) / 24
    for options in ({}, {"second_order": False}, {"dense": 0}):
        found = minimise(barrier, start, tolerance=1e-10, **options)
        torch.testing.assert_close(found.x, torch.full((3, 2), a, dtype=torch.float64), atol=1e-6, rtol=0)


def test_one_bad_start_leaves_the_others_alone() -> None:
    def positive(x: Tensor) -> Tensor:
        return (x - x.log()).sum(-1)

    start = torch.tensor([[2.0, 3.0], [-1.0, 2.0], [0.1, 9.0]], dtype=torch.float64)
    found = minimise(positive, start, tolerance=1e-10)
    assert found.converged.tolist() == [True, False, True]
    assert "not finite" in found.reasons[1]
    torch.testing.assert_close(found.x[[0, 2]], torch.ones(2, 2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.x[1], start[1])


@pytest.mark.parametrize("dense", [300, 0])
def test_unbounded_and_flat_functions_are_not_minima(dense: int) -> None:
    start = torch.ones(1, 2, dtype=torch.float64)
    linear = minimise(lambda x: -x.sum(-1), start, dense=dense, evaluations=100)
    flat = minimise(lambda x: x[:, 0] ** 2, start, dense=dense, evaluations=100)
    falls = minimise(lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, start, dense=dense, evaluations=100)
    for name, found in {"linear": linear, "falls": falls}.items():
        assert not bool(found.converged[0]), name
    assert float(linear.value) < -1e3
    assert float(falls.value) < -1e3
    if dense:  # conjugate gradients see only the directions in which there is a gradient
        assert not bool(flat.converged[0])
        assert "positive definite" in flat.reasons[0]


def test_a_saddle_point_is_left() -> None:
    def double_well(x: Tensor) -> Tensor:
        return (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2

    found = minimise(double_well, torch.tensor([[0.0, 0.5], [0.0, 0.0]], dtype=torch.float64), tolerance=1e-10)
    torch.testing.assert_close(found.x[:, 0].abs(), torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
    assert bool(found.converged.all())


def test_regression_from_far_away_in_wild_units() -> None:
    """Coefficients of order 1e5 and a residual sd of order 1e4, from zero: least squares is the answer."""
    rows = 300
    height = 4.2 + 0.06 * random(rows, seed=9)
    y = torch.exp(9.5 + 2 * (height - 4.2) + 0.8 * random(rows, seed=10))
    design = torch.stack([torch.ones(rows, dtype=torch.float64), height], 1)

    def loss(x: Tensor) -> Tensor:
        squares = (y - x[:, :2] @ design.T).square().sum(-1)
        return 0.5 * squares * torch.exp(-2 * x[:, 2]) + rows * x[:, 2]

    found = minimise(loss, torch.zeros(1, 3, dtype=torch.float64), tolerance=1e-8)
    coefficients = torch.linalg.lstsq(design, y).solution
    sd = (y - design @ coefficients).square().mean().sqrt()
    assert bool(found.converged[0]), found.reasons
    torch.testing.assert_close(found.x[0, :2], coefficients, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.x[0, 2], sd.log(), rtol=1e-6, atol=0)


def test_reach_keeps_a_flat_logarithm_from_running_away() -> None:
    """The scale of q where it is far too small: entropy pulls it up, and nothing yet holds it."""

    def bound(x: Tensor) -> Tensor:
        return 0.5e-10 * torch.exp(2 * x[:, 0]) - x[:, 0]

    start = torch.full((1, 1), -3.0, dtype=torch.float64)
    counts = {}
    for name, reach in {"with": torch.full((1,), 2.0, dtype=torch.float64), "without": None}.items():
        problems = Problems(bound)
        found = newton(problems, start, tolerance=1e-9, steps=200, reach=reach)
        torch.testing.assert_close(
            found.x[0, 0], torch.tensor(5 * math.log(10.0), dtype=torch.float64), atol=1e-4, rtol=0
        )
        counts[name] = problems.evaluations
    assert counts["with"] < 25


def test_path_of_l_bfgs_starts_at_the_start_and_falls() -> None:
    start = random(3, 5, seed=11)
    found = minimise(rosenbrock, start, path=True, second_order=False, evaluations=300)
    path = found.path
    assert path is not None
    torch.testing.assert_close(path.positions[:, 0], start)
    for r, length in enumerate(path.lengths.tolist()):
        values = rosenbrock(path.positions[r])
        torch.testing.assert_close(values, path.values[r])
        assert bool((values[1:length] < values[: length - 1] + 1e-12).all())
        torch.testing.assert_close(path.positions[r, length - 1], found.x[r])
        torch.testing.assert_close(Problems(rosenbrock)(path.positions[r])[1], path.gradients[r])


def test_inverse_from_pairs_is_that_of_the_bfgs_update() -> None:
    """The compact form against the recursion H <- (I - r s y^T) H (I - r y s^T) + r s s^T."""
    hessian = random(6, 6, seed=12)
    hessian = hessian @ hessian.T + torch.eye(6, dtype=torch.float64)
    moves = random(4, 6, seed=13)
    turns = moves @ hessian
    inverse = torch.eye(6, dtype=torch.float64) * (moves[-1] @ turns[-1]) / (turns[-1] @ turns[-1])
    for s, y in zip(moves, turns, strict=True):
        r = 1 / (s @ y)
        left = torch.eye(6, dtype=torch.float64) - r * torch.outer(s, y)
        inverse = left @ inverse @ left.T + r * torch.outer(s, s)
    vector = random(1, 6, seed=14)
    padded = [torch.cat([torch.zeros(2, 6, dtype=torch.float64), t])[None] for t in (moves, turns)]
    torch.testing.assert_close(inverse_times(*padded, vector), vector @ inverse)


def test_conjugate_gradients_solve_and_sum_up_the_energy() -> None:
    hessian = random(30, 30, seed=15)
    hessian = hessian @ hessian.T / 30 + torch.eye(30, dtype=torch.float64)
    right = random(3, 30, seed=16)
    found = conjugate_gradients(lambda v: v @ hessian, right, tolerance=1e-12, products=100)
    exact = torch.linalg.solve(hessian, right.T).T
    torch.testing.assert_close(found.x, exact, atol=1e-9, rtol=1e-8)
    torch.testing.assert_close(found.energy, 0.5 * (right * exact).sum(-1))
    assert bool(found.definite.all())
    indefinite = conjugate_gradients(lambda v: v @ (hessian - 2 * torch.eye(30)), right, tolerance=1e-12, products=100)
    assert not bool(indefinite.definite.any())


def test_evaluations_are_counted_and_limited() -> None:
    rows = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal rows
        rows += len(x)
        return rosenbrock(x)

    problems = Problems(counted)
    found = quasi_newton(problems, random(2, 30, seed=17), tolerance=1e-14, evaluations=25)
    assert rows == problems.evaluations <= 50
    assert not bool(found.settled.any())


@pytest.mark.parametrize(
    ("start", "options", "words"),
    [
        (torch.zeros(3), {}, "problems, parameters"),
        (torch.zeros(1, 3), {"tolerance": 0.0}, "positive"),
        (torch.zeros(1, 3), {"evaluations": 0}, "positive"),
    ],
)
def test_wrong_options_are_refused(start: Tensor, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        minimise(rosenbrock, start, **options)


def test_directions_that_change_next_to_nothing_may_be_left_out() -> None:
    def ring(x: Tensor) -> Tensor:  # falls by 1e-8 at most along the ring, and bends down there
        return (x.square().sum(-1) - 1).square() - 1e-8 * x[:, 0].square()

    start = torch.tensor([[0.4, 0.9]], dtype=torch.float64)
    found = minimise(ring, start, idle=1e-6, tolerance=1e-12)
    assert bool(found.converged)
    assert float(found.x.norm()) == pytest.approx(1.0, abs=1e-5)
    assert float(found.x[0, 1] / found.x[0, 0]) == pytest.approx(0.9 / 0.4, rel=0.01)
