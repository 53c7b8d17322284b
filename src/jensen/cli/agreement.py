"""Whether runs that differ in their seed found the same latents: unsupervised disentanglement ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.bound import Level
    from jensen.data import Split
    from jensen.training import Run

__all__ = ["Agreement", "agreement"]

AT_ONCE = 500  # examples encoded together


@dataclass(frozen=True)
class Agreement:
    """UDR of several runs (Duan et al. 2020), the one that was asked about first."""

    examples: int
    """that all runs encoded"""
    runs: list[str]
    value: float
    """median of how well the first run's latents match those of each other run"""
    values: list[float]
    """the same of each run"""
    pairs: list[float]
    """of the first run with each other run"""
    informative: list[int]
    """latents of each run that say anything"""

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, meaning)."""
        rows = [
            ("UDR", f"{self.value:.3f}", "median over the other runs; 0.9 where all found the same latents, 0 worst")
        ]
        rows += [
            (f"with {name}", f"{pair:.3f}", f"{used} informative latents there, {self.informative[0]} here")
            for name, pair, used in zip(self.runs[1:], self.pairs, self.informative[1:], strict=True)
        ]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def agreement(runs: Sequence[Run], split: Split, examples: int, seed: int) -> Agreement:
    """Encode the same `examples` of a split, drawn at random, with every run's model, and compare the codes."""
    import torch

    from jensen.autoencoders import DeepVAE
    from jensen.metrics.disentanglement import udr

    models = [run.model() for run in runs]
    places = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:examples]
    codes: list[list[Tensor]] = [[] for _ in models]
    nats: list[list[Tensor]] = [[] for _ in models]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for some in places.split(AT_ONCE):
            batch = split.batch(some)  # once for all: where values are binarised at random, all see the same
            for model, own, kl in zip(models, codes, nats, strict=True):
                if isinstance(model, DeepVAE):  # a walk of means: draws of the levels above would be noise
                    every, _ = model.levels(batch.x, batch.condition)
                    own.append(model.encode(batch.x, batch.condition))
                    kl.append(torch.cat([level.kl()[0].flatten(1) for level in every], 1))
                    continue
                output = model(batch.x, batch.target, condition=batch.condition, mask=batch.mask)
                levels = [level for level in output.levels if level.z.is_floating_point()]
                own.append(torch.cat([output.expectation(_mean(level)).flatten(1) for level in levels], 1))
                kl.append(torch.cat([output.expectation(level.kl()).flatten(1) for level in levels], 1))
    scores = udr([torch.cat(own) for own in codes], [torch.cat(kl).double().mean(0) for kl in nats], seed=seed)
    return Agreement(
        examples=len(places),
        runs=[str(run.path) for run in runs],
        value=scores[0].value,
        values=[score.value for score in scores],
        pairs=[float(pair) for pair in scores[0].details["pairs"][1:]],
        informative=[int(score.details["informative"].sum()) for score in scores],
    )


def _mean(level: Level) -> Tensor:
    assert level.posterior is not None
    return level.posterior.mean
