"""The best ELBO that is known of a family: L-BFGS on many fixed draws, nothing of `jensen.inference.fit` in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from benchmarks.posteriordb_judge import CHUNK, Judge

__all__ = ["Normal", "polish"]

SEED = 15_485_863
EACH = 50  # draws a parameter: fitting them costs about 0.01 nat of the ELBO
LEAST, MOST = 256, 4_096
SECONDS = 10.0  # that one polish should take at most
STEPS = 300
DENSE = 12  # coordinates up to which a full covariance is polished


@dataclass(frozen=True)
class Normal:
    """A normal q on the real scale.

    Attributes:
        loc: (D,).
        factor: lower triangular, (D, D); diagonal for independent normals.
        elbo: nats, at the judge's draws.
    """

    loc: Tensor
    factor: Tensor
    elbo: float


def polish(judge: Judge, loc: Tensor, scale: Tensor, *, dense: bool = False) -> Normal | None:
    """Climb from independent normals; None where a full covariance would have too many parameters.

    Work is done in the start's units, (u - loc) / scale, on antithetic draws: as many as the parameters ask for, or
    fewer where the log joint is slow.
    """
    if dense and judge.size > DENSE:
        return None
    unpack = _dense if dense else _diagonal
    size = judge.size
    count = size + (size * (size + 1) // 2 if dense else size)
    noise = _noise(judge, loc, scale, EACH * count)

    def value(parameters: Tensor) -> Tensor:
        shift, lower = unpack(parameters, size)
        points = loc + scale * (shift + noise @ lower.mT)
        return judge.target.log_density(points).mean() + lower.diagonal().log().sum()

    parameters = _climb(value, count)
    shift, lower = unpack(parameters, size)
    centre, factor = loc + scale * shift, scale[:, None] * lower
    return Normal(centre, factor, elbo(judge, centre, factor))


@torch.no_grad()
def elbo(judge: Judge, loc: Tensor, factor: Tensor) -> float:
    """ELBO in nats of a normal q at the judge's draws; -inf where it is not finite."""
    points = loc + judge.noise @ factor.mT
    log_joint = torch.cat([judge.target.log_density(part) for part in points.split(CHUNK)])
    entropy = factor.diagonal().abs().log().sum() + 0.5 * judge.size * (1.0 + math.log(2.0 * math.pi))
    total = float(log_joint.mean() + entropy)
    return total if math.isfinite(total) else -math.inf


def _noise(judge: Judge, loc: Tensor, scale: Tensor, wanted: int) -> Tensor:
    trial = (loc + scale * judge.noise[:LEAST]).requires_grad_()
    start = time.perf_counter()
    judge.target.log_density(trial).sum().backward()
    seconds = time.perf_counter() - start
    count = int(max(LEAST, min(MOST, wanted, LEAST * SECONDS / (STEPS / 3) / seconds)))
    half = torch.randn(count // 2, judge.size, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def _climb(value: Callable[[Tensor], Tensor], size: int) -> Tensor:
    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.from_numpy(x).requires_grad_()
        negative = -value(parameters)
        negative.backward()
        number = float(negative.detach())
        assert parameters.grad is not None
        return (number, parameters.grad.numpy()) if math.isfinite(number) else (math.inf, np.zeros_like(x))

    found = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 30})
    return torch.from_numpy(np.array(found.x))


def _diagonal(parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return parameters[:size], parameters[size:].exp().diag()


def _dense(parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(size, size)
    square = torch.zeros(size, size, dtype=torch.float64).index_put((rows, columns), parameters[size:])
    return parameters[:size], square.tril(-1) + square.diagonal().exp().diag()
