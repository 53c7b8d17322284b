"""What `jensen evaluate` measures beside the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from jensen.cli.anomaly import find_left_out, require_left_out
from jensen.cli.compression import check_compression, draw_compression, run_compression
from jensen.cli.conditions import own_told
from jensen.cli.deep import level_shapes
from jensen.cli.drawing import draw_as_data
from jensen.cli.models import load_model
from jensen.cli.options import SplitName
from jensen.cli.screen import progress
from jensen.errors import JensenError

if TYPE_CHECKING:
    from jensen.autoencoders import NeuralModel
    from jensen.data import Data, Split
    from jensen.training import Run

__all__ = ["Asked", "Extra", "Extras", "on_device", "split_of"]

CODES = 10_000
"""Examples, or codes drawn, for what is measured on the training split."""
LATENTS = 1_024
"""Most latents that are compared one by one with factors, or with those of other runs: minutes."""
WORD_SAMPLES = 50
"""Draws of z a document, for the perplexity of words: each holds a number for every word of the vocabulary."""
SAMPLES = 1_000
"""Images drawn to be compared with real ones: seconds of a vqvae, minutes pixel by pixel."""


class Found(Protocol):
    """What a measurement gives."""

    def table(self) -> Sequence[tuple[str, ...]]: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Extra:
    """A measurement beside the bound: its key in the JSON, where it was made, and what was found."""

    key: str
    title: str
    split: SplitName
    found: Found


@dataclass(frozen=True)
class Asked:
    """What is to be measured beside the bound."""

    information: bool = False
    disentanglement: bool = False
    others: Sequence[Run] = ()
    """to agree with"""
    classify: bool = False
    quality: bool = False
    anomaly: bool = False
    compression: bool = False

    def check(self, run: Run) -> None:
        """Raise `JensenError`, before any work is done, for what has no meaning for a run's model."""
        flags = {
            "--information": self.information,
            "--disentanglement": self.disentanglement,
            "--against": bool(self.others),
            "--classify": self.classify,
            "--quality": self.quality,
            "--anomaly": self.anomaly,
            "--compression": self.compression,
        }
        given = [flag for flag, wanted in flags.items() if wanted]
        kind = run.config.model.kind
        about_latents = [flag for flag in given if flag in ("--information", "--disentanglement", "--against")]
        if kind in ("vqvae", "autoregressive") and about_latents:
            why = "has no code" if kind == "autoregressive" else "has integers as codes, which name embeddings"
            raise JensenError(
                f"{run.path} is of model {kind}, which {why}: {about_latents[0]} is about latents that are numbers"
            )
        _check_levels(run, about_latents)
        needs = [flag for flag in given if flag not in ("--disentanglement", "--anomaly", "--compression")]
        if kind == "autoencoder" and needs:
            what = "prior to draw from" if needs[0] == "--quality" else "posterior q(z | x)"
            raise JensenError(f"{run.path} is a plain auto-encoder: {needs[0]} needs a {what}; train model vae")
        if self.compression:
            check_compression(run)
        if self.anomaly:
            require_left_out(run)
        if self.classify and own_told(run) != "label":
            but = ", but for the draw of its codes" if run.told == "label" else ""
            raise JensenError(
                f"{run.path} is not told a class{but}, so it cannot classify; train with --condition label, or --model "
                "semi-supervised --condition label --labelled 100"
            )
        if self.quality and (run.config.data.target is not None or len(run.facts.shape) != 3):
            raise JensenError(f"{run.path}: --quality is about images that are drawn, but it draws none")
        if self.quality and not run.facts.class_names:
            raise JensenError(
                f"{run.path}: --quality needs labels, to train a classifier in whose eyes samples are compared with "
                f"{run.config.data.title}, which has none"
            )


def _check_levels(run: Run, given: Sequence[str]) -> None:
    """Raise `JensenError` for what has no meaning for several levels of latents, or would take hours."""
    shapes = level_shapes(run)
    if "--information" in given and len(shapes) > 1:
        raise JensenError(
            f"{run.path} has {len(shapes)} levels of latents, whose priors differ from one example to the next: "
            "--information is about one level; the KL of each level is in the table without it"
        )
    latents = sum(map(prod, shapes))
    if given and latents > LATENTS:
        raise JensenError(
            f"{run.path} has {latents:,} latents: {given[0]} compares each with each, of at most {LATENTS:,}"
        )


class Extras:
    """What can be measured beside the bound."""

    def __init__(self, run: Run, data: Data, split: SplitName, part: Split, seed: int) -> None:
        self.run, self.data, self.split, self.part, self.seed = run, data, split, part, seed

    def measured(self, asked: Asked) -> list[Extra]:
        """All that was asked for, and what there is to say of integer codes and of words.

        Raises:
            JensenError: the data do not allow it, e.g. fewer examples than a metric needs.
        """
        wanted: dict[Callable[[], Extra], bool] = {
            self.code_usage: self.run.config.model.kind == "vqvae",
            self.documents: self.run.config.model.kind == "vae" and self.run.config.model.likelihood == "multinomial",
            self.information: asked.information,
            self.disentanglement: asked.disentanglement,
            partial(self.agreement, asked.others): bool(asked.others),
            self.classification: asked.classify,
            self.quality: asked.quality,
            self.anomalies: asked.anomaly,
            self.compression: asked.compression,
        }
        try:
            return [measure() for measure, yes in wanted.items() if yes]
        except ValueError as error:
            raise JensenError(f"{self.run.path}: {error}") from None

    @cached_property
    def model(self) -> NeuralModel:
        """The run's model, where it computes."""
        return on_device(self.run)

    def code_usage(self) -> Extra:
        """How integer codes are used, and what they cost under each prior."""
        from jensen.metrics import code_usage

        with progress("codes: usage") as moved:
            found = code_usage(self.model, self.part, seed=self.seed, progress=moved)
        title = f"Codes of {found.examples:,} examples of the {self.split} split:"
        return Extra("code_usage", title, self.split, found)

    def documents(self) -> Extra:
        """How well words of unseen documents are predicted."""
        from jensen.autoencoders import VAE
        from jensen.metrics.documents import score_documents

        assert isinstance(self.model, VAE)
        with progress("documents: perplexity") as moved:
            total = len(self.part)
            told = None if moved is None else lambda share: moved(round(share * total), total)
            found = score_documents(self.model, self.part, samples=WORD_SAMPLES, seed=self.seed, progress=told)
        title = f"Words of {found.documents:,} documents of the {self.split} split:"
        return Extra("documents", title, self.split, found)

    def quality(self) -> Extra:
        """Samples beside test images, in the eyes of a classifier of the same data."""
        from jensen.data.npz import cache_directory
        from jensen.metrics import fit_classifier, generation_quality

        data = self.data.to(next(self.model.parameters()).device)
        with progress("quality: classifier of the data (kept for other runs)"):
            classifier = fit_classifier(data, quiet=True, cache=cache_directory() / "classifiers")
        samples = draw_as_data(self.run, self.model, data, SAMPLES, self.seed)
        with progress("quality: comparing"):
            found = generation_quality(samples, data, classifier, seed=self.seed)
        title = f"Quality of {found.samples:,} samples, in the eyes of a classifier of {self.run.config.data.title}:"
        return Extra("quality", title, "test", found)

    def compression(self) -> Extra:
        """Bytes and quality of the run's codes, beside JPEG and WebP of the same images."""
        with progress("compression") as moved:
            found = run_compression(self.run, self.data, self.split, moved)
        name, picture = self.run.config.data.title, self.run.path / "figures" / "compression.png"
        draw_compression(found, picture, f"{found.images:,} images of {name} in how many bits")
        title = f"Compression of {found.images:,} images of the {self.split} split (figures/compression.png):"
        return Extra("compression", title, self.split, found)

    def anomalies(self) -> Extra:
        """How well the classes that were left out are found."""
        with progress("anomalies") as moved:
            found = find_left_out(self.run, self.data, self.model, self.seed, moved)
        title = (
            f"Anomalies: {found.anomalies:,} examples of {', '.join(found.left_out)}, never seen, among "
            f"{found.others:,} others of the test split (figures/roc.png):"
        )
        return Extra("anomaly", title, "test", found)

    def information(self) -> Extra:
        """The rate, taken apart under the aggregate posterior of the training split."""
        from jensen.metrics.information import information

        with progress(f"information of {CODES:,} codes") as moved:
            found = information(self.model, self.data.train, codes=CODES, seed=self.seed, progress=moved)
        title = f"Information, of {found.codes:,} codes against all {found.components:,} of the training split:"
        return Extra("information", title, "train", found)

    def disentanglement(self) -> Extra:
        """How far latents and factors correspond."""
        from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement

        train = self.data.train
        with progress("disentanglement: encoding"):
            pool = encode_pool(self.model, train, CODES, self.seed)
        with progress("disentanglement: metrics") as moved:
            found = evaluate_disentanglement(
                pool.codes, pool.factors, train.factor_names, pool.kl_per_dimension, seed=self.seed, progress=moved
            )
        title = f"Disentanglement, of {found.examples:,} examples of the training split; higher is better:"
        return Extra("disentanglement", title, "train", found)

    def agreement(self, others: Sequence[Run]) -> Extra:
        """How far other runs found the same latents."""
        from jensen.cli.agreement import agreement

        with progress(f"agreement of {len(others) + 1} runs"):
            found = agreement([self.run, *others], self.data.train, CODES, self.seed)
        title = f"Agreement of {len(others) + 1} runs, on {found.examples:,} examples of the training split:"
        return Extra("udr", title, "train", found)

    def classification(self) -> Extra:
        """The Bayes classifier of a class-conditional model."""
        from jensen.metrics.classification import classify

        with progress("classification: log p(x | class)") as moved:
            found = classify(self.model, split_of(self.data, self.split), seed=self.seed, progress=moved)
        title = f"Classification of {found.examples:,} examples of the {self.split} split:"
        return Extra("classification", title, self.split, found)


def on_device(run: Run) -> NeuralModel:
    """The run's model on the GPU, where there is one."""
    import torch

    return load_model(run).to("cuda" if torch.cuda.is_available() else "cpu")


def split_of(data: Data, split: SplitName) -> Split:
    """A split by its name."""
    return {"train": data.train, "valid": data.valid, "test": data.test}[split]
