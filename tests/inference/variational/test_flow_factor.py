"""Normalising flows as factors: identity at the start, a bent target, and manners towards torch and without zuko."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from factor_cases import CASES, DATA, SIZES, seeded
from torch import Tensor

from jensen.gradients import Pathwise
from jensen.gradients.posterior import Draw, Posterior
from jensen.inference import supports as s
from jensen.inference.model import Batch, Model
from jensen.inference.variational.flow import FlowFactor, flow
from jensen.inference.variational.full_rank import FullRankNormal


@pytest.mark.parametrize("size", [1, 2, 5])
def test_starts_as_a_normal_distribution(size: int) -> None:
    q = FlowFactor({"z": s.real(size)}, {}, 3)()
    u = 3 * torch.randn(100, size, dtype=torch.float64, generator=seeded(1))
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1)
    torch.testing.assert_close(q.log_prob(Draw({"z": u}, u)), wanted)
    torch.testing.assert_close(q.from_noise(u).point, u)


@pytest.mark.parametrize("name", ["flow", "flow, one coordinate"])
def test_log_density_of_a_draw_is_that_of_its_jacobian(name: str) -> None:
    q = CASES[name].make(spread=0.8)()
    noise = torch.randn(4, *q.noise_shape, dtype=torch.float64, generator=seeded(2))
    draw = q.from_noise(noise)
    own = q.log_prob(draw)
    back = q.log_prob(Draw(draw.values, draw.point, draw.log_jacobian))  # without what the draw remembers
    torch.testing.assert_close(own, back)
    for i, e in enumerate(noise):
        jacobian = torch.func.jacrev(lambda v: q.from_noise(v.unsqueeze(0)).point[0])(e)
        wanted = -0.5 * (e.square() + math.log(2 * math.pi)).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(own[i], wanted - draw.log_jacobian[i])


def banana(u: Tensor) -> Tensor:
    """Normalised: u0 ~ N(0, 1), u1 | u0 ~ N(u0^2 - 1, 0.3^2)."""
    return torch.distributions.Normal(0.0, 1.0).log_prob(u[:, 0]) + torch.distributions.Normal(
        u[:, 0] ** 2 - 1, 0.3
    ).log_prob(u[:, 1])


def climbed(factor: FlowFactor | FullRankNormal) -> float:
    """The ELBO of the banana, whose best is 0, after Adam; on fresh draws."""
    optimiser = torch.optim.Adam(factor.parameters(), lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    generator, estimator = seeded(3), Pathwise()

    def estimate(samples: int) -> Tensor:
        terms = lambda v: {"banana": banana(v["z"])}  # noqa: E731
        return estimator.estimate(Posterior([factor()]), terms, samples, generator).surrogate

    for _ in range(200):
        optimiser.zero_grad()
        (-estimate(60)).backward()
        optimiser.step()
        schedule.step()
    return float(estimate(20_000).detach())


def test_a_flow_bends_where_a_normal_distribution_cannot() -> None:
    bent = climbed(FlowFactor({"z": s.real(2)}, {}, 3, (16,)))
    straight = climbed(FullRankNormal({"z": s.real(2)}, {}))
    assert straight < -0.7
    assert -0.4 < bent < 0.02


def test_the_same_seed_gives_the_same_net_and_leaves_torchs_own_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    nets = [FlowFactor({"z": s.real(3)}, {}, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    first = [dict(net.net.named_parameters())["lazy.transforms.0.hyper.0.weight"] for net in nets]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_a_family_of_a_model() -> None:
    model = Model(
        {"a": s.real(2), "w": s.positive(plate="rows"), "k": s.bernoulli()},
        lambda z, data: torch.zeros(()),
        plates=SIZES,
    )
    family = flow(2, (4,))(model)
    assert [f.names for f in family.factors] == [("a", "w"), ("k",)]
    assert not family.factors[0].fixed_draws
    assert family(DATA).sample(3, seeded())["w"].shape == (3, 4)
    with pytest.raises(ValueError, match="q joins the rows of w"):
        family(Batch({}, torch.tensor([1])))
    with pytest.raises(ValueError, match="at least one transform, got 0"):
        flow(0)(model)
    with pytest.raises(TypeError, match="does not know the mean"):
        family.factors[0].mean()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)


def test_without_zuko_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['zuko'] = None\n"
        "from jensen.inference.supports import real\n"
        "from jensen.inference.variational.flow import FlowFactor\n"
        "FlowFactor({'z': real(2)}, {})"
    )
    done = run(code)
    assert done.returncode == 1
    assert "ImportError: normalising flows need the zuko library: pip install 'jensen[flows]'" in done.stderr


def test_torchs_argument_checks_stay_on() -> None:
    """Importing zuko switches them off for the whole process."""
    code = (
        "import torch\n"
        "from jensen.inference.supports import real\n"
        "from jensen.inference.variational.flow import FlowFactor\n"
        "FlowFactor({'z': real(2)}, {})\n"
        "torch.distributions.Normal(0.0, -1.0)"
    )
    assert "ValueError: Expected parameter scale" in run(code).stderr
