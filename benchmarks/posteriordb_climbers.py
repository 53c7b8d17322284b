"""The peers' mean-field variational inference with usual settings, in steps that can be interrupted.

Double precision throughout, as ours. Each climber is made (and compiled) for one posterior and then advanced; what it
returns is its normal approximation on the real scale, by latent: the peers' transforms are those of this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from benchmarks.models.case import Case

__all__ = ["CLIMBERS", "Climber", "Sites"]

Sites: TypeAlias = Mapping[str, tuple[Any, Any]]
"""means and standard deviations on the real scale, NumPy arrays, by latent"""

STEP = 1e-2
SEED = 0


class Climber(Protocol):
    """One run of a peer."""

    settings: ClassVar[str]

    def advance(self, steps: int) -> None:
        """Take gradient steps."""

    def normal(self) -> Sites:
        """Where it is now."""


class NumPyro:
    """SVI with AutoNormal, compiled; the loop is in XLA, as in `SVI.run`."""

    settings: ClassVar[str] = "SVI, AutoNormal, Adam(1e-2), Trace_ELBO with 1 particle, float64"

    def __init__(self, case: Case) -> None:
        import jax

        settings: Any = jax.config
        settings.update("jax_enable_x64", True)
        from numpyro.infer import SVI, Trace_ELBO
        from numpyro.infer.autoguide import AutoNormal
        from numpyro.optim import Adam

        from benchmarks.models import twins_numpyro

        model = twins_numpyro.MODELS[case.twin]
        svi = SVI(model, AutoNormal(model), Adam(STEP), Trace_ELBO(), **case.arrays())
        self._svi = svi
        self._block: Any = jax.block_until_ready
        self._state = svi.init(jax.random.PRNGKey(SEED))
        run: Any = jax.jit(lambda state, n: jax.lax.fori_loop(0, n, lambda _, s: svi.update(s)[0], state))
        self._run = run.lower(self._state, 1).compile()

    def advance(self, steps: int) -> None:
        """Take gradient steps."""
        self._state = self._block(self._run(self._state, steps))

    def normal(self) -> Sites:
        """Where it is now."""
        found = self._svi.get_params(self._state)
        return _by_site({name: np.asarray(value) for name, value in found.items()}, "_auto_loc", "_auto_scale")


class Pyro:
    """SVI with AutoNormal."""

    settings: ClassVar[str] = "SVI, AutoNormal, Adam(1e-2), Trace_ELBO with 1 particle, float64"

    def __init__(self, case: Case) -> None:
        import pyro
        import torch
        from pyro import optim
        from pyro.infer import SVI, Trace_ELBO
        from pyro.infer.autoguide import AutoNormal

        from benchmarks.models import twins_pyro

        torch.set_default_dtype(torch.float64)
        pyro.clear_param_store()
        pyro.set_rng_seed(SEED)
        model = twins_pyro.MODELS[case.twin]
        optimiser: Any = getattr(optim, "Adam")({"lr": STEP})  # noqa: B009 (made at import: the checker does not see it)
        self._data, self._guide = dict(case.data), AutoNormal(model)
        self._svi = SVI(model, self._guide, optimiser, Trace_ELBO())
        self._guide(**self._data)  # makes its parameters
        self._names = list(case.model.latents)

    def advance(self, steps: int) -> None:
        """Take gradient steps."""
        for _ in range(steps):
            self._svi.step(**self._data)

    def normal(self) -> Sites:
        """Where it is now."""
        pairs = {n: (getattr(self._guide.locs, n), getattr(self._guide.scales, n)) for n in self._names}
        return {n: (loc.detach().numpy().copy(), scale.detach().numpy().copy()) for n, (loc, scale) in pairs.items()}


class PyMC:
    """ADVI as `pymc.fit(method="advi")` does it."""

    settings: ClassVar[str] = "ADVI, adagrad_window(1e-3), 1 draw, float64"

    def __init__(self, case: Case) -> None:
        import logging

        import pymc

        from benchmarks.models import twins_pymc

        for name in ("pymc", "pymc.variational"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if case.twin not in twins_pymc.MODELS:
            raise LookupError(f"{case.twin} is not written in PyMC")
        with pymc.Model() as model:
            twins_pymc.MODELS[case.twin](**case.arrays())
        self._advi = pymc.ADVI(model=model, random_seed=SEED)
        self._advi.fit(1, progressbar=False)  # compiles the step; its default, score=True, is also what draws anew

    def advance(self, steps: int) -> None:
        """Take gradient steps."""
        self._advi.refine(steps, progressbar=False)

    def normal(self) -> Sites:
        """Where it is now."""
        approximation = self._advi.approx
        parameters = {name: value.get_value() for name, value in approximation.params_dict.items()}
        mean, sd = parameters["mu"], np.logaddexp(0.0, parameters["rho"])
        found = {}
        for name, (_, where, shape, _) in approximation.ordering.items():
            found[name.removesuffix("_log__")] = (mean[where].reshape(shape), sd[where].reshape(shape))
        return found


def _by_site(found: Mapping[str, Any], loc: str, scale: str) -> Sites:
    sites = [name.removesuffix(loc) for name in found if name.endswith(loc)]
    return {site: (found[site + loc], found[site + scale]) for site in sites}


CLIMBERS: dict[str, type[Climber]] = {"NumPyro": NumPyro, "Pyro": Pyro, "PyMC": PyMC}
