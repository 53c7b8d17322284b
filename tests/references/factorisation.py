"""Gibbs draws for Poisson factorisation of a small matrix of counts; writes factorisation.npz beside this.

    python tests/references/factorisation.py      # half a minute

Counts are split among factors (multinomial), then both sides' factors are drawn from their Gamma conditionals. Rates
u_i . v_j do not depend on how factors are numbered, so chains can be averaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

USERS, ITEMS, FACTORS = 25, 15, 2
SHAPES, RATES = (0.5, 0.5), (0.4, 0.3)
CHAINS, BURN_IN, DRAWS = 4, 1000, 5000


def chain(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Running mean of the rates over a chain's draws, (USERS, ITEMS)."""
    users = rng.gamma(1.0, 1.0, (USERS, FACTORS))
    items = rng.gamma(1.0, 1.0, (ITEMS, FACTORS))
    total = np.zeros(counts.shape)
    for step in range(BURN_IN + DRAWS):
        shares = users[:, None, :] * items[None, :, :]
        first = rng.binomial(counts, shares[..., 0] / shares.sum(-1))
        split = np.stack([first, counts - first], -1)
        users = rng.gamma(SHAPES[0] + split.sum(1), 1 / (RATES[0] + items.sum(0)))
        items = rng.gamma(SHAPES[1] + split.sum(0), 1 / (RATES[1] + users.sum(0)))
        if step >= BURN_IN:
            total += users @ items.T
    return total / DRAWS


def main() -> None:
    """Make the data, draw, write the posterior means of all rates and their Monte Carlo errors."""
    rng = np.random.default_rng(0)
    users = rng.gamma(0.8, 2.0, (USERS, FACTORS))
    items = rng.gamma(0.8, 2.5, (ITEMS, FACTORS))
    counts = rng.poisson(users @ items.T)
    means = np.stack([chain(counts, rng) for _ in range(CHAINS)])
    error = means.std(0, ddof=1) / np.sqrt(CHAINS)
    print(
        f"counts {counts.mean():.2f} on average; largest relative Monte Carlo error {(error / means.mean(0)).max():.4f}"
    )
    np.savez(Path(__file__).with_suffix(".npz"), counts=counts, rates=means.mean(0), error=error)


if __name__ == "__main__":
    main()
