"""Collapsed Gibbs draws of a small Gaussian mixture: the posterior predictive density that tests compare with.

    python tests/references/mixture_gibbs.py

writes mixture_gibbs.npz beside this file: data, prior, grid, and the density there with its Monte Carlo standard error.
Assignments alone are drawn (weights, means and precisions are integrated out; Neal 2000, algorithm 3, with K fixed), so
the density of a draw is a mixture of Student-t densities; averaged over draws it does not depend on how components are
numbered. NumPy and SciPy only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import gammaln

SEED, SWEEPS, BURN_IN, BATCHES = 3, 1500, 200, 50
K, D = 3, 2
ALPHA, KAPPA, NU = 1.0, 0.1, 4.0
CENTRES = np.array([[-5.0, 0.0], [4.0, 4.0], [3.5, -4.5]])


def student(x, count, total, squares, prior_mean, inverse_scale):
    """Log density of rows `x` given the sums of `count` others in their component."""
    kappa, nu = KAPPA + count, NU + count
    mean = (KAPPA * prior_mean + total) / kappa
    scatter = inverse_scale + squares + KAPPA * np.outer(prior_mean, prior_mean) - kappa * np.outer(mean, mean)
    dof = nu - D + 1
    shape = scatter * (kappa + 1) / (kappa * dof)
    difference = np.atleast_2d(x) - mean
    quadratic = np.einsum("ni,ij,nj->n", difference, np.linalg.inv(shape), difference)
    normaliser = gammaln((dof + D) / 2) - gammaln(dof / 2) - D / 2 * np.log(dof * np.pi)
    return normaliser - 0.5 * np.linalg.slogdet(shape)[1] - (dof + D) / 2 * np.log1p(quadratic / dof)


def main() -> None:
    rng = np.random.default_rng(SEED)
    truth = np.repeat(np.arange(K), [30, 20, 15])
    x = CENTRES[truth] + rng.normal(size=(len(truth), D))
    prior_mean, inverse_scale = np.zeros(D), np.eye(D) * 2
    side = np.linspace(-8, 8, 17)
    grid = np.array([(a, b) for a in side for b in side])
    z = truth.copy()
    counts = np.array([(z == k).sum() for k in range(K)], dtype=float)
    totals = np.array([x[z == k].sum(0) for k in range(K)])
    squares = np.array([x[z == k].T @ x[z == k] for k in range(K)])
    densities = []
    for sweep in range(BURN_IN + SWEEPS):
        for n in rng.permutation(len(x)):
            counts[z[n]] -= 1
            totals[z[n]] -= x[n]
            squares[z[n]] -= np.outer(x[n], x[n])
            log_p = np.array(
                [
                    np.log(ALPHA + counts[k])
                    + student(x[n], counts[k], totals[k], squares[k], prior_mean, inverse_scale)[0]
                    for k in range(K)
                ]
            )
            p = np.exp(log_p - log_p.max())
            z[n] = rng.choice(K, p=p / p.sum())
            counts[z[n]] += 1
            totals[z[n]] += x[n]
            squares[z[n]] += np.outer(x[n], x[n])
        if sweep >= BURN_IN:
            densities.append(
                sum(
                    (ALPHA + counts[k])
                    / (K * ALPHA + len(x))
                    * np.exp(student(grid, counts[k], totals[k], squares[k], prior_mean, inverse_scale))
                    for k in range(K)
                )
            )
    batches = np.array(densities).reshape(BATCHES, -1, len(grid)).mean(1)
    np.savez_compressed(
        Path(__file__).with_name("mixture_gibbs.npz"),
        x=x,
        grid=grid,
        density=batches.mean(0),
        standard_error=batches.std(0, ddof=1) / np.sqrt(BATCHES),
        alpha=ALPHA,
        kappa=KAPPA,
        nu=NU,
        prior_mean=prior_mean,
        inverse_scale=inverse_scale,
    )


if __name__ == "__main__":
    main()
