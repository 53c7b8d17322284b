"""The bar's guess of how much is left, and what a fit reports."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import pytest
from sklearn.exceptions import ConvergenceWarning

from jensen.cli.climb import climb, sweeps_left
from jensen.errors import DataError, JensenError


def geometric(count: int, factor: float) -> list[float]:
    """An ELBO that rises to -100, the distance shrinking by `factor` a sweep."""
    return [-100 - 50 * factor**n for n in range(count)]


@pytest.mark.parametrize("factor", [0.5, 0.9])
@pytest.mark.parametrize("seen", [8, 20])
def test_the_guess_is_right_where_changes_shrink_by_a_factor(factor: float, seen: int) -> None:
    tol, whole = 1e-6, geometric(1_000, factor)
    changes = (abs(b - a) <= tol * abs(b) for a, b in pairwise(whole))
    stop = next(n for n, settled in enumerate(changes) if settled) + 2
    assert sweeps_left(whole[:seen], tol, 10_000) == pytest.approx(max(stop - seen, 0), abs=3)


@pytest.mark.parametrize(
    ("trace", "tol", "left"),
    [
        (geometric(4, 0.5), 1e-6, 77),  # too early to tell
        (geometric(50, 0.999), 1e-9, 77),  # longer than there is
        ([-1.0] * 30, 1e-6, 0),
        ([-float(n % 2) for n in range(30)], 1e-6, 77),  # noise
        (geometric(30, 0.5), 0.0, 77),  # never stops by itself
        (geometric(60, 0.5), 1e-6, 0),
    ],
)
def test_without_anything_to_go_by_it_is_what_there_can_be(trace: list[float], tol: float, left: int) -> None:
    assert sweeps_left(trace, tol, 77) == left


class Fake:
    """An estimator that does something in `fit`."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def fit(self, **_: Any) -> None:
        self.act(self)


def test_an_estimators_refusal_keeps_its_words() -> None:
    def refuse(_: Fake) -> None:
        raise ValueError("K is too large")

    with pytest.raises(JensenError, match="K is too large"):
        climb(Fake(refuse), {}, "fake", most=1, tol=0)


def test_an_error_with_a_name_keeps_it() -> None:
    def refuse(_: Fake) -> None:
        raise DataError("bad data")

    with pytest.raises(DataError, match="bad data"):
        climb(Fake(refuse), {}, "fake", most=1, tol=0)


def test_a_bug_stays_a_bug() -> None:
    def broken(_: Fake) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        climb(Fake(broken), {}, "fake", most=1, tol=0)


def test_only_what_matters_is_told() -> None:
    def warn(_: Fake) -> None:
        warnings.warn("has not\n converged", ConvergenceWarning, stacklevel=1)
        warnings.warn("has not\n converged", ConvergenceWarning, stacklevel=1)
        warnings.warn("beta", UserWarning, stacklevel=1)

    climbed = climb(Fake(warn), {}, "fake", most=1, tol=0)
    assert climbed.warnings == ["has not converged"]
    assert not climbed.interrupted
    assert 0 <= climbed.seconds < 5


def test_ctrl_c_with_and_without_a_posterior() -> None:
    def stop(fake: Fake) -> None:
        raise KeyboardInterrupt

    def stop_late(fake: Fake) -> None:
        fake.posterior_ = {}  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climb(Fake(stop), {}, "fake", most=1, tol=0)
    assert climb(Fake(stop_late), {}, "fake", most=1, tol=0).interrupted


def test_the_bar_shows_steps_and_elbo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal; the hook is gone afterwards."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")

    def act(fake: Any) -> None:
        for step, elbo in enumerate(geometric(30, 0.5), 1):
            fake.on_step(step, elbo, None)

    fake = Fake(act)
    climb(fake, {}, "mixture on iris", most=100, tol=1e-9)
    said = capsys.readouterr()
    assert said.out == ""
    assert "step 30, ELBO −100.00" in said.err
    assert not hasattr(fake, "on_step")
