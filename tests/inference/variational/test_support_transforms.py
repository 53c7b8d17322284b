"""Log Jacobians of every support, in both kinds of factor that use them, against determinants by autodiff."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from factor_cases import LOCAL, MIXED, ONE_EACH, ROWS, SIZES, seeded
from torch import Tensor

from jensen.inference.supports import Variable
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.layout import Layout


def free(name: str, value: Tensor) -> Tensor:
    """The entries of a value that a density is with respect to: all, but one less of a simplex, and so on."""
    if name in ("simplex", "c"):
        return value[..., :-1].reshape(-1)
    if name == "correlation_cholesky":
        row, column = torch.tril_indices(value.shape[-1], value.shape[-1], -1)
        return value[..., row, column].reshape(-1)
    return value.reshape(-1)


def log_determinant(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    jacobian = torch.func.jacrev(function)(u)
    assert jacobian.shape == (u.numel(), u.numel())
    return torch.linalg.slogdet(jacobian).logabsdet


@pytest.mark.parametrize("name", list(ONE_EACH))
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_log_jacobian_of_one_latent(name: str, spread: float) -> None:
    variable: Variable = ONE_EACH[name]
    q = DiagonalNormal("z", variable, SIZES)()
    noise = spread * torch.randn(3, *q.noise_shape, dtype=torch.float64, generator=seeded(1))
    draw = q.from_noise(noise)
    shape = variable.unconstrained_shape(SIZES)
    each = draw.log_jacobian.reshape(3, -1).sum(1)
    for u, found in zip(noise, each, strict=True):
        wanted = log_determinant(lambda v: free(name, variable.transform(v.reshape(shape))), u.reshape(-1))
        torch.testing.assert_close(found.detach(), wanted)
        back = variable.transform.inv(variable.transform(u))
        torch.testing.assert_close(back, u, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rowwise", [False, True])
def test_log_jacobian_of_several_latents(rowwise: bool) -> None:
    variables = LOCAL if rowwise else {**MIXED, **ONE_EACH, **LOCAL}
    layout = Layout(variables, SIZES, rowwise)
    u = torch.randn(2, *layout.rows, layout.size, dtype=torch.float64, generator=seeded(1))
    values, log_jacobian = layout.constrain(u)
    for name, variable in variables.items():
        assert values[name].shape == (2, *variable.full_shape(SIZES))
        assert bool(variable.support.check(values[name]).all())

    def flat(v: Tensor) -> Tensor:
        return torch.cat([free(n, x) for n, x in layout.constrain(v)[0].items()])

    for s in range(2):
        if rowwise:
            wanted = torch.stack([log_determinant(flat, u[s, row]) for row in range(ROWS)])
        else:
            wanted = log_determinant(flat, u[s])
        torch.testing.assert_close(log_jacobian[s], wanted)
