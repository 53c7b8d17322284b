"""Score-function gradients: log q is differentiated, the log joint only evaluated."""

from __future__ import annotations

from typing import Literal

from torch import Generator, Tensor

from jensen.gradients.control_variates import RunningAverage, leave_one_out, regression
from jensen.gradients.estimator import Estimator, Part
from jensen.gradients.posterior import FactorPosterior, Posterior
from jensen.gradients.signal import Signal

__all__ = ["ControlVariate", "ScoreFunction"]

ControlVariate = Literal["regression", "leave_one_out", "average"]
_CONTROL_VARIATES = ("regression", "leave_one_out", "average")


class ScoreFunction(Estimator):
    """grad E_q[f(z)] = E_q[f(z) grad log q(z)]: for any latents, discrete ones too (Ranganath, Gerrish & Blei 2014).

    Args:
        rao_blackwell: multiply the score of each latent, and of each row of a plate, only with the terms that depend on
            it and its own -log q; needs the `dependence` of terms on latents to make a difference beyond q's own.
        control_variate: "leave_one_out", the mean of the other draws' signals; "regression", a multiple of the score
            with its coefficient from the other draws; "average", a running average of the steps before (such an
            estimator has a memory: one for each climb). The first two need two draws at least. None takes nothing off.
        decay: of the running average.

    Raises:
        ValueError: an unknown control variate, or a decay outside of [0, 1).
    """

    def __init__(
        self, rao_blackwell: bool = False, control_variate: ControlVariate | None = None, decay: float = 0.9
    ) -> None:
        if control_variate is not None and control_variate not in _CONTROL_VARIATES:
            raise ValueError(f"control_variate must be one of {_CONTROL_VARIATES} or None, got {control_variate!r}")
        self.rao_blackwell = rao_blackwell
        self.control_variate = control_variate
        self._average = RunningAverage(decay)

    def __repr__(self) -> str:
        given = ["rao_blackwell=True"] if self.rao_blackwell else []
        given += [f"control_variate={self.control_variate!r}"] if self.control_variate else []
        return f"ScoreFunction({', '.join(given)})"

    def objection(self, factor: FactorPosterior) -> str | None:
        return None

    def needs_dependence(self, q: Posterior) -> bool:
        return self.rao_blackwell

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        draw = factor.sample(samples, generator) if noise is None else factor.detach().from_noise(noise)
        log_q = factor.log_prob(draw)
        return Part(factor, draw, -log_q.detach(), log_q)

    def score(self, part: Part, signal: Signal) -> Tensor:
        log_q = part.log_q
        assert log_q is not None  # set by `part`
        if self.rao_blackwell:
            learning = signal.of(part.factor, part.own)
        else:
            learning = signal.whole.reshape(-1, *[1] * (log_q.dim() - 1)).expand_as(log_q)
        if self.control_variate == "regression":
            return regression(log_q, learning)
        if self.control_variate == "leave_one_out":
            learning = leave_one_out(learning)
        elif self.control_variate == "average":
            learning = self._average(part.factor.names, learning)
        return ((log_q - log_q.detach()) * learning).sum() / len(log_q)
