"""Evaluation of models whose codes are integers, and of densities that have none, against numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from integer_codes import MARKOV, K, OwnCodes, Rows
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from jensen.autoencoders import VAE, AutoEncoder, SemiSupervisedVAE
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.density import AutoregressiveModel
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.likelihoods import make_autoregressive_likelihood
from jensen.metrics import evaluate, evaluation, importance, importance_weighted_log_likelihood, information
from jensen.metrics.classification import class_log_likelihood, classify
from jensen.metrics.disentanglement import encode_pool

SMALL = AutoregressiveConfig(width=8, depth=2)


def vqvae(likelihood: str = "bernoulli", levels: int = 2, **quantiser: Any) -> VQVAE:
    chosen = {"kind": "vector", "codes": 16, "dim": 8, "initial": "random"} | quantiser
    return VQVAE(
        (1, 8, 8),
        quantiser=QuantiserConfig(**chosen),
        net=NetConfig(kind="conv", width=8, depth=1),
        likelihood=likelihood,
        levels=levels,
    ).eval()


def test_terms_of_a_model_that_draws_nothing_by_hand() -> None:
    model = OwnCodes(off=0.5)
    found = evaluate(model, Rows(torch.randint(K, (1203, 8)).float()), samples=5000)
    assert sum(model.calls) == 1203  # every datum was decoded once, whatever `samples`
    distortion = 8 * (0.125 + 0.5 * math.log(2 * math.pi))
    assert found.distortion == pytest.approx(distortion, rel=1e-6)
    assert found.rate == pytest.approx(8 * math.log(K), rel=1e-6)
    assert found.elbo == pytest.approx(-distortion - 8 * math.log(K), rel=1e-6)
    assert found.log_likelihood == found.elbo
    assert found.log_likelihood_error == found.elbo_error == pytest.approx(0, abs=1e-6)
    assert (found.samples, found.deterministic, found.exact, found.code_prior) == (1, True, False, "uniform")
    assert (found.active_units, found.kl_per_dimension, found.latent, found.discrete_rate) == (None, [], 8, None)
    assert (found.reconstruction_error, found.psnr) == (None, None)  # no auto-encoder
    assert found.warnings == []


def test_the_learned_prior_is_the_rate() -> None:
    x = torch.randint(K, (300, 8))
    found = evaluate(OwnCodes(learned=True), Rows(x.float()))
    rate = torch.full((300,), 3 * math.log(K))  # three chains that start uniformly
    for first, last in ((0, 2), (2, 5), (5, 8)):
        for i in range(first, last - 1):
            rate = rate - MARKOV[x[:, i], x[:, i + 1]].log()
    assert found.rate == pytest.approx(rate.mean().item(), rel=1e-5)
    assert found.log_likelihood == pytest.approx(-(found.distortion or 0) - rate.mean().item(), rel=1e-5)
    assert found.elbo_error == pytest.approx((rate.std() / math.sqrt(300)).item(), rel=1e-4)
    assert found.code_prior == "learned"


def test_a_vqvae_by_hand() -> None:
    model = vqvae()
    x = torch.rand(60, 1, 8, 8).round()
    found = evaluate(model, Rows(x, levels=2), samples=100)
    with torch.no_grad():
        y = model.decode(model.encode(x))
    log_likelihood = -F.binary_cross_entropy(y, x, reduction="none").flatten(1).sum(1)
    rate = 4 * math.log(16)
    assert found.distortion == pytest.approx(-log_likelihood.mean().item(), rel=1e-5)
    assert found.rate == pytest.approx(rate, rel=1e-6)
    assert found.elbo == found.log_likelihood == pytest.approx(log_likelihood.mean().item() - rate, rel=1e-5)
    assert found.elbo_error == pytest.approx((log_likelihood.std() / math.sqrt(60)).item(), rel=1e-4)
    assert found.bits_per_dim == pytest.approx((rate - log_likelihood.mean().item()) / 64 / math.log(2), rel=1e-5)
    assert found.reconstruction_error == pytest.approx((y - x).square().mean().item(), rel=1e-5)
    assert (found.latent, found.accuracy, found.notes, found.warnings) == (4, None, [], [])
    rows = {name: meaning for name, _, meaning in found.table()}
    assert set(rows) == {
        *("ELBO", "log-likelihood", "bits per dimension", "rate", "distortion", "reconstruction error")
    }
    assert "without noise" in rows["ELBO"]
    assert "the ELBO: each x has one code" in rows["log-likelihood"]
    assert rows["bits per dimension"].startswith("of the ELBO")
    assert "uniform prior" in rows["rate"]


def test_codes_that_are_drawn_are_importance_weighted() -> None:
    """Gumbel: q(z | x) is categorical over K^4 codes, and log p(x) a sum over all of them."""
    model = vqvae(kind="gumbel", codes=3, initial=None)
    x = torch.rand(20, 1, 8, 8).round()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    with torch.no_grad():
        y = model.decode(every)[:, None]
        pairs = -F.binary_cross_entropy(y.expand(81, 20, 1, 8, 8), x.expand(81, 20, 1, 8, 8), reduction="none")
        exact = (pairs.flatten(2).sum(2).logsumexp(0) - 4 * math.log(3)).mean().item()
        posterior = model(x).levels[0].posterior
    found = evaluate(model, Rows(x, levels=2), samples=400)
    assert (found.samples, found.deterministic, found.code_prior) == (400, False, "uniform")
    assert found.log_likelihood == pytest.approx(exact, abs=0.02)
    assert found.elbo is not None
    assert found.elbo < exact
    uniform = Categorical(logits=torch.zeros(3))
    kl = kl_divergence(posterior, uniform.expand(posterior.batch_shape)).flatten(2).sum(2).mean().item()
    assert found.rate == pytest.approx(kl, rel=1e-4)
    assert (found.active_units, found.kl_per_dimension) == (None, [])


def test_drawn_codes_collapse_in_their_own_words() -> None:
    """Where q(z | x) is the prior whatever x, the codes carry nothing; under it they cost log K if they are certain."""
    same = Rows(torch.full((50, 8), 1.0))
    assert evaluate(OwnCodes(), same).warnings == []  # uniform: N log K whatever the codes
    model = vqvae(kind="gumbel", codes=3, initial=None)
    with torch.no_grad():
        for name, parameter in model.quantiser.named_parameters():
            if "logits" in name:
                parameter.zero_()
    found = evaluate(model, Rows(torch.rand(30, 1, 8, 8).round(), levels=2), samples=3)
    assert found.rate == pytest.approx(0, abs=1e-5)
    (warning,) = found.warnings
    assert warning.startswith("The codes have collapsed: they carry 0.00 nats, so they are drawn alike whatever x is")
    assert "kl_weight" in warning
    assert not any(word in warning for word in ("have the same", "k-means", "revival", "commitment", "values"))


@pytest.mark.parametrize(
    ("kind", "choices", "said", "unsaid"),
    [
        ("vector", {"revival": 0.0}, ("revival", "k-means", "commitment"), ("values", "kl_weight")),
        ("residual", {"books": 2, "revival": 0.0}, ("revival", "k-means", "commitment"), ("values", "kl_weight")),
        ("finite-scalar", {"codes": None, "values": (3, 4), "initial": None}, ("values",), ("revival", "k-means")),
    ],
)
def test_codes_that_are_all_the_same_collapse_in_words_of_their_quantiser(
    kind: str, choices: dict[str, Any], said: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    """A learned prior that is sure of the one code of all data makes it free."""
    model = vqvae(kind=kind, **choices)
    x = torch.rand(1, 1, 8, 8).round().expand(20, 1, 8, 8).contiguous()
    prior = CodePrior(model.code_shapes, model.code_levels, SMALL)
    model.attach_prior(prior)
    optimiser = torch.optim.Adam(prior.parameters(), 0.03)
    codes = model.encode(x[:1])
    for _ in range(60):
        optimiser.zero_grad()
        prior.log_prob(codes).sum().neg().backward()
        optimiser.step()
    found = evaluate(model, Rows(x, levels=2))
    assert found.code_prior == "learned"
    assert found.rate is not None
    assert found.rate < 0.1
    (warning,) = found.warnings
    assert "so nearly all data have the same" in warning
    assert all(word in warning for word in said)
    assert not any(word in warning for word in unsaid)


def test_a_prior_that_is_told_the_class_makes_it_a_bound_of_the_conditional() -> None:
    """Of p(x | c), though encoder and decoder are told nothing."""
    model = OwnCodes()
    label = torch.arange(30) % 3
    data = Rows(label[:, None].float().expand(30, 8).contiguous(), label, F.one_hot(label, 3).float())
    plain = evaluate(model, data)
    assert (plain.conditional, plain.notes) == (False, [])
    assert "lower bound of log p(x)," in dict(row[::2] for row in plain.table())["ELBO"]
    model.code_prior = Told((3,))  # type: ignore[assignment]
    told = evaluate(model, data)
    assert told.conditional
    (note,) = told.notes
    assert note.startswith("The prior over the codes is told the condition c")
    assert f"up to ln 3 = {math.log(3):.2f} nats" in note
    assert "lower bound of log p(x|c)," in dict(row[::2] for row in told.table())["ELBO"]
    model.code_prior = Told(None)  # type: ignore[assignment]
    assert evaluate(model, data).notes == []


class Told:
    """A prior over codes that is told something, or nothing."""

    def __init__(self, condition_shape: tuple[int, ...] | None) -> None:
        self.condition_shape = condition_shape


def test_whatever_is_told_something_says_so() -> None:
    label = torch.arange(12) % 3
    told = F.one_hot(label, 3).float()
    x = torch.rand(12, 1, 8, 8).round()
    model = vqvae_told((3,))
    (note,) = evaluate(model, Rows(x, label, told, levels=2)).notes
    assert note.startswith("The model is told the condition c of each datum")
    assert "up to ln 3 = 1.10 nats" in note
    image = vqvae_told((1, 8, 8))
    found = evaluate(image, Rows(x, condition=x, levels=2))
    assert found.notes == [note.split(" (where")[0] + "."]  # an image is no class
    density, pixels, _ = conditional_density()
    rows = Rows(pixels[:12], label, told, levels=2)
    found = evaluate(density, rows)
    assert found.notes == [note]
    assert found.table()[0][2].startswith("nats, log p(x|c) itself, exact")
    some = SemiSupervisedVAE((1, 8, 8), 2, condition_shape=(3,), net=NetConfig(kind="mlp", width=8), levels=2)
    found = evaluate(some, Rows(x, label, told, levels=2), samples=2)
    assert (found.conditional, len(found.notes)) == (False, 1)
    assert "log p(x, y), and else of log p(x)" in found.notes[0]
    plain = AutoEncoder((1, 8, 8), 2, condition_shape=(3,), net=NetConfig(kind="mlp", width=8), levels=2)
    assert evaluate(plain, Rows(x, label, told, levels=2)).notes == []  # it has no bound


def vqvae_told(condition_shape: tuple[int, ...]) -> VQVAE:
    return VQVAE(
        (1, 8, 8),
        quantiser=QuantiserConfig(codes=16, dim=8, initial="random"),
        net=NetConfig(kind="conv", width=8, depth=1),
        levels=2,
        condition_shape=condition_shape,
    ).eval()


def test_right_values_of_a_categorical_likelihood() -> None:
    model = vqvae("categorical", levels=5)
    x = torch.randint(5, (40, 1, 8, 8)).float() / 4
    found = evaluate(model, Rows(x, levels=5))
    with torch.no_grad():
        output = model(x)
    logits = output.likelihood.logits[0].movedim(-4, -1)  # (batch, 1, 8, 8, 5)
    index = (x * 4).round().long()
    assert found.accuracy == pytest.approx((logits.argmax(-1) == index).float().mean().item())
    nats = F.cross_entropy(logits.reshape(-1, 5), index.flatten()).item() * 64
    assert found.distortion == pytest.approx(nats, rel=1e-5)
    assert found.reconstruction_error is not None
    assert any("magnitudes" in note for note in found.notes)
    assert "values right" in {row[0] for row in found.table()}


def test_symbols_have_no_reconstruction_error() -> None:
    model = VQVAE(
        (1, 16),
        quantiser=QuantiserConfig(codes=8, dim=8, initial="random"),
        net=NetConfig(kind="conv", width=8, depth=1),
        likelihood="categorical",
        levels=6,
    ).eval()
    x = torch.randint(6, (30, 1, 16)).float() / 5
    found = evaluate(model, Rows(x, levels=6))
    assert (found.reconstruction_error, found.psnr, found.notes) == (None, None, [])
    with torch.no_grad():
        right = ((model.reconstruct(x) - x).abs() < 1e-3).float().mean().item()
    assert found.accuracy == pytest.approx(right)


def test_a_density_is_its_own_likelihood() -> None:
    model = AutoregressiveModel((1, 3, 4), levels=3, net=SMALL)
    x = torch.randint(3, (50, 1, 3, 4)).float() / 2
    found = evaluate(model, Rows(x, levels=3), samples=1000)
    with torch.no_grad():
        exact = model.eval().log_prob(x)
    assert found.log_likelihood == pytest.approx(exact.mean().item(), rel=1e-6)
    assert found.log_likelihood_error == pytest.approx((exact.std() / math.sqrt(50)).item(), rel=1e-5)
    assert found.bits_per_dim == pytest.approx(-exact.mean().item() / 12 / math.log(2), rel=1e-6)
    nothing = (found.elbo, found.elbo_error, found.rate, found.distortion, found.reconstruction_error, found.psnr)
    assert nothing == (None,) * 6
    assert (found.active_units, found.kl_per_dimension, found.latent, found.code_prior) == (None, [], 0, None)
    assert (found.samples, found.exact, found.deterministic, found.warnings) == (1, True, False, [])
    rows = {name: meaning for name, _, meaning in found.table()}
    assert list(rows) == ["log-likelihood", "bits per dimension"]
    assert "exact" in rows["log-likelihood"]
    found_alone = importance_weighted_log_likelihood(model, x, samples=7)
    torch.testing.assert_close(found_alone, exact.double(), rtol=1e-6, atol=1e-6)


def pixel_vae(levels: int = 3) -> VAE:
    likelihood = make_autoregressive_likelihood((1, 3, 4), levels, SMALL, channels=2)
    return VAE((1, 3, 4), 2, likelihood=likelihood, net=NetConfig(kind="mlp", width=8)).eval()


def test_a_reconstruction_that_has_to_be_drawn_is_one_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "DRAWN", 3)
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 12)  # four data at a time
    model = pixel_vae()
    shapes: list[int] = []
    whole = model.reconstruct

    def counted(x: Tensor, condition: Tensor | None = None) -> Tensor:
        shapes.append(len(x))
        return whole(x, condition)

    monkeypatch.setattr(model, "reconstruct", counted)
    x = torch.randint(3, (22, 1, 3, 4)).float() / 2
    found = evaluate(model, Rows(x, levels=3), samples=3)
    assert shapes == [3]  # of the first batch, no more
    assert found.reconstruction_error is not None
    assert 0 < found.reconstruction_error < 1
    assert "first 3 examples" in found.notes[0]
    assert found.dims == 12
    assert found.elbo is not None
    assert found.bits_per_dim is not None


def test_memory_grows_with_the_parameters_of_a_value() -> None:
    plain, many = vqvae(), vqvae("categorical", levels=256)
    assert importance.numbers_a_datum(plain) == 64
    assert importance.numbers_a_datum(many) == 64 * 8
    assert importance.numbers_a_datum(vqvae(codes=4096)) == 4 * 4096 // 32


def conditional_density() -> tuple[AutoregressiveModel, Tensor, Tensor]:
    model = AutoregressiveModel((1, 2, 3), levels=2, net=SMALL, condition_shape=(3,)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    label = torch.arange(60) % 3
    with torch.no_grad():
        x = model.sample(60, condition=F.one_hot(label, 3).float())
    return model, x, label


def test_a_class_conditional_density_classifies_exactly() -> None:
    model, x, label = conditional_density()
    with torch.no_grad():
        exact = torch.stack([model.log_prob(x, F.one_hot(torch.full((60,), y), 3).float()) for y in range(3)], 1)
    torch.testing.assert_close(class_log_likelihood(model, x, 50), exact.double(), rtol=1e-5, atol=1e-5)
    data = Rows(x, label, F.one_hot(label, 3).float(), levels=2)
    found = classify(model, data, examples=None, samples=50)
    assert (found.samples, found.exact, found.deterministic) == (1, True, False)
    assert found.accuracy == pytest.approx((exact.argmax(1) == label).float().mean().item())
    assert found.log_likelihood == pytest.approx(exact.gather(1, label[:, None]).mean().item(), rel=1e-5)
    assert found.marginal == pytest.approx((exact.logsumexp(1) - math.log(3)).mean().item(), rel=1e-5)
    assert "exact" in {name: meaning for name, _, meaning in found.table()}["class log-likelihood"]


def test_a_class_conditional_vqvae_classifies_by_its_bound() -> None:
    model = vqvae_told((3,))
    x, label = torch.rand(12, 1, 8, 8).round(), torch.arange(12) % 3
    found = classify(model, Rows(x, label, F.one_hot(label, 3).float(), levels=2), samples=9)
    assert (found.samples, found.exact, found.deterministic) == (1, False, True)
    own = evaluate(model, Rows(x, label, F.one_hot(label, 3).float(), levels=2))
    assert found.log_likelihood == pytest.approx(own.elbo, rel=1e-5)


def test_what_is_about_other_latents_is_refused_in_words() -> None:
    x = torch.rand(20, 1, 8, 8).round()
    split = Rows(x, factors=torch.arange(20)[:, None], levels=2)
    with pytest.raises(ValueError, match=r"codes of this model are integers.*code_usage"):
        information(vqvae(), split, codes=10)
    with pytest.raises(ValueError, match="integers that name embeddings"):
        encode_pool(vqvae(), split)
    density = AutoregressiveModel((1, 8, 8), levels=2, net=SMALL)
    for measure in (lambda: information(density, split, codes=10), lambda: encode_pool(density, split)):
        with pytest.raises(ValueError, match="this model has none"):
            measure()
