"""What a report draws from a model: classes over one z, the hidden part of images, one latent at a time."""

from __future__ import annotations

import pytest
import torch

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.report.generate import fill_in, samples_by_row, traverse

SHAPE = (1, 4, 4)


def test_rows_differ_by_their_condition_alone() -> None:
    model = VAE(SHAPE, 3, condition_shape=(2,))
    conditions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    before = torch.get_rng_state()
    drawn = samples_by_row(model, conditions, 5, 0.7, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    torch.manual_seed(3)
    z = 0.7 * torch.randn(5, 3)
    with torch.no_grad():
        for row, condition in zip(drawn, conditions, strict=True):
            torch.testing.assert_close(row, model.decode(z, condition=condition))


def test_a_learned_prior_is_drawn_from_at_the_same_place() -> None:
    model = VAE(SHAPE, 3, condition_shape=(2,), prior="learned")
    conditions = torch.eye(2)
    drawn = samples_by_row(model, conditions, 4, seed=3)
    torch.manual_seed(3)
    noise = torch.randn(4, 3)
    with torch.no_grad():
        prior = model.prior(conditions)
        for row in range(2):
            z = prior.mean[row] + prior.stddev[row] * noise
            torch.testing.assert_close(drawn[row], model.decode(z, condition=conditions[row]))


def test_known_classes_of_a_semi_supervised_model_share_z() -> None:
    model = SemiSupervisedVAE(SHAPE, 3, condition_shape=(2,))
    drawn = samples_by_row(model, torch.eye(2)[[0, 1, 0]], 4)
    torch.testing.assert_close(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_more_samples_than_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jensen.report.generate.AT_ONCE", 2)
    model = VAE(SHAPE, 3, condition_shape=(2,))
    drawn = samples_by_row(model, torch.eye(2), 5)
    assert drawn.shape == (2, 5, *SHAPE)
    assert len(torch.unique(drawn[0].flatten(1), dim=0)) == 5


def test_the_visible_part_is_kept_and_the_rest_is_the_models() -> None:
    model = VAE(SHAPE, 3, condition_shape=(2, 4, 4), prior="learned")
    image = torch.rand(3, *SHAPE)
    seen = torch.zeros(3, *SHAPE)
    seen[..., :2] = 1
    visible = torch.cat([image * seen, seen], 1)
    torch.manual_seed(5)
    filled = fill_in(model, visible, 2)
    torch.manual_seed(5)
    with torch.no_grad():
        expected = torch.stack([model.sample(3, condition=visible) for _ in range(2)])
    assert torch.equal(filled[..., :2], image[..., :2].expand(2, *image[..., :2].shape))
    assert torch.equal(filled[..., 2:], expected[..., 2:])
    assert not torch.equal(filled[0], filled[1])


@pytest.mark.parametrize("conditional", [False, True])
def test_a_traversal_moves_one_latent_and_holds_the_others(conditional: bool) -> None:
    shape = (2,) if conditional else None
    model = VAE(SHAPE, 4, condition_shape=shape, prior="learned" if conditional else "standard")
    x, condition = torch.rand(SHAPE), torch.tensor([0.0, 1.0]) if conditional else None
    found = traverse(model, x, torch.tensor([0.1, 2.0, 0.0, 0.5]), condition, rows=3, steps=5)
    assert found.captions == ["z1, 2.00 nats", "z3, 0.50 nats", "z0, 0.10 nats"]
    assert found.values == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert found.images.shape == (3, 5, *SHAPE)
    with torch.no_grad():
        told = None if condition is None else condition[None]
        code = model.encode(x[None], condition=told)[0]
        prior = model.prior(told)
        mean, sd = (value.expand(1, 4)[0] for value in (prior.mean, prior.stddev))
        torch.testing.assert_close(found.start, model.decode(code, condition=condition))
        for row, latent in enumerate((1, 3, 0)):
            for step, value in enumerate(found.values):
                moved = code.clone()
                moved[latent] = mean[latent] + value * sd[latent]
                expected = model.decode(moved, condition=condition)
                torch.testing.assert_close(found.images[row, step], expected, atol=1e-5, rtol=1e-5)


def test_wrong_numbers_and_models_are_refused() -> None:
    model = VAE(SHAPE, 3, condition_shape=(2,))
    with pytest.raises(ValueError, match="columns should be at least 1"):
        samples_by_row(model, torch.eye(2), 0)
    with pytest.raises(ValueError, match="temperature should be positive"):
        samples_by_row(model, torch.eye(2), 1, -1.0)
    with pytest.raises(ValueError, match="condition should have shape"):
        samples_by_row(model, torch.eye(3), 1)
    with pytest.raises(ValueError, match="samples should be at least 1"):
        fill_in(model, torch.zeros(1, 2, 4, 4), 0)
    with pytest.raises(TypeError, match="no prior"):
        samples_by_row(AutoEncoder(SHAPE, 3, condition_shape=(2,)), torch.eye(2), 1)
