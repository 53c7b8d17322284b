"""What errors of a log joint are told with: whose type it is, what was not cut, why it is slow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from jensen.errors import NotConvergedWarning
from jensen.inference import FitResult, Model, amortised, fit, positive, real
from jensen.inference.fit import prepare

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))  # of single precision
Y = torch.tensor([0, 1, 1, 0, 1, 0])
GLOBAL = torch.eye(2)


def note(*arguments: Any, **options: Any) -> str:
    """What is added to the error that a fit ends in."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - torch's own, whatever it is
        fit(*arguments, **options)
    return "; ".join(getattr(caught.value, "__notes__", []))


def rows(log_joint: Callable[[Any, Any], Any], latents: Mapping[str, Any] | None = None, **options: Any) -> Model:
    return Model(latents or {"beta": real(2)}, log_joint, plates={"rows": 6}, **options)


def short(*arguments: Any, **options: Any) -> FitResult:
    """A fit of two steps: it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        return fit(*arguments, method="stochastic", max_steps=2, pilot=False, **options)


# --- precisions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False])
def test_a_module_of_single_precision_is_named(given: bool) -> None:
    decoder = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).float()

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"z": Normal(0, 1).log_prob(z.beta).sum(1), "x": Normal(decoder(z.beta), 1.0).log_prob(data.x).sum(1)}

    model = rows(log_joint, {"beta": real(2, plate="rows")}, parameters=decoder if given else None)
    told = note(model, {"x": X})
    assert "; latents are float64, but module decoder (Sequential) has parameters of float32" in told
    assert told.endswith("call decoder.double()")
    decoder.double()
    assert short(model, {"x": X}).method == "stochastic"  # that was it


def test_a_module_that_is_an_attribute_is_told_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 1).half()

        def forward(self, z: Tensor) -> Tensor:
            found: Tensor = self.inner(z)
            return found

    class Holder:
        def __init__(self) -> None:
            self.net = Net()

        def log_joint(self, z: Any, data: Any) -> Tensor:
            return Normal(self.net(z.beta), 1.0).log_prob(data.x).sum()

    told = note(rows(Holder().log_joint), {"x": X.double()})
    assert "a module (Net) has parameters of float16: call it.double()" in told


def test_an_encoder_of_single_precision_is_told() -> None:
    encoder = nn.Linear(2, 4).float()

    def log_joint(z: Any, data: Any) -> Tensor:
        return Normal(0, 1).log_prob(z.beta).sum(-1) + Normal(z.beta, 1.0).log_prob(data.x).sum(-1)

    model = rows(log_joint, {"beta": real(2, plate="rows")})
    told = note(model, {"x": X.double()}, amortised({"beta": encoder}, inputs="x"))
    assert "while q was made of the data; latents are float64" in told
    assert "double()" in told


@pytest.mark.parametrize(
    ("log_joint", "data", "parameters", "words"),
    [
        (lambda z, data: (data.x @ z.beta).sum(), {"x": X}, None, "data x is float32: give .double()"),
        (lambda z, data: (data @ z.beta).sum(), X, None, "the data are float32: give .double()"),
        (lambda z, data: (GLOBAL @ z.beta).sum(), {"x": X.double()}, None, "GLOBAL is float32: give .double()"),
        (lambda z, data: (z.w @ z.beta).sum(), {}, {"w": torch.eye(2)}, "parameter w is float32: give .double()"),
    ],
)
def test_what_is_of_single_precision_is_named(log_joint: Any, data: Any, parameters: Any, words: str) -> None:
    told = note(Model({"beta": real(2)}, log_joint, parameters), data)
    assert f"; latents are float64, but {words}" in told


@pytest.mark.parametrize("tensor", [True, False])
def test_whole_numbers_where_floating_ones_are_meant(tensor: bool) -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        y = data if isinstance(data, Tensor) else data.y
        return Bernoulli(logits=z.beta[0] + torch.zeros(6)).log_prob(y).sum() + Normal(0, 1).log_prob(z.beta).sum()

    told = note(rows(log_joint), Y if tensor else {"y": Y.numpy(), "sigma": 2.0})
    what = "the data are int64: where a floating number is meant, give data.double()"
    assert (what if tensor else "data y is int64: where a floating number is meant, give y.double()") in told
    assert fit(rows(log_joint), Y.double() if tensor else {"y": Y.double()}, n_starts=1).converged


@pytest.mark.parametrize(
    "wrong",
    [
        lambda z, data: Normal(z.gone, 1.0).log_prob(data.x).sum(),
        lambda z, data: (data.x.double() @ torch.ones(3).double()).sum() + z.beta.sum(),
        lambda z, data: Normal(z.beta[0], -1.0).log_prob(data.x).sum(),
    ],
    ids=["name", "shapes", "support"],
)
def test_other_errors_have_no_advice_about_types(wrong: Any) -> None:
    told = note(rows(wrong), {"x": X, "y": Y})
    assert told.startswith("while the log joint was run on latents beta (2,) and data x (6, 2), y (6,)")
    for word in ("float", "double", "int64", "torch"):
        assert word not in told


def test_numpy_in_a_log_joint_is_told_to_stay_in_torch() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        return torch.as_tensor(np.log(z.tau.numpy())) - z.tau

    told = note(Model({"tau": positive()}, log_joint))
    assert "; the log joint must stay in torch (torch.log, not numpy.log)" in told


# --- minibatches ------------------------------------------------------------------------------------------------------


def test_a_latent_that_is_not_cut_with_the_rows_is_named() -> None:
    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"eta": Normal(0, 1).log_prob(z.eta).sum(), "y": Normal(z.eta, 1.0).log_prob(data.y)}

    told = note(rows(log_joint, {"mu": real(), "eta": real(6)}), {"y": Y.double()}, batch_size=4)
    assert not told  # mu enters no term: that is said first
    told = note(rows(log_joint, {"eta": real(6)}), {"y": Y.double()}, batch_size=4)
    assert told.startswith("while the log joint was run on a minibatch, 4 of the 6 rows: data y (4,); ")
    assert "latent 'eta' is not cut with them: declare 'eta' with plate='rows' if it has one of each row, or " in told
    assert told.endswith("take z.eta[data.index]")

    def cut(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"eta": Normal(0, 1).log_prob(z.eta), "y": Normal(z.eta, 1.0).log_prob(data.y)}

    assert short(rows(cut, {"eta": real(plate="rows")}), {"y": Y.double()}, batch_size=4).method == "stochastic"


def test_a_constant_that_is_not_cut_with_the_rows_is_told() -> None:
    offsets = torch.arange(6.0).double()

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"mu": Normal(0, 1).log_prob(z.mu), "y": Normal(z.mu + offsets, 1.0).log_prob(data.y)}

    told = note(rows(log_joint, {"mu": real()}), {"y": Y.double()}, batch_size=4)
    assert told.endswith("what has 6 rows and is no entry of the data must be cut too: take [data.index] of it")


# --- draw by draw -----------------------------------------------------------------------------------------------------


def branching(z: Any, data: Any) -> Tensor:
    return Normal(0.0, 1.0).log_prob(z.mu) * (1.0 if z.mu > 0 else 2.0)


def plain_number(z: Any, data: Any) -> Tensor:
    return Normal(0.0, 1.0).log_prob(z.mu) - 0.0 * float(z.mu)


def random(z: Any, data: Any) -> Tensor:
    return Normal(0.0, 1.0).log_prob(z.mu) + 0.0 * torch.rand(())


@pytest.mark.parametrize(
    ("log_joint", "reason"),
    [
        (branching, "it branches on the value of a draw, for which torch.where is made"),
        (plain_number, "it takes a plain number, .item() or float(), of a draw, through which no gradient passes"),
        (random, "vmap: called random operation while in randomness error mode"),
    ],
)
def test_why_a_log_joint_is_run_draw_by_draw(log_joint: Any, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own, of float(z.mu)
        target = prepare(Model({"mu": real()}, log_joint)).target
    assert not target.vectorised
    assert target.slow == f"the log joint cannot be vectorised ({reason}): it is run draw by draw, slowly"


def test_the_summary_says_once_what_is_slow() -> None:
    result = short(Model({"mu": real()}, branching))
    assert str(result.summary()).count(str(result.target.slow)) == 1
    result = short(Model({"mu": real()}, lambda z, data: Normal(0.0, 1.0).log_prob(z.mu)))
    assert result.target.slow is None
    assert "vectorised" not in str(result.summary())
