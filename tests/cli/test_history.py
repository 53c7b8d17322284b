"""The best epoch of a history."""

from __future__ import annotations

from jensen.cli.history import Best, best


def test_best() -> None:
    history = {
        "epoch": [1, 2, 3],
        "valid/loss": [3.0, 1.0, 2.0],
        "valid/elbo": [-3.0, -1.0, -2.0],
        "train/elbo": [0, 1, 2],
    }
    assert best(history) == Best("elbo", -1.0, 2)
    assert best({**history, "valid/iwae": [0.0, -1.0, -2.0]}) == Best("iwae", 0.0, 1)
    assert best({"epoch": [1], "valid/log_likelihood": [-4.0]}) == Best("log-likelihood", -4.0, 1)
    assert best({}) is None
    assert best({"epoch": [], "valid/elbo": []}) is None
