"""Reference values for hidden Markov models, made once: python tests/references/hmm.py (about three minutes).

Writes hmm.npz beside this file: data, starts, and what comes out of three other implementations.

- hmmlearn 0.3.3, VariationalGaussianHMM and VariationalCategoricalHMM, from a given start, after a number of sweeps.
- bayespy 0.6.6, a categorical hidden Markov model, its ELBO at convergence from a given start.
- Gibbs sampling written below (forward filtering, backward sampling), with the Monte Carlo errors of what it gives.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

SWEEPS = 12
DRAWS, BURN_IN = 6000, 500


def draw_paths(rng: np.random.Generator, lengths: list[int], transitions: Array) -> npt.NDArray[np.int64]:
    """Paths of these lengths, one after the other, each from a uniform first state."""
    paths = []
    for length in lengths:
        z = [int(rng.integers(len(transitions)))]
        for _ in range(length - 1):
            z.append(int(rng.choice(len(transitions), p=transitions[z[-1]])))
        paths += z
    return np.array(paths)


def hmmlearn_gaussian(rng: np.random.Generator, prefix: str, covariance: str, dim: int) -> dict[str, Array]:
    """Data, a start, and the posterior of hmmlearn after some sweeps from there."""
    from hmmlearn.vhmm import VariationalGaussianHMM

    k, lengths = 3, [40, 1, 25, 60]
    sticky = 0.7 * np.eye(k) + 0.1
    path = draw_paths(rng, lengths, sticky)
    x = rng.normal(size=(k, dim))[path] * 3 + rng.normal(size=(len(path), dim))
    x -= x.mean(0)
    given = {"x": x, "lengths": np.array(lengths)}
    full = covariance == "full"
    scatter = [np.cov(rng.normal(size=(9, dim)), rowvar=False).reshape(dim, dim) * 5 for _ in range(k)]
    start = {
        "startprob": rng.gamma(2, 1, k),
        "transmat": rng.gamma(2, 20, (k, k)),
        "means": rng.normal(size=(k, dim)) * 3,
        "beta": rng.gamma(2, 1, k),
        "dof": rng.gamma(2, 2, k) + dim,
        "scale": np.stack(scatter) if full else rng.gamma(2, 3, (k, dim)),
    }
    prior = {
        "startprob": np.full(k, 0.7),
        "transmat": np.full((k, k), 0.4),
        "means": np.zeros((k, dim)),
        "beta": np.full(k, 0.3),
        "dof": np.full(k, dim + 1.0),
        "scale": np.stack([0.8 * np.eye(dim)] * k) if full else np.full((k, dim), 0.8),
    }
    model = VariationalGaussianHMM(k, covariance, init_params="", tol=-np.inf, n_iter=SWEEPS + 1)
    model.n_features = dim
    for name in start:
        setattr(model, f"{name}_prior_", prior[name])
        setattr(model, f"{name}_posterior_", start[name])
    history, posterior = run_hmmlearn(model, x, lengths, list(start))
    found = {**given, **{f"start_{n}": v for n, v in start.items()}, **{f"prior_{n}": v for n, v in prior.items()}}
    found |= {**posterior, "elbo": history - 0.5 * x.size * np.log(2 * np.pi)}  # which it leaves out
    return {f"{prefix}_{name}": value for name, value in found.items()}


def hmmlearn_categorical(rng: np.random.Generator) -> dict[str, Array]:
    from hmmlearn.vhmm import VariationalCategoricalHMM

    k, v, lengths = 2, 4, [50, 1, 30, 8]
    path = draw_paths(rng, lengths, np.array([[0.9, 0.1], [0.2, 0.8]]))
    table = np.array([[0.6, 0.3, 0.05, 0.05], [0.05, 0.05, 0.2, 0.7]])
    x = np.array([rng.choice(v, p=table[z]) for z in path])
    start = {
        "startprob": rng.gamma(2, 1, k),
        "transmat": rng.gamma(2, 20, (k, k)),
        "emissionprob": rng.gamma(2, 10, (k, v)),
    }
    prior = {"startprob": np.full(k, 0.5), "transmat": np.full((k, k), 0.5), "emissionprob": np.full((k, v), 0.25)}
    model = VariationalCategoricalHMM(k, init_params="", tol=-np.inf, n_iter=SWEEPS + 1, n_features=v)
    for name in start:
        setattr(model, f"{name}_prior_", prior[name])
        setattr(model, f"{name}_posterior_", start[name])
    history, posterior = run_hmmlearn(model, x[:, None], lengths, list(start))
    found = {"x": x, "lengths": np.array(lengths), **{f"start_{n}": v for n, v in start.items()}}
    found |= {**{f"prior_{n}": v for n, v in prior.items()}, **posterior, "elbo": history}
    return {f"categorical_{name}": value for name, value in found.items()}


def run_hmmlearn(model, x, lengths, names):  # type: ignore[no-untyped-def]
    """The bound after 1, 2, ... sweeps (hmmlearn reports it before each), and the posterior after `SWEEPS` of them."""
    model.n_iter = SWEEPS
    model.fit(x, lengths)
    posterior = {name: np.array(getattr(model, f"{name}_posterior_")) for name in names}
    history = list(model.monitor_.history)[1:]
    model.n_iter = 1
    model.fit(x, lengths)
    return np.array([*history, model.monitor_.history[0]]), posterior


def bayespy_categorical(data: dict[str, Array]) -> dict[str, Array]:
    """bayespy's converged ELBO for the longest sequence of the categorical data, from the same start."""
    from bayespy.inference import VB
    from bayespy.nodes import Categorical, CategoricalMarkovChain, Dirichlet, Mixture

    length = int(data["categorical_lengths"][0])
    k = len(data["categorical_start_startprob"])
    a0 = Dirichlet(data["categorical_prior_startprob"])
    a = Dirichlet(data["categorical_prior_transmat"], plates=(k,))
    p = Dirichlet(data["categorical_prior_emissionprob"], plates=(k,))
    z = CategoricalMarkovChain(a0, a, states=length)
    x = Mixture(z, Categorical, p)
    x.observe(data["categorical_x"][:length].astype(int))
    for node, name in ((a0, "startprob"), (a, "transmat"), (p, "emissionprob")):
        node.initialize_from_parameters(data[f"categorical_start_{name}"])
    vb = VB(x, z, p, a, a0)
    vb.update(repeat=2000, tol=1e-13, verbose=False)
    order = np.argsort(p.phi[0][:, 0])
    return {"bayespy_elbo": np.array(vb.L[vb.iter - 1]), "bayespy_emissions": (p.phi[0])[order]}


def gibbs(rng: np.random.Generator) -> dict[str, Array]:
    """Draws from the posterior of a model with separated states: forward filtering, backward sampling."""
    k, dim, lengths, held_out = 3, 2, [90, 60, 150], 100
    means = np.array([[-4.0, 0.0], [0.0, 3.0], [4.0, -1.0]])
    transitions = np.array([[0.9, 0.07, 0.03], [0.05, 0.9, 0.05], [0.1, 0.05, 0.85]])
    path = draw_paths(rng, [*lengths, held_out], transitions)
    x = means[path] + rng.normal(size=(len(path), dim)) @ np.array([[1.0, 0.4], [0.0, 0.8]])
    x, test = x[:-held_out], x[-held_out:]
    starts = np.cumsum([0, *lengths])
    prior = {"initial": 1 / k, "transition": 1 / k, "kappa": 0.5, "df": 3.0, "inverse_scale": 2.0 * np.eye(dim)}
    z = path[:-held_out].copy()
    kept: dict[str, list[Array]] = {"means": [], "transitions": [], "log_density": [], "windows": []}
    for step in range(DRAWS + BURN_IN):
        counts = np.full((k, k), prior["transition"])
        for a, b in pairwise(starts):
            np.add.at(counts, (z[a : b - 1], z[a + 1 : b]), 1)
        first = prior["initial"] + np.bincount(z[starts[:-1]], minlength=k)
        pi, rows = rng.dirichlet(first), np.stack([rng.dirichlet(row) for row in counts])
        mu, precision = draw_components(rng, x, z, k, prior)
        log_p = log_normal(x, mu, precision)
        for a, b in pairwise(starts):
            z[a:b] = draw_path(rng, log_p[a:b], pi, rows)[0]
        if step >= BURN_IN:
            kept["means"].append(mu)
            kept["transitions"].append(rows)
            log_p = log_normal(test, mu, precision)
            kept["log_density"].append(draw_path(rng, log_p, pi, rows)[1])
            kept["windows"].append(np.array([draw_path(rng, part, pi, rows)[1] for part in np.split(log_p, 20)]))
    order = np.argsort(np.mean(kept["means"], 0)[:, 0])
    mu, rows = np.array(kept["means"])[:, order], np.array(kept["transitions"])[:, order][:, :, order]
    found = {"x": x, "lengths": np.array(lengths), "test": test, "means": mu.mean(0), "means_sd": mu.std(0)}
    found |= {"means_error": batch_error(mu), "transitions": rows.mean(0), "transitions_sd": rows.std(0)}
    found |= {"transitions_error": batch_error(rows)}
    for name in ("log_density", "windows"):  # of the held-out sequence, and of each of 20 parts of it by itself
        density = np.array(kept[name])
        ratio = np.exp(density - density.max(0))
        found[name] = density.max(0) + np.log(ratio.mean(0))
        found[f"{name}_error"] = batch_error(ratio) / ratio.mean(0)
    return {f"gibbs_{name}": value for name, value in found.items()}


def draw_components(rng, x, z, k, prior):  # type: ignore[no-untyped-def]
    mus, precisions = [], []
    for state in range(k):
        here = x[z == state]
        total = len(here) + prior["kappa"]
        mean = here.sum(0) / total  # the prior mean is 0
        scatter = prior["inverse_scale"] + here.T @ here - total * np.outer(mean, mean)
        precision = stats.wishart.rvs(prior["df"] + len(here), np.linalg.inv(scatter), random_state=rng)
        mus.append(rng.multivariate_normal(mean, np.linalg.inv(total * precision)))
        precisions.append(precision)
    return np.stack(mus), np.stack(precisions)


def log_normal(x: Array, mu: Array, precision: Array) -> Array:
    away = x[:, None] - mu
    squares = np.einsum("nkd,kde,nke->nk", away, precision, away)
    return 0.5 * (np.linalg.slogdet(precision)[1] - x.shape[1] * np.log(2 * np.pi) - squares)


def draw_path(rng, log_p, pi, rows):  # type: ignore[no-untyped-def]
    """A path given the parameters, and the log density of the observations."""
    top = log_p.max(1)
    p = np.exp(log_p - top[:, None])
    filtered = np.empty_like(p)
    total = top.sum()
    now = pi
    for t in range(len(p)):
        now = (now if t == 0 else now @ rows) * p[t]
        total += np.log(now.sum())
        now = now / now.sum()
        filtered[t] = now
    uniform = rng.random(len(p))
    z = np.empty(len(p), dtype=np.int64)
    weights = filtered[-1]
    for t in range(len(p) - 1, -1, -1):
        sums = np.cumsum(weights)
        z[t] = min(int(np.searchsorted(sums, uniform[t] * sums[-1])), len(pi) - 1)
        if t:
            weights = filtered[t - 1] * rows[:, z[t]]
    return z, total


def batch_error(draws: Array, batches: int = 30) -> Array:
    """Monte Carlo standard error of the mean, from means of consecutive batches."""
    size = len(draws) // batches
    means = draws[: size * batches].reshape(batches, size, *draws.shape[1:]).mean(1)
    return np.asarray(means.std(0, ddof=1) / np.sqrt(batches))


def main() -> None:
    found = hmmlearn_gaussian(np.random.default_rng(1), "full", "full", 2)
    found |= hmmlearn_gaussian(np.random.default_rng(2), "diag", "diag", 1)
    found |= hmmlearn_categorical(np.random.default_rng(3))
    found |= bayespy_categorical(found)
    found |= gibbs(np.random.default_rng(4))
    np.savez_compressed(Path(__file__).with_name("hmm.npz"), **found)
    for name in ("full_elbo", "diag_elbo", "categorical_elbo", "bayespy_elbo", "gibbs_log_density"):
        print(name, found[name])


if __name__ == "__main__":
    main()
