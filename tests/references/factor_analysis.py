"""bayespy's ELBO for factor analysis and PCA, sweep by sweep from given starts; writes factor_analysis.npz beside this.

    python tests/references/factor_analysis.py      # bayespy 0.6.6, a minute

Case "diagonal" and "shared": 30 x 6 numbers with a fifth missing, a mean, noise by column or shared. bayespy has the
factors as a node; here they are at their optimum whenever another one is updated, so it updates X before each node.
Case "guide": the PCA model of bayespy's user guide (no mean), whose ELBO it reports as -122.41 after 488 iterations and
-122.135 with rotations. Half of its columns are masked, which bayespy leaves out of the bound with their loadings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bayespy.inference import VB
from bayespy.inference.vmp.transformations import RotateGaussianARD, RotationOptimizer
from bayespy.nodes import Add, Dot, Gamma, GaussianARD, SumMultiply

SWEEPS = 8
MEAN, MEAN_PRECISION = 0.5, 1e-2
NOISE, ARD = (1e-3, 2e-3), (1e-3, 1e-3)


def by_sweep(x: np.ndarray, loadings: np.ndarray, shared: bool) -> list[float]:
    """ELBO after each sweep: loadings, mean, noise, ard."""
    n, d = x.shape
    k = loadings.shape[1]
    factors = GaussianARD(0, 1, plates=(1, n), shape=(k,))
    ard = Gamma(*ARD, plates=(k,))
    weights = GaussianARD(0, ard, plates=(d, 1), shape=(k,))
    mean = GaussianARD(MEAN, MEAN_PRECISION, plates=(d, 1))
    noise = Gamma(*NOISE) if shared else Gamma(*NOISE, plates=(d, 1))
    data = GaussianARD(Add(SumMultiply("d,d->", weights, factors), mean), noise)
    data.observe(np.nan_to_num(x).T, mask=~np.isnan(x).T)
    inference = VB(data, factors, weights, mean, noise, ard)
    weights.initialize_from_parameters(loadings[:, None, :], np.full((d, 1, k), 4.0))
    mean.initialize_from_parameters(np.zeros((d, 1)), np.ones((d, 1)))
    elbo = []
    for _ in range(SWEEPS):
        order = (factors, weights, factors, mean, factors, noise, factors, ard)
        inference.update(*order, verbose=False)
        elbo.append(float(inference.compute_lowerbound()))
    return elbo


def guide(rotate: bool) -> tuple[np.ndarray, float, int]:
    """The guide's data, the ELBO at the end, and the iterations it took."""
    np.random.seed(1)  # noqa: NPY002  (the guide's data, as its other calls below)
    k = 3
    factors = GaussianARD(0, 1, shape=(k,), plates=(1, 100))
    ard = Gamma(1e-3, 1e-3, plates=(k,))
    weights = GaussianARD(0, ard, shape=(k,), plates=(10, 1))
    noise = Gamma(1e-3, 1e-3)
    data = GaussianARD(Dot(weights, factors), noise)
    c, x = np.random.randn(10, 2), np.random.randn(2, 100)  # noqa: NPY002
    y = c @ x + 0.1 * np.random.randn(10, 100)  # noqa: NPY002
    mask = np.array([1, 0, 0, 1, 1, 0, 1, 1, 1, 0], dtype=bool)[:, None]
    data.observe(y, mask=mask)
    factors.initialize_from_parameters(np.random.randn(1, 100, k), 10)  # noqa: NPY002
    inference = VB(data, weights, factors, ard, noise)
    if rotate:
        rotations = RotationOptimizer(RotateGaussianARD(weights, ard), RotateGaussianARD(factors), k)
        inference.set_callback(rotations.rotate)
    inference.update(repeat=5000, tol=1e-9 if rotate else 1e-6, verbose=False)
    return y[mask[:, 0]].T, float(inference.L[inference.iter - 1]), int(inference.iter)


def main() -> None:
    """Make the data, run bayespy, write the numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(30, 6)) + 2
    x[rng.random(x.shape) < 0.2] = np.nan
    loadings = rng.normal(size=(6, 3))
    guide_x, with_rotation, iterations = guide(rotate=True)
    _, without, many = guide(rotate=False)
    print(f"guide: {with_rotation:.6f} in {iterations} iterations with rotation, {without:.6f} in {many} without")
    np.savez(
        Path(__file__).with_suffix(".npz"),
        x=x,
        loadings=loadings,
        diagonal=by_sweep(x, loadings, shared=False),
        shared=by_sweep(x, loadings, shared=True),
        guide_x=guide_x,
        guide=[with_rotation, without],
    )


if __name__ == "__main__":
    main()
