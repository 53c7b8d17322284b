"""The Python of docs/black-box.md runs, and what the page says of it holds."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.distributions import Normal

import jensen.gradients
import jensen.inference
from jensen.inference import Model, fit, real
from jensen.inference.fit import _CLIMBS
from jensen.inference.variational import FAMILIES

PAGE = (Path(__file__).parents[1] / "docs" / "black-box.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's Python leaves."""
    found: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, found)
    return found


def test_models_take_a_dozen_lines() -> None:
    for block in BLOCKS:
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("from", "import"))]
        assert len(code) <= 14


def test_eight_schools(names: dict[str, Any]) -> None:
    """Against posteriordb's reference draws: mu 4.41 +- 3.31, tau 3.60 +- 3.20."""
    result = names["result"]
    assert result.converged
    assert result.pareto_k.usable
    summary = str(result.summary())
    for heading in ("mean", "sd", "sd (LR)", "5%", "95%", "error", "mean (IW)"):
        assert heading in summary
    assert "nats; converged: " in summary
    assert "Pareto k-hat" in summary
    assert float(result.expectation(lambda z: z.mu).mean) == pytest.approx(4.41, abs=0.3)
    assert float(result.expectation(lambda z: z.tau).mean) == pytest.approx(3.60, abs=0.4)


def test_the_logistic_regression(names: dict[str, Any]) -> None:
    """Its posterior is near normal: the mean is not far from the mode, which scikit-learn finds."""
    result = names["regression"]
    assert result.converged
    assert result.pareto_k.usable
    penalised = LogisticRegression(C=4.0, tol=1e-8, max_iter=10_000).fit(names["x"], names["y"])
    draws = result.sample(4000)["beta"].numpy()
    assert np.abs((draws.mean(0) - penalised.coef_[0]) / draws.std(0)).max() < 0.5


def test_the_mixture(names: dict[str, Any]) -> None:
    result, points = names["mixture"], names["points"]
    assert result.converged
    share = result.sample(500)["k"].double().mean(0)
    assert bool(((share < 0.05) | (share > 0.95)).all())
    assert torch.unique(share[:20].round()).numel() == torch.unique(share[20:].round()).numel() == 1
    means = result.sample(2000)["means"].mean(0).sort().values
    torch.testing.assert_close(means, torch.stack([points[:20].mean(), points[20:].mean()]), atol=0.15, rtol=0)
    assert "as high" in result.disagreement


def test_the_variance_report(names: dict[str, Any]) -> None:
    said = str(names["report"])
    for estimator in ("score + RB + leave-one-out", "pathwise", "sticking the landing"):
        assert estimator in said
    variances = {row.name: row.variance for row in names["report"].rows}
    assert variances["pathwise"] < variances["score"]


def test_options_are_those_of_the_ways_up() -> None:
    table = PAGE.partition("| `method=` | options of `fit` |")[2].partition("\n\n")[0]
    for method, climb in _CLIMBS.items():
        (row,) = (line for line in table.splitlines() if line.startswith(f'| `"{method}"`'))
        taken = inspect.signature(climb).parameters
        for name, value in re.findall(r"`([a-z]\w*)(?:=(\S+))?`", row):
            assert name in taken, (method, name)
            assert not value or float(value if value != "True" else 1) == taken[name].default, (method, name)
    for rule in re.findall(
        r"`(\w+)\((?:momentum=0.8)?\)`", PAGE.partition("`optimiser=` is")[2].partition("callback")[0]
    ):
        assert callable(getattr(jensen.inference, rule))


def tiny() -> Model:
    return Model(
        {"mu": real(2)},
        lambda z, data: {"prior": Normal(0.0, 1.0).log_prob(z.mu).sum(), "y": Normal(z.mu[0], 1.0).log_prob(data.y)},
        plates={"rows": 3},
    )


def test_what_the_page_names_is_there() -> None:
    for maker in re.findall(
        r"`(\w+)\((?:\w|\(|\)|,| )*\)`", PAGE.partition("- `log_joint")[0].partition("- `latents`")[2]
    ):
        assert callable(getattr(jensen.inference, maker))
    table = PAGE.partition("| `family=` | q |")[2].partition("Makers are")[0]
    for name in re.findall(r'"(\w+)"', table):
        assert name in {*FAMILIES, "rate", "intercept", "slope", "z"}
    for maker in re.findall(r"`(\w+)\(", table):
        assert callable(getattr(jensen.inference, maker))
    for estimator in ("Pathwise", "Enumeration", "ScoreFunction"):
        assert f"`{estimator}" in PAGE
        assert hasattr(jensen.gradients, estimator)
    result = fit(tiny(), {"y": [0.1, 0.2, 0.3]}, n_starts=1)
    for method in set(re.findall(r"`(?:result)?\.(\w+)", PAGE)) - {"item", "json", "zip", "npz"}:
        assert hasattr(result, method), method


@pytest.mark.parametrize("family", ["mean_field", "full_rank", "low_rank"])
def test_families_by_name(family: str) -> None:
    result = fit(tiny(), {"y": [0.1, 0.2, 0.3]}, family, n_starts=1)
    assert float(result.sample(4000)["mu"][:, 0].mean()) == pytest.approx(0.15, abs=0.05)


def test_saved_and_loaded(tmp_path: Path) -> None:
    result = fit(tiny(), {"y": [0.1, 0.2, 0.3]}, n_starts=1)
    result.save(tmp_path / "fit")
    loaded = jensen.inference.load_fit(tmp_path / "fit", tiny())  # without the data
    torch.testing.assert_close(loaded.sample(10)["mu"], result.sample(10)["mu"])
