"""Linear response of functions of the latents, at a normal posterior: the covariance of these functions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from jensen.inference import Model, real
from jensen.inference.deterministic import climb
from jensen.inference.fit import prepare
from jensen.inference.linear_response import response_of


def test_linear_functions_have_the_covariance_of_the_posterior() -> None:
    precision = torch.tensor([[2.0, 0.9], [0.9, 1.5]], dtype=torch.float64)
    mixing = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
    bound = prepare(Model({"u": real(2)}, lambda z, data: -0.5 * z.u @ precision @ z.u))
    found = climb(bound, n_starts=1)
    assert found.response is not None

    def function(values: Mapping[str, Tensor]) -> Tensor:
        return values["u"] @ mixing.T

    covariance = response_of(bound, found.flat, found.response, function)
    assert covariance is not None
    torch.testing.assert_close(covariance, mixing @ torch.linalg.inv(precision) @ mixing.T, rtol=1e-6, atol=1e-8)
