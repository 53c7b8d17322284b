"""The model of a run, as commands need it."""

from __future__ import annotations

import warnings
from math import prod
from typing import TYPE_CHECKING

from jensen.cli.screen import warn
from jensen.errors import CheckpointError, JensenError

if TYPE_CHECKING:
    from jensen.autoencoders import EncoderDecoder, NeuralModel
    from jensen.training import Run

__all__ = ["code_levels", "coder", "codes_in_words", "load_model", "require_code"]


def load_model(run: Run) -> NeuralModel:
    """The run's model with its learned prior.

    Codes are uniform, and a line on stderr says so, where there is a prior that does not fit any more or is damaged.
    """
    from jensen.training.run import StalePriorWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StalePriorWarning)
        try:
            model = run.model()
        except CheckpointError as error:
            model = run.model(prior=False)  # raises what is wrong with the model itself
            warn(f"codes are taken as uniform: {error}")
    for warning in caught:
        if issubclass(warning.category, StalePriorWarning):
            warn(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return model


def coder(run: Run, action: str) -> EncoderDecoder:
    """The run's model for what needs its networks alone, and not the prior over its codes.

    Raises:
        JensenError: it has no code, without which there is no `action`.
    """
    from jensen.autoencoders import EncoderDecoder

    require_code(run, action)
    model = run.model(prior=False)
    assert isinstance(model, EncoderDecoder)
    return model


def require_code(run: Run, action: str) -> None:
    """Raise `JensenError` unless the run's model has a code, without which there is no `action`."""
    if run.config.model.kind == "autoregressive":
        raise JensenError(
            f"{run.path} is of model autoregressive, which has no code, so it cannot {action}: `jensen sample "
            f"{run.path}` draws from it, `jensen evaluate {run.path}` says how well it predicts"
        )


def code_levels(run: Run) -> int:
    """The values that a code of a vqvae takes, K."""
    quantiser = run.config.model.quantiser
    return prod(quantiser.values or ()) if quantiser.codes is None else quantiser.codes


def codes_in_words(run: Run) -> str:
    """The grids of a vqvae's codes, the top one first, and their values, without making the model: "7x7 of 512"."""
    config = run.config.model
    grid = [side // config.downsampling for side in run.own_facts.shape[1:]]
    levels = [[side // 2 for side in grid], grid] if config.hierarchy == 2 else [grid]
    books = config.quantiser.books or 1
    sizes = ["x".join(map(str, level if books == 1 else [books, *level])) for level in levels]
    return f"{' + '.join(sizes)} of {code_levels(run):,}"
