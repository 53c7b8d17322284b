"""Gaps filled in, against the exact conditional normal and quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jensen import VAE, AutoEncoder, LadderVAE
from jensen.autoencoders import SemiSupervisedVAE
from jensen.config import NetConfig
from jensen.config.columns import Column
from jensen.likelihoods import TableLikelihood
from jensen.metrics.columns import column_errors
from jensen.metrics.imputation import impute

NAN = math.nan
NET = NetConfig(width=8)


class Broad(nn.Module):
    """The encoder of a poor q: the same for every row, of standard deviation `sd`."""

    def __init__(self, latent: int, sd: float) -> None:
        super().__init__()
        self.latent, self.weight = latent, nn.Parameter(torch.tensor(math.log(sd)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.new_zeros(len(x), self.latent), self.weight.expand(len(x), self.latent)], 1)


def linear_gaussian() -> tuple[VAE, np.ndarray, np.ndarray]:
    """z ~ N(0, I), x = W z + b + noise: x is normal with known mean and covariance."""
    columns = [Column(name=name) for name in "abcd"]
    decoder = nn.Linear(2, 4)
    weight = torch.tensor([[1.0, 0.2], [-0.8, 0.5], [0.3, 1.1], [0.6, -0.7]])
    with torch.no_grad():
        decoder.weight.copy_(weight)
        decoder.bias.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    likelihood = TableLikelihood(columns)
    model = VAE((4,), 2, encoder=Broad(2, 1.0), decoder=decoder, likelihood=likelihood)
    with torch.no_grad():
        likelihood.log_sigma.copy_(torch.tensor([-0.5, -0.2, -0.7, 0.1]))
    sigma = np.exp(7 * np.tanh(np.array([-0.5, -0.2, -0.7, 0.1]) / 7))
    w = weight.double().numpy()
    return model, np.array([0.5, -1.0, 0.0, 2.0]), w @ w.T + np.diag(sigma**2)


def test_a_linear_model_fills_gaps_with_the_conditional_normal() -> None:
    model, mean, covariance = linear_gaussian()
    x = torch.tensor([[0.9, NAN, -0.4, NAN], [NAN, NAN, NAN, 2.5], [1.0, 0.0, 0.5, 1.0], [NAN, NAN, NAN, NAN]])
    found = impute(model, x, samples=60_000, seed=1)
    for row, values, deviations in zip(x.numpy(), found.values, found.deviations, strict=True):
        gap = np.isnan(row)
        known = ~gap
        gain = covariance[np.ix_(gap, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
        expected = mean[gap] + gain @ (row[known] - mean[known])
        spread = covariance[np.ix_(gap, gap)] - gain @ covariance[np.ix_(known, gap)]
        np.testing.assert_allclose(values[gap].numpy(), expected, atol=0.02)
        np.testing.assert_allclose(deviations[gap].numpy(), np.sqrt(np.diag(spread)), rtol=0.02)
        np.testing.assert_array_equal(values[known].numpy(), row[known])
        np.testing.assert_array_equal(deviations[known].numpy(), 0)
    # q is the prior: where nothing is known, every draw counts the same
    assert found.effective[3].item() == pytest.approx(60_000)
    assert bool((found.effective[:3] < 60_000).all())


def test_categories_and_counts_are_averaged_over_the_posterior() -> None:
    """One latent, so that the posterior can be had on a grid; modes of single draws would answer otherwise."""
    columns = [
        Column(name="a"),
        Column(name="k", kind="categorical", categories=("x", "y", "z")),
        Column(name="n", kind="count"),
    ]
    decoder = nn.Linear(1, 5)
    with torch.no_grad():
        decoder.weight.copy_(torch.tensor([[1.0], [0.6], [2.0], [-2.0], [0.0]]))
        decoder.bias.copy_(torch.tensor([0.0, 0.3, 0.0, 0.0, 0.7]))
    model = VAE((3,), 1, encoder=Broad(1, 1.5), decoder=decoder, likelihood=TableLikelihood(columns))
    x = torch.tensor([[0.4, NAN, NAN], [NAN, 1.0, NAN], [NAN, NAN, 6.0], [-2.0, NAN, 1.0]])
    found = impute(model, x, samples=60_000, seed=2)
    z = torch.linspace(-9, 9, 6001)[:, None]
    with torch.no_grad():
        p = model.decoder(z)
        for row, values in zip(x, found.values, strict=True):
            filled = row.nan_to_num()
            each = p.log_prob(filled)
            log_weights = (each * ~row.isnan()).sum(-1) - 0.5 * z[:, 0] ** 2
            expected = (log_weights.double().softmax(0)[:, None] * p.expectations).sum(0)
            if row[0].isnan():
                assert values[0].item() == pytest.approx(expected[0].item(), abs=0.03)
            if row[1].isnan():
                assert values[1].item() == expected[2:].argmax().item()
            if row[2].isnan():
                assert values[2].item() == pytest.approx(expected[1].item(), rel=0.03)


@pytest.mark.parametrize("kind", ["vae", "autoencoder", "semi-supervised", "ladder"])
def test_models_of_every_kind_fill_gaps(kind: str) -> None:
    torch.manual_seed(0)
    columns = [Column(name="a"), Column(name="b", kind="categorical", categories=("x", "y")), Column(name="c")]
    common: dict[str, Any] = {"likelihood": "table", "columns": columns, "levels": None, "net": NET}
    x = torch.randn(6, 3)
    x[:, 1] = (x[:, 1] > 0).float()
    holed = x.masked_fill(torch.rand(6, 3) < 0.5, NAN)
    condition = None
    model: VAE | AutoEncoder | LadderVAE
    if kind == "vae":
        model = VAE((3,), 2, **common)
    elif kind == "autoencoder":
        model = AutoEncoder((3,), 2, **common)
    elif kind == "ladder":
        model = LadderVAE((3,), ["3@8", "2@8"], **{**common, "net": "mlp"})
    else:
        model = SemiSupervisedVAE((3,), 2, condition_shape=(2,), **common)
        condition = torch.tensor([[1.0, 0.0], [0.0, 1.0], *[[0.0, 0.0]] * 4])  # the last four are unknown
    state = torch.random.get_rng_state()
    found = impute(model, holed, samples=20, condition=condition)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert bool(found.values.isfinite().all())
    assert torch.equal(found.values[~holed.isnan()], holed[~holed.isnan()])
    assert set(found.values[:, 1].tolist()) <= {0.0, 1.0}
    again = impute(model, holed, samples=20, condition=condition)
    assert torch.equal(again.values, found.values)
    if kind == "autoencoder":
        made = model.reconstruct(holed)
        torch.testing.assert_close(found.values[holed.isnan()], made[holed.isnan()])


def test_what_cannot_be_filled() -> None:
    model = linear_gaussian()[0]
    with pytest.raises(ValueError, match="models with likelihood table, not Gaussian"):
        impute(VAE((4,), 2, likelihood="gaussian"), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"shape \(rows, 4\), got \(2, 3\)"):
        impute(model, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="samples should be at least 1"):
        impute(model, torch.zeros(2, 4), samples=0)


def test_errors_of_columns_are_about_what_is_known() -> None:
    columns = [Column(name="a"), Column(name="k", kind="categorical", categories=("x", "y")), Column(name="never")]
    values = torch.tensor([[1.0, 0.0, NAN], [3.0, 1.0, NAN], [NAN, 1.0, NAN], [8.0, NAN, NAN]])
    made = torch.tensor([[1.0, 1.0, 0.0], [6.0, 1.0, 0.0], [9.0, 1.0, 0.0], [8.0, 0.0, 0.0]])
    a, k, never = column_errors(columns, values, made)
    assert a.value == pytest.approx(math.sqrt(9 / 3))
    assert a.baseline == pytest.approx(np.std([1, 3, 8]))
    assert [k.value, k.baseline] == pytest.approx([1 / 3, 1 / 3])
    assert k.known == 3
    assert (never.value, never.baseline, never.known) == (None, None, 0)
    with pytest.raises(ValueError, match=r"expected \(N, 2\) twice"):
        column_errors(columns[:2], values, made)
