"""What every scikit-learn face of a variational model shares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jensen.errors import CheckpointError, NonFiniteError
from jensen.families import ExponentialFamily
from jensen.inference import ConjugateModel, Result, State, infer
from jensen.inference.store import load_posterior, save_posterior

__all__ = ["Callback", "VariationalEstimator"]

Callback = Callable[[int, float, State], object]


class VariationalEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator whose `fit` climbs an evidence lower bound.

    A subclass stores its constructor's arguments untouched, builds a `ConjugateModel` in `fit`, hands it to `_infer`,
    and computes in `_finish` the fitted attributes that follow from `posterior_` and those named in `_extras`.
    Constructor arguments that `_infer` understands, where a subclass has them: `method`, `tol`, `max_iter`, `n_init`,
    `batch_size`, `chunk_size`, `random_state`.

    Attributes:
        posterior_: q of the global latents, families by name.
        elbo_: evidence lower bound of the data, nats.
        elbo_trace_: the same after every sweep (every pass over the data for minibatches).
        converged_: whether the ELBO settled within `tol`.
        stop_reason_: why the fit ended, in words.
        n_iter_: sweeps, or minibatches, made.
        on_step: called with (step, ELBO, state) after each of them; for progress bars. Not a parameter.
    """

    _extras: ClassVar[tuple[str, ...]] = ()
    """fitted arrays and numbers, other than the posterior, that predictions need"""

    on_step: Callback | None = None
    posterior_: Mapping[str, ExponentialFamily[Any, Any, Any]]
    elbo_: float
    elbo_trace_: list[float]
    converged_: bool
    stop_reason_: str
    n_iter_: int

    def _seed(self) -> int:
        """A seed for generators from `random_state` (None: another one at each call)."""
        return int(check_random_state(getattr(self, "random_state", None)).randint(2**31 - 1))

    def _infer(self, model: ConjugateModel, data: Any, *, seed: int, **options: Any) -> Result:
        """Run `infer` with this estimator's arguments, and keep what it found.

        After Ctrl-C the posterior of the last whole step is kept, and the interruption goes on.
        """
        for argument, option in _OPTIONS.items():
            if hasattr(self, argument) and option not in options:
                options[option] = getattr(self, argument)

        def run(callback: Callback) -> Result:
            return infer(model, data, seed=seed, callback=callback, **options)

        noisy = options.get("batch_size") or options.get("method") == "svi" or model.sampled_terms is not None
        return self._climb([run], warn=not noisy)

    def _climb(self, runs: Iterable[Callable[[Callback], Result]], *, warn: bool = True) -> Result:
        """Make each run, which calls what it is given with (step, ELBO, state), and keep the best result.

        After Ctrl-C, or where a bound is no longer finite, the best posterior so far is kept; the exception goes on.

        Args:
            warn: whether a best run that has not converged is worth a warning.
        """
        done: list[Result] = []
        reached: list[Result] = []  # the last step of every run or restart

        def remember(step: int, elbo: float, state: State) -> None:
            if step == 1 or not reached:
                reached.append(Result(state.q, elbo, [], False, "interrupted", step))
            last = reached[-1]
            last.posterior, last.parameters, last.elbo, last.steps = state.q, state.parameters, elbo, step
            last.elbo_trace.append(elbo)
            if self.on_step is not None:
                self.on_step(step, elbo, state)

        try:
            done += (run(remember) for run in runs)
        except (KeyboardInterrupt, NonFiniteError):
            if done or reached:
                self._keep(max(done + reached, key=lambda result: result.elbo))
            raise
        best = max(done, key=lambda result: result.elbo)
        self._keep(best)
        if warn and not best.converged:
            warnings.warn(
                f"{type(self).__name__} has not converged: {best.reason}; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=4,
            )
        return best

    def _keep(self, result: Result) -> None:
        """Set the fitted attributes."""
        self.posterior_ = dict(result.posterior)
        self.parameters_ = {name: value.detach().cpu().numpy() for name, value in result.parameters.items()}
        self.elbo_, self.elbo_trace_ = result.elbo, list(result.elbo_trace)
        self.converged_, self.stop_reason_, self.n_iter_ = result.converged, result.reason, result.steps
        self._finish()

    def _finish(self) -> None:
        """Set the fitted attributes that follow from `posterior_` and `_extras`."""

    def __getstate__(self) -> dict[str, Any]:
        """Without a stream that `partial_fit` is in, which holds functions: it begins again from the posterior."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _STREAMS}

    def save(self, folder: str | Path) -> Path:
        """Write the posterior (safetensors) and the settings (config.yaml) to `folder`; `load` reads them.

        Raises:
            sklearn.exceptions.NotFittedError: there is no posterior yet.
        """
        check_is_fitted(self, "posterior_")
        extras = {name: torch.as_tensor(np.asarray(getattr(self, name))) for name in self._extras}
        extras["elbo_trace_"] = torch.tensor(self.elbo_trace_, dtype=torch.float64)
        settings = {
            "estimator": type(self).__name__,
            "arguments": {name: _plain(value) for name, value in self.get_params(deep=False).items()},
            "fit": {
                "converged": self.converged_,
                "stop_reason": self.stop_reason_,
                "n_iter": self.n_iter_,
                "elbo": self.elbo_,
            },
        }
        if hasattr(self, "feature_names_in_"):
            settings["feature_names_in"] = self.feature_names_in_.tolist()
        save_posterior(Path(folder), self.posterior_, settings, extras)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """An estimator as `save` wrote it, ready to predict.

        Raises:
            CheckpointError: missing or damaged files, or those of another estimator.
        """
        posterior, settings, extras = load_posterior(Path(folder))
        name = settings.get("estimator")
        if name != cls.__name__:
            raise CheckpointError(f"{folder} holds a {name}, not a {cls.__name__}")
        try:
            estimator = cls(**settings["arguments"])
            fit = settings["fit"]
            estimator.posterior_ = posterior
            estimator.elbo_trace_ = extras["elbo_trace_"].tolist()
            estimator.elbo_, estimator.n_iter_ = float(fit["elbo"]), int(fit["n_iter"])
            estimator.converged_, estimator.stop_reason_ = bool(fit["converged"]), str(fit["stop_reason"])
            if "feature_names_in" in settings:
                estimator.feature_names_in_ = np.asarray(settings["feature_names_in"], dtype=object)
            for extra in cls._extras:
                array = extras[extra].numpy()
                setattr(estimator, extra, array.item() if array.ndim == 0 else array)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder}: config.yaml or the posterior is not one of a {cls.__name__}: {error}"
            ) from None
        estimator._finish()
        return estimator


_STREAMS = ("_svi", "_stream")

_OPTIONS = {
    "method": "method",
    "tol": "tol",
    "max_iter": "max_steps",
    "n_init": "n_init",
    "batch_size": "batch_size",
    "chunk_size": "chunk_size",
}
"""constructor argument -> argument of `infer`"""


def _plain(value: Any) -> Any:
    """A constructor argument as YAML can hold it; arrays become lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        return None
    return value
