"""Your own conjugate model in under 30 lines: a mean that outliers do not pull.

Newcomb's 66 measurements of the time that light takes over 7,443 metres (1882, in nanoseconds above 24,800; Stigler
1977) hold two that are far off. A Student-t likelihood is a normal one whose precision has a weight for each datum:

    x_n ~ N(mu, 1 / (tau w_n)),    w_n ~ Gamma(nu / 2, nu / 2),    mu ~ N(0, 100^2),    tau ~ Gamma(0.001, 0.001)

The weights w_n are local latents, mu and tau global ones, and the degrees of freedom nu a hyperparameter that climbs
the same bound.

    python examples/robust_mean.py             # some seconds; --output DIR for the picture
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, tensor
from torch.distributions import constraints

from jensen.families import Gamma, Normal
from jensen.inference import ConjugateModel, Latent, Moments, Parameter, Result, infer
from jensen.plots import intervals, save

NEWCOMB = """28 26 33 24 34 -44 27 16 40 -2 29 22 24 21 25 30 23 29 31 19 24 20 36 32 36 28 25 21 28 29 37 25 28
26 30 32 36 26 30 22 36 23 27 27 28 27 31 27 26 33 26 32 32 24 39 28 24 25 32 25 29 27 28 29 16 23"""


def robust_mean(nu: float = 4.0) -> ConjugateModel:
    """The model: q(mu) q(tau) prod_n q(w_n)."""

    def terms(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square  # E[(x - mu)^2]
        return 0.5 * (m.tau.log + m.w.log - math.log(2 * math.pi) - m.tau.mean * m.w.mean * square).sum()

    mu, tau = Normal.from_standard(0.0, 100.0), Gamma.from_standard(1e-3, 1e-3)
    return ConjugateModel(
        latents={
            "mu": Latent(mu, prior=mu),
            "tau": Latent(Gamma.from_standard(1.0, 100.0), prior=tau),
            "w": Latent(
                lambda x: Gamma.from_standard(torch.ones_like(x), 1.0),
                prior=lambda m: Gamma.from_standard(m.nu / 2, m.nu / 2),
                local=True,
            ),
        },
        local_terms=terms,
        parameters={"nu": Parameter(tensor(nu, dtype=torch.float64), constraints.greater_than(1e-3))},
    )


def main() -> None:
    """Fit, compare with the plain mean, and draw which measurements count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="folder of the picture")
    folder = parser.parse_args().output
    x = tensor([float(value) for value in NEWCOMB.split()], dtype=torch.float64)
    result: Result = infer(robust_mean(), x, tol=1e-10)
    mu = result.posterior["mu"].standard_parameters
    print(f"mean {mu.loc:.2f} +- {mu.scale:.2f}; plain mean {x.mean():.2f} +- {x.std() / len(x) ** 0.5:.2f}")
    print(
        f"degrees of freedom {float(result.parameters['nu']):.2f}; ELBO {result.elbo:.3f} nats, {result.steps} sweeps"
    )
    weights = result.local["w"].mean_parameters.mean
    for n in weights.argsort()[:3].tolist():
        print(f"measurement {n}: {x[n]:.0f}, weight {weights[n]:.3f}")
    order = x.argsort()[:12]
    draws = result.local["w"].sample((4000,), torch.Generator().manual_seed(0))
    bounds = draws.quantile(tensor([0.05, 0.95], dtype=torch.float64), dim=0)
    figure = intervals(
        [f"{v:.0f}" for v in x[order]],
        weights[order],
        bounds[0][order],
        bounds[1][order],
        title="Weights of the smallest measurements, 90 %",
    )
    print("written:", save(figure, f"{folder}/robust-mean.png"))


if __name__ == "__main__":
    main()
