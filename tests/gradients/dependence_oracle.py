"""What a log joint depends on, found by changing one element of each latent after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.dependence import Dependence, trace

F = torch.float64
ROWS, COMPONENTS, COLUMNS = 5, 3, 2
PLATES = {"rows": ROWS, "components": COMPONENTS}
LATENT_PLATES: dict[str, str | None] = {
    "z": "rows",  # which component, int64
    "b": "rows",  # 0. or 1.
    "w": "rows",  # (rows, columns) real
    "m": "components",  # real
    "mu": None,  # (components, columns) real
    "s": None,  # a positive number
    "j": None,  # a whole number below 3
}
ORDER = {None: 0, "aligned": 1, "mixed": 2}

Program = Callable[[Mapping[str, Tensor], Any], Any]


def draw(generator: torch.Generator) -> dict[str, Tensor]:
    """One draw of the latents."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=F)

    return {
        "z": torch.randint(0, COMPONENTS, (ROWS,), generator=generator),
        "b": torch.randint(0, 2, (ROWS,), generator=generator).to(F),
        "w": normal(ROWS, COLUMNS),
        "m": normal(COMPONENTS),
        "mu": normal(COMPONENTS, COLUMNS),
        "s": normal().abs() + 0.1,
        "j": torch.randint(0, COMPONENTS, (), generator=generator),
    }


def data(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "y": torch.randn(ROWS, COLUMNS, generator=generator, dtype=F),
        "n": torch.randint(0, 4, (ROWS,), generator=generator).to(F),
        "c": torch.randint(0, COMPONENTS, (ROWS,), generator=generator),
    }


def run(program: Program, values: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
    with torch.no_grad():
        found = program({n: v.clone() for n, v in values.items()}, {n: v.clone() for n, v in batch.items()})
    terms = found if isinstance(found, Mapping) else {"log_joint": found}
    return {name: torch.as_tensor(term, dtype=F) for name, term in terms.items()}


def observed(program: Program, batch: Any, seed: int, bases: int = 3, changes: int = 2) -> dict[str, dict[str, str]]:
    """The least that is true: term -> latent -> "aligned" or "mixed" as some change of the latent showed."""
    generator = torch.Generator().manual_seed(seed)
    seen: dict[str, dict[str, str]] = {}
    for _ in range(bases):
        base = draw(generator)
        before = run(program, base, batch)
        for latent, plate in LATENT_PLATES.items():
            for i in range(ROWS if plate == "rows" else COMPONENTS if plate else 1):
                for _ in range(changes):
                    other = dict(base)
                    other[latent] = fresh = draw(generator)[latent]
                    if plate:
                        other[latent] = base[latent].clone()
                        other[latent][i] = fresh[i]
                    for name, term in run(program, other, batch).items():
                        kind = difference(before.get(name), term, PLATES.get(plate or ""), i)
                        entry = seen.setdefault(name, {})
                        if kind and ORDER[kind] > ORDER[entry.get(latent)]:
                            entry[latent] = kind
    return seen


def difference(before: Tensor | None, after: Tensor, size: int | None, i: int) -> str | None:
    """How a term changed when element i of a latent did."""
    if before is None or before.shape != after.shape:
        return "mixed"
    changed = ~((before == after) | (before.isnan() & after.isnan()))
    if not changed.any():
        return None
    dims = [dim for dim, n in enumerate(after.shape) if n == size]
    if size is None or len(dims) != 1:
        return "mixed"
    others = [k for k in range(size) if k != i]
    return "mixed" if changed.movedim(dims[0], 0)[others].any() else "aligned"


def followed(program: Program, batch: Any, seed: int) -> Dependence:
    values = draw(torch.Generator().manual_seed(seed))
    return trace(program, values, {n: v.clone() for n, v in batch.items()}, PLATES, LATENT_PLATES)


def uncovered(program: Program, batch: Any, seed: int) -> list[str]:
    """Where less was found by following than was seen by changing; should be empty."""
    found = followed(program, batch, seed).terms
    wrong = []
    for term, latents in observed(program, batch, seed + 1).items():
        if term in found:  # one that is not there counts as dependent on all
            for latent, kind in latents.items():
                if ORDER[kind] > ORDER[found[term].get(latent)]:
                    wrong.append(f"{term}: {latent} is {kind}, but was found to be {found[term].get(latent)}")
    return wrong
