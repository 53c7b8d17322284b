"""The model of examples/robust_mean.py, which the documentation tells people to write, against maximum likelihood."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from jensen.inference import infer

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "robust_mean.py"))
DATA = torch.tensor([float(value) for value in EXAMPLE["NEWCOMB"].split()], dtype=torch.float64)


def test_it_finds_what_maximum_likelihood_finds():
    """66 data and vague priors: the posterior mean is near scipy's Student-t fit, nu a little above it."""
    nu, loc, scale = scipy.stats.t.fit(DATA.numpy())
    result = infer(EXAMPLE["robust_mean"](), DATA, tol=1e-12)
    assert float(result.posterior["mu"].standard_parameters.loc) == pytest.approx(loc, abs=0.05)
    assert float(result.posterior["tau"].mean_parameters.mean) ** -0.5 == pytest.approx(scale, rel=0.05)
    assert float(result.parameters["nu"]) == pytest.approx(nu, rel=0.1)
    assert result.local["w"].mean_parameters.mean.argmin() == DATA.argmin()


def test_many_degrees_of_freedom_are_a_normal_likelihood():
    model = dataclasses.replace(EXAMPLE["robust_mean"](1e7), parameters={})
    weights = dataclasses.replace(model.latents["w"], prior=EXAMPLE["Gamma"].from_standard(5e6, 5e6))
    model = dataclasses.replace(model, latents={**model.latents, "w": weights})
    result = infer(model, DATA, tol=1e-13)
    assert float(result.posterior["mu"].standard_parameters.loc) == pytest.approx(float(DATA.mean()), abs=0.01)
    assert np.isclose(float(result.posterior["tau"].mean_parameters.mean) ** -0.5, float(DATA.std()), rtol=0.02)
