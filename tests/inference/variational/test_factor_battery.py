"""What every factor of q must do: densities, entropies, gradients, noise, vmap, saving, placing."""

from __future__ import annotations

import math

import pytest
import torch
from factor_cases import CASES, CONTINUOUS, DATA, DISCRETE, SIZES, Case, seeded
from torch import Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.variational.base import Factor

WITH_NOISE = [n for n in CONTINUOUS if CASES[n].make()(DATA).noise_shape is not None]
WITHOUT_NOISE = [n for n in CASES if n not in WITH_NOISE]


def posterior(name: str, seed: int = 0) -> FactorPosterior:
    return CASES[name].make(seed)(DATA)


def at(case: Case, q: FactorPosterior, u: Tensor) -> tuple[Draw, Tensor]:
    """The draw with real coordinates u, (samples, *elements, E), and log |dz / du|, by the supports' transforms."""
    values: dict[str, Tensor] = {}
    log_jacobian = u.new_zeros(u.shape[:-1])
    shapes = [v.unconstrained_shape(SIZES) for v in case.variables.values()]
    parts = [shape[len(q.elements) :].numel() for shape in shapes]
    for (name, variable), part in zip(case.variables.items(), u.split(parts, -1), strict=True):
        coordinates = part.reshape(len(u), *variable.unconstrained_shape(SIZES))
        transform = variable.transform
        values[name] = transform(coordinates)
        each = transform.log_abs_det_jacobian(coordinates, values[name])
        log_jacobian = log_jacobian + each.reshape(*log_jacobian.shape, -1).sum(-1)
    if case.native:
        return Draw(values, values["z"]), log_jacobian
    diagonal = len(shapes) == 1 and name != "b"  # its points have the coordinates' own shape
    return Draw(values, u.reshape(len(u), *shapes[0]) if diagonal else u, log_jacobian), log_jacobian


def within(values: Tensor, expected: Tensor | float, sigmas: float = 5.0) -> None:
    """The mean over the first dimension is `expected`, up to `sigmas` standard errors."""
    error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - expected).abs() <= sigmas * error + 1e-9).all(), (values.mean(0), expected, error)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_density_integrates_to_one(name: str) -> None:
    """Importance sampling from Student's t about the same place, heavier in its tails than any of the factors."""
    case, q = CASES[name], posterior(name)
    u = case.coordinates(q.sample(2000, seeded(1)))
    size = u.shape[1] // q.elements.numel() if q.elements else u.shape[1]
    proposal = torch.distributions.StudentT(3.0, u.mean(0), 0.9 * u.std(0))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        draws = proposal.sample(torch.Size([60_000]))
    log_p = proposal.log_prob(draws).reshape(-1, *q.elements, size).sum(-1)
    draw, log_jacobian = at(case, q, draws.reshape(-1, *q.elements, size))
    with torch.no_grad():
        weights = (q.log_prob(draw) + log_jacobian - log_p).exp()
    assert weights.shape == (60_000, *q.elements)
    assert (weights.std(0) < 40).all()
    within(weights, 1.0)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one(name: str) -> None:
    q = posterior(name)
    if q.support_size is None:
        counts = torch.arange(100.0, dtype=torch.float64).reshape(-1, *(1 for _ in q.elements)).expand(-1, *q.elements)
        draw = Draw({"z": counts}, counts)
    else:
        draw = q.enumerate()
        assert draw.values["z"].shape == (q.support_size, *q.elements)
    probabilities = q.log_prob(draw).exp()
    torch.testing.assert_close(probabilities.sum(0), torch.ones(q.elements, dtype=torch.float64))
    shares = torch.stack([(q.sample(20_000, seeded(1)).values["z"] == k).double().mean(0) for k in range(2)])
    assert (shares - probabilities[:2]).abs().max() < 5 * 0.5 / math.sqrt(20_000)


@pytest.mark.parametrize("name", list(CASES))
def test_entropy_is_minus_the_mean_log_density_of_the_point(name: str) -> None:
    q = posterior(name)
    entropy = q.entropy()
    assert (entropy is not None) == CASES[name].entropy
    if entropy is not None:
        assert entropy.shape == q.elements
        draw = q.sample(20_000, seeded(1))
        within(-(q.log_prob(draw) + draw.log_jacobian).detach(), entropy.detach())


@pytest.mark.parametrize("name", list(CASES))
def test_draws_are_on_the_support_with_the_declared_shape(name: str) -> None:
    case, q = CASES[name], posterior(name)
    draw = q.sample(7, seeded(1))
    assert tuple(draw.values) == q.names == tuple(case.variables)
    for latent, variable in case.variables.items():
        value = draw.values[latent]
        assert value.shape == (7, *variable.full_shape(SIZES))
        assert bool(variable.support.check(value).all())
        assert not value.requires_grad
    assert q.log_prob(draw).shape == (7, *q.elements)
    assert q.has_rsample != case.discrete
    if case.discrete:
        with pytest.raises(TypeError, match="gradient"):
            q.rsample(1, seeded())
    if q.plate is not None:
        assert q.elements[0] == SIZES[q.plate]


@pytest.mark.parametrize("name", list(CASES))
def test_score_is_not_zero_and_zero_on_average(name: str) -> None:
    """E_q[grad log q] = 0: right only if the density belongs to the draws; per batch of draws, not zero."""
    factor = CASES[name].make()
    parameters = [p for p in factor.parameters() if p.requires_grad]
    scores = []
    for seed in range(40):
        q = factor(DATA)
        total = q.log_prob(q.sample(200, seeded(seed))).sum() / 200
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        scores.append(torch.cat([g.reshape(-1) for g in gradients if g is not None]))
    score = torch.stack(scores)
    assert score.abs().max() > 1e-3
    within(score, 0.0, 5.5)


class Summary(nn.Module):
    """A smooth function of everything that a factor gives, at fixed noise or fixed values."""

    def __init__(self, factor: Factor, given: Tensor | Draw, weights: Tensor) -> None:
        super().__init__()
        self.factor, self.given, self.weights = factor, given, weights

    def forward(self) -> Tensor:
        q = self.factor(DATA)
        draw = q.from_noise(self.given) if isinstance(self.given, Tensor) else self.given
        total = (q.log_prob(draw) * self.weights.reshape(-1, *(1 for _ in q.elements))).sum()
        entropy = q.entropy()
        if entropy is not None:
            total = total + entropy.sum()
        if isinstance(self.given, Tensor):
            total = total + sum(v.sin().sum() for v in draw.values.values())
            total = total + torch.as_tensor(draw.log_jacobian).cos().sum()
        return total


def summary(name: str, factor: Factor) -> Summary:
    q = CASES[name].make(seed=9)(DATA)
    given: Tensor | Draw
    if q.noise_shape is not None:
        given = torch.randn(3, *q.noise_shape, dtype=torch.float64, generator=seeded(4))
    else:
        given = q.sample(3, seeded(4))
    return Summary(factor, given, torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64))


def pure(module: Summary, flat: Tensor) -> Tensor:
    parts, start = {}, 0
    for key, parameter in module.named_parameters():
        parts[key] = flat[start : start + parameter.numel()].reshape(parameter.shape)
        start += parameter.numel()
    value: Tensor = torch.func.functional_call(module, parts, ())
    return value


def flat_of(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.mark.parametrize("name", list(CASES))
def test_gradient_at_fixed_noise_against_differences(name: str) -> None:
    module = summary(name, CASES[name].make())
    flat = flat_of(module)
    gradient = torch.func.grad(lambda v: pure(module, v))(flat)
    assert gradient.abs().max() > 1e-3
    step = 1e-5
    with torch.no_grad():
        for i in range(0, len(flat), max(1, len(flat) // 25)):
            unit = torch.zeros_like(flat)
            unit[i] = step
            difference = (pure(module, flat + unit) - pure(module, flat - unit)) / (2 * step)
            assert gradient[i].item() == pytest.approx(difference.item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", list(CASES))
def test_vmap_over_parameters_and_second_derivatives(name: str) -> None:
    module = summary(name, CASES[name].make())
    flat = flat_of(module)
    several = torch.stack([flat, flat + 0.1 * torch.randn(flat.shape, dtype=flat.dtype, generator=seeded(6))])
    together = torch.func.vmap(lambda v: pure(module, v))(several)
    torch.testing.assert_close(together, torch.stack([pure(module, v) for v in several]).detach())
    gradients = torch.func.vmap(torch.func.grad(lambda v: pure(module, v)))(several)
    direction = torch.randn(flat.shape, dtype=flat.dtype, generator=seeded(7))
    slope = torch.func.grad(lambda v: pure(module, v))
    torch.testing.assert_close(gradients[1], slope(several[1]))
    _, curved = torch.func.jvp(slope, (flat,), (direction,))  # Hessian times direction
    step = 1e-5
    difference = (slope(flat + step * direction) - slope(flat - step * direction)) / (2 * step)
    torch.testing.assert_close(curved, difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WITH_NOISE)
def test_rsample_is_from_noise(name: str) -> None:
    q = posterior(name)
    assert q.noise_shape is not None
    noise = torch.randn(5, *q.noise_shape, dtype=torch.float64, generator=seeded(3))
    drawn, made = q.rsample(5, seeded(3)), q.from_noise(noise)
    torch.testing.assert_close(drawn.point, made.point)
    torch.testing.assert_close(q.log_prob(drawn), q.log_prob(made))
    for latent in q.names:
        assert drawn.values[latent].requires_grad
        torch.testing.assert_close(drawn.values[latent], made.values[latent])


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_what_is_not_made_of_noise_says_so(name: str) -> None:
    q = posterior(name)
    with pytest.raises(TypeError, match="draws of z are not made of standard normal noise"):
        q.from_noise(torch.zeros(1, 1))
    if q.support_size is None:
        with pytest.raises(TypeError, match="values of z cannot be enumerated"):
            q.enumerate()


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if CASES[n].mean])
def test_mean_of_the_coordinates_and_its_pathwise_gradient(name: str) -> None:
    """Draws' coordinates have the mean that the factor says, and their gradient is the gradient of that mean."""
    case, factor = CASES[name], CASES[name].make()
    parameters = [p for p in factor.parameters() if p.requires_grad]
    weights = torch.randn(factor.mean().shape, dtype=torch.float64, generator=seeded(8))
    expected = torch.autograd.grad((factor.mean() * weights).sum(), parameters, allow_unused=True)
    estimates = []
    for seed in range(40):
        draw = factor(DATA).rsample(300, seeded(seed))
        u = case.coordinates(draw)
        if seed == 0:
            within(u.detach(), factor.mean().detach())
        found = torch.autograd.grad((u.mean(0) * weights).sum(), parameters, allow_unused=True)
        estimates.append(_flat(found, parameters))
    within(torch.stack(estimates), _flat(expected, parameters), 5.5)


def _flat(gradients: tuple[Tensor | None, ...], parameters: list[nn.Parameter]) -> Tensor:
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([g.reshape(-1) for g in filled])


@pytest.mark.parametrize("name", list(CASES))
def test_detached_is_the_same_without_history(name: str) -> None:
    factor = CASES[name].make()
    q = factor(DATA)
    draw = q.sample(4, seeded(1))
    fixed = q.detach()
    torch.testing.assert_close(fixed.log_prob(draw), q.log_prob(draw).detach())
    assert q.log_prob(draw).requires_grad
    assert not fixed.log_prob(draw).requires_grad
    assert (fixed.names, fixed.elements, fixed.plate) == (q.names, q.elements, q.plate)
    assert (fixed.noise_shape, fixed.support_size) == (q.noise_shape, q.support_size)
    if q.has_rsample:  # sticking the landing: only through the draw
        moving = q.rsample(4, seeded(1))
        assert fixed.log_prob(moving).requires_grad
        torch.testing.assert_close(fixed.log_prob(moving), q.log_prob(moving))


@pytest.mark.parametrize("name", list(CASES))
def test_state_dict_round_trip(name: str) -> None:
    case = CASES[name]
    factor, other = case.make(), case.build()
    q = factor(DATA)
    draw = q.sample(4, seeded(1))
    before = other(DATA).log_prob(draw)
    assert not torch.allclose(before, q.log_prob(draw))
    other.load_state_dict(factor.state_dict())
    torch.testing.assert_close(other(DATA).log_prob(draw), q.log_prob(draw), rtol=0, atol=0)


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if n != "amortised"])
def test_place_sets_centre_and_scale(name: str) -> None:
    case, factor = CASES[name], CASES[name].make()
    centre = {
        n: 0.5 * torch.randn(v.unconstrained_shape(SIZES), dtype=torch.float64, generator=seeded(2))
        for n, v in case.variables.items()
    }
    factor.place({"another": torch.zeros(3)}, 1.0)  # nothing of this factor's
    moved = CASES[name].make()
    assert all(torch.equal(a, b) for a, b in zip(factor.parameters(), moved.parameters(), strict=True))
    factor.place(centre, 0.2)
    u = case.coordinates(factor(DATA).sample(4000, seeded(1)))
    exact = name not in ("Beta", "Dirichlet")
    wanted = case.flat([c.unsqueeze(0) for c in centre.values()])[0]
    assert (u.mean(0) - wanted).abs().max() < (0.02 if exact else 0.06)
    if name == "Dirichlet":
        assert u.var(0).reshape(2, 3).mean(1).sqrt().tolist() == pytest.approx([0.2, 0.2], rel=0.06)
    else:
        assert u.std(0).tolist() == pytest.approx([0.2] * u.shape[1], rel=0.08)
    if case.mean and exact:
        assert factor.mean().tolist() == pytest.approx(wanted.tolist(), abs=1e-9)
    scales = {n: torch.full_like(c, 0.4) for n, c in centre.items()}
    factor.place(centre, scales)
    again = case.coordinates(factor(DATA).sample(4000, seeded(1)))
    assert again.std(0).mean() == pytest.approx(2 * u.std(0).mean().item(), rel=0.08)
