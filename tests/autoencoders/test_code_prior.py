"""A prior over codes: a normalised distribution, drawn from as it is, and the rate of the model that it belongs to."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.errors import ConfigError
from jensen.objectives import Elbo

SMALL = AutoregressiveConfig(width=8, depth=2)
NETS = {
    "pixelcnn": SMALL,
    "transformer": AutoregressiveConfig(kind="transformer", width=8, depth=2, heads=2),
}
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "one level": ((1, 2, 1),),
    "two levels": ((1, 1, 1), (1, 2, 1)),
    "two books": ((2, 1, 1), (2, 1, 1)),
    "a signal": ((1, 1), (1, 3)),
    "three levels": ((1, 1), (1, 1), (1, 2)),
}
K = 3


def made(shapes: tuple[tuple[int, ...], ...], net: AutoregressiveConfig = SMALL, **choices: Any) -> CodePrior:
    """A prior that depends on everything it can, as it would after training."""
    prior = CodePrior(shapes, K, net, **choices).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return prior


def every(latent: int) -> Tensor:
    """All codes, (K^latent, latent)."""
    return torch.tensor(list(product(range(K), repeat=latent)))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_probabilities_sum_to_one_under_every_condition(shapes: str, net: str) -> None:
    prior = made(SHAPES[shapes], NETS[net], condition_shape=(2,))
    codes = every(*prior.shape)
    for label in (0, 1):
        total = prior.log_prob(codes, torch.full((len(codes),), label)).sum(1).logsumexp(0).detach()
        assert float(total) == pytest.approx(0.0, abs=1e-10)
    plain = made(SHAPES[shapes], NETS[net])
    assert float(plain.log_prob(codes).sum(1).logsumexp(0).detach()) == pytest.approx(0.0, abs=1e-10)


def test_what_depends_on_what() -> None:
    prior = made(SHAPES["two levels"], condition_shape=(2,))
    codes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    factors = prior.log_prob(codes, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert torch.equal(factors[0, :2], factors[1, :2])  # what comes first does not know what comes after
    assert torch.equal(factors[0, 0], factors[2, 0])
    assert not torch.isclose(factors[0, 2], factors[2, 2])  # the code before, of the same level
    assert not torch.isclose(factors[0, 1], factors[3, 1])  # the level above
    other = prior.log_prob(codes, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert not torch.isclose(factors, other).any()
    labels = prior.log_prob(codes, torch.tensor([0, 0, 0, 0]))
    assert torch.equal(labels, factors)


def test_a_level_knows_every_book_of_the_one_above() -> None:
    prior = made(((3, 2, 2), (3, 4, 4)))
    codes = torch.randint(K, (1, *prior.shape))
    before = prior.log_prob(codes)[0, 12:]
    for book in range(3):
        top, bottom = prior.grids(codes)
        top = top.clone()
        top[:, book] = (top[:, book] + 1) % K
        after = prior.log_prob(prior.flat((top, bottom)))[0, 12:]
        assert not torch.isclose(after, before).any(), book


def test_flat_codes_are_levels_top_first() -> None:
    prior = CodePrior(((2, 1, 2), (1, 2, 3)), 16, SMALL)
    codes = torch.arange(10).expand(4, 5, 10)
    top, bottom = prior.grids(codes)
    assert top[0, 0].tolist() == [[[0, 1]], [[2, 3]]]
    assert bottom[3, 4].tolist() == [[[4, 5, 6], [7, 8, 9]]]
    assert torch.equal(prior.flat((top, bottom)), codes)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shapes", ["two levels", "two books"])
def test_draws_are_as_frequent_as_probable(shapes: str, net: str) -> None:
    prior = made(SHAPES[shapes], NETS[net], condition_shape=(2,))
    n = 8000
    labels = torch.arange(2).repeat_interleave(n)
    drawn = prior.sample_codes(2 * n, condition=labels)
    codes = every(*prior.shape)
    place = (drawn * K ** torch.arange(drawn.shape[1]).flip(0)).sum(1)
    for label in (0, 1):
        expected = prior.log_prob(codes, torch.full((len(codes),), label)).sum(1).exp()
        counts = torch.bincount(place[labels == label], minlength=len(codes)).double()
        kept = expected * n > 5
        squares = ((counts - n * expected) ** 2 / (n * expected))[kept].sum().detach()
        freedom = int(kept.sum()) - 1
        assert float(squares) < freedom + 5 * math.sqrt(2 * freedom)  # chi-squared, five standard deviations


def test_temperature_and_top_k_hold_for_each_code() -> None:
    prior = made(SHAPES["two levels"])
    seen: list[tuple[int, int]] = []
    drawn = prior.sample_codes(4000, 0.5, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12_000, 12_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    top = prior.log_prob(torch.tensor([[k, 0, 0] for k in range(K)]))[:, 0]
    shares = torch.bincount(drawn[:, 0], minlength=K) / 4000
    torch.testing.assert_close(shares.double(), (2 * top).softmax(0), atol=0.03, rtol=0)
    prior.requires_grad_(False)
    likeliest = prior.sample_codes(20, top_k=1)
    assert len(likeliest.unique(dim=0)) == 1
    factors = prior.log_prob(likeliest[:1])[0]
    for i in range(3):  # no other value of a code is more probable, given those before
        others = likeliest[:1].repeat(K, 1)
        others[:, i] = torch.arange(K)
        assert float(prior.log_prob(others)[:, i].max()) == pytest.approx(float(factors[i]), abs=1e-12)
    assert torch.equal(prior.sample_codes(5, top_p=1e-9), likeliest[:5])
    with pytest.raises(ValueError, match="temperature"):
        prior.sample_codes(1, 0.0)


def test_learns_a_known_distribution_for_each_class() -> None:
    """KL(truth || prior) by enumeration: so near zero only if the code length nears the entropy."""
    chances = torch.distributions.Dirichlet(torch.full((2, 27), 0.3)).sample()
    codes = every(3)
    prior = CodePrior(SHAPES["two levels"], K, AutoregressiveConfig(width=16, depth=2), condition_shape=(2,))
    optimiser = torch.optim.Adam(prior.parameters(), 0.01)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    for _ in range(200):
        labels = torch.arange(2).repeat_interleave(128)
        drawn = codes[torch.multinomial(chances, 128, replacement=True).flatten()]
        loss = Elbo()(prior(drawn.float() / (K - 1), condition=labels))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
        rate.step()
    for label in (0, 1):
        found = prior.log_prob(codes, torch.full((27,), label)).sum(1).detach()
        entropy = float(torch.special.entr(chances[label]).sum())
        length = float(-(chances[label] * found).sum())
        uniform = 3 * math.log(K)
        assert entropy < length < entropy + 0.03 < 0.8 * uniform


def small_vqvae(**choices: Any) -> VQVAE:
    return VQVAE(
        (1, 8, 8),
        quantiser=QuantiserConfig(codes=5, dim=4, initial="random"),
        net=NetConfig(kind="conv", width=4, depth=1),
        **choices,
    ).eval()


def test_elbo_with_a_prior_is_log_likelihood_minus_length_of_the_code() -> None:
    model = small_vqvae(hierarchy=2, downsampling=2)
    prior = CodePrior(model.code_shapes, model.code_levels, SMALL, condition_shape=(3,)).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, labels = torch.rand(6, 1, 8, 8).round(), torch.arange(6) % 3
    uniform = Elbo()(model(x)).terms
    assert float(uniform["rate"]) == pytest.approx(model.latent * math.log(5), rel=1e-6)
    codes = model.encode(x)
    top, bottom = model.grids(codes)
    # By the networks themselves, level by level.
    label = torch.eye(3)[labels][:, :, None, None]
    first = prior.nets[0](top, label).log_softmax(-1).gather(-1, top[..., None])
    above = torch.cat([label.expand(-1, -1, *bottom.shape[2:]), prior.above[0](top)], 1)
    second = prior.nets[1](bottom, above).log_softmax(-1).gather(-1, bottom[..., None])
    length = -float((first.sum() + second.sum()).detach() / 6)
    model.attach_prior(prior)
    terms = Elbo()(model(x, condition=labels)).terms
    assert float(terms["rate"]) == pytest.approx(length, rel=1e-5)
    assert float(terms["distortion"]) == pytest.approx(float(uniform["distortion"]), rel=1e-6)
    assert float(terms["elbo"]) == pytest.approx(-float(uniform["distortion"]) - length, rel=1e-5)
    # As a model of its own, the prior says the same, in nats and in bits.
    output = prior(codes.float() / 4, condition=labels)
    loss = Elbo()(output)
    assert float(loss.score) == pytest.approx(-length, rel=1e-5)
    bits = prior.report(output)["bits_per_code"]
    assert float(bits) == pytest.approx(length / math.log(2) / model.latent, rel=1e-5)


def test_an_untrained_prior_costs_about_as_much_as_a_uniform_one() -> None:
    prior = CodePrior(((1, 4, 4),), 64, SMALL)
    codes = torch.randint(64, (50, 16))
    bits = prior.report(prior(codes.float() / 63))["bits_per_code"]
    assert float(bits) == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize("shapes", [((1, 4, 4), (1, 7, 7)), ((2, 2, 3), (3, 5, 6)), ((1, 3), (1, 7))])
def test_grids_of_any_sizes_and_gradients_to_all(shapes: tuple[tuple[int, ...], ...]) -> None:
    prior = CodePrior(shapes, 4, SMALL, condition_shape=(2,))
    with torch.no_grad():
        for parameter in prior.parameters():  # what starts at zero keeps gradients from what is before it
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randint(4, (3, *prior.shape)).float() / 3
    Elbo()(prior(x, condition=torch.tensor([0, 1, 1]))).value.backward()
    idle = [name for name, part in prior.named_parameters() if part.grad is None or not part.grad.any()]
    assert idle == []
    assert prior.sample(2, condition=torch.tensor([0, 1])).shape == (2, *prior.shape)


@pytest.mark.parametrize("size", [(8, 8), (3, 3), (16, 9)])
def test_told_an_image(size: tuple[int, int]) -> None:
    prior = CodePrior(((1, 2, 2), (1, 3, 3)), K, SMALL, condition_shape=(2, *size))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    codes, image = torch.randint(K, (1, 13)), torch.rand(1, 2, *size)
    other = image.clone()
    other[..., -1, -1] += 1.0
    assert not torch.equal(prior.log_prob(codes, image), prior.log_prob(codes, other))
    with pytest.raises(ValueError, match="one dimension"):
        CodePrior(((1, 4),), K, SMALL, condition_shape=(2, *size))


def test_one_condition_for_all_and_leading_dimensions() -> None:
    prior = made(SHAPES["two levels"], condition_shape=(2,))
    codes = torch.randint(K, (4, 5, 3))
    told = torch.randn(5, 2, dtype=torch.float64)
    factors = prior.log_prob(codes, told)
    assert factors.shape == (4, 5, 3)
    for i in range(4):
        torch.testing.assert_close(factors[i], prior.log_prob(codes[i], told))
    torch.testing.assert_close(prior.log_prob(codes, told[0])[2, 3], prior.log_prob(codes[2, 3:4], told[:1])[0])
    with pytest.raises(ValueError, match="condition"):
        prior.log_prob(codes)
    with pytest.raises(ValueError, match="condition"):
        prior.sample_codes(3, condition=told)


def test_likelihood_of_an_output() -> None:
    prior = made(SHAPES["two levels"])
    codes = torch.randint(K, (4, 3))
    x = codes.double() / (K - 1)
    output = prior(x)
    factors = prior.log_prob(codes)
    found = output.likelihood.log_prob(output.target)
    assert found.shape == (1, 4, 3)
    torch.testing.assert_close(found[0], factors)
    assert output.likelihood.log_prob(output.target) is found  # not computed twice in a step
    with torch.no_grad():
        assert not output.likelihood.log_prob(output.target).requires_grad
    other = output.likelihood.log_prob(x.roll(1, 0)[None])
    torch.testing.assert_close(other[0], factors.roll(1, 0))
    with pytest.raises(ValueError, match="takes no mask"):
        prior(x, mask=torch.tensor([[1.0, 0.0, 1.0]]))
    assert output.likelihood.sample((5,)).shape == (5, 1, 4, 3)
    with pytest.raises(ValueError, match="k / 2"):
        prior(x + 0.2).log_likelihood()


def test_draws_of_an_output_are_of_each_datum_under_its_own_condition() -> None:
    prior = made(SHAPES["two levels"], condition_shape=(2,))
    told = torch.tensor([[4.0, -4.0], [-4.0, 4.0]], dtype=torch.float64)
    draws = prior(torch.zeros(2, 3, dtype=torch.float64), condition=told).likelihood.sample((4000,))
    assert draws.shape == (4000, 1, 2, 3)
    codes = torch.tensor([[k, 0, 0] for k in range(K)])
    expected = torch.stack([prior.log_prob(codes, row)[:, 0].exp() for row in told]).detach()
    assert expected.diff(dim=0).abs().max() > 0.15  # or it would not be seen whose draws are whose
    shares = torch.stack([(draws[:, 0, :, 0] * (K - 1) == k).double().mean(0) for k in range(K)], 1)
    torch.testing.assert_close(shares, expected, atol=5 * 0.5 / math.sqrt(4000), rtol=0)


def test_is_about_codes_of_so_many_values() -> None:
    prior = CodePrior(((1, 2, 2),), 12, SMALL)
    assert (prior.likelihood.levels, prior.shape, prior.latent) == (12, (4,), 0)
    prior.likelihood.check_data(12, "none")
    with pytest.raises(ConfigError, match="12 values"):
        prior.likelihood.check_data(13, "none")
    with pytest.raises(ValueError, match="at least one level"):
        CodePrior((), 12, SMALL)
    with pytest.raises(ValueError, match="x should have shape"):
        prior(torch.zeros(2, 5))
