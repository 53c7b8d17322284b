"""Every quantiser with every likelihood, conditions, learned priors, and codes that are drawn."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jensen import VQVAE, Elbo
from jensen.autoencoders.code_prior import CodePrior
from jensen.bound import importance_weighted_bound, log_weights
from jensen.config import LIKELIHOODS, AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.nn.quantiser import GumbelQuantiser
from jensen.objectives import Context

NET = NetConfig(width=6, depth=1)
AUTO = AutoregressiveConfig(width=4, depth=1)
CODEBOOK: dict[str, Any] = {"codes": 5, "dim": 4, "initial": "random"}
QUANTISERS = {
    "ema": QuantiserConfig(**CODEBOOK),
    "loss": QuantiserConfig(codebook="loss", **CODEBOOK),
    "cosine": QuantiserConfig(cosine=True, projection=3, **CODEBOOK),
    "residual": QuantiserConfig(kind="residual", books=2, **CODEBOOK),
    "gumbel": QuantiserConfig(kind="gumbel", codes=5, dim=4),
    "finite-scalar": QuantiserConfig(kind="finite-scalar", values=(3, 2), dim=4),
}


def made(shape: tuple[int, ...] = (1, 8, 8), quantiser: str = "ema", **choices: Any) -> VQVAE:
    if choices.get("likelihood") == "autoregressive":
        choices["autoregressive"] = AUTO
    return VQVAE(shape, **{"downsampling": 4, "quantiser": QUANTISERS[quantiser], "net": NET, "levels": 7, **choices})


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.parametrize("likelihood", sorted({*LIKELIHOODS} - {"table", "multinomial"}))
@pytest.mark.parametrize(("shape", "hierarchy"), [((3, 8, 9), 2), ((1, 16), 1)])
def test_every_quantiser_and_likelihood(
    shape: tuple[int, ...], hierarchy: int, likelihood: str, quantiser: str
) -> None:
    model = made(shape, quantiser, likelihood=likelihood, hierarchy=hierarchy)
    x = torch.randint(7, (4, *shape)).float() / 6
    output = model(x, samples=3)
    samples = 3 if model.stochastic else 1
    assert output.log_likelihood().shape == (samples, 4)
    assert [level.z.shape for level in output.levels] == [(samples, 4, *sizes) for sizes in model.code_shapes]
    assert output.rate().shape[1] == 4
    if not model.stochastic:
        torch.testing.assert_close(output.rate(), torch.full((1, 4), model.latent * math.log(model.code_levels)))
    loss = Elbo()(output, Context(0, 4))
    loss.value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert all(bool(value.isfinite()) for value in model.report(output).values())
    model.eval()
    codes = model.encode(x)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, model.encode(x))
    assert 0 <= codes.min() <= codes.max() < model.code_levels
    torch.manual_seed(1)  # an autoregressive likelihood decodes to a draw
    decoded = model.decode(model.encode(x))
    torch.manual_seed(1)
    torch.testing.assert_close(model.reconstruct(x), decoded)
    assert model.sample(2).shape == (2, *shape)


@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_saved_and_loaded(quantiser: str) -> None:
    model = made(quantiser=quantiser, hierarchy=2)
    x = torch.rand(8, 1, 8, 8)
    model(x)  # the codebook learns
    other = made(quantiser=quantiser, hierarchy=2)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    torch.testing.assert_close(other.eval().reconstruct(x), model.eval().reconstruct(x), rtol=0, atol=0)


CONDITIONS = [((1, 8, 8), (3,)), ((1, 8, 8), (2, 8, 8)), ((1, 16), (3,))]


@pytest.mark.parametrize("hierarchy", [1, 2])
@pytest.mark.parametrize("conditioning", ["concat", "embedding", "film"])
@pytest.mark.parametrize(("shape", "condition_shape"), CONDITIONS)
def test_conditions(
    shape: tuple[int, ...], condition_shape: tuple[int, ...], conditioning: str, hierarchy: int
) -> None:
    choices: dict[str, Any] = {"condition_shape": condition_shape, "conditioning": conditioning, "hierarchy": hierarchy}
    model = made(shape, likelihood="gaussian", **choices).eval()
    with torch.no_grad():  # film starts as the identity
        for parameter in model.parameters():
            if not bool(parameter.any()):
                parameter.normal_()
    x, condition = torch.rand(4, *shape), torch.rand(4, *condition_shape)
    output = model(x, condition=condition)
    other = model(x, condition=condition.flip(0))
    assert not torch.allclose(output.likelihood.mean, other.likelihood.mean)
    codes = model.encode(x, condition)
    torch.testing.assert_close(model.decode(codes, condition), output.likelihood.mean[0])
    torch.testing.assert_close(model.reconstruct(x, condition), output.likelihood.mean[0])
    both = model.decode(torch.stack([codes, codes.flip(0)]), condition)  # one condition a column
    torch.testing.assert_close(both[1], model.decode(codes.flip(0), condition))
    assert model.sample(5, condition=condition[0]).shape == (5, *shape)
    walk = model.interpolate(x[0], x[1], 3, condition=condition[0])
    torch.testing.assert_close(walk[0], model.reconstruct(x[:1], condition[:1])[0])
    with pytest.raises(ValueError, match="needs a condition"):
        model.encode(x)


def test_labels_stand_in_for_one_hot_vectors() -> None:
    model = made(condition_shape=(3,), likelihood="gaussian").eval()
    x, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 2, 1, 2])
    told = model(x, condition=labels).likelihood.mean
    torch.testing.assert_close(told, model(x, condition=torch.eye(3)[labels]).likelihood.mean)
    assert model.sample(2, condition=torch.tensor(1)).shape == (2, 1, 8, 8)


def test_symbols_decode_to_symbols() -> None:
    """For letters the mean of 'a' and 'z' means nothing: what is decoded is the most probable one."""
    model = made((1, 16), likelihood="categorical").eval()
    assert model.symbols
    x = torch.randint(7, (4, 1, 16)).float() / 6
    distribution = model(x).likelihood
    logits = torch.stack([distribution.log_prob(torch.full((1, 4, 1, 16), k / 6)) for k in range(7)])
    torch.testing.assert_close(model.reconstruct(x), logits.argmax(0)[0] / 6)
    assert not made((1, 16), likelihood="gaussian").symbols
    assert not made((1, 8, 8), likelihood="categorical").symbols
    grey = made((1, 16), likelihood="categorical", symbols=False).eval()
    torch.testing.assert_close(grey.reconstruct(x), grey(x).likelihood.mean[0])


def fitted(model: VQVAE, condition_shape: tuple[int, ...] | None = None) -> CodePrior:
    prior = CodePrior(model.code_shapes, model.code_levels, AUTO, condition_shape=condition_shape)
    with torch.no_grad():  # as after some training: not uniform
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior.eval()


@pytest.mark.parametrize("hierarchy", [1, 2])
@pytest.mark.parametrize("told", ["none", "prior", "both"])
def test_with_a_learned_prior_the_rate_is_the_length_of_the_code(told: str, hierarchy: int) -> None:
    model = made(hierarchy=hierarchy, likelihood="gaussian", condition_shape=(3,) if told == "both" else None).eval()
    prior = fitted(model, None if told == "none" else (3,))
    model.attach_prior(prior)
    x, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 2, 1, 2])
    condition = None if told == "none" else labels
    nets = labels if told == "both" else None
    codes = model.encode(x, nets)
    output = model(x, condition=condition)
    expected = -prior.log_prob(codes, condition).sum(-1)
    torch.testing.assert_close(output.rate()[0], expected)
    uniform = model.latent * math.log(5)
    assert (output.rate() - uniform).abs().max() > 0.1
    torch.testing.assert_close(model.levels(x, condition)[0][-1].kl(), output.levels[-1].kl())
    if told == "prior":
        with pytest.raises(ValueError, match="needs a condition"):
            model(x)
        torch.testing.assert_close(model.reconstruct(x, labels), model.reconstruct(x))
    model.attach_prior(None)
    torch.testing.assert_close(model(x, condition=nets).rate()[0], torch.full((4,), uniform))


def test_drawn_codes_under_a_learned_prior() -> None:
    """No closed form: the rate is log q - log p of the draws."""
    model = made(quantiser="gumbel", hierarchy=2, likelihood="gaussian").eval()
    prior = fitted(model)
    model.attach_prior(prior)
    output = model(torch.rand(2, 1, 8, 8), samples=3)
    codes = model.flat([level.z for level in output.levels])
    log_q = sum(level.log_q().flatten(2).sum(2) for level in output.levels)
    torch.testing.assert_close(output.rate(), log_q - prior.log_prob(codes).sum(-1))


@pytest.mark.parametrize("told", ["none", "prior", "both"])
def test_samples_from_a_learned_prior(told: str) -> None:
    """Decoded draws of codes, and with top_k 1 the most probable codes one after the other."""
    model = made(likelihood="gaussian", condition_shape=(3,) if told == "both" else None).eval()
    prior = fitted(model, None if told == "none" else (3,))
    model.attach_prior(prior)
    condition = None if told == "none" else torch.tensor(1)
    nets = condition if told == "both" else None
    torch.manual_seed(3)
    seen: list[tuple[int, int]] = []
    drawn = model.sample(6, 0.7, condition, top_k=4, top_p=0.9, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6 * model.latent,) * 2
    torch.manual_seed(3)
    codes = prior.sample_codes(6, 0.7, condition, top_k=4, top_p=0.9)
    torch.testing.assert_close(drawn, model.decode(codes, nets))
    greedy = model.sample(3, condition=condition, top_k=1)
    torch.testing.assert_close(greedy, greedy[:1].expand_as(greedy))


def test_priors_of_other_codes_are_refused() -> None:
    model = made(condition_shape=(3,))
    with pytest.raises(ValueError, match=r"this prior is of codes .* the model has"):
        model.attach_prior(CodePrior(((1, 3, 2),), 5, AUTO))
    with pytest.raises(ValueError, match="on 6 levels, the model has"):
        model.attach_prior(CodePrior(model.code_shapes, 6, AUTO))
    with pytest.raises(ValueError, match=r"this prior is told \(4,\), but the model \(3,\)"):
        model.attach_prior(CodePrior(model.code_shapes, 5, AUTO, condition_shape=(4,)))
    assert model.code_prior is None


class Constant(nn.Module):
    """One code a datum of 2 x 2 pixels: its features are the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[..., None, None]


class Pixels(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.reshape(-1, 1, 2, 2)


def one_code(levels: int = 3) -> VQVAE:
    quantiser = GumbelQuantiser(levels, 4)
    return VQVAE(
        (1, 2, 2), downsampling=2, quantiser=quantiser, encoder=Constant(), decoder=Pixels(), likelihood="gaussian"
    )


def test_drawn_codes_have_the_bound_that_enumeration_gives() -> None:
    """One code of 3: E_q[log p(x | z)], KL and log p(x) are sums over its values."""
    model = one_code()
    x = torch.rand(2, 1, 2, 2)
    output = model(x, samples=20_000)
    (level,) = output.levels
    assert level.z.shape == (20_000, 2, 1, 1, 1)
    with torch.no_grad():
        y = model.quantiser.embed((torch.arange(3).view(3, 1, 1, 1),)).view(3, 1, 4)
        log_p = -2 * math.log(2 * math.pi) - (x.view(2, 4) - y).square().sum(-1) / 2  # (3, 2)
        log_q = model.quantiser.quantisers[0](model.encoder(x)).log_q.view(2, 3).T
        share = torch.stack([(level.z == k).float().mean(0).flatten() for k in range(3)])
        assert ((share - log_q.exp()).abs() < 5 * 0.5 / math.sqrt(20_000)).all()
        torch.testing.assert_close(log_q.exp().sum(0), torch.ones(2))
        expected = (log_q.exp() * log_p).sum(0)
        spread = ((log_q.exp() * log_p.square()).sum(0) - expected.square()).sqrt()
        found = output.log_likelihood().mean(0)
        assert ((found - expected).abs() < 5 * spread / math.sqrt(20_000)).all()
        kl = (log_q.exp() * (log_q + math.log(3))).sum(0)
        torch.testing.assert_close(output.rate()[0], kl)
        assert ((output.rate(analytic=False).mean(0) - kl).abs() < 0.02).all()
        evidence = torch.logsumexp(log_p - math.log(3), 0)
        bound = importance_weighted_bound(log_weights(output))
        assert ((bound - evidence).abs() < 0.02).all()
        assert (expected - kl < evidence).all()


def test_drawn_codes_are_encoded_by_the_most_probable_one() -> None:
    model = made(quantiser="gumbel", hierarchy=2).eval()
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(model.encode(x), model.encode(x))
    top, bottom = model.codes(x)
    features = model.encoder(x)
    log_q = model.quantiser.quantisers[0](model.quantiser.top_encoder(features)).log_q  # type: ignore[misc]
    assert torch.equal(top, log_q.argmax(-1))
    told = model.quantiser.top_decoder(model.quantiser.quantisers[0].embed(top))  # type: ignore[operator]
    below = model.quantiser.quantisers[1](model.quantiser.bottom(torch.cat([features, told], 1))).log_q
    assert torch.equal(bottom, below.argmax(-1))
