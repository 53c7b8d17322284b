"""Eight schools: does coaching raise test scores? A hierarchical model in a dozen lines, with a verdict.

Estimated effects and standard errors of coaching in eight schools (Rubin 1981; Gelman et al., Bayesian Data Analysis):

    y_j ~ N(mu + tau eta_j, sigma_j),    eta_j ~ N(0, 1),    mu ~ N(0, 5),    tau ~ HalfCauchy(5)

    python examples/eight_schools.py            # a second; --output DIR for the pictures

The same from the command line, data apart:

    jensen infer examples/eight_schools.py --data schools.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.distributions import HalfCauchy, Normal

from jensen.inference import Model, fit, positive, real
from jensen.plots import save

SCHOOLS = {"y": [28.0, 8, -3, 7, -1, 1, 18, 12], "sigma": [15.0, 10, 16, 11, 9, 11, 10, 18]}


def log_joint(z: Any, data: Any) -> dict[str, torch.Tensor]:
    """log p(y, mu, tau, eta), in terms."""
    return {
        "mu": Normal(0, 5).log_prob(z.mu),
        "tau": HalfCauchy(5.0).log_prob(z.tau),
        "eta": Normal(0, 1).log_prob(z.eta),
        "y": Normal(z.mu + z.tau * z.eta, data.sigma).log_prob(data.y),
    }


def prior(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """One draw of mu, tau and eta."""
    draw = torch.randn(10, generator=generator, dtype=torch.float64)
    uniform = torch.rand((), generator=generator, dtype=torch.float64)
    return {"mu": 5 * draw[0], "tau": 5 * torch.tan(uniform * torch.pi / 2), "eta": draw[2:]}


def simulate(z: Any, data: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """New effects in the same schools."""
    noise = torch.randn(8, generator=generator, dtype=torch.float64)
    return {"y": z.mu + z.tau * z.eta + data.sigma * noise}


model = Model(
    {"mu": real(), "tau": positive(), "eta": real(8)}, log_joint, plates={"schools": 8}, simulate=simulate, prior=prior
)


def main() -> None:
    """Fit, print the verdict, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/eight_schools"), help="folder of the pictures")
    output = parser.parse_args().output
    result = fit(model, SCHOOLS)
    print(result.summary())
    print(result.pareto_k)
    draws = result.sample(4000)
    effects = draws["mu"][:, None] + draws["tau"][:, None] * draws["eta"]
    for school, effect in zip("ABCDEFGH", effects.T, strict=True):
        print(f"school {school}: {effect.mean():5.1f} ± {effect.std():4.1f} points")
    for kind in ("trace", "pairs", "prior"):
        print(save(result.plot(kind), output / f"{kind}.png"))


if __name__ == "__main__":
    main()
