"""The report on a user's own model: right variances, bias found where there is some, reasons where nothing applies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from jensen.gradients.estimator import Estimator, Part
from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import FactorPosterior
from jensen.gradients.variance import VarianceReport, variance_report
from jensen.inference.model import Model
from jensen.inference.supports import bernoulli, categorical, poisson, real
from jensen.inference.target import Target
from jensen.inference.variational import Family, mean_field

DATA = torch.tensor([-0.5, 2.0], dtype=torch.float64)


def worked_example(loc: float = 0.0, variance: float = 1.0) -> tuple[Target, Family]:
    """z ~ N(0, 1), x ~ N(z, 1), data -0.5 and 2; the posterior is N(0.5, 1/3)."""

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {"prior": Normal(0.0, 1.0).log_prob(z.z), "likelihood": Normal(z.z, 1.0).log_prob(data.x)}

    model = Model({"z": real()}, log_joint, plates={"rows": 2})
    family = mean_field(model)
    scale = torch.tensor(math.sqrt(variance), dtype=torch.float64)
    family.place({"z": torch.tensor(loc, dtype=torch.float64)}, {"z": scale})
    return Target(model, {"x": DATA}), family


def labels(make: Callable[..., Any], rows: int = 6, plate: str | None = "rows") -> tuple[Target, Family]:
    """Rows that come from N(-1, 1) or N(1, 1)."""
    x = torch.linspace(-2, 2, rows, dtype=torch.float64)
    shape = () if plate else (rows,)

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {"likelihood": Normal(2.0 * z.k - 1.0, 1.0).log_prob(data.x)}

    model = Model({"k": make(*shape, plate=plate)}, log_joint, plates={"rows": rows})
    return Target(model, {"x": x}), mean_field(model)


class Forgetful(Pathwise):
    """Without the entropy's gradient: biased."""

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        part = super().part(factor, samples, generator, noise)
        return Part(part.factor, part.draw, part.own.detach())


def test_variances_are_those_worked_out_by_hand() -> None:
    """At q = N(0, 1) the slope of log p is 1.5 - 3 z, of log p - log q at fixed parameters 1.5 - 2 z; times 1 and z."""
    steps: dict[str, Estimator] = {"pathwise": Pathwise(), "landing": Pathwise(sticking_the_landing=True)}
    report = variance_report(*worked_example(), samples=5, repeats=800, estimators=steps)
    assert report["pathwise"].variance == pytest.approx((9 + 2.25 + 18) / 5, rel=0.2)
    assert report["landing"].variance == pytest.approx((4 + 2.25 + 8) / 5, rel=0.2)
    assert report.reference == "landing"
    torch.testing.assert_close(report.gradient, torch.tensor([1.5, -2.0], dtype=torch.float64), rtol=0.15, atol=0.0)
    assert report["pathwise"].worst < 4


def test_the_ladder_at_the_optimum() -> None:
    report = variance_report(*worked_example(0.5, 1 / 3), repeats=100)
    steps = ["score", "score + RB + leave-one-out", "pathwise", "sticking the landing"]
    variance = [report[name].variance for name in steps]
    assert variance[0] > 3 * variance[1]
    assert variance[2] > 0.1
    assert variance[3] < 1e-20
    assert variance[1] < 1e-20  # log p - log q is constant, and so is what the scores are multiplied with
    assert report["score + RB + regression"].variance < 1e-20
    assert report.reference in ("sticking the landing", "score + RB + leave-one-out", "score + RB + regression")
    assert max(row.worst for row in report.rows if row.reason is None) < 4.5


def test_bias_is_seen() -> None:
    report = variance_report(
        *worked_example(), repeats=200, estimators={"right": Pathwise(True), "wrong": Forgetful(), "also": Pathwise()}
    )
    assert report["wrong"].worst > 7
    assert report["wrong"].bias == pytest.approx(1.0, abs=0.2)  # the entropy's gradient in the log sd is 1
    assert report["also"].worst < 4
    assert report["also"].z < 3


def test_discrete_latents_are_compared_with_enumeration() -> None:
    report = variance_report(*labels(bernoulli), repeats=100)
    assert report.reference == "enumeration"
    assert report["enumeration"].variance == 0
    assert report["pathwise"].reason == "not for k: its draws are not differentiable in the parameters"
    assert report["score"].variance > 3 * report["score + RB"].variance > 0
    assert report["score"].worst < 4
    assert "automatic, each factor its own" not in [row.name for row in report.rows]


def test_what_does_not_apply_says_why() -> None:
    target, family = labels(lambda *shape, plate: categorical(2, *shape, plate=plate), rows=40, plate=None)
    report = variance_report(target, family, repeats=3)
    assert report["enumeration"].reason == "1.1e+12 evaluations of the log joint, more than the limit of 4096"
    report = variance_report(target, family, repeats=3, samples=1)
    assert report["score + RB + leave-one-out"].reason == "compares draws: two at least"
    report = variance_report(*labels(poisson), repeats=3)
    assert report["enumeration"].reason == "not for k: it can take infinitely many values"


def test_gradients_that_are_not_finite_are_counted() -> None:
    """A log joint that is NaN above 1.5: every estimate of many draws meets it."""

    def log_joint(z: Any, data: Any) -> Tensor:
        return torch.where(z.z > 1.5, z.z * torch.nan, -z.z.square())

    model = Model({"z": real()}, log_joint)
    with pytest.raises(ValueError, match="no estimator applies: pathwise: the gradient was NaN or infinite in 5 of 5"):
        variance_report(Target(model), mean_field(model), samples=200, repeats=5, estimators={"pathwise": Pathwise()})


def test_the_table_can_be_read() -> None:
    report = variance_report(*labels(bernoulli), repeats=5)
    text = str(report)
    assert text.splitlines()[0] == "gradient of the ELBO, 6 parameters: 5 estimates of 10 draws"
    assert [line.split("  ")[0] for line in text.splitlines()[2:-1]] == [row.name for row in report.rows]
    assert "reference" in next(line for line in text.splitlines() if line.startswith("enumeration"))
    assert repr(report) == text
    with pytest.raises(KeyError, match="no estimator 'guess' in this report; there are: score"):
        report["guess"]


def test_a_model_that_gives_its_own_target() -> None:
    target, family = worked_example()

    class Given:
        def target(self, data: object) -> Target:
            assert data == "the data"
            return target

    report: VarianceReport = variance_report(Given(), family, "the data", repeats=2)
    assert report.repeats == 2


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"should be a jensen\.inference\.Model or a Target, got dict"):
        variance_report({}, worked_example()[1])  # type: ignore[arg-type]


def test_one_repeat_has_no_variance() -> None:
    with pytest.raises(ValueError, match="at least two repeats, got 1"):
        variance_report(*worked_example(), repeats=1)
