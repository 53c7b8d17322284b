"""Steps against torch.optim, against Fisher matrices by automatic differentiation, and across units."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from jensen.gradients import Pathwise
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.optimisers import AdaGrad, Adam, NaturalGradient, RMSProp, choose_rule
from jensen.inference.stepper import Stepper
from jensen.inference.supports import real
from jensen.inference.target import Target
from jensen.inference.variational import blocks, full_rank, low_rank, mean_field


def bound_of(size: int, family=mean_field) -> Bound:
    model = Model({"x": real(size)}, lambda z, data: -0.5 * z.x.square().sum())
    return Bound(Target(model), family(model), Pathwise())


def with_rows(rows: int, shape: tuple[int, ...] = ()) -> Bound:
    """One latent for all the data, one for each row."""
    latents = {"local": real(*shape, plate="rows"), "shared": real(2)}
    model = Model(latents, lambda z, data: z.shared.sum() + z.local.sum(), plates={"rows": rows})
    return Bound(Target(model, {"y": torch.zeros(rows, dtype=torch.float64)}), mean_field(model), Pathwise())


def gaussian_elbo(flat: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor, full: bool) -> torch.Tensor:
    """Of a normal target, up to a constant, in closed form."""
    loc, tril = _normal(flat, len(mean), full)
    away = loc - mean
    return tril.diagonal().log().sum() - 0.5 * (precision @ tril * tril).sum() - 0.5 * away @ precision @ away


def _normal(flat: torch.Tensor, size: int, full: bool) -> tuple[torch.Tensor, torch.Tensor]:
    loc, scale = flat[:size], flat[size : 2 * size].exp()
    unit = torch.eye(size, dtype=flat.dtype)
    if full:
        row, column = torch.tril_indices(size, size, -1)
        unit = unit.index_put((row, column), flat[2 * size :])
    return loc, scale.unsqueeze(1) * unit


def random_precision(size: int, seed: int = 0) -> torch.Tensor:
    half = torch.randn(size, 2 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return half @ half.T / size


def mean_field_slope(flat: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """The gradient of `gaussian_elbo` without correlations, written down: many steps are quick."""
    loc, log_scale = flat[: len(mean)], flat[len(mean) :]
    return torch.cat([precision @ (mean - loc), 1 - precision.diagonal() * (2 * log_scale).exp()])


def climb(stepper: Stepper, mean: torch.Tensor, precision: torch.Tensor, full: bool, rate: float, steps: int) -> None:
    for _ in range(steps):
        if full:
            stepper.step(torch.func.grad(gaussian_elbo)(stepper.flat, mean, precision, full), rate)
        else:
            stepper.step(mean_field_slope(stepper.flat, mean, precision), rate)


def test_the_slope_that_is_written_down_is_that_of_the_bound():
    flat = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mean, precision = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), random_precision(3)
    slope = torch.func.grad(gaussian_elbo)(flat, mean, precision, False)
    torch.testing.assert_close(mean_field_slope(flat, mean, precision), slope)


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "peer"),
    [
        (Adam(0.8, 0.95), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), maximize=True)),
        (RMSProp(0.9), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.9), maximize=True)),
        (AdaGrad(), lambda p: torch.optim.Adagrad(p, lr=0.1, maximize=True)),
    ],
)
def test_rules_are_those_of_torch(rule, peer):
    generator = torch.Generator().manual_seed(0)
    ours, memory = torch.zeros(4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    theirs = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    torch_rule = peer([theirs])
    for t in range(20):
        gradient = torch.randn(4, dtype=torch.float64, generator=generator)
        ours += 0.1 * rule.direction(memory, gradient, float(t))
        theirs.grad = gradient
        torch_rule.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-9)


def test_growing_memory_forgets_the_start_and_then_hardly_anything():
    """After large gradients the steps are soon full ones; much later one outlier is one of many."""
    rule, memory = Adam(momentum=0.0), torch.zeros(2, 1, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    for t in range(20):
        rule.direction(memory, 1e6 * one, float(t))
    for t in range(20, 1500):
        direction = rule.direction(memory, one, float(t))
    assert direction.item() == pytest.approx(1.0, rel=0.02)
    fixed, remembered = Adam(0.0, 0.999), torch.zeros(2, 1, dtype=torch.float64)
    for t in range(1500):
        slow = fixed.direction(remembered, (1e6 if t < 20 else 1.0) * one, float(t))
    assert slow.item() < 1e-4
    for t in range(1500, 4_000):
        rule.direction(memory, one, float(t))
    assert memory[1].item() == pytest.approx(1.0)
    rule.direction(memory, 3 * one, 4_000.0)
    assert memory[1].item() == pytest.approx(1.0 + 8 * 10 / 4_010)


def test_choose_rule():
    assert [type(choose_rule(n)) for n in ("adam", "rmsprop", "adagrad", "natural")] == [
        Adam,
        RMSProp,
        AdaGrad,
        NaturalGradient,
    ]
    rule = Adam(0.5)
    assert choose_rule(rule) is rule
    with pytest.raises(ValueError, match="optimiser must be one of adam, rmsprop"):
        choose_rule("sgd")


@pytest.mark.parametrize("make", [lambda: Adam(1.0), lambda: Adam(0.9, 1.0), lambda: RMSProp(-0.1)])
def test_rules_refuse(make):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        make()


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rule", ["adam", "rmsprop", "adagrad", "natural"])
def test_steps_do_not_depend_on_units(rule, full):
    """The same posterior in metres and in micrometres: the same way, in other units."""
    mean, precision = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), random_precision(3)
    units = torch.tensor([1e-3, 1.0, 1e4], dtype=torch.float64)
    family = full_rank if full else mean_field
    plain, scaled = (Stepper(bound_of(3, family), choose_rule(rule)) for _ in range(2))
    start = scaled.flat.clone()
    start[3:6] = units.log()
    if full:  # C = diag(s)^-1 L is 0 under the diagonal at the start, in any unit
        assert not bool(start[6:].any())
    scaled.move_to(start)
    climb(plain, mean, precision, full, 0.05, 30)
    climb(scaled, mean * units, precision / units / units.unsqueeze(1), full, 0.05, 30)
    torch.testing.assert_close(scaled.flat[:3], plain.flat[:3] * units, rtol=1e-6, atol=0)
    torch.testing.assert_close(scaled.flat[3:6], plain.flat[3:6] + units.log(), rtol=1e-6, atol=1e-9)
    assert not bool(torch.isclose(plain.flat[:3], torch.zeros(3, dtype=torch.float64)).any())


def test_units_are_standard_deviations():
    stepper = Stepper(bound_of(3, full_rank), Adam())
    flat = torch.tensor([5.0, 6.0, 7.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)
    stepper.move_to(flat)
    _, tril = _normal(flat, 3, True)
    units = stepper.units()
    torch.testing.assert_close(units[:3], (tril @ tril.T).diagonal().sqrt())
    assert units[3:].tolist() == [1.0] * 6
    diagonal = Stepper(bound_of(2), Adam())
    diagonal.move_to(torch.tensor([5.0, 6.0, 0.1, 0.2], dtype=torch.float64))
    assert diagonal.units().tolist() == pytest.approx([math.exp(0.1), math.exp(0.2), 1.0, 1.0])


@pytest.mark.parametrize("family", [low_rank(1), blocks([["x"]])])
def test_other_families_climb_too(family):
    bound = bound_of(3, family)
    stepper = Stepper(bound, Adam())
    generator = torch.Generator().manual_seed(0)
    for t in range(300):
        surrogate = bound(None, 10, generator).surrogate
        gradients = torch.autograd.grad(surrogate, stepper.parameters)
        stepper.step(torch.cat([g.reshape(-1) for g in gradients]), 0.1 if t < 150 else 0.01)
    values = bound.family().sample(5000, generator)["x"]
    torch.testing.assert_close(values.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.15)
    torch.testing.assert_close(values.T.cov(), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.2)


# --- natural gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_small_natural_steps_are_the_inverse_fisher_matrix_times_the_gradient(full):
    """The Fisher matrix is the Hessian of KL(q || q') in the parameters of q', here by automatic differentiation."""
    mean, precision = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), random_precision(3)
    stepper = Stepper(bound_of(3, full_rank if full else mean_field), NaturalGradient())
    flat = 0.3 * torch.randn(9 if full else 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stepper.move_to(flat)

    def kl(other: torch.Tensor) -> torch.Tensor:
        (loc, tril), (loc_, tril_) = _normal(flat, 3, full), _normal(other, 3, full)
        q, p = (MultivariateNormal(m, scale_tril=t, validate_args=False) for m, t in ((loc, tril), (loc_, tril_)))
        return kl_divergence(q, p)

    fisher = torch.autograd.functional.hessian(kl, flat)
    gradient = torch.func.grad(gaussian_elbo)(flat, mean, precision, full)
    stepper.step(gradient, 1e-7)
    torch.testing.assert_close((stepper.flat - flat) / 1e-7, torch.linalg.solve(fisher, gradient), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_natural_gradient_finds_a_normal_posterior_in_few_steps(scale):
    mean = scale * torch.tensor([30.0, -20.0, 5.0], dtype=torch.float64)
    precision = random_precision(3) / scale**2
    stepper = Stepper(bound_of(3, full_rank), NaturalGradient())
    climb(stepper, mean, precision, True, 1.0, 60)
    loc, tril = _normal(stepper.flat, 3, True)
    torch.testing.assert_close(loc, mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(tril @ tril.T @ precision, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)


def test_mean_field_natural_gradient_has_its_known_optimum():
    """Means of the target, variances one over its precisions (Bishop 2006, section 10.1.2)."""
    mean, precision = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64), random_precision(3)
    stepper = Stepper(bound_of(3), NaturalGradient())
    climb(stepper, mean, precision, False, 0.5, 600)
    torch.testing.assert_close(stepper.flat[:3], mean)
    torch.testing.assert_close(stepper.flat[3:], -0.5 * precision.diagonal().log())


def test_coordinates_that_depend_on_each_other_do_not_run_away():
    """Forty coordinates with correlations of the precision of 0.9: plain steps of 0.1 would grow by 2.6 each time."""
    size = 40
    precision = 0.9 * torch.ones(size, size, dtype=torch.float64) + 0.1 * torch.eye(size, dtype=torch.float64)
    mean = torch.linspace(10, 20, size, dtype=torch.float64)
    assert 0.1 * torch.linalg.eigvalsh(precision)[-1] > 3.6
    stepper = Stepper(bound_of(size), NaturalGradient())
    climb(stepper, mean, precision, False, 0.1, 1000)
    away = stepper.flat[:size] - mean
    assert 0.5 * away @ precision @ away < 0.5  # nats, of 5,500 at the start and slowly falling


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["adam", "rmsprop", "adagrad", "natural"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_row_moves_only_by_its_own_batches(rule, shape):
    """Each row's parameters go exactly as if there were only the batches that it was in."""
    rows, width = 5, math.prod(shape)
    bound, generator = with_rows(rows, shape), torch.Generator().manual_seed(0)
    stepper = Stepper(bound, choose_rule(rule))
    gradients = torch.randn(15, len(stepper.flat), dtype=torch.float64, generator=generator)
    batches = [torch.randperm(rows, generator=generator)[:2] for _ in range(15)]
    alone = [Stepper(with_rows(1, shape), choose_rule(rule)) for _ in range(rows)]
    for gradient, batch in zip(gradients, batches, strict=True):
        before = stepper.flat.clone()
        stepper.step(gradient, 0.1, batch, share=0.4)
        loc, log_scale = (
            gradient[: rows * width].view(rows, -1),
            gradient[rows * width : 2 * rows * width].view(rows, -1),
        )
        for row in range(rows):
            here = slice(row * width, (row + 1) * width)
            if row in batch.tolist():
                own = torch.cat([0.4 * loc[row], 0.4 * log_scale[row], gradient[2 * rows * width :]])
                alone[row].step(own, 0.1)
            else:
                assert torch.equal(stepper.flat[here], before[here])
            torch.testing.assert_close(stepper.flat[here], alone[row].flat[:width])
            scales = stepper.flat[rows * width : 2 * rows * width][here]
            torch.testing.assert_close(scales, alone[row].flat[width : 2 * width])
    torch.testing.assert_close(bound.family.factors[0].loc.detach().reshape(-1), stepper.flat[: rows * width])


def test_what_is_shared_moves_with_every_batch():
    many, one = Stepper(with_rows(4), Adam()), Stepper(bound_of(2), Adam())
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        gradient = torch.randn(12, dtype=torch.float64, generator=generator)
        many.step(gradient, 0.1, torch.randperm(4, generator=generator)[:1], share=0.25)
        one.step(gradient[8:], 0.1)
    torch.testing.assert_close(many.flat[8:], one.flat)


def test_restore_goes_back_to_what_was_remembered_too():
    stepper = Stepper(bound_of(2), Adam())
    gradients = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for gradient in gradients[:5]:
        stepper.step(gradient, 0.1)
    state = stepper.state()
    for gradient in gradients[5:]:
        stepper.step(gradient, 0.1)
    end = stepper.flat.clone()
    stepper.restore(state)
    for gradient in gradients[5:]:
        stepper.step(gradient, 0.1)
    assert torch.equal(stepper.flat, end)


def test_steps_climb_a_normal_bound_by_noisy_gradients():
    """At a distance of a thousand standard deviations, with scales of q that are wrong by e^3."""
    model = Model({"x": real(1)}, lambda z, data: Normal(1000.0, 0.05).log_prob(z.x).sum())
    bound = Bound(Target(model), mean_field(model), Pathwise())
    stepper, generator = Stepper(bound, NaturalGradient()), torch.Generator().manual_seed(0)
    for _ in range(200):
        noise = torch.randn(4, 1, dtype=torch.float64, generator=generator)
        surrogate = bound(None, 8, noise=torch.cat([noise, -noise])).surrogate
        gradients = torch.autograd.grad(surrogate, stepper.parameters)
        stepper.step(torch.cat([g.reshape(-1) for g in gradients]), 0.1)
    assert stepper.flat[0].item() == pytest.approx(1000, abs=0.01)
    assert stepper.flat[1].exp().item() == pytest.approx(0.05, rel=0.5)
