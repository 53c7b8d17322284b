"""Encoding a data set: posterior means, factors and KLs, with what the model is told beside x."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, kl_divergence

from jensen.autoencoders import VAE, AutoEncoder
from jensen.bound import Level, Output
from jensen.data import Batch, load_data
from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement


@dataclass
class Rows:
    """Data with factors from tensors."""

    x: Tensor
    factors: Tensor | None
    condition: Tensor | None = None
    mask: Tensor | None = None
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        self.asked += index.tolist()
        condition = None if self.condition is None else self.condition[index]
        factors = None if self.factors is None else self.factors[index]
        return Batch(self.x[index], self.x[index], None, index, factors, condition, self.mask)


def test_codes_are_posterior_means_of_a_sample_without_replacement() -> None:
    torch.manual_seed(0)
    model = VAE((6,), 3)
    rows = Rows(torch.rand(1200, 6), torch.arange(2400).reshape(1200, 2))
    state = torch.get_rng_state()
    model.train()
    pool = encode_pool(model, rows, n=700, seed=5)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    places = pool.factors[:, 0] // 2
    assert len(set(places.tolist())) == 700
    posterior = model.posterior(rows.x[places])
    torch.testing.assert_close(pool.codes, posterior.mean.detach())
    assert pool.kl_per_dimension is not None
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).detach().mean(0)
    torch.testing.assert_close(pool.kl_per_dimension.float(), kl, atol=1e-6, rtol=1e-4)
    assert torch.equal(encode_pool(model, rows, n=700, seed=5).factors, pool.factors)
    assert not torch.equal(encode_pool(model, rows, n=700, seed=6).factors, pool.factors)
    assert len(encode_pool(model, rows).codes) == 1200


def test_codes_of_a_vae_are_not_decoded_and_kls_are_from_a_learned_prior() -> None:
    torch.manual_seed(1)
    model = VAE((6,), 3, condition_shape=(2,), prior="learned")
    rows = Rows(torch.rand(700, 6), torch.arange(700)[:, None], torch.randn(700, 2))
    level = model(rows.x, condition=rows.condition).levels[0]
    handle = model.decoder.register_forward_pre_hook(lambda *_: pytest.fail("decoded"))
    pool = encode_pool(model, rows)
    handle.remove()
    assert level.posterior is not None
    torch.testing.assert_close(pool.codes, level.posterior.mean[0, pool.factors[:, 0]].detach())
    assert pool.kl_per_dimension is not None
    torch.testing.assert_close(pool.kl_per_dimension.float(), level.kl()[0].mean(0).detach())


class Doubled(VAE):
    """A VAE with a forward of its own, whose only level is twice the first unit."""

    def forward(self, *args: Any, **choices: Any) -> Output:
        output = super().forward(*args, **choices)
        level = output.levels[0]
        assert level.posterior is not None
        own = Normal(2 * level.posterior.mean[..., :1], 1.0)
        return replace(output, levels=(Level(own.sample(), own, level.prior),))


def test_a_forward_of_its_own_is_asked() -> None:
    model = Doubled((6,), 3)
    rows = Rows(torch.rand(20, 6), torch.arange(20)[:, None])
    pool = encode_pool(model, rows)
    torch.testing.assert_close(pool.codes, 2 * model.encode(rows.x[pool.factors[:, 0]]).detach()[:, :1])


def test_an_auto_encoder_has_codes_without_kl() -> None:
    model = AutoEncoder((6,), 3)
    rows = Rows(torch.rand(20, 6), torch.rand(20, 2))
    pool = encode_pool(model, rows)
    assert pool.kl_per_dimension is None
    assert pool.codes.shape == (20, 3)
    assert pool.factors.dtype == torch.float32


class Told(nn.Module):
    """Stands in for a conditional model: its code is its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def levels(self, x: Tensor, condition: Tensor) -> tuple[tuple[Level, ...], None]:
        q = Normal(condition[None], torch.ones(()))
        return (Level(q.mean, q, Normal(torch.zeros(()), torch.ones(()))),), None


def test_the_condition_reaches_the_model() -> None:
    condition = torch.randn(40, 2)
    rows = Rows(torch.rand(40, 6), torch.arange(40)[:, None], condition, torch.ones(1, 6))
    pool = encode_pool(Told(), rows)  # type: ignore[arg-type]
    torch.testing.assert_close(pool.codes, condition[pool.factors[:, 0]])
    assert pool.kl_per_dimension is not None
    torch.testing.assert_close(pool.kl_per_dimension.float(), 0.5 * condition.square().mean(0))


class Enumerated(nn.Module):
    """Stands in for a model of a discrete latent y = 0, 1, 2, which is enumerated, and z | y."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def levels(self, x: Tensor, condition: Any) -> tuple[tuple[Level, ...], Tensor]:
        y = Categorical(logits=x[None, :, :3])
        log_weights = y.logits[0].T  # (3, batch)
        means = torch.arange(3.0)[:, None, None].expand(3, len(x), 1)
        levels = (
            Level(torch.arange(3)[:, None].expand(3, len(x)), y, Categorical(logits=torch.zeros(3))),
            Level(means, Normal(means, 1.0), Normal(0.0, 1.0)),
        )
        return levels, log_weights


def test_a_discrete_latent_is_one_code_and_others_are_averaged_over_it() -> None:
    x = torch.randn(30, 4)
    pool = encode_pool(Enumerated(), Rows(x, torch.arange(30)[:, None]))  # type: ignore[arg-type]
    probs = x[pool.factors[:, 0], :3].softmax(-1)
    torch.testing.assert_close(pool.codes[:, 0], probs.argmax(-1).float())
    torch.testing.assert_close(pool.codes[:, 1], probs @ torch.arange(3.0))
    assert pool.kl_per_dimension is not None
    entropy = -(probs * probs.log()).sum(-1)
    expected = torch.stack([torch.tensor(3.0).log() - entropy.mean(), (probs @ (0.5 * torch.arange(3.0) ** 2)).mean()])
    torch.testing.assert_close(pool.kl_per_dimension.float(), expected, atol=1e-5, rtol=1e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no known factors"):
        encode_pool(VAE((6,), 2), Rows(torch.rand(4, 6), None))
    with pytest.raises(ValueError, match="n >= 1"):
        encode_pool(VAE((6,), 2), Rows(torch.rand(4, 6), torch.zeros(4, 1)), n=0)


def test_from_data_to_table() -> None:
    data = load_data("circles")
    pool = encode_pool(VAE(data.shape, 4), data.test, n=300)
    found = evaluate_disentanglement(pool.codes, pool.factors, data.test.factor_names, pool.kl_per_dimension)
    assert len(found.table()) == 10
    assert found.kl_per_dimension is not None
