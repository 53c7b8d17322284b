"""The bound of deep VAEs against quadrature over all latents, and against linear Gaussians, whose p(x) is known."""

from __future__ import annotations

import math

import pytest
import torch
from deep_cases import KINDS, PAIRS, Down, binary, lively, log_bernoulli, log_normal, log_weights_by_hand, made
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from jensen.autoencoders import NVAE, DeepVAE, HierarchicalVAE
from jensen.bound import importance_weighted_bound, log_weights
from jensen.config import NetConfig
from jensen.likelihoods import Gaussian
from jensen.objectives import Elbo, FreeBits, Iwae, Objective, elbo_terms


def tiny(kind: str, net: str) -> DeepVAE:
    """One number on each of two levels, and data of four binary pixels; q wide enough for weights of small variance."""
    model = lively(made(kind, net, (1, 2, 2), scales=["2x1@3"]), 0.7)
    with torch.no_grad():
        for prior in model.way_down.heads:
            last_layer(prior).weight[1:].mul_(0.3)
        for posterior in model.way_up.heads:
            last_layer(posterior).weight.mul_(0.3)
            last_layer(posterior).bias.copy_(torch.tensor([0.2, 0.9]))
    return model


def last_layer(net: nn.Module) -> nn.Linear | nn.Conv2d:
    layer = list(net.get_submodule("out").modules())[-1]
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer


def log_evidence(model: DeepVAE, x: Tensor, points: int = 61) -> Tensor:
    """log p(x) of the rows of x by the trapezoidal rule over the two latents, the lower in units of its prior."""
    nodes = torch.linspace(-7.5, 7.5, points, dtype=torch.float64)
    top, lower = (grid.reshape(-1, 1) for grid in torch.meshgrid(nodes, nodes, indexing="ij"))
    shape = (-1, *model.level_shapes[0])
    prior = Down(model, [top.view(shape), torch.zeros_like(lower).view(shape)]).priors[1]
    mean, log_sd = (values.reshape(-1, 1) for values in prior)
    z = mean + log_sd.exp() * lower
    out = Down(model, [top.view(shape), z.view(shape)]).out.view(-1, *x.shape[1:])
    weight = -0.5 * (top**2 + lower**2)[:, 0] - math.log(2 * math.pi) + 2 * math.log(nodes[1] - nodes[0])
    return torch.stack([torch.logsumexp(log_bernoulli(each, out) + weight, 0) for each in x])


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_importance_weights_average_to_the_evidence(kind: str, net: str) -> None:
    model, x, samples = tiny(kind, net), binary(3, (1, 2, 2)), 2000
    with torch.no_grad():
        exact = log_evidence(model, x)
        output = model(x, samples=samples)
        weights = log_weights(output)
        terms = output.log_likelihood() - output.rate()
    relative = (weights - exact).exp()
    error = relative.std(0) / math.sqrt(samples)
    assert bool((error < 0.1).all())
    assert bool(((relative.mean(0) - 1).abs() < 5 * error).all())
    # The ELBO, with closed forms where there are any and without, is the mean of the log weights, and below log p(x).
    difference = terms - weights
    assert bool((difference.mean(0).abs() < 5 * difference.std(0) / math.sqrt(samples) + 1e-12).all())
    assert bool((weights.mean(0) < exact).all())
    assert bool((importance_weighted_bound(weights) > weights.mean(0)).all())


def test_quadrature_sums_to_one_over_all_data() -> None:
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4).view(16, 1, 2, 2)
    with torch.no_grad():
        assert log_evidence(tiny("nvae", "conv"), every).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("told", [None, (3,)])
@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_log_weights_are_those_written_out(kind: str, net: str, told: tuple[int, ...] | None) -> None:
    model, x = lively(made(kind, net, condition_shape=told)), binary(3)
    condition = None if told is None else torch.randn(3, *told, dtype=torch.float64)
    with torch.no_grad():
        output = model(x, samples=4, condition=condition)
        torch.testing.assert_close(
            log_weights(output), log_weights_by_hand(model, x, output, condition), rtol=1e-10, atol=1e-9
        )


@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_rate_in_closed_form_has_the_mean_of_its_draws(kind: str, net: str) -> None:
    model, samples = lively(made(kind, net)), 300
    with torch.no_grad():
        output = model(binary(2), samples=samples)
        closed, drawn = output.rate(analytic=True), output.rate(analytic=False)
        each = [(level.kl() - level.kl(analytic=False)).flatten(2).sum(2) for level in output.levels]
    for difference in (closed - drawn, *each):
        error = difference.std(0) / math.sqrt(samples)
        assert bool((difference.mean(0).abs() <= 5 * error).all())
    assert bool((closed.mean(0) > 0).all())


@pytest.mark.parametrize("objective", [Elbo(samples=2), FreeBits(samples=2, free_bits=0.05), Iwae(samples=3)])
@pytest.mark.parametrize(("kind", "net"), PAIRS)
def test_gradients_are_those_of_finite_differences(kind: str, net: str, objective: Objective) -> None:
    """Of the loss at fixed noise, along a random direction of all weights: no path back is cut or counted twice."""
    model, x, step = lively(made(kind, net), 0.8), binary(3), 1e-6

    def loss() -> Tensor:
        torch.manual_seed(5)
        return objective(model(x, samples=objective.samples)).value

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum((g * v).sum().item() for g, v in zip(gradients, direction, strict=True))
    found = []
    with torch.no_grad():
        for move in (step, -2 * step):
            for parameter, v in zip(parameters, direction, strict=True):
                parameter.add_(move * v)
            found.append(loss().item())
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(expected, rel=1e-4, abs=1e-6)


X, TOP, LOW = 4, 2, 2
"""Numbers of a datum and of the levels of the linear Gaussian"""


class LinearGaussian:
    """z_2 ~ N(0, I), z_1 ~ N(A z_2 + a, S), x ~ N(W z_1 + b, s^2 I), A and S diagonal, columns of W orthogonal.

    Then all of q(z_1 | x, z_2), q(z_2 | x), q(z_1 | x) and q(z_2 | z_1) are diagonal Gaussians with linear means.
    """

    def __init__(self) -> None:
        self.noise = 0.6
        self.weight = torch.linalg.qr(torch.randn(X, LOW, dtype=torch.float64))[0] * torch.tensor([0.8, 1.7])
        self.offset = torch.randn(X, dtype=torch.float64)
        self.gain = torch.tensor([0.9, -1.4], dtype=torch.float64)
        self.shift = torch.tensor([0.3, -0.7], dtype=torch.float64)
        self.variance = torch.tensor([0.5, 0.2], dtype=torch.float64)
        # What x says of z_1: N(P (x - b), R).
        squares = self.weight.square().sum(0)
        self.inverse = self.weight.T / squares[:, None]
        self.spread = self.noise**2 / squares

    def covariance(self) -> Tensor:
        latent = torch.diag(self.gain**2 + self.variance)
        return self.weight @ latent @ self.weight.T + self.noise**2 * torch.eye(X, dtype=torch.float64)

    def evidence(self) -> MultivariateNormal:
        return MultivariateNormal(self.weight @ self.shift + self.offset, self.covariance())

    def model(self, kind: str) -> DeepVAE:
        """With ReLU networks that are linear: max(v, 0) and max(-v, 0) side by side, then their difference."""
        net = NetConfig(kind="mlp", depth=1)
        model = KINDS[kind]((X,), ["2@4", "2@4"], net=net, likelihood=Gaussian(self.noise)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            self._down(model)
            self._up(model)
        return model

    def _down(self, model: DeepVAE) -> None:
        top, low = model.way_down.steps
        identity = torch.eye(2, dtype=torch.float64)
        split(top.blocks[0], identity)
        split(low.blocks[0], identity)
        joined(low.blocks[2], self.weight, self.offset)
        head(model.way_down.heads[0].out, torch.diag(self.gain), self.shift, self.variance)

    def _up(self, model: DeepVAE) -> None:
        up, bottom_up = model.way_up, isinstance(model, HierarchicalVAE)
        identity = torch.eye(2, dtype=torch.float64)
        split(up.steps[0][1], self.inverse, -self.inverse @ self.offset)  # the features are t = P (x - b)
        whole = self.gain**2 + self.variance
        above = self.variance if bottom_up else self.variance + self.spread  # of what is below, given z_2
        if bottom_up:
            split(up.steps[1][0], identity)
        else:
            up.steps[1][0].weight.copy_(torch.cat([torch.cat([identity, -identity], 1)] * 2) * sign())
        gain = self.gain / (self.gain**2 + above)
        head(up.heads[1].out, torch.diag(gain), -gain * self.shift, above / (self.gain**2 + above))
        if bottom_up:
            gain = whole / (whole + self.spread)
            head(
                up.heads[0].out, torch.diag(gain), (1 - gain) * self.shift, whole * self.spread / (whole + self.spread)
            )
        elif isinstance(model, NVAE):
            share = self.variance / above  # q = N(m_p + share (t - m_p), S R / (S + R)), m_p = A z_2 + a
            split_rows = torch.cat([torch.diag(-self.gain), torch.diag(self.gain)], 1)
            up.heads[0].merge.weight[:2].copy_(split_rows)
            up.heads[0].merge.bias[:2].copy_(-self.shift)
            head(up.heads[0].out, torch.diag(share), torch.zeros(2), self.spread / above)
        else:
            head(up.heads[0].out, identity, torch.zeros(2), self.spread)


def sign() -> Tensor:
    return torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)[:, None]


def split(layer: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    """v = weight x + bias as v and -v."""
    layer.weight.copy_(torch.cat([weight, -weight]))
    if bias is not None:
        layer.bias.copy_(torch.cat([bias, -bias]))


def joined(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """weight v + bias of max(v, 0) and max(-v, 0)."""
    layer.weight[: len(weight)].copy_(torch.cat([weight, -weight], 1))
    layer.bias[: len(weight)].copy_(bias)


def head(layer: nn.Linear, weight: Tensor, bias: Tensor, variance: Tensor) -> None:
    joined(layer, weight, bias)
    layer.bias[len(weight) :].copy_(5 * torch.atanh(variance.log() / 2 / 5))


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> LinearGaussian:
    monkeypatch.setattr("jensen.autoencoders.nvae.MEAN_LIMIT", 1e7)  # a clamped mean is not linear
    return LinearGaussian()


@pytest.mark.parametrize("kind", KINDS)
def test_exact_posterior_makes_every_importance_weight_the_likelihood(linear: LinearGaussian, kind: str) -> None:
    x = linear.evidence().sample((5,))
    with torch.no_grad():
        weights = log_weights(linear.model(kind)(x, samples=7))
    exact = linear.evidence().log_prob(x).expand(7, 5)
    torch.testing.assert_close(weights, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_exact_posterior_gradients_are_those_of_the_likelihood(linear: LinearGaussian, kind: str) -> None:
    """The ELBO touches log p(x) there: what is learned of p is its gradient, and q has nothing to learn."""
    x, batches = linear.evidence().sample((3,)), 30
    likelihood = linear.evidence()
    of_mean = torch.linalg.solve(likelihood.covariance_matrix, (x - likelihood.mean).mean(0))
    found: dict[str, list[Tensor]] = {}
    for _ in range(batches):
        model = linear.model(kind)
        (-Elbo()(model(x, samples=400)).value).backward()
        for name, parameter in (
            ("offset", model.way_down.steps[1].blocks[2].bias),
            ("shift", model.way_down.heads[0].out.bias),
            *((f"q {i}", q.out.bias) for i, q in enumerate(model.way_up.heads)),
        ):
            assert parameter.grad is not None
            found.setdefault(name, []).append(parameter.grad)
    expected = {"offset": of_mean, "shift": linear.weight.T @ of_mean}
    for name, gradients in found.items():
        every = torch.stack(gradients)[:, : len(expected[name]) if name in expected else None]
        error = every.std(0) / math.sqrt(batches)
        assert bool(((every.mean(0) - expected.get(name, 0.0)).abs() < 5 * error + 1e-9).all()), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_wrong_posterior_costs_importance_weights_win_back(linear: LinearGaussian, kind: str) -> None:
    """With q at the top too wide by c, the gap of the ELBO is the KL that this makes, (c^2 - 1) / 2 - log c."""
    x, samples, wide = linear.evidence().sample((2,)), 20_000, 1.3
    model = linear.model(kind)
    with torch.no_grad():
        bias = model.way_up.heads[-1].out.bias[2:]
        bias.copy_(5 * torch.atanh(torch.tanh(bias / 5) + math.log(wide) / 5))
        output = model(x, samples=samples)
    exact, weights = linear.evidence().log_prob(x), log_weights(output)
    elbo = elbo_terms(output)["elbo"].item()
    gap = 2 * ((wide**2 - 1) / 2 - math.log(wide))
    error = (output.log_likelihood() - output.rate()).mean(1).std().item() / math.sqrt(samples)
    assert abs(elbo + gap - exact.mean().item()) < 5 * error
    relative = (weights - exact).exp()
    of_mean = relative.std(0) / math.sqrt(samples)
    assert bool(((relative.mean(0) - 1).abs() < 5 * of_mean).all())
    tighter = -Iwae(samples)(output).value.item()
    assert abs(tighter - exact.mean().item()) < 0.02 < exact.mean().item() - elbo


def test_samples_have_the_moments_of_the_linear_gaussian(linear: LinearGaussian) -> None:
    """A temperature a level, the top first, scales its standard deviation."""
    model, n = linear.model("ladder"), 20_000
    for top, low in ((1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0)):
        found = model.sample(n, [top, low])
        latent = torch.diag((top * linear.gain) ** 2 + low**2 * linear.variance)
        covariance = linear.weight @ latent @ linear.weight.T
        mean = linear.weight @ linear.shift + linear.offset
        deviation = (covariance.diagonal() / n).sqrt()
        assert bool(((found.mean(0) - mean).abs() < 5 * deviation + 1e-9).all())
        scale = covariance.diagonal().max().item()
        torch.testing.assert_close(found.T.cov(), covariance, rtol=0.05, atol=0.03 * scale)


def test_neighbours_are_draws_from_the_posterior(linear: LinearGaussian) -> None:
    x, n = linear.evidence().sample((2,)), 20_000
    precision = 1 / (linear.gain**2 + linear.variance) + 1 / linear.spread
    mean = linear.shift / (linear.gain**2 + linear.variance) + (x - linear.offset) @ linear.inverse.T / linear.spread
    exact = mean / precision @ linear.weight.T + linear.offset
    covariance = linear.weight @ torch.diag(1 / precision) @ linear.weight.T
    for kind in KINDS:
        model = linear.model(kind)
        found = model.neighbours(x, n)
        error = (covariance.diagonal() / n).sqrt()
        assert bool(((found.mean(0) - exact).abs() < 5 * error + 1e-9).all())
        scale = covariance.diagonal().max().item()
        torch.testing.assert_close(found[:, 0].T.cov(), covariance, rtol=0.05, atol=0.03 * scale)
        # The mean of a linear Gaussian's posterior is where the walk along the means ends.
        torch.testing.assert_close(model.reconstruct(x), exact)


def test_log_normal_of_these_tests_is_that_of_torch() -> None:
    z, mean, log_sd = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(log_normal(z, mean, log_sd), Normal(mean, log_sd.exp()).log_prob(z).flatten(1).sum(1))
