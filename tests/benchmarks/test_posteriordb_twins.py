"""The peers' models are ours: equal log densities on the real scale, so also equal transforms to it.

NumPyro and PyMC, which compile for seconds, are in the soak tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.models.case import Case
from torch import Tensor

from benchmarks import models
from jensen.inference.target import Target

KINDS = {
    "autoregression": "arK-arK",
    "exponential_outputs": "bball_drive_event_0-hmm_drive_0",
    "flat": "mesquite-mesquite",
    "centred": "eight_schools-eight_schools_centered",
    "non_centred": "eight_schools-eight_schools_noncentered",
    "process": "gp_pois_regr-gp_regr",
    "normal_outputs": "hmm_example-hmm_example",
    "half_cauchy": "kidiq-kidscore_momhs",
    "informed": "kilpisjarvi_mod-kilpisjarvi",
    "shrunken": "sblrc-blr",
    **{name: name for name in models.GENERATED},
}


@pytest.fixture
def double() -> Iterator[None]:
    """Constants in the models are as precise as the peers'."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _case(kind: str, request: pytest.FixtureRequest) -> Case:
    root: Path | None = None
    if kind not in models.GENERATED:
        root = request.getfixturevalue("data_directory") / "posteriordb"
        if not root.is_dir():
            pytest.skip(f"no posteriordb in {root.parent}")
    case = models.case(KINDS[kind], root)
    assert case.twin == kind
    return case


def _points(case: Case) -> tuple[dict[str, Tensor], Tensor]:
    """Real coordinates by latent, and our log density there."""
    target = Target(case.model, case.data)
    u = 0.5 * torch.randn(3, target.coordinates.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return target.coordinates.split(u), target.log_density(u)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_numpyro(kind: str, request: pytest.FixtureRequest, double: None) -> None:
    pytest.importorskip("numpyro")
    import jax
    from benchmarks.models import twins_numpyro
    from numpyro.infer.util import potential_energy

    case = _case(kind, request)
    split, ours = _points(case)
    with jax.enable_x64(True):
        model, data = twins_numpyro.MODELS[kind], case.arrays()
        for s, expected in enumerate(ours):
            point = {name: jax.numpy.asarray(v[s].numpy()) for name, v in split.items()}
            assert -float(potential_energy(model, (), data, point)) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_pyro(kind: str, request: pytest.FixtureRequest, double: None) -> None:
    pyro = pytest.importorskip("pyro")
    from benchmarks.models import twins_pyro
    from torch.distributions import biject_to

    case = _case(kind, request)
    split, ours = _points(case)
    for s, expected in enumerate(ours):
        sites = pyro.poutine.trace(twins_pyro.MODELS[kind]).get_trace(**case.data).nodes
        transforms = {name: biject_to(sites[name]["fn"].support) for name in split}
        values = {name: transforms[name](u[s]) for name, u in split.items()}
        model = pyro.poutine.condition(twins_pyro.MODELS[kind], data=values)
        log_joint = pyro.poutine.trace(model).get_trace(**case.data).log_prob_sum()
        jacobian = sum(transforms[n].log_abs_det_jacobian(u[s], values[n]).sum() for n, u in split.items())
        assert float(log_joint + jacobian) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_pymc(kind: str, request: pytest.FixtureRequest, double: None) -> None:
    pymc: Any = pytest.importorskip("pymc")
    from benchmarks.models import twins_pymc

    if kind not in twins_pymc.MODELS:
        pytest.skip(f"{kind} is not written in PyMC")
    case = _case(kind, request)
    split, ours = _points(case)
    with pymc.Model() as model:
        twins_pymc.MODELS[kind](**case.arrays())
    log_density = model.compile_logp(mode="FAST_COMPILE")
    for s, expected in enumerate(ours):
        point = {
            variable.name: np.asarray(split[variable.name.removesuffix("_log__")][s]) for variable in model.value_vars
        }
        # PyTensor keeps small constants such as 5.0 in single precision
        assert float(log_density(point)) == pytest.approx(float(expected), rel=1e-7)
