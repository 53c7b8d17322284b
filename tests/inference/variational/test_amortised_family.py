"""Amortised factors: the bridge to the VAE, whose gradients they must reproduce; encoders' inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from factor_cases import DATA, LOCAL, SIZES, encoder, seeded
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.autoencoders import VAE
from jensen.config import NetConfig
from jensen.gradients import Pathwise
from jensen.inference import supports as s
from jensen.inference.model import Model, Values
from jensen.inference.objective import Bound
from jensen.inference.target import Target
from jensen.inference.variational.amortised import AmortisedNormal, amortised
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.objectives import Elbo

ROWS, FEATURES, LATENT = 9, 6, 2


def small_vae(likelihood: str) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return VAE((FEATURES,), LATENT, net=NetConfig(kind="mlp", width=8), likelihood=likelihood).double()


def rows(likelihood: str) -> Tensor:
    x = torch.rand(ROWS, FEATURES, dtype=torch.float64, generator=seeded(2))
    return (x > 0.4).double() if likelihood == "bernoulli" else x


def as_model(vae: VAE) -> Model:
    def log_joint(z: Values, data: Values) -> dict[str, Tensor]:
        return {
            "prior": vae.prior().log_prob(z.z).sum(-1),
            "likelihood": vae.decoder(z.z).log_prob(data.x).sum(-1),
        }

    return Model({"z": s.real(LATENT, plate="rows")}, log_joint, parameters=vae.decoder, plates={"rows": ROWS})


def gradients(loss: Tensor, vae: VAE) -> dict[str, Tensor]:
    named = dict(vae.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian-learned"])
@pytest.mark.parametrize("index", [None, [4, 0, 7]], ids=["all rows", "minibatch"])
@pytest.mark.parametrize("samples", [1, 4])
def test_gradient_of_the_black_box_bound_is_that_of_the_vae(
    likelihood: str, index: list[int] | None, samples: int
) -> None:
    """Same nets, same noise: the sum over rows (times N / B) against the VAE's mean over the batch, times N."""
    vae, x = small_vae(likelihood), rows(likelihood)
    chosen = x if index is None else x[index]
    torch.manual_seed(7)
    output = vae(chosen, samples=samples)
    loss = Elbo(samples, kl="monte-carlo")(output)
    wanted = gradients(-ROWS * loss.value, vae)

    q = vae.posterior(chosen)
    noise = ((output.levels[0].z - q.loc) / q.scale).detach()  # what the VAE drew
    target = Target(as_model(vae), {"x": x})
    family = amortised({"z": vae.encoder}, inputs="x")(target.model)
    bound = Bound(target, family, Pathwise(), samples)
    batch = target.batch(None if index is None else torch.tensor(index))
    estimate = bound(batch, noise=noise.reshape(samples, -1))
    found = gradients(estimate.surrogate, vae)
    assert any("encoder" in name for name in wanted)
    assert any("decoder" in name for name in wanted)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-10)
    # its value has the exact entropy where the VAE's has -log q at the draws
    surprise = 0.5 * (noise.square() - 1).sum((1, 2)).mean() * ROWS / len(chosen)
    assert estimate.elbo.item() == pytest.approx(-ROWS * loss.value.item() - surprise.item(), rel=1e-9)


def test_the_bound_as_a_function_of_one_vector_holds_both_nets() -> None:
    vae, x = small_vae("bernoulli"), rows("bernoulli")
    target = Target(as_model(vae), {"x": x})
    bound = Bound(target, amortised({"z": vae.encoder}, "x")(target.model), Pathwise(), 3)
    assert len(bound.flat()) == sum(p.numel() for p in vae.parameters())
    noise = torch.randn(3, ROWS * LATENT, dtype=torch.float64, generator=seeded(3))
    starts = torch.stack([bound.flat(), 1.1 * bound.flat()])
    together = torch.func.vmap(lambda v: bound.value(v, noise))(starts)
    assert together[0].item() == pytest.approx(bound(noise=noise).elbo.item())
    bound.load(starts[1])
    assert together[1].item() == pytest.approx(bound(noise=noise).elbo.item())
    assert together[0].item() != pytest.approx(together[1].item())


class AsNormal(nn.Module):
    """The same encoder, returning a distribution."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Normal:
        loc, log_scale = self.net(x).chunk(2, -1)
        return Normal(loc, (7 * torch.tanh(log_scale / 7)).exp())


@pytest.mark.parametrize("inputs", ["x", lambda batch: batch.x], ids=["name", "function"])
def test_tensor_or_distribution_name_or_function(inputs: str | Callable[..., Tensor]) -> None:
    plain = AmortisedNormal(LOCAL, SIZES, encoder(), inputs)(DATA)
    named = AmortisedNormal(LOCAL, SIZES, AsNormal(encoder()), inputs)(DATA)
    draw = plain.sample(3, seeded())
    torch.testing.assert_close(plain.log_prob(draw), named.log_prob(draw))
    wanted = torch.distributions.Normal(named.loc, named.scale).log_prob(draw.point).sum(-1) - draw.log_jacobian
    torch.testing.assert_close(named.log_prob(draw), wanted)
    torch.testing.assert_close(draw.values["w"], draw.point[..., 2].exp())
    assert AmortisedNormal(LOCAL, SIZES, encoder())(DATA.x).elements == (4,)


def test_new_data_and_minibatches_need_no_parameters_of_their_own() -> None:
    factor = AmortisedNormal(LOCAL, SIZES, encoder())
    x = torch.randn(7, 3, dtype=torch.float64, generator=seeded(8))
    torch.testing.assert_close(factor(x[2:5]).loc, factor(x).loc[2:5])
    assert [name for name, _ in factor.named_parameters()] == [f"encoder.{n}" for n, _ in encoder().named_parameters()]
    before = [p.clone() for p in factor.parameters()]
    factor.place({"v": torch.zeros(4, 2)}, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, factor.parameters(), strict=True))
    assert not factor.fixed_draws


def test_other_latents_have_factors_of_their_own() -> None:
    model = Model(
        {**LOCAL, "mu": s.real(2), "k": s.categorical(3, plate="rows")}, lambda z, data: torch.zeros(()), plates=SIZES
    )
    family = amortised({("v", "w"): encoder()}, inputs="x")(model)
    assert [f.names for f in family.factors] == [("v", "w"), ("mu",), ("k",)]
    assert isinstance(family.factors[1], DiagonalNormal)
    assert family(DATA).sample(2, seeded())["v"].shape == (2, 4, 2)


def test_errors_say_what_the_encoder_is_given_and_should_return() -> None:
    def factor(net: nn.Module, inputs: str | None = "x") -> AmortisedNormal:
        return AmortisedNormal(LOCAL, SIZES, net, inputs)

    wrong = nn.Linear(3, 5).double()
    expected = r"encoder of v, w should return a Normal of shape \(4, 3\) or a tensor of shape \(4, 6\).* got \(4, 5\)"
    with pytest.raises(ValueError, match=expected):
        factor(wrong)(DATA)
    with pytest.raises(ValueError, match=r"got \(4, 2\)"):
        factor(AsNormal(nn.Linear(3, 4).double()))(DATA)
    with pytest.raises(ValueError, match="reads data 'y'; there is: x"):
        factor(encoder(), "y")(DATA)
    with pytest.raises(ValueError, match="reads data 'x'; there is: Tensor"):
        factor(encoder())(DATA.x)
    with pytest.raises(TypeError, match="needs a tensor, and the data are Batch: say which entry it reads"):
        factor(encoder(), None)(DATA)
    with pytest.raises(TypeError, match="the data are missing"):
        factor(encoder(), None)(None)
    with pytest.raises(ValueError, match="not all on one plate"):
        AmortisedNormal({"a": s.real()}, SIZES, encoder())
    model = Model({"a": s.real()}, lambda z, data: torch.zeros(()), plates=SIZES)
    with pytest.raises(ValueError, match=r"encoders are for \['z'\], but the model's latents are \['a'\]"):
        amortised({"z": encoder()})(model)
