"""Enumeration against sums written out, side by side and jointly, alone and with continuous latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from gradient_cases import (
    Categoricals,
    Counts,
    Normals,
    brute_force,
    flat_gradient,
    gradient_draws,
    normal,
    parameters,
    worst_z,
)
from torch import Tensor

from jensen.gradients.configurations import evaluations
from jensen.gradients.enumeration import Enumeration
from jensen.gradients.estimator import Estimator
from jensen.gradients.mixed import Mixed, automatic
from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import FactorPosterior, Posterior
from jensen.gradients.score_function import ScoreFunction

ROWS = torch.tensor([-1.5, -0.9, 0.3, 2.0], dtype=torch.float64)
ALIGNED = {"prior": {"z": "aligned"}, "likelihood": {"z": "aligned", "mu": "mixed"}, "centres": {"mu": "mixed"}}


class Counted:
    """How many draws a log joint was run on."""

    def __init__(self, terms: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> None:
        self.terms, self.draws = terms, 0

    def __call__(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        self.draws += len(next(iter(values.values())))
        return self.terms(values)


def mixture_terms(weights: Tensor, mu: Tensor | None = None) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Rows x_i ~ N(mu[z_i], 1), z_i ~ softmax(weights), mu_k ~ N(0, 2^2); mu drawn unless it is given."""

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z = values["z"]
        centres = values["mu"] if mu is None else mu.expand(len(z), -1)
        likelihood = normal(ROWS, centres.gather(1, z))
        prior = normal(centres, 0.0, torch.tensor(2.0).log()).sum(1)
        return {"prior": weights.log_softmax(0)[z], "likelihood": likelihood, "centres": prior}

    return terms


def mixture_bound(weights: Tensor, loc: Tensor, log_scale: Tensor, logits: Tensor) -> Tensor:
    """The mixture's exact bound under q(mu) q(z)."""
    log_r = logits.log_softmax(1)
    square = (ROWS[:, None] - loc).square() + (2 * log_scale).exp()
    half = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    rows = (log_r.exp() * (weights.log_softmax(0) - half - 0.5 * square - log_r)).sum()
    prior = (-half - torch.tensor(2.0, dtype=torch.float64).log() - (loc.square() + (2 * log_scale).exp()) / 8).sum()
    return rows + prior + (log_scale + 0.5 + half).sum()


def test_rows_side_by_side_equal_the_joint_sum() -> None:
    weights, mu, logits = parameters((3,), (3,), (4, 3))
    terms = mixture_terms(weights, mu)
    factor = Categoricals("z", logits, "rows")
    exact = brute_force([factor], terms)
    for dependence, cost in ((ALIGNED, 3), (None, 81), ({"prior": {"z": "aligned"}}, 84)):
        counted = Counted(terms)
        found = Enumeration().estimate(Posterior([factor]), counted, 7, dependence=dependence)
        assert counted.draws == cost
        torch.testing.assert_close(found.elbo, exact.detach())
        torch.testing.assert_close(
            flat_gradient(found.surrogate, [weights, mu, logits]), flat_gradient(exact, [weights, mu, logits])
        )
        torch.testing.assert_close(found.per_draw, exact.expand(7))
    assert evaluations([factor], ALIGNED) == 3


def test_latents_that_meet_in_one_term() -> None:
    """Rows' labels beside a pair that is joint with everything: a term for each way of meeting."""
    rows, pair, table = parameters((4, 3), (2, 2), (3, 2, 2), seed=7)
    factors = [Categoricals("z", rows, "rows"), Categoricals("w", pair)]

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z, w = values["z"], values["w"]
        first, second = w[:, :1].expand_as(z), w[:, 1:].expand_as(z)
        return {
            "rows": (1 + torch.arange(4)) * table[z, first, second],
            "labels": z.double() * ROWS,
            "pair": table[0, w[:, 0], w[:, 1]] * 3,
            "nothing": ROWS.sum().expand(len(z)),
        }

    dependence = {
        "rows": {"z": "aligned", "w": "mixed"},
        "labels": {"z": "aligned"},
        "pair": {"w": "mixed"},
        "nothing": {},
    }
    counted = Counted(terms)
    found = Enumeration().estimate(Posterior(factors), counted, 1, dependence=dependence)
    exact = brute_force(factors, terms)
    leaves = [rows, pair, table]
    assert counted.draws == 3 * 4
    torch.testing.assert_close(found.elbo, exact.detach())
    torch.testing.assert_close(flat_gradient(found.surrogate, leaves), flat_gradient(exact, leaves))


def test_two_plates_and_rows_of_several_elements() -> None:
    """z of four rows with two elements each, w of the three columns: a term over rows and columns."""
    rows, columns, table = parameters((4, 2, 2), (3, 2), (2, 2, 2), seed=8)
    factors = [Categoricals("z", rows, "rows"), Categoricals("w", columns, "columns")]

    def terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z, w = values["z"], values["w"]
        cells = table[z[:, :, None, 0], z[:, :, None, 1], w[:, None, :]] * (1 + torch.arange(12).reshape(4, 3))
        return {"cells": cells, "columns": w.double()}

    dependence = {"cells": {"z": "aligned", "w": "aligned"}, "columns": {"w": "aligned"}}
    counted = Counted(terms)
    found = Enumeration().estimate(Posterior(factors), counted, 1, dependence=dependence)
    leaves = [rows, columns, table]
    assert counted.draws == 2**2 * 2
    torch.testing.assert_close(
        flat_gradient(found.surrogate, leaves), flat_gradient(brute_force(factors, terms), leaves)
    )


def test_an_impossible_value_counts_nothing() -> None:
    """Probability 0 where the log joint is -inf: neither the bound nor its gradient is NaN."""
    (logits,) = parameters((3,), seed=9)
    bent = torch.cat([logits[:2], torch.full((1,), -float("inf"), dtype=torch.float64)])
    table = torch.tensor([1.0, 2.0, -float("inf")], dtype=torch.float64)
    found = Enumeration().estimate(Posterior([Categoricals("z", bent)]), lambda v: {"a": table[v["z"]]}, 1)
    log_q = logits[:2].log_softmax(0)
    exact = (log_q.exp() * (table[:2] - log_q)).sum()
    torch.testing.assert_close(found.elbo, exact.detach())
    torch.testing.assert_close(flat_gradient(found.surrogate, [logits]), flat_gradient(exact, [logits]))


WAYS: list[tuple[str, Estimator]] = [
    ("pathwise and enumerated", Mixed({"z": Enumeration()}, default=Pathwise())),
    ("landing and enumerated", Mixed({"z": Enumeration()}, default=Pathwise(sticking_the_landing=True))),
    ("pathwise and scored", Mixed({"z": ScoreFunction(True, "leave_one_out")}, default=Pathwise())),
    ("scored and enumerated", Mixed({"mu": ScoreFunction(True, "regression")}, default=Enumeration())),
    ("pathwise and regressed", Mixed({"mu": Pathwise(), "z": ScoreFunction(True, "regression")})),
    ("all scored", ScoreFunction(False, "average")),
]


@pytest.mark.parametrize("estimator", [way for _, way in WAYS], ids=[name for name, _ in WAYS])
def test_continuous_and_discrete_latents_in_one_surrogate(estimator: Estimator) -> None:
    """A mixture with unknown centres, its weights a parameter of the model: against the closed form."""
    leaves = parameters((2,), (2,), (2,), (4, 2), seed=11)
    weights, loc, log_scale, logits = leaves
    exact = flat_gradient(mixture_bound(*leaves), leaves)
    draws = gradient_draws(
        estimator,
        lambda: Posterior([Normals("mu", loc, log_scale), Categoricals("z", logits, "rows")]),
        mixture_terms(weights),
        leaves,
        repeats=800,
        dependence=ALIGNED,
    )
    assert worst_z(draws, exact) < 4.2


def test_fixed_noise_with_enumeration_under_transforms() -> None:
    """The surrogate at fixed noise is a function like any other: its Hessian against numeric differences."""
    flat = torch.cat([p.detach().reshape(-1) for p in parameters((2,), (2,), (2,), (4, 2), seed=11)])
    noise = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(at: Tensor) -> Tensor:
        factors: list[FactorPosterior] = [Normals("mu", at[2:4], at[4:6])]
        factors.append(Categoricals("z", at[6:].reshape(4, 2), "rows"))
        estimator = Mixed({"z": Enumeration()}, default=Pathwise())
        return estimator.estimate(
            Posterior(factors), mixture_terms(at[:2]), 3, noise=noise, dependence=ALIGNED
        ).surrogate

    hessian = torch.func.hessian(value)(flat)
    step = 1e-5
    slopes = torch.func.vmap(torch.func.grad(value))(
        torch.cat([flat + step * torch.eye(14).double(), flat - step * torch.eye(14).double()])
    )
    torch.testing.assert_close((slopes[:14] - slopes[14:]) / (2 * step), hessian, rtol=1e-6, atol=1e-7)


def test_automatic_choice() -> None:
    continuous = Normals("mu", *parameters((2,), (2,)))
    labels = Categoricals("z", *parameters((30, 3)), "rows")
    count = Counts("n", *parameters(()))
    switch = Categoricals("s", *parameters((2,)))
    assert repr(automatic(Posterior([continuous]))) == "Pathwise()"
    assert repr(automatic(Posterior([continuous, labels]), ALIGNED)) == (
        "Mixed({'mu': Pathwise(), 'z': Enumeration(limit=64)})"
    )
    scored = "ScoreFunction(rao_blackwell=True, control_variate='leave_one_out')"
    assert repr(automatic(Posterior([labels, count, switch]))) == (
        f"Mixed({{'z': {scored}, 'n': {scored}, 's': Enumeration(limit=64)}})"
    )


def test_too_many_values_are_refused_with_what_to_do() -> None:
    labels = Categoricals("z", *parameters((30, 3)), "rows")
    with pytest.raises(ValueError, match=r"enumerating z \(3 values, 30 elements jointly\) takes 205,891,132,094,649 "):
        Enumeration().estimate(Posterior([labels]), lambda v: {"a": v["z"].sum(1).double()}, 1)
    counted = Counted(lambda v: {"a": v["z"].double(), "b": v["z"].double()})
    with pytest.raises(ValueError, match=r"more than limit=5: put the latent on a plate"):
        Enumeration(limit=5).estimate(
            Posterior([Categoricals("z", *parameters((2, 2)), "rows")]),
            counted,
            1,
            dependence={"a": {"z": "aligned"}},
        )
    assert counted.draws == 2  # the unknown term was met on the way


def test_what_cannot_be_enumerated_or_has_no_estimator_is_refused() -> None:
    count = Posterior([Counts("n", *parameters(()))])
    with pytest.raises(TypeError, match=r"Enumeration\(\) cannot be used for n: it can take infinitely many values"):
        Enumeration().estimate(count, lambda v: {"a": v["n"]}, 1)
    with pytest.raises(ValueError, match="no estimator for n"):
        Mixed({"z": Pathwise()}).estimate(count, lambda v: {"a": v["n"]}, 1)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        Enumeration(limit=0)


def test_an_aligned_term_must_show_its_plate() -> None:
    square = Categoricals("z", *parameters((3, 2)), "rows")
    with pytest.raises(ValueError, match=r"term 'a' of shape \(3, 3\) should have one dimension of plate 'rows'"):
        Enumeration().estimate(
            Posterior([square]),
            lambda v: {"a": v["z"].double().unsqueeze(1).expand(-1, 3, 3)},
            1,
            dependence={"a": {"z": "aligned"}},
        )
