"""`jensen evaluate RUN --compression`: a run's codes in fewer and fewer bits, beside JPEG and WebP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jensen.cli.codes as coding
from jensen.cli.beside import kept
from jensen.cli.conditions import filled, own_told
from jensen.cli.integers import bits_under_prior
from jensen.cli.models import load_model
from jensen.cli.outputs import put
from jensen.errors import JensenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jensen.data import Data
    from jensen.metrics.compression import Compression
    from jensen.training import Run

__all__ = ["check_compression", "draw_compression", "run_compression"]

IMAGES = 500
"""images that are kept in each way, so often that it takes some seconds"""


def check_compression(run: Run) -> None:
    """Raise `JensenError` unless the run's model keeps images that JPEG can keep too."""
    if run.config.model.kind == "autoregressive":
        raise JensenError(f"{run.path} is of model autoregressive, which has no code: --compression is about codes")
    shape = run.own_facts.target_shape
    if run.config.data.target is not None or len(shape) != 3 or shape[0] not in (1, 3):
        raise JensenError(f"{run.path}: --compression is about grey or colour images that are restored, not {shape}")


def run_compression(
    run: Run, data: Data, split: str, progress: Callable[[int, int], None] | None = None
) -> Compression:
    """What the first images of a split take and lose, as grey or colour images without noise, by the run's model."""
    import torch

    from jensen.autoencoders import VQVAE, EncoderDecoder
    from jensen.data import prepare
    from jensen.metrics.compression import compression, decoder_bytes

    plain = data.config.model_copy(update={"transform": "none", "corruption": "none"})
    part = getattr(prepare(data.dataset, plain, splits=data.splits), split)
    batch = part.batch(torch.arange(min(IMAGES, len(part))))
    model = load_model(run)
    assert isinstance(model, EncoderDecoder)
    told = coding.with_guesses(model, batch.x, None if own_told(run) is None else batch.condition)
    codes = coding.encoded(model, batch.x, told)
    levels, prior_bits = None, None
    if isinstance(model, VQVAE):
        levels, prior_bits = model.code_levels, bits_under_prior(model, codes, batch.condition)
    return compression(
        batch.x,
        codes,
        lambda stored: filled(run, coding.decoded(model, stored, told), told),
        decoder=decoder_bytes(model),
        levels=levels,
        beside=0 if told is None else sum(array.nbytes for array in kept(run, told).values()),
        prior_bits=prior_bits,
        progress=progress,
    )


def draw_compression(found: Compression, path: Path, title: str) -> None:
    """Rate against quality as a picture; points of infinite PSNR, whose images are as they were, are left out."""
    import math

    from jensen.plots import RateQuality, rate_quality, save

    curves: dict[str, Any] = {}
    for method in found.methods:
        points = [point for point in found.of(method) if math.isfinite(point.psnr)]
        alike: list[Any] | None = [point.ssim for point in points]
        alike = None if alike and alike[0] is None else alike
        if points:
            curves[method] = RateQuality(
                [point.bits_per_pixel for point in points], [point.psnr for point in points], alike
            )
    figure = rate_quality(curves, title=title)
    put(path, lambda temporary: save(figure, temporary))
