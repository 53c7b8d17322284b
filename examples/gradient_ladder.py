"""How noisy the gradient of the bound is, by estimator: the ladder of variance, at the start and at the optimum.

Eight schools (Rubin 1981), each with the effect of a coaching programme and its standard error, and one normal prior
for all effects whose mean and spread are unknown. Every estimator can be used here. Each row of the picture is one more
idea: keep only what a latent can influence (Rao-Blackwell), take off what could be known beforehand (control variates),
differentiate through the draws (pathwise), and leave out the score of q (sticking the landing). The last of these pays
near the optimum of a q that comes close to the posterior (full rank), and costs elsewhere.

    python examples/gradient_ladder.py                 # some seconds; picture in runs/gradient_ladder
    python examples/gradient_ladder.py --repeats 1000 --output DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from jensen.gradients import variance_report
from jensen.inference import Model, fit, positive, real
from jensen.inference.target import Target
from jensen.inference.variational import mean_field
from jensen.plots import save
from jensen.plots.estimators import variance_ladder

DATA = {
    "effect": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
    "error": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}


def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
    """The schools' effects are mu + tau * eta."""
    return {
        "mu": Normal(0.0, 5.0).log_prob(z.mu),
        "tau": HalfCauchy(5.0).log_prob(z.tau),
        "eta": Normal(0.0, 1.0).log_prob(z.eta),
        "likelihood": Normal(z.mu + z.tau * z.eta, data.error).log_prob(data.effect),
    }


def main() -> None:
    """Measure at the start, fit twice, measure at each optimum, draw."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/gradient_ladder"), help="folder of the picture")
    options.add_argument("--repeats", type=int, default=200, help="estimates behind each variance")
    given = options.parse_args()

    latents = {"mu": real(), "tau": positive(), "eta": real(plate="schools")}
    model = Model(latents, log_joint, plates={"schools": 8})
    target = Target(model, DATA)
    reports = {"at the start": variance_report(target, mean_field(model), repeats=given.repeats)}
    for family in ("mean_field", "full_rank"):
        result = fit(model, DATA, family)
        stage = f"at the optimum, {family.replace('_', ' ')}"
        reports[stage] = variance_report(target, result.family, repeats=given.repeats)
        print(f"{family}: ELBO {result.elbo:.3f} nats")
    for stage, report in reports.items():
        print(f"\n{stage}", report, sep="\n")

    first = reports["at the start"]
    names = [row.name for row in first.rows if row.reason is None]
    variances = {stage: [report[name].variance for name in names] for stage, report in reports.items()}
    figure = variance_ladder(names, variances, title="Eight schools", remark=f"{first.samples} draws an estimate")
    print(save(figure, given.output / "ladder.png"))


if __name__ == "__main__":
    main()
