"""The semi-supervised VAE against loops over classes, and against a model whose log p(x) and log p(x, y) are exact."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from jensen.autoencoders import EncoderDecoder, make_model
from jensen.autoencoders.semi_supervised import ClassPosterior, SemiSupervisedVAE
from jensen.bound import importance_weighted_bound, log_weights
from jensen.config import ModelConfig, NetConfig
from jensen.data import load_data
from jensen.likelihoods import Gaussian
from jensen.objectives import Elbo, Iwae
from jensen.training import train

CLASSES, LATENT, FEATURES = 3, 2, 4
NOISE = 0.6
PRIOR = (0.5, 0.3, 0.2)


class Together(nn.Module):
    """A network of its input and its condition side by side."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([x, condition], 1))
        return out


class Linear:
    """z ~ N(0, I), y ~ PRIOR, x = W z + m_y + NOISE eps, the columns of W orthogonal: all of it is exact.

    The posterior of z is then factorised, and log p(y | x) is linear in x up to a constant.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        q, _ = torch.linalg.qr(randn(FEATURES, LATENT))
        self.w = q * torch.tensor([1.3, 0.8], dtype=torch.float64)
        self.m = 0.9 * randn(CLASSES, FEATURES)
        self.covariance = self.w @ self.w.T + NOISE**2 * torch.eye(FEATURES, dtype=torch.float64)
        self.log_prior = torch.tensor(PRIOR, dtype=torch.float64).log()

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y), (batch, classes)."""
        each = MultivariateNormal(self.m, self.covariance)
        return each.log_prob(x[:, None]) + self.log_prior

    def model(self, *, exact_codes: bool, exact_classes: bool) -> SemiSupervisedVAE:
        """p as it is; q(z | x, y) and q(y | x) exact or something else."""
        encoder = nn.Linear(FEATURES + CLASSES, 2 * LATENT).double()
        classifier = nn.Linear(FEATURES, CLASSES).double()
        decoder = nn.Linear(LATENT + CLASSES, FEATURES, bias=False).double()
        gram = (self.w**2).sum(0)
        scale = (1 + gram / NOISE**2).rsqrt()
        inverse = torch.linalg.inv(self.covariance)
        with torch.no_grad():
            decoder.weight.copy_(torch.cat([self.w, self.m.T], 1))
            if exact_codes:
                gain = (scale**2)[:, None] * self.w.T / NOISE**2
                encoder.weight.zero_()
                encoder.weight[:LATENT] = torch.cat([gain, -gain @ self.m.T], 1)
                encoder.bias[:LATENT] = 0
                encoder.bias[LATENT:] = 7 * torch.atanh(scale.log() / 7)
            if exact_classes:
                classifier.weight.copy_(self.m @ inverse)
                classifier.bias.copy_(self.log_prior - 0.5 * ((self.m @ inverse) * self.m).sum(1))
        return SemiSupervisedVAE(
            (FEATURES,),
            LATENT,
            condition_shape=(CLASSES,),
            classifier=classifier,
            class_prior=PRIOR,
            likelihood=Gaussian(NOISE),
            encoder=Together(encoder),
            decoder=Together(decoder),
        ).double()


def some(batch: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Data, labels, one-hot conditions with every other label unknown, and which are known."""
    x = 1.5 * torch.randn(batch, FEATURES, dtype=torch.float64)
    label = torch.arange(batch) % CLASSES
    known = torch.arange(batch) % 2 == 0
    return x, label, F.one_hot(label, CLASSES).double() * known[:, None], known


def log_normal(x: Tensor, mean: Tensor, scale: Tensor | float) -> Tensor:
    scale = torch.as_tensor(scale, dtype=x.dtype)
    return (-0.5 * math.log(2 * math.pi) - scale.log() - 0.5 * ((x - mean) / scale) ** 2).sum(-1)


def enumerated(model: SemiSupervisedVAE, x: Tensor, label: Tensor, known: Tensor, z: Tensor) -> Tensor:
    """The bound of each datum by equations 6 and 7, in loops, for draws z (samples, classes, batch, latent)."""
    encoder, decoder = model.encoder.net.net, model.decoder.net.net  # type: ignore[union-attr]
    bounds = []
    for i in range(len(x)):
        of_class = []
        for y in range(CLASSES):
            one_hot = torch.eye(CLASSES, dtype=x.dtype)[y]
            mean, raw = encoder(torch.cat([x[i], one_hot])).chunk(2)  # type: ignore[operator]
            scale = (7 * torch.tanh(raw / 7)).exp()
            kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * scale.log()).sum()
            fits = [log_normal(x[i], decoder(torch.cat([code, one_hot])), NOISE) for code in z[:, y, i]]  # type: ignore[operator]
            of_class.append(sum(fits) / len(fits) - kl + math.log(PRIOR[y]))
        if known[i]:
            bounds.append(of_class[int(label[i])])
        else:
            q = model.classifier(x[i]).softmax(-1)
            bounds.append(sum(q[y] * (of_class[y] - q[y].log()) for y in range(CLASSES)))
    return torch.stack(bounds)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kl", ["analytic", "monte-carlo"])
def test_the_elbo_is_the_bound_by_enumeration(samples: int, kl: str) -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    x, label, condition, known = some()
    output = model(x, samples=samples, condition=condition)
    y, code = output.levels
    assert y.kl().shape == (1, len(x), 1)
    assert code.kl().shape == (samples * CLASSES, len(x), LATENT)
    torch.testing.assert_close(output.log_weights.exp().sum(0), torch.ones(len(x), dtype=torch.float64))
    z = code.z.unflatten(0, (samples, CLASSES))
    expected = enumerated(model, x, label, known, z)
    found = output.expectation(output.log_likelihood() - output.rate(kl == "analytic"))
    if kl == "analytic":
        torch.testing.assert_close(found, expected)
    else:  # the same but for the draws
        mean, scale = code.posterior.mean, code.posterior.stddev  # type: ignore[union-attr]
        drawn = log_normal(code.z, mean, scale) - log_normal(code.z, torch.zeros_like(mean), 1.0)
        difference = output.expectation(drawn - code.kl().sum(-1))
        torch.testing.assert_close(found, expected - difference)
    objective = Elbo(samples, kl=kl)  # type: ignore[arg-type]
    loss = objective(output)
    torch.testing.assert_close(loss.value, -found.mean() + loss.terms["classification"])
    torch.testing.assert_close(loss.score, found.mean())


def test_gradients_are_those_of_the_enumeration() -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    model.classifier_weight = 0.0
    x, label, condition, known = some()
    output = model(x, samples=2, condition=condition)
    parameters = list(model.parameters())
    z = output.levels[1].z.unflatten(0, (2, CLASSES))
    wanted = torch.autograd.grad(-enumerated(model, x, label, known, z).mean(), parameters, retain_graph=True)
    for found, expected in zip(torch.autograd.grad(Elbo(2)(output).value, parameters), wanted, strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found, expected)


def test_bound_lies_below_and_is_tight_for_the_exact_posterior() -> None:
    truth = Linear()
    x, label, condition, known = some(40)
    joint = truth.log_joint(x)
    evidence = torch.where(known, joint.gather(1, label[:, None])[:, 0], joint.logsumexp(1))

    def bound(model: SemiSupervisedVAE, samples: int) -> Tensor:
        with torch.no_grad():
            output = model(x, samples=samples, condition=condition)
            return output.expectation(output.log_likelihood() - output.rate(analytic=False))

    exact = truth.model(exact_codes=True, exact_classes=True)
    torch.testing.assert_close(exact.classify(x).detach(), joint.log_softmax(1))
    torch.testing.assert_close(bound(exact, 1), evidence)  # whatever the draw
    for codes, classes in ((False, True), (True, False), (False, False)):
        gap = evidence - bound(truth.model(exact_codes=codes, exact_classes=classes), 2000)
        # Where the label is known, q(y | x) does not matter.
        matters = torch.ones_like(known) if not codes else ~known
        assert gap[matters].min() > -0.02
        assert gap[matters].mean() > 0.05
        if codes:
            torch.testing.assert_close(gap[known], torch.zeros_like(gap[known]), atol=1e-6, rtol=0)


def test_the_gap_of_a_wrong_classifier_is_its_kl() -> None:
    truth = Linear()
    model = truth.model(exact_codes=True, exact_classes=False)
    x = some(20)[0]
    with torch.no_grad():
        output = model(x)
        bound = output.expectation(output.log_likelihood() - output.rate(analytic=False))
        q, joint = model.classify(x), truth.log_joint(x)
    kl = (q.exp() * (q - joint.log_softmax(1))).sum(1)
    assert kl.min() > 1e-3
    torch.testing.assert_close(joint.logsumexp(1) - bound, kl)


@pytest.mark.parametrize("samples", [1, 4])
def test_importance_weights_sum_over_classes(samples: int) -> None:
    """log sum_y 1/S sum_s p(x, y, z) / q(z | x, y): exact for exact codes, whatever q(y | x)."""
    truth = Linear()
    x, label, condition, known = some()
    model = truth.model(exact_codes=True, exact_classes=False)
    output = model(x, samples=samples, condition=condition)
    bound = importance_weighted_bound(log_weights(output), output.log_weights)
    joint = truth.log_joint(x)
    evidence = torch.where(known, joint.gather(1, label[:, None])[:, 0], joint.logsumexp(1))
    torch.testing.assert_close(bound, evidence)
    # And the classifier has no part in it: that of the labels alone is left.
    other = truth.model(exact_codes=False, exact_classes=False)
    other.classifier_weight = 0.0
    Iwae(samples)(other(x, samples=samples, condition=condition)).value.backward()
    for parameter in other.classifier.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-12
    for net in (other.encoder, other.decoder):
        assert all(float(p.grad.abs().max()) > 1e-3 for p in net.parameters() if p.grad is not None)


def test_a_known_label_moves_nothing_of_the_other_classes() -> None:
    """L(x, y) holds neither q(y | x) nor any other class: no gradient to the classifier, nor to their columns."""
    model = Linear().model(exact_codes=False, exact_classes=False)
    model.classifier_weight = 0.0
    x = some()[0]
    condition = F.one_hot(torch.ones(len(x), dtype=torch.int64), CLASSES).double()
    Elbo()(model(x, condition=condition)).value.backward()
    assert all(float(p.grad.abs().max()) == 0 for p in model.classifier.parameters())  # type: ignore[union-attr]
    for net, first in ((model.encoder.net.net, FEATURES), (model.decoder.net.net, LATENT)):  # type: ignore[union-attr]
        gradient = net.weight.grad[:, first:]  # type: ignore[union-attr,index]
        assert float(gradient[:, [0, 2]].abs().max()) == 0  # type: ignore[operator]
        assert float(gradient[:, 1].abs().max()) > 1e-3  # type: ignore[operator]
    model.zero_grad()
    model.classifier_weight = 1.0
    Elbo()(model(x, condition=condition)).value.backward()
    assert all(float(p.grad.abs().max()) > 1e-3 for p in model.classifier.parameters())  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("objective", [Elbo(), Elbo(2, kl="monte-carlo"), Iwae(3)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_nan_in_float32(objective: Elbo | Iwae, share: float) -> None:
    model = SemiSupervisedVAE((4,), 2, condition_shape=(3,), net=NetConfig(width=8), prior="learned")
    with torch.no_grad():  # a classifier that is certain, also of wrong classes
        list(model.classifier.parameters())[-1].copy_(torch.tensor([200.0, 0.0, -200.0]))
    x = torch.rand(8, 4)
    known = torch.arange(8) < 8 * share
    condition = F.one_hot(torch.arange(8) % 3, 3) * known[:, None]
    loss = objective(model(x, samples=objective.samples, condition=condition.float()))
    with torch.autograd.detect_anomaly(check_nan=True):
        loss.value.backward()
    assert math.isfinite(loss.value.item())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(math.isfinite(term.item()) for term in loss.terms.values())


def test_classifier_weight_moves_the_loss_by_the_surprise_at_known_labels() -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    x, label, condition, known = some()
    losses = []
    for weight in (0.0, 0.1, 2.0):
        model.classifier_weight = weight
        torch.manual_seed(1)
        loss = Elbo()(model(x, condition=condition))
        losses.append(loss.value.item())
    surprise = F.cross_entropy(model.classifier(x[known]), label[known]).item()
    assert losses[1] - losses[0] == pytest.approx(0.1 * surprise)
    assert losses[2] - losses[0] == pytest.approx(2 * surprise)
    for nobody in (None, torch.zeros_like(condition)):
        assert model(x, condition=nobody).penalties["classification"].item() == 0
    model.eval()
    for some_or_all in (condition, label, None):
        assert model(x, condition=some_or_all).penalties == {}


@pytest.mark.parametrize("mode", [True, False])
def test_accuracy_is_of_the_rows_that_the_model_was_not_told(mode: bool) -> None:
    model = Linear().model(exact_codes=False, exact_classes=False).train(mode)
    x = some(8)[0]
    guess = model.classify(x).argmax(1)
    truth = guess.clone()
    truth[[1, 2, 4, 5, 6]] += 1  # wrong
    truth %= CLASSES
    told = F.one_hot(truth, CLASSES).double()
    half = told.clone()
    half[[0, 2, 4, 6]] = 0  # told of 1, 3, 5, 7: right among the others is the first of four

    def accuracy(condition: Tensor | None) -> float:
        found = model.report(model(x, condition=condition), truth, condition)
        assert list(found) == ["accuracy"]
        assert not found["accuracy"].requires_grad
        return found["accuracy"].item()

    assert accuracy(half) == 1 / 4
    assert accuracy(None) == accuracy(torch.zeros_like(told)) == 3 / 8
    assert accuracy(told) == accuracy(truth) == 3 / 8  # all are told: of all, and not the 1 of what was told
    assert model.report(model(x, condition=half), None, half) == {}


def test_no_condition_is_that_of_zeros_and_labels_are_one_hot() -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    x, label, condition, _ = some()

    def score(given: Tensor | None) -> float:
        torch.manual_seed(2)
        return Elbo()(model(x, condition=given)).score.item()

    assert score(None) == score(torch.zeros_like(condition))
    assert score(label) == score(F.one_hot(label, CLASSES).double())
    assert score(None) != score(label)


@pytest.mark.parametrize("objective", [Elbo(), Iwae(2)])
def test_no_device_has_to_be_waited_for(objective: Elbo | Iwae) -> None:
    """Tensors without values: whatever looks at one, as to pick rows by whether they have labels, is an error."""
    model = SemiSupervisedVAE((4,), 2, condition_shape=(3,), net=NetConfig(width=8), prior="learned").to("meta")
    x, condition = torch.empty(6, 4, device="meta"), torch.empty(6, 3, device="meta")
    loss = objective(model(x, samples=objective.samples, condition=condition))
    loss.value.backward()
    output = model(x, samples=objective.samples, condition=condition)
    accuracy = model.report(output, torch.empty(6, dtype=torch.int64, device="meta"), condition)["accuracy"]
    for value in (loss.value, accuracy):
        with pytest.raises((RuntimeError, NotImplementedError)):
            value.item()


def test_training_with_a_few_labels() -> None:
    data = load_data("digits", transform="none", condition="label", labelled=50)
    config = ModelConfig(
        kind="semi-supervised",
        latent=2,
        likelihood="bernoulli",
        net=NetConfig(kind="mlp", width=32),
        classifier_weight=0.7,
    )
    model = make_model(config, data)
    assert isinstance(model, SemiSupervisedVAE)
    assert model.classifier_weight == 0.7
    assert model.config == config
    history = train(model, data, quiet=True, epochs=4, lr=5e-3)
    assert history["train/classification"][-1] < 0.75 * history["train/classification"][0]
    assert history["valid/elbo"][-1] > history["valid/elbo"][0]
    assert "valid/classification" not in history  # no label is known there
    assert history["train/accuracy"][-1] > history["train/accuracy"][0]
    test = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        assert (model.classify(test.x).argmax(1) == test.label).double().mean() > 0.5
    again = make_model(config, data)
    again.load_state_dict(model.state_dict())
    assert isinstance(again, SemiSupervisedVAE)
    assert torch.equal(again.classify(test.x), model.classify(test.x))


def test_uniform_prior_by_default_and_a_point_mass_costs_log_k() -> None:
    model = SemiSupervisedVAE((4,), 2, condition_shape=(5,), net=NetConfig(width=8))
    level = model(torch.rand(3, 4), condition=torch.tensor([0, 4, 2])).levels[0]
    torch.testing.assert_close(level.kl()[0, :, 0], torch.full((3,), math.log(5)))
    assert "class_log_prior" in model.state_dict()


def test_class_posterior_has_the_kl_of_torch_and_finite_gradients() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    q = ClassPosterior(logits=logits)
    p = torch.distributions.Categorical(probs=torch.tensor(PRIOR, dtype=torch.float64))
    expected = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=logits), p)
    torch.testing.assert_close(torch.distributions.kl_divergence(q, p), expected)
    ruled_out = torch.zeros(3, dtype=torch.float64).masked_fill(torch.tensor([False, True, True]), -torch.inf)
    some_logits = ruled_out + logits
    kl = torch.distributions.kl_divergence(ClassPosterior(logits=some_logits), p)
    torch.testing.assert_close(kl, torch.full((4,), -math.log(PRIOR[0]), dtype=torch.float64))
    kl.sum().backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_codes_and_reconstructions_are_means_under_the_classifier() -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    x, label, condition, known = some()
    with torch.no_grad():
        q = model.classify(x).exp()
        of_class = [posterior_of_class(model, x, y) for y in range(CLASSES)]
        decoded = [
            model.decoder(n.loc, F.one_hot(torch.full((len(x),), y), CLASSES).double()).mean
            for y, n in enumerate(of_class)
        ]
    weights = torch.where(known[:, None], F.one_hot(label, CLASSES).double(), q)
    mean = sum(weights[:, y, None] * n.loc for y, n in enumerate(of_class))
    second = sum(weights[:, y, None] * (n.loc**2 + n.scale**2) for y, n in enumerate(of_class))
    assert isinstance(mean, Tensor)
    assert isinstance(second, Tensor)
    torch.testing.assert_close(model.encode(x, condition).detach(), mean)
    torch.testing.assert_close(model.posterior(x, condition).variance.detach(), second - mean**2)
    expected = sum(weights[:, y, None] * image for y, image in enumerate(decoded))
    torch.testing.assert_close(model.reconstruct(x, condition), expected)
    walk = model.interpolate(x[1], x[3], 5)
    torch.testing.assert_close(walk[[0, -1]], _at_mean_codes(model, x[[1, 3]]))
    told = model.interpolate(x[1], x[3], 5, condition=torch.tensor(2))
    ends = model.encode(x[[1, 3]], torch.tensor([2, 2]))
    torch.testing.assert_close(told[[0, -1]], model.decode(ends, torch.tensor(2)).detach())


def posterior_of_class(model: SemiSupervisedVAE, x: Tensor, y: int) -> Normal:
    """q(z | x, y) from the encoder itself."""
    found = model.encoder(x, F.one_hot(torch.full((len(x),), y), CLASSES).double())
    assert isinstance(found, Normal)
    return found


def _at_mean_codes(model: SemiSupervisedVAE, x: Tensor) -> Tensor:
    """What the mean code under q(y | x) decodes to, averaged over q(y | x)."""
    with torch.no_grad():
        codes, q = model.encode(x), model.classify(x).exp()
        images = [model.decode(codes, torch.tensor(y)) for y in range(CLASSES)]
        return torch.stack([q[:, y, None] * image for y, image in enumerate(images)]).sum(0)


def test_decoding_without_a_label_averages_over_p_of_y() -> None:
    model = Linear().model(exact_codes=True, exact_classes=True)
    z = torch.randn(2, 3, LATENT, dtype=torch.float64)
    truth = Linear()
    expected = z @ truth.w.T + torch.tensor(PRIOR, dtype=torch.float64) @ truth.m
    torch.testing.assert_close(model.decode(z).detach(), expected)
    part = torch.zeros(3, CLASSES, dtype=torch.float64)
    part[1, 2] = 1
    expected[:, 1] = z[:, 1] @ truth.w.T + truth.m[2]
    torch.testing.assert_close(model.decode(z, part).detach(), expected)
    torch.testing.assert_close(model.decode(z[0, 0], torch.tensor(1)).detach(), z[0, 0] @ truth.w.T + truth.m[1])


def test_samples_have_the_means_of_the_model() -> None:
    truth = Linear()
    model = truth.model(exact_codes=True, exact_classes=True)
    n = 20_000
    drawn = model.sample(n)
    means = torch.tensor(PRIOR, dtype=torch.float64) @ truth.m
    error = 5 * drawn.std(0) / math.sqrt(n)
    assert ((drawn.mean(0) - means).abs() < error).all()
    between = truth.m.T @ (torch.tensor(PRIOR, dtype=torch.float64)[:, None] * truth.m) - means.outer(means)
    torch.testing.assert_close(drawn.T.cov(), truth.w @ truth.w.T + between, atol=0.1, rtol=0)
    of_class = model.sample(n, condition=torch.tensor(2))
    assert ((of_class.mean(0) - truth.m[2]).abs() < 5 * of_class.std(0) / math.sqrt(n)).all()
    some_known = torch.zeros(n, CLASSES, dtype=torch.float64)
    some_known[: n // 2, 1] = 1
    mixed = model.sample(n, condition=some_known)
    assert ((mixed[: n // 2].mean(0) - truth.m[1]).abs() < 0.1).all()
    assert ((mixed[n // 2 :].mean(0) - means).abs() < 0.1).all()


def test_neighbours_are_draws_of_the_posterior() -> None:
    truth = Linear()
    model = truth.model(exact_codes=True, exact_classes=True)
    x, _, condition, known = some(4)
    n = 20_000
    near = model.neighbours(x, n)
    assert near.shape == (n, 4, FEATURES)
    torch.testing.assert_close(near.mean(0), model.reconstruct(x), atol=0.06, rtol=0)
    told = model.neighbours(x, n, condition)
    torch.testing.assert_close(told.mean(0), model.reconstruct(x, condition), atol=0.06, rtol=0)
    assert (told.std(0)[known] < near.std(0)[known] + 0.03).all()


def test_learned_prior_is_that_of_each_class() -> None:
    model = SemiSupervisedVAE((4,), 2, condition_shape=(3,), net=NetConfig(width=8), prior="learned")
    prior = model(torch.rand(5, 4), samples=2).levels[1].prior
    assert isinstance(prior, Normal)
    own = model.prior(torch.arange(3))
    torch.testing.assert_close(prior.loc, own.loc[:, None].repeat(2, 1, 1))
    torch.testing.assert_close(prior.scale, own.scale[:, None].repeat(2, 1, 1))
    # p(y | z) by Bayes' rule.
    z = torch.randn(6, 2)
    log_p = torch.stack([Normal(own.loc[y], own.scale[y]).log_prob(z).sum(-1) for y in range(3)], 1).softmax(1)
    images = torch.stack([model.decode(z, torch.tensor(y)) for y in range(3)], 1)
    torch.testing.assert_close(model.decode(z), (log_p[..., None] * images).sum(1))


def test_masked_values_do_not_count() -> None:
    model = Linear().model(exact_codes=False, exact_classes=False)
    x, _, condition, _ = some()
    mask = torch.ones(1, FEATURES, dtype=torch.float64)
    mask[:, 2:] = 0
    torch.manual_seed(3)
    part = model(x, condition=condition, mask=mask)
    torch.manual_seed(3)
    whole = model(x, condition=condition)
    expected = whole.likelihood.log_prob(whole.target)[..., :2].sum(-1)
    torch.testing.assert_close(part.log_likelihood(), expected)


def test_images_of_any_net_and_conditioning() -> None:
    for net, conditioning in (("conv", "film"), ("resnet", "concat"), ("mlp", "embedding")):
        model = SemiSupervisedVAE(
            (1, 8, 8), 2, condition_shape=(3,), net=NetConfig(kind=net, width=4), conditioning=conditioning
        )
        x = torch.rand(4, 1, 8, 8)
        condition = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()
        condition[2:] = 0
        Elbo(2)(model(x, samples=2, condition=condition)).value.backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.reconstruct(x).shape == x.shape
        assert model.config is not None
        assert (model.config.kind, model.config.conditioning) == ("semi-supervised", conditioning)


def test_bad_arguments() -> None:
    for shape in ((), (1,), (3, 4)):
        with pytest.raises(ValueError, match="condition_shape should be"):
            SemiSupervisedVAE((4,), 2, condition_shape=shape)
    with pytest.raises(ValueError, match="classifier_weight"):
        SemiSupervisedVAE((4,), 2, condition_shape=(3,), classifier_weight=-1.0)
    for prior in ((0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.5, 0.5)):
        with pytest.raises(ValueError, match="class_prior should be 3 positive numbers"):
            SemiSupervisedVAE((4,), 2, condition_shape=(3,), class_prior=prior)
    model = SemiSupervisedVAE((4,), 2, condition_shape=(3,))
    for call in (model.classify, model.encode, model.reconstruct):
        with pytest.raises(ValueError, match="x should have shape"):
            call(torch.rand(2, 5))
    with pytest.raises(ValueError, match="condition should have"):
        model(torch.rand(2, 4), condition=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="2 numbers"):
        model.decode(torch.randn(4, 5))
    with pytest.raises(ValueError, match="n should be"):
        model.sample(0)


def test_four_labels_are_enough_for_two_clouds() -> None:
    """Two long parallel clouds, two labels in each at places that mislead who knows only those."""
    generator = torch.Generator().manual_seed(0)
    n = 200
    label = torch.arange(n) % 2
    along = 1.5 * torch.randn(n, generator=generator)
    across = (2 * label - 1) + 0.15 * torch.randn(n, generator=generator)
    x = torch.stack([along, across], 1)
    chosen = [int(i) for y in (0, 1) for i in torch.where((label == y) & (along * (2 * y - 1) > 0.3))[0][:2]]
    condition = torch.zeros(n, 2)
    condition[chosen, label[chosen]] = 1
    torch.manual_seed(0)
    model = SemiSupervisedVAE(
        (2,),
        1,
        condition_shape=(2,),
        likelihood="gaussian",
        sigma=0.2,
        net=NetConfig(width=16, activation="softplus"),
        classifier_weight=5.0,
    )
    alone = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 2))
    for net, loss_of in (
        (model, lambda: Elbo()(model(x, condition=condition)).value),
        (alone, lambda: F.cross_entropy(alone(x[chosen]), label[chosen])),
    ):
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(300):
            optimiser.zero_grad()
            loss_of().backward()
            optimiser.step()
    rest = torch.ones(n, dtype=torch.bool)
    rest[chosen] = False
    with torch.no_grad():
        accuracy = (model.classify(x).argmax(1) == label)[rest].double().mean().item()
        labels_alone = (alone(x).argmax(1) == label)[rest].double().mean().item()
    assert accuracy > 0.95
    assert labels_alone < 0.9
    assert isinstance(model, EncoderDecoder)
