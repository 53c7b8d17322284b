"""Drawing samples from a run's model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Token

from jensen.cli.conditions import filled
from jensen.cli.deep import DEEP_AT_ONCE, level_shapes
from jensen.cli.models import code_levels, load_model
from jensen.cli.screen import hint, progress
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import NeuralModel
    from jensen.data import Data
    from jensen.training import Run

__all__ = ["Draw", "draw_as_data", "drawn", "positive", "say_if_uniform", "temperatures"]

AT_ONCE = 500
"""Samples decoded together: bounds memory, however many are asked for."""
READJUSTED = 100
"""Samples whose statistics a batch normalisation gets together."""
ONE_BY_ONE = 100
"""Samples whose values are drawn one after the other together: what was computed for earlier values is kept."""


def positive(what: str, most: float = math.inf) -> Callable[[Any, Sequence[Token]], float]:
    """A converter to finite numbers above 0, and up to `most`."""

    def convert(_: Any, tokens: Sequence[Token]) -> float:
        text = tokens[0].value
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"a {what} should be a number, got {text!r}") from None
        if not (0 < number <= most and number < math.inf):
            bound = "" if most == math.inf else f" and at most {most:g}"
            raise ValueError(f"a {what} should be positive{bound}, got {text}")
        return number

    return convert


def temperatures(_: Any, tokens: Sequence[Token]) -> list[float]:
    """A converter to one temperature, or several with commas; 0 has a meaning for some models (`Draw.check`)."""
    words = [word.strip() for token in tokens for word in token.value.split(",")]
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"a temperature should be a number, or several with commas, got {','.join(words)!r}") from None
    if not all(0 <= number < math.inf for number in found):
        raise ValueError(f"a temperature should be positive, got {','.join(words)}")
    return found


@dataclass(frozen=True)
class Draw:
    """How samples are drawn, as `jensen.nn.autoregressive.draw` takes it."""

    temperature: float | Sequence[float] = 1.0
    """for all, or one a level, the top first; 0 is the mean, of models with levels of latents"""
    top_k: int | None = None
    top_p: float | None = None
    readjust: bool = False
    """whether batch normalisations get the statistics of such samples first"""

    def check(self, run: Run, *, one_by_one: bool) -> None:
        """Raise `JensenError` if something is asked for that has no meaning, or more than there is to choose from."""
        self._check_levels(run)
        flags: dict[str, object] = {"--top-k": self.top_k, "--top-p": self.top_p}
        if run.config.model.kind == "vqvae":
            flags = {**flags, "--temperature": None if self.temperature == 1.0 else self.temperature}
        given = next((flag for flag, value in flags.items() if value is not None), None)
        if one_by_one and self.top_k is not None:
            codes = run.config.model.kind == "vqvae"
            most = code_levels(run) if codes else run.own_facts.levels
            if most is not None and self.top_k > most:
                what = "code" if codes else "value"
                raise JensenError(
                    f"--top-k {self.top_k}: a {what} of {run.path} takes {most:,} values, so give at most that"
                )
        if one_by_one or given is None:
            return
        if run.config.model.kind == "vqvae":
            raise JensenError(
                f"{given} is about a learned prior, which {run.path} has not, so that its codes are uniform: `jensen "
                f"train prior --run {run.path}` learns one"
            )
        what = f"{given} is for the values of model autoregressive, or the codes that a learned prior of a vqvae draws"
        if run.config.model.likelihood == "autoregressive":
            raise JensenError(
                f"{what}; {run.path} is of model {run.config.model.kind}, whose pixels are drawn one after the other "
                "too, but always from all values"
            )
        raise JensenError(f"{what}; {run.path}, of model {run.config.model.kind}, draws neither")

    def _check_levels(self, run: Run) -> None:
        levels, kind = len(level_shapes(run)), run.config.model.kind
        if self.temperature == 0 and not levels:
            raise JensenError("Invalid value for --temperature: a temperature should be positive, got 0")
        if not isinstance(self.temperature, int | float) and len(self.temperature) != levels:
            count = len(self.temperature)
            if levels < 2:
                raise JensenError(
                    f"--temperature: {count} are for models with several levels of latents; {run.path}, of model "
                    f"{kind}, has one: give one number"
                )
            raise JensenError(
                f"--temperature: {run.path} has {levels} levels, so give one number or {levels} (the top level first), "
                f"not {count}"
            )
        if not self.readjust:
            return
        if levels < 2:
            raise JensenError(
                f"--readjust is for models with several levels of latents; {run.path} is of model {kind}"
                + (" with one level" if levels else "")
            )
        # Cells are batch-normalised whatever the configuration says of other nets.
        if run.config.model.net.normalisation != "batch" and run.config.model.net.kind != "cells":
            raise JensenError(
                f"--readjust is about batch normalisation, which {run.path} has not; train with --net-normalisation "
                "batch"
            )


def drawn(run: Run, conditions: Tensor | None, count: int, how: Draw, seed: int) -> Tensor:
    """Samples, (rows, count, *target_shape): a row for each condition, with the same noise in all."""
    import torch

    model = load_model(run)
    _draw_rows(model)
    one_by_one = _one_by_one(model)
    how.check(run, one_by_one=one_by_one)
    say_if_uniform(run, model)
    most = _at_once(model)
    sizes = [min(most, count - done) for done in range(0, count, most)]
    rows: list[Tensor | None] = [None] if conditions is None else list(conditions)
    found: list[Tensor] = []
    with torch.no_grad(), _prepared(run, model, how, seed), progress("drawing") as moved:
        for row, condition in enumerate(rows):
            torch.manual_seed(seed)
            parts: list[Tensor] = []
            for place, size in enumerate(sizes):
                before = row * len(sizes) + place
                share = None if moved is None else _share(moved, before, len(rows) * len(sizes))
                try:
                    parts.append(_sampled(model, size, condition, how, share))
                except (TypeError, ValueError) as error:
                    raise JensenError(str(error)) from None
            found.append(torch.cat(parts))
    return torch.stack(found)


def _draw_rows(model: NeuralModel) -> None:
    """Have the model draw rows of a table: means and likeliest categories would be less varied than data."""
    from jensen.likelihoods import TableLikelihood

    if isinstance(model.likelihood, TableLikelihood):
        model.likelihood.draws = True


@contextmanager
def _prepared(run: Run, model: NeuralModel, how: Draw, seed: int) -> Iterator[None]:
    """The model with its batch normalisations readjusted, if that is asked for."""
    import torch

    from jensen.autoencoders import DeepVAE

    if not how.readjust:
        yield
        return
    assert isinstance(model, DeepVAE)
    torch.manual_seed(seed)
    condition = None
    if model.condition_shape is not None:
        # Of all that it may be told, as in training: statistics of one class alone would take the class away.
        train = run.data().train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        condition = train.batch(order[:READJUSTED]).condition
        assert condition is not None
    count = READJUSTED if condition is None else len(condition)
    with model.readjusted(how.temperature, condition=condition, n=count):
        yield


def _at_once(model: NeuralModel) -> int:
    """Samples decoded together."""
    from jensen.autoencoders import DeepVAE

    if _one_by_one(model):
        return ONE_BY_ONE
    grids = isinstance(model, DeepVAE) and len(model.level_shapes[0]) > 1
    return DEEP_AT_ONCE if grids else AT_ONCE


def _one_by_one(model: NeuralModel) -> bool:
    """Whether codes or values are drawn one after the other."""
    learned = getattr(model, "code_prior", None) is not None
    return learned or model.kind == "autoregressive"


def say_if_uniform(run: Run, model: NeuralModel) -> None:
    """A line on stderr where codes are drawn uniformly, as nothing better was learned."""
    if model.kind == "vqvae" and not _one_by_one(model) and run.prior is None:
        hint(f"these are uniform codes, decoded; `jensen train prior --run {run.path}` learns better ones")


def _sampled(
    model: NeuralModel, size: int, condition: Tensor | None, how: Draw, moved: Callable[[int, int], None] | None
) -> Tensor:
    """So many samples under one condition, (size, *target_shape)."""
    from jensen.autoencoders import VQVAE, AutoregressiveModel, DeepVAE

    top: dict[str, Any] = {"top_k": how.top_k, "top_p": how.top_p, "progress": moved}
    if isinstance(model, DeepVAE):
        return model.sample(size, how.temperature, condition)
    assert isinstance(how.temperature, int | float)
    if isinstance(model, (AutoregressiveModel, VQVAE)):
        return model.sample(size, how.temperature, condition, **top)
    return model.sample(size, how.temperature, condition=condition)


def _share(moved: Callable[[int, int], None], before: int, of: int) -> Callable[[int, int], None]:
    """Progress of one of several equal parts, as progress of the whole."""

    def part(done: int, total: int) -> None:
        moved(before * total + done, of * total)

    return part


def draw_as_data(run: Run, model: NeuralModel, data: Data, count: int, seed: int) -> Tensor:
    """New data as the model has learned them, (count, *shape): each told what some test example was told, if anything.

    Where data are binarised, what is drawn is binary too, not its mean. Torch's global generator is seeded.
    """
    import torch

    condition, device = data.test.condition, next(model.parameters()).device
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))
    places = order.repeat(-(-count // len(order)))[:count]
    most = _at_once(model)
    found: list[Tensor] = []
    torch.manual_seed(seed)
    with torch.no_grad(), progress(f"{count:,} samples") as moved:
        for some in places.split(most):
            told = None if condition is None else data.test.batch(some).condition
            told = None if told is None else told.to(device)
            made = filled(run, _sampled(model, len(some), told, Draw(), None), told)
            found.append((made.bernoulli() if data.transform.startswith("binarise") else made).cpu())
            if moved is not None:
                moved(sum(map(len, found)), count)
    return torch.cat(found)
