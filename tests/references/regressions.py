"""Long draws from the posteriors of three regressions, kept as means with their errors in regressions.npz.

    python tests/references/regressions.py      # about two minutes

Logistic and Poisson regression by the no-U-turn sampler in nuts.py, linear regression with automatic relevance
determination by Gibbs sampling. NumPy, SciPy and scikit-learn's data alone: nothing of Jensen is used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nuts import chains, mean_and_error
from scipy.special import expit, gammaln, logsumexp
from sklearn.datasets import load_breast_cancer, load_diabetes

SEED = 20240817
CHAINS, DRAWS, WARMUP = 4, 20_000, 1000
INTERCEPT_SCALE = 10.0
COLUMNS = (0, 1, 4, 7, 20)


def breast_cancer() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Five standardised measurements of 100 tumours, and 20 more to predict: (x, t, new x, new t)."""
    x, t = load_breast_cancer(return_X_y=True)
    x = (x[:, COLUMNS] - x[:, COLUMNS].mean(0)) / x[:, COLUMNS].std(0)
    return x[:100], t[:100], x[100:120], t[100:120]


def counts() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Generated counts, a few of them large: (x, t, new x, new t)."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(80, 3))
    t = rng.poisson(np.exp(0.8 + x @ [0.7, -0.4, 0.0]))
    return x[:60], t[:60], x[60:], t[60:]


def diabetes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ten standardised measurements of 80 patients and the disease's progress; 20 more: (x, y, new x, new y)."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    return x[:80], y[:80], x[80:100], y[80:100]


def with_ones(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.column_stack([x - centre, np.ones(len(x))])


def logistic() -> dict[str, np.ndarray]:
    """Weights N(0, 1), intercept at the data's centre N(0, 10^2)."""
    x, t, new, new_t = breast_cancer()
    rows, new_rows = with_ones(x, x.mean(0)), with_ones(new, x.mean(0))
    precision = np.array([1.0] * x.shape[1] + [INTERCEPT_SCALE**-2])

    def target(w: np.ndarray) -> tuple[float, np.ndarray]:
        s = rows @ w
        value = float(t @ s - np.logaddexp(0, s).sum() - 0.5 * precision @ w**2)
        return value, rows.T @ (t - expit(s)) - precision * w

    draws = chains(target, rows.shape[1], CHAINS, DRAWS, WARMUP, SEED)
    s = draws @ new_rows.T
    return summary("logistic", draws, new_t * s - np.logaddexp(0, s))


def poisson() -> dict[str, np.ndarray]:
    """Weights N(0, 1), intercept at the data's centre N(0, 10^2)."""
    x, t, new, new_t = counts()
    rows, new_rows = with_ones(x, x.mean(0)), with_ones(new, x.mean(0))
    precision = np.array([1.0] * x.shape[1] + [INTERCEPT_SCALE**-2])

    def target(w: np.ndarray) -> tuple[float, np.ndarray]:
        s = rows @ w
        rate = np.exp(np.minimum(s, 50))
        return float(t @ s - rate.sum() - 0.5 * precision @ w**2), rows.T @ (t - rate) - precision * w

    draws = chains(target, rows.shape[1], CHAINS, DRAWS, WARMUP, SEED + 1)
    s = draws @ new_rows.T
    return summary("poisson", draws, new_t * s - np.exp(s) - gammaln(new_t + 1))


def linear() -> dict[str, np.ndarray]:
    """w_d | tau, alpha_d ~ N(0, 1/(tau alpha_d)), alpha_d ~ Gamma(1, 0.01), tau ~ Gamma(1, 1), flat intercept."""
    x, y, new, new_y = diabetes()
    n, d = x.shape
    xc, yc = x - x.mean(0), y - y.mean()
    xx, xy, yy = xc.T @ xc, xc.T @ yc, yc @ yc
    draws = np.empty((CHAINS, DRAWS, d + 1))
    density = np.empty((CHAINS, DRAWS, len(new)))
    for chain in range(CHAINS):
        rng = np.random.default_rng([SEED + 2, chain])
        alpha = rng.gamma(1.0, 10.0, size=d)
        for i in range(-WARMUP, DRAWS):
            # (w, tau) given alpha, jointly
            precision = xx + np.diag(alpha)
            loc = np.linalg.solve(precision, xy)
            rate = 1.0 + 0.5 * (yy - xy @ loc)
            tau = rng.gamma(1.0 + 0.5 * (n - 1), 1 / rate)
            factor = np.linalg.cholesky(precision)
            w = loc + np.linalg.solve(factor.T, rng.normal(size=d)) / np.sqrt(tau)
            alpha = rng.gamma(1.5, 1 / (0.01 + 0.5 * tau * w**2))
            if i >= 0:
                variance = (1 + 1 / n) / tau  # the intercept is integrated out
                residual = new_y - y.mean() - (new - x.mean(0)) @ w
                draws[chain, i] = [*w, tau]
                density[chain, i] = -0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)
    return summary("linear", draws, density)


def summary(name: str, draws: np.ndarray, log_density: np.ndarray) -> dict[str, np.ndarray]:
    """Means and standard deviations of the parameters; log of the mean predictive density; Monte Carlo errors."""
    mean, error = mean_and_error(draws)
    density, density_error = mean_and_error(np.exp(log_density))
    total = logsumexp(log_density.reshape(-1, log_density.shape[-1]), axis=0) - np.log(CHAINS * DRAWS)
    between = draws.mean(1).std(0, ddof=1)
    print(f"{name}: largest Monte Carlo error {np.max(error / draws.std((0, 1))):.4f} sd, between chains {between}")
    return {
        f"{name}_mean": mean,
        f"{name}_mean_error": error,
        f"{name}_sd": draws.std((0, 1)),
        f"{name}_log_density": total,
        f"{name}_log_density_error": density_error / density,
    }


if __name__ == "__main__":
    found = {**linear(), **logistic(), **poisson()}
    np.savez(Path(__file__).with_name("regressions.npz"), **found)
    for key, value in found.items():
        print(key, np.round(value, 4))
