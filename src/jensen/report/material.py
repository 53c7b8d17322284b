"""What a report is made from: the model, its history, and held-out data with their codes and reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jensen.autoencoders import VAE, AutoEncoder, DeepVAE, EncoderDecoder
from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Level
from jensen.config.columns import Column
from jensen.data import Data, Split
from jensen.errors import DataError
from jensen.likelihoods import AutoregressiveLikelihood
from jensen.training import Run
from jensen.training.run import Told

__all__ = ["SHOWN", "HeldOut", "Material", "gather", "known"]

MOST_EXAMPLES = 2_000
MOST_NUMBERS = 2**24  # of codes: 64 MB
SHOWN = 20  # reconstructions of images
VALUES_AT_ONCE = 2**22  # of x in a batch: 16 MB


@dataclass(frozen=True)
class HeldOut:
    """Up to 2,000 examples of the test split, without the noise of training other than corruption.

    Fewer where codes are large.
    """

    x: Tensor
    """what the model saw, (N, *shape)"""
    clean: Tensor
    """the same without corruption, (N, *shape)"""
    target: Tensor
    """what it should have decoded, (N, *target_shape)"""
    labels: Tensor | None
    class_names: tuple[str, ...]
    codes: Tensor
    """(N, latent); (N, 0) of a model without a code"""
    decoded: Tensor
    """reconstructions of all, (N, *target_shape), or of the first 20 images or signals; none without a code"""
    kl: Tensor | None
    """KL of each latent dimension, mean over the examples, in nats, (latent,); None without a posterior"""
    total: int
    """examples in the split"""
    condition: Tensor | None = None
    """what the model was told of each, (N, *condition_shape); an unknown label is the model's own guess"""
    mask: Tensor | None = None
    """1 where the target was to be predicted, (1, *target_shape); None: everywhere"""

    def told(self, places: list[int] | slice) -> Tensor | None:
        """The conditions at these places."""
        return None if self.condition is None else self.condition[places]

    def of_different_classes(self, count: int) -> list[int]:
        """Places of examples, of different classes as far as there are, in the order of the split."""
        if self.labels is None:
            return list(range(min(count, len(self.x))))
        firsts: dict[int, int] = {}
        for place, label in enumerate(self.labels.tolist()):
            firsts.setdefault(label, place)
        chosen = list(firsts.values())[:count]
        others = (place for place in range(len(self.x)) if place not in chosen)
        while len(chosen) < min(count, len(self.x)):
            chosen.append(next(others))
        return chosen

    def filled(self, places: list[int] | slice, made: Tensor) -> Tensor:
        """`made` (..., B, *target_shape) with the pixels that were visible at these places as they are."""
        return made if self.mask is None else torch.where(self.mask != 0, made, self.target[places])


@dataclass(frozen=True)
class Material:
    """A run, opened."""

    run: Run
    model: NeuralModel
    history: Mapping[str, Sequence[float]]
    held_out: HeldOut | None
    """None where the data could not be had"""
    missing: str
    """why not"""
    train: Split | None = None
    """the training split, as the model sees it"""
    stale: str = ""
    """why the learned prior over the codes that there is was left out, and what to do; empty: there is none such"""

    @property
    def generates(self) -> bool:
        """Whether the model has a prior to draw from, and draws data rather than a property of them."""
        return not isinstance(self.model, AutoEncoder) and self.predicts is None

    @property
    def vae(self) -> VAE | None:
        """The model, where it has continuous codes with a posterior and draws data."""
        return self.model if isinstance(self.model, VAE) and self.predicts is None else None

    @property
    def deep(self) -> DeepVAE | None:
        """The model, where its latents have levels and it draws data."""
        return self.model if isinstance(self.model, DeepVAE) and self.predicts is None else None

    @property
    def predicts(self) -> str | None:
        """The property that is predicted instead of the datum."""
        return self.run.config.data.target

    @property
    def told(self) -> Told | None:
        """What the model is told beside the datum, if only by way of the prior over its codes; None: nothing."""
        return self.run.told

    @property
    def only_prior_told(self) -> bool:
        """Whether the prior over the codes is told something, and the networks nothing."""
        return self.told is not None and self.run.config.data.condition is None

    @property
    def draws_values(self) -> bool:
        """Whether what is decoded is drawn value after value, as p(x | z) or p(x) has no mean in closed form."""
        return isinstance(self.model.likelihood, AutoregressiveLikelihood)

    @property
    def symbols(self) -> tuple[str, ...]:
        """What the levels of a datum stand for, where a model decodes to texts of such; empty otherwise."""
        facts = self.run.own_facts
        return facts.symbols if self.signal and facts.shape[0] == 1 and self.predicts is None else ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of a table holds, where that is known and the table itself is decoded."""
        return () if self.predicts is not None else self.run.own_facts.columns

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that a document's counts are of, where documents are decoded."""
        return () if self.predicts is not None else self.run.own_facts.vocabulary

    def in_own_units(self, rows: Tensor) -> Tensor:
        """Rows of a table, (N, columns), as they are in its file; as they are where its columns are not known."""
        facts = self.run.own_facts
        if not (self.columns and facts.mean and facts.sd):
            return rows
        return rows * torch.tensor(facts.sd) + torch.tensor(facts.mean)

    @property
    def image(self) -> bool:
        """Whether data are images."""
        return len(self.run.facts.shape) == 3

    @property
    def signal(self) -> bool:
        """Whether data are signals or sequences of symbols, (channel, length)."""
        return len(self.run.facts.shape) == 2


def gather(run: Run) -> Material:
    """Open a run for a report. Noise (corruption) comes from torch's global generator.

    Raises:
        CheckpointError: the run has no checkpoint, or it is damaged.
    """
    prior = run.prior
    stale = "" if prior is None else run.unfit(prior) or ""
    model = run.model(prior=False if stale else None)
    try:
        data = run.data(transform="none")
    except DataError as error:
        return Material(run, model, run.history(), None, str(error), stale=stale)
    return Material(run, model, run.history(), _held_out(model, data), "", data.train, stale)


def _held_out(model: NeuralModel, data: Data) -> HeldOut:
    split = data.test
    pure = replace(split, corruption="none", target=None)
    count = min(len(split), MOST_EXAMPLES, max(SHOWN, MOST_NUMBERS // max(1, model.latent)))
    if data.dataset.vocabulary:
        count = min(count, max(SHOWN, MOST_NUMBERS // math.prod(split.shape)))
    # Decoding is what takes time: of images only those that are shown.
    decoded = SHOWN if len(model.target_shape) > 1 else count
    size = max(1, min(500, VALUES_AT_ONCE // max(math.prod(split.shape), model.latent)))
    names = ("x", "clean", "target", "codes", "decoded", "condition")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    mask, total_kl = None, None
    for start in range(0, count, size):
        places = torch.arange(start, min(start + size, count))
        batch = split.batch(places)
        condition = known(model, batch.x, batch.condition)
        mask = None if split.gaps else batch.mask  # in a gap of a table, what is decoded is shown
        codes, kl = _encode(model, batch.x, condition)
        made: dict[str, Tensor | None] = {
            "x": batch.x,
            "clean": pure.batch(places).x,
            "target": batch.target,
            "codes": codes,
            "condition": condition,
        }
        if kl is not None:
            total_kl = kl.double().sum(0) + (0 if total_kl is None else total_kl)
        if start < decoded and isinstance(model, EncoderDecoder):
            shown = slice(decoded - start)
            again = model.decode(codes[shown], condition=None if condition is None else condition[shown])
            made["decoded"] = again if mask is None else torch.where(mask != 0, again, batch.target[shown])
        for name, values in made.items():
            if values is not None:
                columns[name].append(values)
    joined = {name: torch.cat(values) for name, values in columns.items() if values}
    return HeldOut(
        x=joined["x"],
        clean=joined["clean"],
        target=joined["target"],
        labels=None if split.labels is None else split.labels[:count],
        class_names=tuple(split.class_names),
        codes=joined["codes"],
        decoded=joined.get("decoded", joined["target"][:0]),
        kl=None if total_kl is None else total_kl / count,
        total=len(split),
        condition=joined.get("condition"),
        mask=mask,
    )


def known(model: NeuralModel, x: Tensor, condition: Tensor | None) -> Tensor | None:
    """The condition, (batch, *condition_shape), with the model's likeliest class where a label is unknown."""
    if condition is None or not isinstance(model, SemiSupervisedVAE):
        return condition
    guess = torch.nn.functional.one_hot(model.classify(x).argmax(-1), condition.shape[-1])
    return torch.where(condition.sum(-1, keepdim=True) > 0, condition, guess.to(condition.dtype))


def _encode(model: NeuralModel, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Codes (batch, latent), and their KL from the prior (batch, latent) where they are drawn from a density."""
    if not isinstance(model, EncoderDecoder):
        return x.new_zeros(len(x), 0), None
    if isinstance(model, DeepVAE):
        levels, _ = model.levels(x, condition)  # their KL is that at draws of the levels above
        return model.encode(x, condition), model.flat(
            [level.kl()[0].expand(len(x), *level.z.shape[2:]) for level in levels]
        )
    if not isinstance(model, VAE):
        return model.encode(x, condition=condition), None
    posterior = model.posterior(x, condition=condition)
    return posterior.mean, Level(posterior.mean, posterior, model.prior(condition)).kl()
