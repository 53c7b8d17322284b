"""Evaluation on models whose numbers are known: by construction, by hand, or by quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import class_gaussians as known
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import NetConfig
from jensen.data import Batch, load_data
from jensen.likelihoods import Gaussian
from jensen.metrics import active_units, bits_per_dim, evaluate, importance, importance_weighted_log_likelihood


@dataclass
class Rows:
    """Held-out data from tensors."""

    x: Tensor
    target: Tensor | None = None
    levels: int | None = None
    transform: str = "none"

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        target = self.x if self.target is None else self.target
        return Batch(self.x[index], target[index], None, index)


def gaussian_model(mean_weight: list[list[float]], sigma: list[float], decoder: Tensor, noise: float) -> VAE:
    """q(z | x) = N(A x, sigma^2), p(x | z) = N(B z, noise^2)."""
    latent, features = len(mean_weight), len(mean_weight[0])
    encoder, net = nn.Linear(features, 2 * latent), nn.Linear(latent, features, bias=False)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:latent] = torch.tensor(mean_weight)
        encoder.bias[:latent] = 0
        encoder.bias[latent:] = 7 * torch.atanh(torch.tensor(sigma).log() / 7)
        net.weight.copy_(decoder)
    return VAE((features,), latent, likelihood=Gaussian(noise), encoder=encoder, decoder=net)


def test_terms_of_a_gaussian_model_by_hand() -> None:
    """Two units follow x, one hardly, one not at all."""
    a = [[1.0, 0.0], [0.0, 0.5], [0.05, 0.0], [0.0, 0.0]]
    sigma, noise = [0.5, 0.8, 1.0, 1.0], 0.7
    decoder = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.2, 1.1, 0.3, 0.0]])
    x = torch.randn(4000, 2)
    found = evaluate(gaussian_model(a, sigma, decoder, noise), Rows(x), samples=20)
    mean = x @ torch.tensor(a).T
    spread = torch.tensor(sigma)
    kl = 0.5 * (mean**2 + spread**2 - 1) - spread.log()
    assert found.kl_per_dimension == pytest.approx(kl.mean(0).tolist(), rel=1e-4, abs=1e-6)
    assert found.rate == pytest.approx(kl.sum(1).mean().item(), rel=1e-4)
    residual = x - mean @ decoder.T
    variance = (decoder**2 @ spread**2).sum()  # of the reconstruction, summed over x's dimensions
    squares = residual.square().sum(1) + variance
    distortion = (squares / (2 * noise**2) + math.log(2 * math.pi * noise**2)).mean().item()
    assert found.distortion == pytest.approx(distortion, abs=0.1)  # one draw a datum
    assert found.elbo == pytest.approx(-found.distortion - found.rate, rel=1e-5)
    assert found.reconstruction_error == pytest.approx(residual.square().mean().item(), rel=1e-4)
    assert found.active_units == 2
    assert (found.latent, found.examples, found.samples, found.dims) == (4, 4000, 20, 2)
    assert found.bits_per_dim is None
    assert found.psnr is None
    assert found.warnings == []
    # x = B z + noise, z ~ N(0, I): the likelihood is that of a Gaussian of covariance B B^T + noise^2 I.
    covariance = decoder @ decoder.T + noise**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).log_prob(x).mean().item()
    assert found.log_likelihood is not None
    assert found.elbo < found.log_likelihood < exact + 0.01
    many = evaluate(gaussian_model(a, sigma, decoder, noise), Rows(x[:50]), samples=5000)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).log_prob(x[:50]).mean().item()
    assert many.log_likelihood == pytest.approx(exact, abs=0.02)


def test_active_units_by_variance_of_the_mean() -> None:
    scale = torch.tensor([2.0, 0.11, 0.09, 0.0])  # variances 4, 0.0121, 0.0081, 0
    z = torch.randn(1000, 4, dtype=torch.float64)
    z = (z - z.mean(0)) / z.std(0)
    assert active_units(z * scale + 5) == 2
    assert active_units(z[:1]) == 0


def test_bits_per_dimension_by_hand() -> None:
    common = {"dims": 3, "data_levels": 4, "transform": "none"}
    # A uniform distribution over 4 levels in 3 dimensions: 2 bits each.
    nats = -3 * math.log(4)
    assert bits_per_dim(nats, likelihood_levels=4, **common) == pytest.approx(2.0)  # type: ignore[arg-type]
    assert bits_per_dim(nats, likelihood_levels=2, **common) is None  # type: ignore[arg-type]
    assert bits_per_dim(nats, likelihood_levels=None, **common) is None  # type: ignore[arg-type]
    # The uniform density on [0, 1]^3 of dequantised data is that same distribution.
    dequantised = bits_per_dim(0.0, 3, likelihood_levels=None, data_levels=4, transform="dequantise")
    assert dequantised == pytest.approx(2.0)
    assert bits_per_dim(0.0, 3, likelihood_levels=None, data_levels=None, transform="dequantise") is None
    binary = bits_per_dim(-3 * math.log(2), 3, likelihood_levels=2, data_levels=2, transform="binarise")
    assert binary == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("likelihood", "transform", "measured"),
    [
        ("bernoulli", "binarise", True),
        ("bernoulli", "binarise-static", True),
        ("bernoulli", "none", False),
        ("discretised-logistic", "none", True),
        ("gaussian", "none", False),
        ("gaussian-learned", "dequantise", True),
    ],
)
def test_bits_only_where_they_mean_something(likelihood: str, transform: str, measured: bool) -> None:
    data = load_data("digits", transform=transform)
    model = VAE(data.shape, 2, net=NetConfig(width=8), likelihood=likelihood, levels=data.levels)
    found = evaluate(model, data.test, samples=3)
    assert (found.bits_per_dim is not None) is measured
    if measured:
        assert found.log_likelihood is not None
        nats = -found.log_likelihood + (64 * math.log(17) if transform == "dequantise" else 0.0)
        assert found.bits_per_dim == pytest.approx(nats / 64 / math.log(2), rel=1e-6)
    about_grey = any("grey levels" in warning for warning in found.warnings)
    assert about_grey is (likelihood == "bernoulli" and transform == "none")
    assert (found.psnr is not None) is not transform.startswith("binarise")


def test_same_seed_same_numbers_and_nothing_else_is_touched() -> None:
    data = load_data("digits")
    net = NetConfig(width=8, normalisation="batch")
    model = VAE(data.shape, 2, net=net).train()
    model(data.train.batch(torch.arange(50)).x)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    first = evaluate(model, data.test, samples=7, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    torch.rand(5)
    assert evaluate(model, data.test, samples=7, seed=3) == first
    assert evaluate(model, data.test, samples=7, seed=4).elbo != first.elbo
    model.eval()
    assert evaluate(model, data.test, samples=7, seed=3) == first
    assert not model.training


def test_an_error_leaves_mode_and_random_state_too() -> None:
    data = load_data("digits")
    model = VAE(data.shape, 2, net=NetConfig(width=8)).train()
    before = torch.get_rng_state()

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data.test, samples=2, progress=stop)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


def test_progress_ends_at_the_number_of_examples() -> None:
    calls: list[tuple[int, int]] = []
    evaluate(
        gaussian_model([[1.0]], [1.0], torch.ones(1, 1), 1.0),
        Rows(torch.randn(1201, 1)),
        samples=1,
        progress=lambda done, of: calls.append((done, of)),
    )
    assert calls == [(500, 1201), (1000, 1201), (1201, 1201)]


class Recorder(nn.Module):
    """Counts the codes that a decoder is asked for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.sizes = net, list[int]()

    def forward(self, z: Tensor) -> Tensor:
        self.sizes.append(len(z))
        out: Tensor = self.net(z)
        return out


@pytest.mark.parametrize(("values", "at_once", "data"), [(1, 2**14, 90), (2000, 2**20 // 2000, 4)])
def test_five_thousand_samples_in_bounded_memory(values: int, at_once: int, data: int) -> None:
    recorder = Recorder(nn.Linear(2, values))
    model = VAE((3,), 2, likelihood="gaussian", target_shape=(values,), encoder=nn.Linear(3, 4), decoder=recorder)
    x, target = torch.randn(data, 3), torch.randn(data, values)
    importance_weighted_log_likelihood(model, x, target, 5000)
    assert max(recorder.sizes) <= at_once
    assert sum(recorder.sizes) == 5000 * data
    assert len(recorder.sizes) < 4 * 5000 * data / at_once + 10  # nor one at a time


@pytest.mark.parametrize("at_once", [8, 100, 2**20])
@pytest.mark.parametrize("samples", [1, 7, 64])
def test_chunks_do_not_change_an_exact_value(at_once: int, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exact posterior every importance weight is log p(x): x = z + eps, q(z | x) = N(x / 2, 1 / 2)."""
    monkeypatch.setattr(importance, "VALUES_AT_ONCE", at_once)
    model = gaussian_model([[0.5]], [math.sqrt(0.5)], torch.ones(1, 1), 1.0)
    x = torch.randn(11, 1)
    exact = torch.distributions.Normal(0.0, math.sqrt(2.0)).log_prob(x)[:, 0]
    found = importance_weighted_log_likelihood(model, x, samples=samples)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), exact, rtol=1e-4, atol=1e-4)


def test_chunks_do_not_change_an_estimate_beyond_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gaussian_model([[0.2]], [1.0], torch.ones(1, 1), 0.8)
    x = torch.randn(30, 1)
    exact = torch.distributions.Normal(0.0, math.sqrt(1.64)).log_prob(x)[:, 0].double()
    for at_once in (50, 3000, 2**20):
        monkeypatch.setattr(importance, "VALUES_AT_ONCE", at_once)
        found = importance_weighted_log_likelihood(model, x, samples=4000)
        assert (found - exact).abs().max() < 0.12
        assert abs((found - exact).mean()) < 0.02


def test_collapse_is_said_in_words() -> None:
    ignores = gaussian_model([[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0], torch.zeros(2, 2), 1.0)
    (warning,) = evaluate(ignores, Rows(torch.randn(50, 2)), samples=2).warnings
    assert "posterior has collapsed: 0 of 2" in warning
    few = gaussian_model([[2.0, 0.0], *[[0.0, 0.0]] * 7], [0.3, *[1.0] * 7], torch.ones(2, 8), 1.0)
    (warning,) = evaluate(few, Rows(torch.randn(50, 2)), samples=2).warnings
    assert warning.startswith("Only 1 of 8 latent dimensions")


def test_an_autoencoder_has_no_bound() -> None:
    data = load_data("digits", transform="none")
    model = AutoEncoder(data.shape, 3, net=NetConfig(width=8), likelihood="gaussian")
    found = evaluate(model, data.test)
    assert (found.elbo, found.log_likelihood, found.rate, found.active_units) == (None, None, None, None)
    assert (found.bits_per_dim, found.kl_per_dimension, found.latent) == (None, [], 3)
    x = data.test.batch(torch.arange(len(data.test))).x
    with torch.no_grad():
        error = (model.reconstruct(x) - x).square().mean().item()
    assert found.reconstruction_error == pytest.approx(error, rel=1e-5)
    assert found.psnr == pytest.approx(-10 * math.log10(error), rel=1e-5)
    assert found.distortion == pytest.approx(32 * math.log(2 * math.pi) + 32 * error, rel=1e-5)
    assert {row[0] for row in found.table()} == {"distortion", "reconstruction error", "PSNR"}


def test_table_and_dictionary_hold_the_numbers() -> None:
    found = evaluate(gaussian_model([[0.5]], [0.7], torch.ones(1, 1), 1.0), Rows(torch.randn(40, 1)), samples=9)
    rows = {name: (value, unit) for name, value, unit in found.table()}
    assert rows["ELBO"][0] == f"{found.elbo:.3f} ± {found.elbo_error:.3f}"
    assert "9 samples" in rows["log-likelihood"][1]
    assert rows["active units"][0] == f"{found.active_units} of 1"
    assert "bits per dimension" not in rows
    assert found.to_dict()["kl_per_dimension"] == found.kl_per_dimension


def test_wrong_arguments() -> None:
    model = gaussian_model([[0.5]], [0.7], torch.ones(1, 1), 1.0)
    with pytest.raises(ValueError, match="got 0 samples"):
        evaluate(model, Rows(torch.randn(4, 1)), samples=0)
    with pytest.raises(ValueError, match="0 examples"):
        evaluate(model, Rows(torch.randn(0, 1)))
    with pytest.raises(ValueError, match="deterministic"):
        importance_weighted_log_likelihood(AutoEncoder((4,), 2), torch.rand(3, 4), samples=2)


def test_no_bits_for_a_discretised_likelihood_of_dequantised_data() -> None:
    # Equal numbers of levels, but the values lie between them.
    assert bits_per_dim(-1.0, 3, likelihood_levels=4, data_levels=4, transform="dequantise") is None


def test_a_conditional_model_is_told_the_condition() -> None:
    """With the exact posterior every bound is log p(x | y), and one of a wrong label is another."""
    data = known.data(300)
    assert data.label is not None
    found = evaluate(known.conditional(), data, samples=300)
    own = known.log_likelihood(data.x).gather(1, data.label[:, None]).mean().item()
    assert found.log_likelihood == pytest.approx(own, abs=1e-4)
    assert found.elbo == pytest.approx(own, abs=0.02)
    with torch.no_grad():
        codes = known.conditional().encode(data.x, data.label)
        mean = codes * known.W + known.M[data.label]
    assert found.reconstruction_error == pytest.approx((mean - data.x).square().mean().item(), rel=1e-4)
    assert found.discrete_rate is None
    wrong = known.Labelled(data.x, (data.label + 1) % 3)
    assert evaluate(known.conditional(), wrong, samples=3).log_likelihood < own - 1  # type: ignore[operator]


def test_only_scored_values_count() -> None:
    data = known.data(200)
    assert data.label is not None
    x = data.x.clone()
    x[:, 1] = float("nan")
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    kept = [0, 2]
    encoder = nn.Linear(2 * known.CLASSES, 2)

    class Zero(nn.Module):
        def forward(self, x: Tensor, condition: Tensor) -> Tensor:
            out: Tensor = 0 * encoder(torch.cat([x.nan_to_num(), condition], 1))
            return out

    model = VAE(
        (3,),
        1,
        condition_shape=(3,),
        likelihood=Gaussian(known.NOISE),
        encoder=Zero(),
        decoder=known.nets()["decoder"],
    )
    found = evaluate(model, known.Labelled(x, data.label, mask=mask), samples=3000)
    part = torch.distributions.MultivariateNormal(known.M[data.label][:, kept], known.COVARIANCE[kept][:, kept])
    assert found.log_likelihood == pytest.approx(part.log_prob(x[:, kept]).mean().item(), abs=0.02)
    assert found.dims == 2
    error = (known.M[data.label] - x)[:, kept].square().mean().item()
    assert found.reconstruction_error == pytest.approx(error, rel=1e-5)
    # A mask of each datum's own: sums over all that is scored.
    own = torch.ones(200, 3)
    own[:, 1] = 0
    own[100:, 2] = 0
    found = evaluate(model, known.Labelled(x, data.label, mask=own), samples=2)
    squares = (known.M[data.label] - x).square()
    error = (squares[:, 0].sum() + squares[:100, 2].sum()).item() / 300
    assert found.reconstruction_error == pytest.approx(error, rel=1e-5)
    assert found.dims == 2  # 1.5, rounded


@pytest.mark.parametrize("at_once", [100, 2**20])
def test_each_chunk_has_the_masks_of_its_rows(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """p(x | c) of the scored values is a Gaussian with those rows and columns of the covariance."""
    monkeypatch.setattr(importance, "VALUES_AT_ONCE", at_once)
    data = known.data(11)
    assert data.label is not None
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])[torch.arange(11) % 4]
    model = known.conditional()
    for parameter in model.encoder.parameters():
        torch.nn.init.zeros_(parameter)  # q(z | x) = p(z), wide enough whatever is scored
    condition = F.one_hot(data.label, known.CLASSES).float()
    found = importance_weighted_log_likelihood(model, data.x, samples=1000, condition=condition, mask=mask)
    exact = []
    for x, label, row in zip(data.x, data.label, mask, strict=True):
        kept = row.nonzero()[:, 0]
        if len(kept) == 0:
            exact.append(torch.zeros(()))
            continue
        part = torch.distributions.MultivariateNormal(known.M[label][kept], known.COVARIANCE[kept][:, kept])
        exact.append(part.log_prob(x[kept]))
    torch.testing.assert_close(found.float(), torch.stack(exact), atol=0.3, rtol=0)
    rows = [
        rows
        for rows, _, _ in importance.output_chunks(
            model, Batch(data.x, data.x, None, data.label, condition=condition), 1
        )
    ]
    assert (len(rows) > 1) == (at_once == 100)


def test_bits_are_a_scored_value() -> None:
    data = load_data("digits", transform="binarise-static")
    model = VAE(data.shape, 2, net=NetConfig(width=8))
    x = data.test.batch(torch.arange(50)).x
    mask = torch.zeros(1, *data.shape)
    mask[..., :4] = 1
    found = evaluate(model, known.Labelled(x, None, mask=mask, levels=2), samples=20)
    assert found.log_likelihood is not None
    assert found.dims == 32
    assert found.bits_per_dim == pytest.approx(-found.log_likelihood / 32 / math.log(2))


@pytest.mark.parametrize("at_once", [10, 100, 2**20])
def test_an_enumerated_class_is_summed_out(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With exact codes every draw gives log sum_y p(x, y), whatever q(y | x)."""
    monkeypatch.setattr(importance, "VALUES_AT_ONCE", at_once)
    data = known.data(60, told=False)
    joint = known.log_likelihood(data.x) + known.log_prior()
    for classifier in (None, nn.Linear(3, 3)):
        found = importance_weighted_log_likelihood(known.semi_supervised(classifier=classifier), data.x, samples=5)
        torch.testing.assert_close(found.float(), joint.logsumexp(1), atol=1e-4, rtol=1e-4)
    assert data.label is not None
    own = importance_weighted_log_likelihood(known.semi_supervised(), data.x, samples=5, condition=data.label)
    torch.testing.assert_close(own.float(), joint.gather(1, data.label[:, None])[:, 0], atol=1e-4, rtol=1e-4)


def test_evaluation_of_a_semi_supervised_model_by_enumeration() -> None:
    data = known.data(400, told=False)
    classifier = nn.Linear(3, 3)
    model = known.semi_supervised(exact=False, classifier=classifier)
    found = evaluate(model, data, samples=200)
    joint = known.log_likelihood(data.x) + known.log_prior()
    assert found.log_likelihood == pytest.approx(joint.logsumexp(1).mean().item(), abs=0.02)
    with torch.no_grad():
        q = classifier(data.x).softmax(1)
        of_class = [model.encoder(data.x, F.one_hot(torch.full((400,), y), 3).float()) for y in range(3)]
    class_kl = (q * (q.log() - known.log_prior())).sum(1).mean().item()
    code_kl = torch.stack([0.5 * (n.loc**2 + n.scale**2 - 1) - n.scale.log() for n in of_class])[..., 0]
    kl = (q.T * code_kl).sum(0).mean().item()
    means = (q.T * torch.stack([n.loc[:, 0] for n in of_class])).sum(0)
    assert found.discrete_rate == pytest.approx(class_kl, rel=1e-4)
    assert found.kl_per_dimension == pytest.approx([kl], rel=1e-4)
    assert found.rate == pytest.approx(class_kl + kl, rel=1e-4)
    assert (found.latent, found.active_units) == (1, active_units(means[:, None]))
    # E_q of the squared residual, by class: that of the mean and that of the code's spread.
    residual = torch.stack([data.x - n.loc * known.W - known.M[y] for y, n in enumerate(of_class)]).square().sum(-1)
    spread = torch.stack([n.scale[:, 0] ** 2 for n in of_class]) * known.W.square().sum()
    squares = (q.T * (residual + spread)).sum(0).mean().item()
    distortion = squares / (2 * known.NOISE**2) + 1.5 * math.log(2 * math.pi * known.NOISE**2)
    assert found.distortion == pytest.approx(distortion, abs=0.02)
    assert found.elbo == pytest.approx(-found.distortion - class_kl - kl, rel=1e-4)
    assert "rate of the class" in {row[0] for row in found.table()}


def test_enumerated_classes_share_the_memory() -> None:
    recorder = Recorder(nn.Linear(2 + 3, 2000))

    class Told(nn.Module):
        def forward(self, z: Tensor, condition: Tensor) -> Tensor:
            out: Tensor = recorder(torch.cat([z, condition], 1))
            return out

    model = SemiSupervisedVAE(
        (3,),
        2,
        condition_shape=(3,),
        likelihood="gaussian",
        target_shape=(2000,),
        encoder=known.Together(nn.Linear(6, 4)),
        decoder=Told(),
    )
    importance_weighted_log_likelihood(model, torch.randn(4, 3), torch.randn(4, 2000), 1000)
    assert max(recorder.sizes) <= 2**20 // 2000
    assert sum(recorder.sizes) == 3 * 1000 * 4
