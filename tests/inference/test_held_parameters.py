"""Linear response with the model's own parameters held, where the Hessian is too large to be written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.inference import Model, real
from jensen.inference import linear_response as module
from jensen.inference.deterministic import climb
from jensen.inference.fit import prepare


@pytest.mark.parametrize("written", [1000, 0])
def test_parameters_of_the_model_are_held(written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """y ~ N(z + theta, 1), z ~ N(0, 1): the variance of z given theta is 1/2, and that with theta free 1/2 + 1/10."""
    y = torch.tensor([-1.0, 0.5, 0.2, 1.4, 2.0], dtype=torch.float64)

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {"z": Normal(0.0, 1.0).log_prob(z.z), "y": Normal(z.z + z.theta, 1.0).log_prob(data.y)}

    theta = {"theta": torch.zeros((), dtype=torch.float64)}
    model = Model({"z": real(plate="rows")}, log_joint, theta, plates={"rows": 5})
    monkeypatch.setattr(module, "WRITTEN", written)
    found = climb(prepare(model, {"y": y}), n_starts=1)
    assert found.converged
    assert found.response is not None
    assert found.response.written == (written > 0)
    assert found.linear_response is not None
    expected = 0.5 * torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(found.linear_response, expected, atol=1e-5, rtol=0)
