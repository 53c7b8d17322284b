"""Looking at the loss and the gradient of every step, before it is taken."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jensen.bound import Output
from jensen.config import TrainConfig
from jensen.data import Batch
from jensen.data.split import Split
from jensen.errors import NonFiniteError
from jensen.files import write_text
from jensen.training import spikes
from jensen.training.spikes import Spikes, weight_not_finite, where_not_finite
from jensen.training.step import TrainingStep

__all__ = ["BROKEN", "Guard"]

BROKEN = "broken-batch.json"
"""file of a run that says which examples were in the batch where something stopped being finite"""
SHOWN = 8
"""examples that a message names"""


class _Look(NamedTuple):
    """A step that is looked at later."""

    epoch: int
    step: int
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    names: list[str]
    values: Tensor  # of the terms, then the largest absolute value of each gradient
    ready: torch.cuda.Event | None


def lag_of(device: torch.device) -> int:
    """Steps that the look at a step waits, where it would stop a device from working ahead."""
    return {"cpu": 0, "cuda": 1}.get(device.type, 100)


class Guard:
    """Refuses what is not finite, or leaves such steps out; clips gradients; leaves spikes out; counts all of these.

    On the CPU, or where steps may be left out, a step is looked at before it is taken. A GPU that only has to stop is
    looked at one step behind, so that it never waits: the step was taken then, but no checkpoint written of it.

    Args:
        config: on_nan, clip and skip.
        step: model and objective.
        optimiser: each of whose groups is clipped by itself.
        split: the training data, whose places messages name.
        folder: of the checkpoints; None: there is none.
        device: where the step is computed.
        agree: whether any of several processes says yes; None: there is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        step: TrainingStep,
        optimiser: torch.optim.Optimizer,
        split: Split,
        folder: Path | None,
        device: torch.device,
        agree: Callable[[bool], bool] | None = None,
    ) -> None:
        self.clip, self.step, self.optimiser, self.split, self.folder = config.clip, step, optimiser, split, folder
        self.agree = agree
        self.leaves_out = config.on_nan == "skip"
        self.spikes = None if config.skip is None else Spikes(config.skip)
        self.lag = 0 if self.leaves_out or self.spikes is not None else lag_of(device)
        self.at_once = device.type == "cpu" and self.lag == 0
        self.waiting: deque[_Look] = deque()
        self.not_finite = 0  # steps left out in the epoch under way
        self.in_a_row = 0
        self.clipped: float | Tensor = 0.0  # on the device, where it is not waited for
        self.weights = list(step.named_parameters())
        self.before: dict[str, Tensor] = {}
        self.batch: Batch
        self.epoch = self.number = 0
        self.lost = False

    def begin(self, batch: Batch, epoch: int, number: int) -> None:
        """A step begins: the first of all is number 1 of epoch 1."""
        self.batch, self.epoch, self.number, self.lost = batch, epoch, number, False
        if self.leaves_out:  # what the forward pass itself moves: statistics of batches, code books
            self.before = {name: buffer.clone() for name, buffer in self.step.named_buffers()}

    def terms(self, logged: Tensor) -> bool:
        """Look at the terms of the loss; whether the gradient is wanted.

        Raises:
            NonFiniteError: one is not finite, and that is to end the training.
        """
        self.logged, output, self.step.output = logged, self.step.output, None  # it keeps the whole graph
        self.lost = self.at_once and self._lost(output)
        return not self.lost or self.agree is not None  # other processes wait for this one's gradient

    def _lost(self, output: Output | None) -> bool:
        """Whether a term is not finite; raises `NonFiniteError` where that is to end the training."""
        values = self.logged.tolist()
        if math.isfinite(sum(values)) or all(map(math.isfinite, values)):
            return False
        if not self.leaves_out:
            self.refuse(dict(zip(self.step.names, values, strict=True)), output=output, batch=self.batch)
        return True

    def takes_step(self) -> bool:
        """Clip the gradient; whether the step is to be taken.

        Raises:
            NonFiniteError: the gradient is not finite, and that is to end the training, or too many steps in a row
                were left out.
        """
        if self.lag:
            self._look_later()
            if self.clip is not None:
                self._clip(self._norms(), self.clip)
            return True
        if self.lost and self.agree is None:
            return self._leave_out()
        norms = [] if self.clip is None else self._norms()
        gradients = [weight.grad for _, weight in self.weights if weight.grad is not None]
        each = norms or (torch._foreach_norm(gradients) if gradients else [self.logged.new_zeros(())])
        total = math.hypot(*torch.stack(each).tolist())
        if self._broken(total):
            return self._leave_out()
        if self.spikes is not None and self.spikes.leaves_out(total):
            if told := self.spikes.too_many:
                raise self._too_many(told, "A smaller learning rate, a longer warm-up or a larger factor (skip)")
            return False
        if self.clip is not None:
            self._clip(norms, self.clip)
        self.in_a_row = 0
        return True

    def _norms(self) -> list[Tensor]:
        """The norm of each group's gradient."""
        groups = [[w.grad for w in group["params"] if w.grad is not None] for group in self.optimiser.param_groups]
        return [torch.nn.utils.get_total_norm(gradients) for gradients in groups]

    def _clip(self, norms: Sequence[Tensor], clip: float) -> None:
        above = torch.stack(list(norms)).amax() > clip
        self.clipped = self.clipped + (above.float() if self.lag else float(above))
        for group, norm in zip(self.optimiser.param_groups, norms, strict=True):
            torch.nn.utils.clip_grads_with_norm_(group["params"], clip, norm)

    def _broken(self, total: float) -> bool:
        """Whether this step is not finite, as all processes see it."""
        if not self.at_once:
            self.lost = self._lost(None)
        if self.leaves_out:
            bad = self.lost or (not math.isfinite(total) and self._first_weight() is not None)
            self.lost = bad if self.agree is None else self.agree(bad)
            return self.lost
        # With a factor for spikes, they are left out with these.
        if math.isfinite(total) or self.spikes is not None or (weight := self._first_weight()) is None:
            return False
        raise self._refusal(weight, self.epoch, self.number, self.batch)

    def _leave_out(self) -> bool:
        """Count the step that is left out, put what its forward pass moved back; False."""
        for name, buffer in self.step.named_buffers():
            buffer.copy_(self.before[name])
        self.not_finite += 1
        self.in_a_row += 1
        if self.in_a_row >= spikes.TOO_MANY:
            told = f"{self.in_a_row} steps in a row were left out, their loss or gradient being not finite"
            self._write("loss or gradient", self.epoch, self.number, self.batch, [])
            raise self._too_many(told, "A smaller learning rate, gradient clipping (clip 1.0) or other data")
        return False

    def _too_many(self, told: str, remedy: str) -> NonFiniteError:
        return NonFiniteError(f"{told}, in epoch {self.epoch}, step {self.number}.{self.kept()} {remedy} may help")

    def _named_gradients(self) -> list[tuple[str, Tensor]]:
        return [(name, weight.grad) for name, weight in self.weights if weight.grad is not None]

    def _first_weight(self) -> str | None:
        """The weight whose gradient is the first on the way back that is not finite, that is the last of them.

        A norm may be infinite where all that it is of is finite: then None.
        """
        gradients = self._named_gradients()
        return _last([name for name, _ in gradients], [bool(value.isfinite().all()) for _, value in gradients])

    def _look_later(self) -> None:
        gradients = [value for _, value in self._named_gradients()]
        largest = torch.stack(torch._foreach_norm(gradients, math.inf)) if gradients else self.logged[:0]
        values, event = torch.cat([self.logged.float(), largest.float()]), None
        if values.is_cuda:
            values, event = values.to("cpu", non_blocking=True), torch.cuda.Event()
            event.record()
        self.waiting.append(_Look(self.epoch, self.number, self.batch.index, list(self.step.names), values, event))
        self.look(self.lag)

    def look(self, behind: int = 0) -> None:
        """Look at what waits to be looked at, but for the last `behind` steps.

        Raises:
            NonFiniteError: something of a step was not finite.
        """
        while len(self.waiting) > behind:
            past = self.waiting.popleft()
            if past.ready is not None:
                past.ready.synchronize()
            values = past.values.tolist()
            if math.isfinite(sum(values)) or all(map(math.isfinite, values)):
                continue
            with torch.random.fork_rng():
                batch = self.split.batch(past.index)
            count = len(past.names)
            self.refuse(dict(zip(past.names, values[:count], strict=True)), batch=batch, at=(past.epoch, past.step))
            names = [name for name, _ in self._named_gradients()]
            weight = _last(names, list(map(math.isfinite, values[count:])))
            raise self._refusal(weight or "unknown", past.epoch, past.step, batch)

    def refuse(
        self,
        terms: Mapping[str, float],
        data: str = "training",
        *,
        output: Output | None = None,
        batch: Batch | None = None,
        at: tuple[int, int] | None = None,
    ) -> None:
        """Raise `NonFiniteError` if one of these terms of the loss is not finite.

        Args:
            terms: by name.
            data: of which split they are.
            output: of the model for the batch, which says where it began; None: not known.
            batch: whose terms they are; None: of more than one.
            at: epoch and step; None: those under way.
        """
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        if not bad:
            return
        bad.sort(key=lambda name: name in ("loss", "score"))  # those are sums of the others
        epoch, number = at or (self.epoch, self.number)
        level = None if output is None else where_not_finite(output)
        where = "" if level is None else f", in {level}"
        examples = "" if batch is None else self._examples(bad[0], epoch, number, batch, output, data)
        raise NonFiniteError(
            f"the loss stopped being finite in epoch {epoch}, step {number} (first in its term {bad[0]!r}, on {data} "
            f"data{where}).{self.kept()} A smaller learning rate, gradient clipping (clip 1.0) or float32 may help; "
            f"also look at the range of the data{examples}"
        )

    def _refusal(self, weight: str, epoch: int, number: int, batch: Batch) -> NonFiniteError:
        return NonFiniteError(
            f"the gradient stopped being finite in epoch {epoch}, step {number} (on the way back first that of "
            f"{weight}; the loss was finite).{self.kept()} A smaller learning rate, float32 or --on-nan skip may help"
            f"{self._examples(f'gradient of {weight}', epoch, number, batch)}"
        )

    def _examples(
        self,
        what: str,
        epoch: int,
        number: int,
        batch: Batch,
        output: Output | None = None,
        data: str = "training",
    ) -> str:
        """Which examples they were, for a message; all of them go into a file of the run."""
        places = batch.index.tolist()
        given = _rows_not_finite(batch)
        own = given or ([] if output is None else _outputs_not_finite(output, len(places)))
        file = self._write(what, epoch, number, batch, [places[row] for row in own], data)
        told = f" (all in {file})" if file is not None else ""
        if own and len(own) < len(places):
            which = _shortened([places[row] for row in own])
            are = "hold values that are not finite" if given else "are where it is not finite"
            return f". Of the batch, {data} examples {which} {are}{told}"
        return f". The batch: {data} examples {_shortened(places)}{told}"

    def _write(
        self, what: str, epoch: int, number: int, batch: Batch, own: list[int], data: str = "training"
    ) -> Path | None:
        if self.folder is None:
            return None
        file = self.folder.parent / BROKEN
        held = {
            "epoch": epoch,
            "step": number,
            "not finite": what,
            "split": data,
            "places": batch.index.tolist(),
            "places not finite by themselves": own,
        }
        write_text(file, json.dumps(held) + "\n")
        return file

    def refuse_weights(self, step: int) -> None:
        """Raise `NonFiniteError` if a weight is not finite."""
        if (name := weight_not_finite(self.step)) is not None:
            raise NonFiniteError(
                f"weight {name} is not finite after step {step}.{self.kept()} A smaller learning rate or gradient "
                "clipping (clip 1.0) may help"
            )

    def kept(self) -> str:
        """What of the training is not lost, for a message."""
        return f" The last good checkpoint is kept in {self.folder}." if self.folder is not None else ""

    def close_epoch(self) -> dict[str, float]:
        """For the epoch's row: what was left out and clipped, as far as that was asked for."""
        row = {} if self.spikes is None else self.spikes.close_epoch()
        if self.clip is not None:
            row["train/clipped"] = float(self.clipped)
        if self.leaves_out:
            row["train/not_finite"] = float(self.not_finite)
        self.clipped, self.not_finite = 0.0, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        kept = {"not_finite": self.not_finite, "in_a_row": self.in_a_row, "clipped": float(self.clipped)}
        return {"spikes": None if self.spikes is None else self.spikes.state_dict(), "guard": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` kept, as far as earlier versions wrote it."""
        if self.spikes is not None and (kept := state.get("spikes")) is not None:
            self.spikes.load_state_dict(kept)
        if (kept := state.get("guard")) is not None:
            self.not_finite, self.in_a_row, self.clipped = kept["not_finite"], kept["in_a_row"], kept["clipped"]


def _last(names: Sequence[str], fine: Sequence[bool]) -> str | None:
    return next((name for name, good in zip(reversed(names), reversed(fine), strict=True) if not good), None)


def _shortened(places: Sequence[int]) -> str:
    rest = f", ... ({len(places)})" if len(places) > SHOWN else ""
    return ", ".join(map(str, places[:SHOWN])) + rest


def _rows_not_finite(batch: Batch) -> list[int]:
    """Rows of a batch that hold something not finite where it is known."""
    known = batch.target if batch.mask is None else torch.where(batch.mask != 0, batch.target, 0)
    fine = known.flatten(1).isfinite().all(1)
    if batch.mask is None:  # else what is unknown may be NaN
        fine = fine & batch.x.flatten(1).isfinite().all(1)
    return [int(row) for row in (~fine).nonzero()[:, 0]]


@torch.no_grad()
def _outputs_not_finite(output: Output, size: int) -> list[int]:
    """Rows whose own likelihood or KL is not finite; none where that cannot be told."""
    try:
        fine = output.log_likelihood().isfinite().all(0)
        if output.probabilistic:
            fine = fine & output.rate().isfinite().all(0)
    except (ValueError, NotImplementedError):
        return []
    return [int(row) for row in (~fine.expand(size)).nonzero()[:, 0]]
