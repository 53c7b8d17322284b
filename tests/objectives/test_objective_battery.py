"""What every objective must pass, whatever its price for the code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Output
from jensen.config import KNOBS, NetConfig, ObjectiveConfig, Schedule, TrainConfig
from jensen.data import Batch, Data, load_data
from jensen.errors import ConfigError
from jensen.objectives import Context, Elbo, Loss, Objective, make_objective
from jensen.training import make_optimiser, train
from jensen.training.step import TrainingStep

Forms = dict[str, Callable[[], tuple[Output, dict[str, Tensor]]]]

KINDS = [kind for kind in KNOBS if kind != "iwae"]
NOT_FOR_LEVELS = {"total-correlation"}
"""Those that say so of a model with several levels."""
SMALL = {"factor": {"discriminator_width": 16, "discriminator_depth": 2}}
CONTEXT = Context(step=300, dataset_size=100)

PRICES: dict[str, Callable[[Tensor, dict[str, Tensor], ObjectiveConfig], Tensor]] = {
    "elbo": lambda rate, t, o: rate,
    "beta": lambda rate, t, o: o.beta * rate,
    "capacity": lambda rate, t, o: o.gamma * (rate - t["capacity"]).abs(),
    "total-correlation": lambda rate, t, o: (
        o.alpha * t["mutual_information"] + o.beta * t["total_correlation"] + o.gamma * t["dimension_wise_kl"]
    ),
    "factor": lambda rate, t, o: rate + o.gamma * t["total_correlation"],
    "dip": lambda rate, t, o: rate + t["dip_off_diagonal"] + t["dip_diagonal"],
    "free-bits": lambda rate, t, o: rate + t["unused_free_bits"],
    "balanced": lambda rate, t, o: t["balanced_rate"],
    "mmd": lambda rate, t, o: (1 - o.alpha) * rate + (o.alpha + o.mmd_weight - 1) * t["mmd"],
}
"""The price of each from the rate of the code and what is logged."""


def price_of(kind: str, loss: Loss, chosen: ObjectiveConfig) -> Tensor:
    """That of the code, and the KL of enumerated labels as it is."""
    labels = loss.terms.get("label_kl", torch.zeros((), dtype=torch.float64))
    return PRICES[kind](loss.terms["rate"] - labels, dict(loss.terms), chosen) + labels


def config(kind: str, **knobs: Any) -> ObjectiveConfig:
    return ObjectiveConfig(kind=kind, **{**SMALL.get(kind, {}), **knobs})


def objective(kind: str, latent: int = 3, **knobs: Any) -> Objective:
    """With weights of its own, where it has them, as after some training."""
    chosen = make_objective(config(kind, **knobs), latent).double()
    torch.manual_seed(1)
    for parameter in chosen.parameters():
        nn.init.normal_(parameter, std=0.5)
    return chosen


def called(chosen: Objective, output: Output, context: Context = CONTEXT) -> Loss:
    torch.manual_seed(2)
    return chosen(output, context)


def suits(kind: str, form: str) -> bool:
    return kind not in NOT_FOR_LEVELS or "two levels" not in form


def latent(form: str) -> int:
    return 5 if "two levels" in form else 3


CASES = [
    (kind, form)
    for kind in KINDS
    for form in (
        "simple",
        "three samples",
        "learned prior",
        "learned prior, three samples",
        "two levels",
        "two levels, three samples",
        "enumerated",
    )
    if suits(kind, form)
]


def test_every_objective_is_in_the_battery() -> None:
    assert set(PRICES) == set(KINDS)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_the_loss_is_distortion_and_price(kind: str, form: str, forms: Forms) -> None:
    """The logged terms make up the loss and the score; all are finite, and every part of the model is moved."""
    output, leaves = forms[form]()
    loss = called(objective(kind, latent(form)), output)
    distortion = -output.average(output.log_likelihood())
    torch.testing.assert_close(loss.value, distortion + price_of(kind, loss, config(kind)), rtol=1e-9, atol=1e-9)
    assert ("label_kl" in loss.terms) == (form == "enumerated")
    torch.testing.assert_close(
        loss.terms["elbo"], -distortion - output.average(output.rate(kind != "total-correlation"))
    )
    assert all(torch.isfinite(term) and not term.requires_grad for term in (*loss.terms.values(), loss.score))
    if kind != "capacity":  # whose C is not yet at its end
        torch.testing.assert_close(loss.score, -loss.value.detach())
    gradients = torch.autograd.grad(loss.value, list(leaves.values()))
    for name, gradient in zip(leaves, gradients, strict=True):
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).any(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_a_known_label_costs_the_same_whatever_the_objective(kind: str, weight: float) -> None:
    """Its KL is -log p(y): added at weight 1, so that no knob weighs it, and no floor and no target sees it."""
    knobs = {knob: other(kind, knob) for knob in KNOBS[kind] if isinstance(KNOBS[kind][knob], float)}
    knobs |= {"alpha": 0.5} if kind == "mmd" else {}
    torch.manual_seed(9)
    choices = {"net": NetConfig(width=8), "likelihood": "gaussian", "condition_shape": (4,)}
    x, label = torch.randn(8, 5, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[torch.arange(8) % 4]
    models = [SemiSupervisedVAE((5,), 3, class_prior=p, **choices).double() for p in (None, [0.7, 0.1, 0.1, 0.1])]
    models[1].load_state_dict({**models[0].state_dict(), "class_log_prior": models[1].class_log_prior})
    losses = []
    for model in models:
        torch.manual_seed(10)
        output = model(x, condition=label)
        losses.append(called(objective(kind, kl_weight=Schedule(end=weight), **knobs), output))
    kls = [math.log(4), -(math.log(0.7) + 3 * math.log(0.1)) / 4]
    for loss, kl in zip(losses, kls, strict=True):
        assert loss.terms["label_kl"].item() == pytest.approx(kl)
        assert loss.terms["elbo"].item() == pytest.approx(-(loss.terms["distortion"] + loss.terms["rate"]).item())
    assert (losses[1].value - losses[0].value).item() == pytest.approx(weight * (kls[1] - kls[0]), abs=1e-6)
    assert (losses[1].terms["rate"] - losses[0].terms["rate"]).item() == pytest.approx(kls[1] - kls[0], abs=1e-6)
    assert (losses[0].score - losses[1].score).item() == pytest.approx(kls[1] - kls[0], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    """In double precision, of a code that moves along a line, with the same noise each time."""
    torch.manual_seed(4)
    start, way = torch.randn(6, 6, dtype=torch.float64), torch.randn(6, 6, dtype=torch.float64)
    chosen = objective(kind, gamma=3.0) if kind in ("capacity", "factor") else objective(kind)
    model = VAE((4,), 3, likelihood="gaussian", encoder=nn.Identity(), decoder=nn.Linear(3, 4)).double()
    target = torch.randn(6, 4, dtype=torch.float64)
    model.shape = (6,)

    def value(t: Tensor) -> Tensor:
        torch.manual_seed(3)
        return chosen(model(start + t * way, target), CONTEXT).value

    assert torch.autograd.gradcheck(value, torch.zeros((), dtype=torch.float64, requires_grad=True), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(kind="linear", start=0.0, end=2.0, steps=10),
        Schedule(kind="cyclical", start=0.0, end=1.0, steps=8, cycles=2),
    ],
)
def test_warm_up_weighs_the_price(kind: str, schedule: Schedule, forms: Forms) -> None:
    output, _ = forms["simple"]()
    distortion = -output.log_likelihood().mean()
    weights = []
    for step in (0, 1, 3, 5, 6, 99):
        context = Context(step=step, dataset_size=100)
        plain, warm = (called(objective(kind, **knobs), output, context) for knobs in ({}, {"kl_weight": schedule}))
        weights.append(((warm.value - distortion) / (plain.value - distortion)).item())
        assert warm.score.item() == plain.score.item()
    assert weights == pytest.approx([schedule(step) for step in (0, 1, 3, 5, 6, 99)], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_penalties_are_added(kind: str, forms: Forms) -> None:
    output, _ = forms["simple"]()
    penalised = replace(output, penalties={"spectral": torch.tensor(2.5, dtype=torch.float64)})
    plain, found = (called(objective(kind), made) for made in (output, penalised))
    assert (found.value - plain.value).item() == pytest.approx(2.5)
    assert found.score.item() == plain.score.item()
    assert found.terms["spectral"].item() == 2.5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "elbo"])
def test_a_deterministic_model_is_refused(kind: str) -> None:
    model = AutoEncoder((4,), 3, likelihood="gaussian").double()
    with pytest.raises(ValueError, match="needs a posterior, but every level of the model is deterministic"):
        called(objective(kind), model(torch.randn(6, 4, dtype=torch.float64)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_is_not_scored(kind: str, forms: Forms) -> None:
    output, _ = forms["three samples"]()
    mask = torch.ones(1, 8, 5, dtype=torch.float64)
    mask[:, :, 3:] = 0
    blind = output.target.clone()
    blind[:, :, 3:] = math.nan
    whole, masked = (called(objective(kind), made) for made in (output, replace(output, target=blind, mask=mask)))
    missing = -output.likelihood.log_prob(output.target)[:, :, 3:].sum(-1).mean()
    assert (whole.value - masked.value).item() == pytest.approx(missing.item(), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_any_shape(kind: str, made: Callable[..., Any]) -> None:
    """Latents arranged as an image are as good as the same in a row."""
    torch.manual_seed(5)
    image, _ = made(2, 8, (2, 3))
    torch.manual_seed(5)
    row, _ = made(2, 8, (6,))
    found, expected = (called(objective(kind, 6), output).value for output in (image, row))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("capacity", "total-correlation")])
def test_a_last_batch_of_one(kind: str, made: Callable[..., Any]) -> None:
    """Validation may end with one example, of which there is no pair and no covariance."""
    output, _ = made(1, 1)
    assert torch.isfinite(called(objective(kind), output).value)


@pytest.fixture(scope="module")
def digits() -> dict[str, Data]:
    return {name: load_data("digits", transform=name, limit=48) for name in ("none", "binarise")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian-learned", "discretised-logistic"])
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_it_trains(kind: str, likelihood: str, net: str, digits: dict[str, Data]) -> None:
    data = digits["binarise" if likelihood == "bernoulli" else "none"]
    model = VAE((1, 8, 8), 3, net=NetConfig(kind=net, width=4), likelihood=likelihood, levels=data.levels)
    chosen = make_objective(config(kind, samples=2), 3)
    before = {name: value.clone() for name, value in (*model.named_parameters(), *chosen.named_parameters())}
    history = train(model, data, chosen, epochs=1, batch_size=16, accelerator="cpu", quiet=True)
    after = dict((*model.named_parameters(), *chosen.named_parameters()))
    assert all(math.isfinite(history[name][0]) for name in history)
    assert {f"train/{name}" for name in ("loss", "elbo", "distortion", "rate")} <= history.keys()
    assert all((after[name] != value).any() for name, value in before.items())


def other(kind: str, knob: str) -> Any:
    """Another value of a knob than its default, whatever its type."""
    default = KNOBS[kind][knob]
    if isinstance(default, str):
        literal = ObjectiveConfig.model_fields[knob].annotation
        choices = [choice for part in get_args(literal) for choice in get_args(part)]
        return next(choice for choice in choices if choice != default)
    return type(default)(default * 2) if default else 0.25


@pytest.mark.parametrize(("kind", "knob"), [(kind, knob) for kind, knobs in KNOBS.items() for knob in knobs])
def test_every_knob_moves_the_loss(kind: str, knob: str) -> None:
    """After three small steps of training, half-way along C's rise."""
    found = []
    x = torch.randn(16, 4)
    for knobs in ({}, {knob: other(kind, knob)}, {}):
        torch.manual_seed(6)
        model = VAE((4,), 3, net=NetConfig(width=8), likelihood="gaussian")
        small = {} if knob.startswith("discriminator_") else {"discriminator_width": 16}
        chosen = make_objective(ObjectiveConfig(kind=kind, **({**small, **knobs} if kind == "factor" else knobs)), 3)
        optimiser = make_optimiser(TrainConfig(lr=1e-4), model, chosen)
        step = TrainingStep(model, chosen, 100)
        for _ in range(3):
            optimiser.zero_grad()
            torch.manual_seed(7)
            loss, _ = step(Batch(x, x, None, torch.arange(16), None), 50_000)
            loss.backward()
            optimiser.step()
        torch.manual_seed(8)
        _, logged = step(Batch(x, x, None, torch.arange(16), None), 50_000)
        found.append(logged[0].item())
    assert found[0] == found[2]
    assert abs(found[1] - found[0]) > 1e-5 * abs(found[0])


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        ("mmd", {"alpha": 1.5}, "alpha should be at most 1"),
        ("mmd", {"alpha": 0.5, "mmd_weight": 0.03}, r"alpha \+ mmd_weight should be at least 1"),
    ],
)
def test_knobs_that_do_not_go_together(kind: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_objective(ObjectiveConfig(kind=kind, **knobs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_reaches_the_objective(kind: str) -> None:
    schedule = Schedule(kind="linear", steps=7)
    chosen = make_objective(config(kind, samples=3, kl_weight=schedule), 3)
    assert isinstance(chosen, Elbo)
    assert chosen.samples == 3
    assert chosen.kl_weight == schedule
    assert chosen.analytic == (kind != "total-correlation")
    if kind != "total-correlation":
        sampled = make_objective(config(kind, kl="monte-carlo"), 3)
        assert isinstance(sampled, Elbo)
        assert not sampled.analytic
    assert isinstance(chosen.describe(3, 64), str)
