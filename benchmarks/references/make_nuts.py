"""Make the references of the posteriors on generated data: NumPyro's no-U-turn sampler on the NumPyro twins.

    python -m benchmarks.references.make_nuts [NAME ...]

Writes NAME.json beside this file: mean, sd, quantiles, standard errors of mean and sd, effective sample sizes and
R-hat of every reported parameter, from 4 chains in double precision. Stops without writing where R-hat is 1.01 or more,
an effective sample size (bulk or tail) is 1,000 or less, or a transition diverged. Needs numpyro and arviz.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import arviz
import jax
import numpy as np
import numpyro
import torch
from numpyro.infer import MCMC, NUTS

from benchmarks.models import GENERATED, case, twins_numpyro
from benchmarks.models.case import Case
from jensen.files import write_text

CHAINS, WARM_UP, DRAWS, SEED = 4, 1500, 2500, 20240501
ACCEPTANCE = 0.95
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DIGITS = 7


def main() -> int:
    """Make those that are named, or all; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", default=list(GENERATED), metavar="NAME", help="of " + ", ".join(GENERATED))
    jax.config.update("jax_enable_x64", True)
    bad = 0
    for name in options.parse_args().names:
        content, faults = summary(case(name, None))
        worst = max(content["r_hat"]), min(content["ess_bulk"]), min(content["ess_tail"])
        print(
            f"{name}: R-hat {worst[0]:.4f}, ESS bulk {worst[1]:.0f}, tail {worst[2]:.0f} {'; '.join(faults)}",
            flush=True,
        )
        if faults:
            bad += 1
        else:
            text = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
            write_text(Path(__file__).parent / f"{name}.json", "{\n" + text + "\n}\n")
    return 1 if bad else 0


def summary(posterior: Case) -> tuple[dict[str, Any], list[str]]:
    """What is stored, and what is wrong with it."""
    kernel = NUTS(twins_numpyro.MODELS[posterior.twin], target_accept_prob=ACCEPTANCE)
    sampler = MCMC(
        kernel, num_warmup=WARM_UP, num_samples=DRAWS, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
    )
    sampler.run(jax.random.PRNGKey(SEED), **posterior.arrays(), extra_fields=("diverging",))
    draws = {name: torch.from_numpy(np.array(x)) for name, x in sampler.get_samples().items()}
    reported = {label: x.numpy().reshape(CHAINS, DRAWS) for label, x in posterior.reported(draws).items()}
    content: dict[str, Any] = {"sampler": _sampler(), "names": list(reported)}
    for key, function in _columns().items():
        content[key] = [_rounded(function(x)) for x in reported.values()]
    faults = []
    if max(content["r_hat"]) >= 1.01:
        faults.append("R-hat is 1.01 or more")
    if min(content["ess_bulk"] + content["ess_tail"]) <= 1000:
        faults.append("an effective sample size is 1,000 or less")
    diverged = int(sampler.get_extra_fields()["diverging"].sum())
    if diverged:
        faults.append(f"{diverged} transitions diverged")
    return content, faults


def _columns() -> dict[str, Any]:
    return {
        "mean": lambda x: x.mean(),
        "sd": lambda x: x.std(ddof=1),
        "quantiles": lambda x: np.quantile(x, QUANTILES),
        "mcse_mean": lambda x: x.std(ddof=1) / np.sqrt(arviz.ess(x, method="mean")),
        "mcse_sd": _error_of_sd,
        "ess_bulk": lambda x: arviz.ess(x, method="bulk"),
        "ess_tail": lambda x: arviz.ess(x, method="tail"),
        "r_hat": lambda x: arviz.rhat(x),
    }


def _error_of_sd(x: Any) -> float:
    """By the delta method from the error of the variance."""
    squares = (x - x.mean()) ** 2
    return float(squares.std() / np.sqrt(arviz.ess(squares, method="mean")) / (2.0 * x.std()))


def _sampler() -> str:
    return (
        f"NumPyro {numpyro.__version__} NUTS, jax {jax.__version__}, float64, {CHAINS} chains of {DRAWS} draws after "
        f"{WARM_UP}, acceptance {ACCEPTANCE}, seed {SEED}; quantiles {QUANTILES}"
    )


def _rounded(x: Any) -> Any:
    return [float(f"{v:.{DIGITS}g}") for v in x] if np.ndim(x) else float(f"{float(x):.{DIGITS}g}")


if __name__ == "__main__":
    sys.exit(main())
