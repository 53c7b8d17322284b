"""Random programs: what is found by following covers what changing the latents shows, views and writes included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from dependence_oracle import F, data, draw, followed, uncovered
from torch import Tensor

BATCH = data(torch.Generator().manual_seed(3))
PROGRAMS, LENGTH = 15, 10

Step = Callable[[list[Tensor]], Any]
FAILURES = (RuntimeError, IndexError, TypeError, ValueError)


def small(x: Tensor) -> Tensor:
    return nnf.softsign(torch.nan_to_num(x.to(F), 0.0, 1.0, -1.0))


def whole(x: Tensor, below: int) -> Tensor:
    """Whole numbers below a bound, from anything."""
    return (small(x) * 97).long() % max(below, 1)


def elementwise(rng: np.random.Generator) -> Step:
    i, j, k, n = *rng.integers(0, 99, 3), rng.integers(9)
    functions = [
        lambda x, y, z: small(x + y),
        lambda x, y, z: small(x * y - z),
        lambda x, y, z: small(2 - x) ** 2,
        lambda x, y, z: (x > y).to(F),
        lambda x, y, z: torch.where(x > 0.1, y.to(F), z.to(F)),
        lambda x, y, z: torch.lerp(x.to(F), y.to(F), 0.3),
        lambda x, y, z: x.to(F).clamp(max=0.4),
        lambda x, y, z: torch.maximum(x.to(F), y.to(F)).exp().log1p(),
        lambda x, y, z: (x == x.round()).to(F) + torch.xlogy(x.abs(), y.abs() + 1),
    ]
    return lambda p: functions[n](p[i % len(p)], p[j % len(p)], p[k % len(p)])


def moves(rng: np.random.Generator) -> Step:
    i, j, a, b, n = *rng.integers(0, 99, 4), rng.integers(17)
    functions = [
        lambda x, y: x.unsqueeze(a % (x.dim() + 1)),
        lambda x, y: x.transpose(a % x.dim(), b % x.dim()),
        lambda x, y: x.reshape(-1),
        lambda x, y: x.reshape(*y.shape),
        lambda x, y: x.flatten(a % 2),
        lambda x, y: x[..., a % 2 :],
        lambda x, y: x[: 1 + a % 5],
        lambda x, y: x[a % 2],
        lambda x, y: x.flip(a % x.dim()),
        lambda x, y: x.roll(a % 3, b % x.dim()),
        lambda x, y: torch.cat([x.to(F), y.to(F)], a % x.dim()),
        lambda x, y: torch.stack([x.to(F), y.to(F)], a % (x.dim() + 1)),
        lambda x, y: x.expand(*[[3, 5][b % 2]] * (a % 2), *x.shape),
        lambda x, y: x.unbind(a % x.dim())[0],
        lambda x, y: x.tril() if x.dim() > 1 else x.diag_embed(),
        lambda x, y: torch.broadcast_tensors(x, y)[a % 2],
        lambda x, y: x.repeat(*[1 + a % 2] * x.dim()).squeeze(),
    ]
    return lambda p: functions[n](p[i % len(p)], p[j % len(p)])


def combinations(rng: np.random.Generator) -> Step:
    i, j, a, n = *rng.integers(0, 99, 3), rng.integers(15)
    keep = bool(rng.integers(2))
    functions = [
        lambda x, y: x.sum(a % x.dim(), keepdim=keep),
        lambda x, y: small(x).logsumexp(a % x.dim(), keepdim=keep),
        lambda x, y: x.amax(tuple(range(a % x.dim(), x.dim())), keep),
        lambda x, y: x.to(F).mean() + x.max(a % x.dim(), keep).values,
        lambda x, y: x.to(F).cumsum(a % x.dim()),
        lambda x, y: small(x).softmax(a % x.dim()),
        lambda x, y: x.sort(a % x.dim()).values,
        lambda x, y: x.argsort(a % x.dim()),
        lambda x, y: small(x.to(F) @ y.to(F)),
        lambda x, y: small(torch.einsum("i...,j...->ij", x.to(F), y.to(F))),
        lambda x, y: nnf.linear(small(x), small(y)),
        lambda x, y: torch.outer(small(x), small(y)),
        lambda x, y: torch.cdist(small(x), small(y)),
        lambda x, y: nnf.conv1d(small(x)[None, None], torch.ones(1, 1, 3, dtype=F) / 3, padding=1)[0, 0],
        lambda x, y: x.to(F).norm(dim=a % x.dim()) + x.to(F).var(a % x.dim()),
    ]
    return lambda p: functions[n](p[i % len(p)], p[j % len(p)])


def indices(rng: np.random.Generator) -> Step:
    i, j, k, a, n = *rng.integers(0, 99, 4), rng.integers(14)
    functions = [
        lambda x, y, z: x[whole(y, len(x))],
        lambda x, y, z: x[:, whole(y, x.shape[1])],
        lambda x, y, z: x[whole(y, len(x)), whole(z, x.shape[1])],
        lambda x, y, z: x[torch.arange(len(x)), whole(y, x.shape[1])],
        lambda x, y, z: x[..., None, whole(y, x.shape[-1])],
        lambda x, y, z: x[whole(y, len(x)), :, None],
        lambda x, y, z: x[None, 1:, whole(y, x.shape[1])],
        lambda x, y, z: x.gather(a % x.dim(), whole(y, x.shape[a % x.dim()])),
        lambda x, y, z: torch.take_along_dim(x, whole(y, x.shape[a % x.dim()]), a % x.dim()),
        lambda x, y, z: x.index_select(a % x.dim(), whole(y, x.shape[a % x.dim()])),
        lambda x, y, z: nnf.embedding(whole(y, len(x)), small(x)),
        lambda x, y, z: nnf.one_hot(whole(y, 3), 3),
        lambda x, y, z: x.to(F).scatter_add(0, whole(y, len(x)), z.to(F)),
        lambda x, y, z: x[y > 0].sum() + len(x[y > 0.2]),
    ]
    return lambda p: functions[n](p[i % len(p)], p[j % len(p)], p[k % len(p)])


def _write(x: Tensor, part: Any, y: Any) -> Tensor:
    x[part] = y
    return x


def writes(rng: np.random.Generator) -> Step:
    i, j, k, a, n = *rng.integers(0, 99, 4), rng.integers(9)
    functions = [
        lambda x, y, z: (x.to(F) * 1).add_(y),
        lambda x, y, z: x.mul_(y),
        lambda x, y, z: _write(x * 1, slice(1, None), y[: len(x) - 1]),
        lambda x, y, z: _write(x, y > 0, 0.5),
        lambda x, y, z: _write(x, a % len(x), z[0] if z.dim() else z),
        lambda x, y, z: x.view(-1)[1:].copy_(y.reshape(-1)[: x.numel() - 1]),
        lambda x, y, z: torch.zeros(5, dtype=F).add_(y),
        lambda x, y, z: torch.add(x, y, out=torch.zeros_like(x)),
        lambda x, y, z: nnf.relu(x, inplace=True),
    ]
    return lambda p: functions[n](p[i % len(p)], p[j % len(p)], p[k % len(p)])


def leaks(rng: np.random.Generator) -> Step:
    i, n = rng.integers(99), rng.integers(4)
    functions = [
        lambda x: torch.tensor(float(x.sum()), dtype=F),
        lambda x: x * 2 if bool((x > 0.3).any()) else x,
        lambda x: torch.from_numpy(x.numpy()[::-1].copy()),
        lambda x: torch.func.vmap(lambda y: y.sum())(x),
    ]
    return lambda p: functions[n](p[i % len(p)])


KINDS = [elementwise] * 5 + [moves] * 5 + [combinations] * 4 + [indices] * 5 + [writes]


def random_program(seed: int) -> Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]:
    """Steps that all work on one draw; on others they may fail, and are left out there."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(10)

    def start(values: Mapping[str, Tensor], batch: Any) -> list[Tensor]:
        everything = [*values.values(), *batch.values()]
        return [everything[at] for at in order]

    def take(step: Step, pool: list[Tensor]) -> bool:
        try:
            pool.append(step(pool[max(0, len(pool) - 8) :]))  # what comes last is used more often
        except FAILURES:
            return False
        return True

    steps: list[Step] = []
    pool = start(draw(torch.Generator().manual_seed(seed)), {n: v.clone() for n, v in BATCH.items()})
    while len(steps) < LENGTH:
        step = (leaks if seed % 5 == 0 and len(steps) == LENGTH // 2 else KINDS[rng.integers(len(KINDS))])(rng)
        if take(step, pool) and pool[-1].numel() < 500:
            steps.append(step)

    def program(values: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        pool = start(values, batch)
        for step in steps:
            take(step, pool)
        return {f"term {at}": term for at, term in enumerate(pool[4:])}

    return program


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", range(3))
def test_random_programs_are_covered(block: int) -> None:
    for seed in range(block * PROGRAMS, (block + 1) * PROGRAMS):
        assert uncovered(random_program(seed), BATCH, seed) == [], seed


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_many_random_programs_are_covered() -> None:
    for seed in range(1000, 3000):
        assert uncovered(random_program(seed), BATCH, seed) == [], seed


@pytest.mark.filterwarnings("ignore")
def test_random_programs_are_not_all_mixed() -> None:
    kinds = [
        found.get(latent)
        for seed in range(PROGRAMS)
        for found in followed(random_program(seed), BATCH, seed).terms.values()
        for latent in "zbwm"
    ]
    assert kinds.count("aligned") > 0.02 * len(kinds)
    assert kinds.count(None) > 0.3 * len(kinds)
