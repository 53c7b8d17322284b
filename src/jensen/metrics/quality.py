"""How good generated images are, in the eyes of a classifier of the same data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from jensen.data import Data, Split
from jensen.metrics.classifier import Classifier
from jensen.metrics.generation import frechet_distance, kernel_distance
from jensen.metrics.heldout import measuring

__all__ = ["GenerationQuality", "Quality", "generation_quality"]

FEWEST = 1000  # images below which a Fréchet distance is mostly that of their number
AT_ONCE = 500


@dataclass(frozen=True)
class Quality:
    """Of some images, beside the test images.

    Attributes:
        images: how many.
        frechet: Fréchet distance of their features to those of the test images; lower is better.
        kernel: kernel distance of the same (unbiased squared MMD); lower is better, and about 0 for real images.
        kernel_error: its standard error.
        confidence: mean of the largest p(y | x), in [0, 1]: low for images that are none of the classes.
        entropy: of the histogram of the most probable classes, in nats: low where some classes are missing.
    """

    images: int
    frechet: float
    kernel: float
    kernel_error: float
    confidence: float
    entropy: float


@dataclass(frozen=True)
class GenerationQuality:
    """What `generation_quality` found.

    Attributes:
        frechet: and the next four, see `Quality`: of the generated images.
        real: the same of validation images, which the classifier has not learned from either: how good it could be.
        samples: how many images were generated.
        test: test images that both are compared with.
        classes: K; the entropy is at most ln K.
        accuracy: the classifier's, on the test images.
        warnings: what to know about these numbers.
    """

    frechet: float
    kernel: float
    kernel_error: float
    confidence: float
    entropy: float
    real: Quality
    samples: int
    test: int
    classes: int
    accuracy: float
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning with the number of real images)."""
        real = self.real
        features = f"of features to {self.test:,} test images; lower is better"
        return [
            ("Fréchet distance", f"{self.frechet:.2f}", f"{features}; real images {real.frechet:.2f}"),
            (
                "kernel distance",
                f"{self.kernel:.4f} ± {self.kernel_error:.4f}",
                f"{features}; real images {real.kernel:.4f} ± {real.kernel_error:.4f}",
            ),
            (
                "confidence",
                f"{100 * self.confidence:.1f}%",
                f"mean of the largest p(y|x); real images {100 * real.confidence:.1f}%",
            ),
            (
                "diversity",
                f"{self.entropy:.3f}",
                f"nats, entropy of the guessed classes, at most {math.log(self.classes):.3f}; real images "
                f"{real.entropy:.3f}",
            ),
            ("classifier", f"{100 * self.accuracy:.1f}%", "of the test images classified well"),
        ]


@torch.no_grad()
def generation_quality(samples: Tensor, data: Data, classifier: Classifier, *, seed: int = 0) -> GenerationQuality:
    """Compare generated images with real ones by what a classifier of the data makes of them.

    Features and beliefs are those of a network that has learned these very data, not ImageNet, so the numbers compare
    models of the same data under the same classifier, and nothing else. Both sets should be of the same kind: where the
    data are binarised, give binary draws, not their means.

    Args:
        samples: generated images, (N, *data.shape).
        data: the real ones, under the transform that the model has learned from.
        classifier: of `fit_classifier(data)`.
        seed: of the noise of a random transform, and of the choice of validation images (as many as samples, or all).

    Raises:
        ValueError: samples of another shape, not finite, or fewer than three; or fewer than three validation images.
    """
    if samples.shape[1:] != data.shape or len(samples) < 3:
        raise ValueError(
            f"samples should be three or more of shape {tuple(data.shape)}, got shape {tuple(samples.shape)}"
        )
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("samples have values that are NaN or infinite")
    with measuring(classifier, seed):
        chosen = torch.randperm(len(data.valid), generator=torch.Generator().manual_seed(seed))[: len(samples)]
        real, test = _images(data.valid, chosen), _images(data.test, torch.arange(len(data.test)))
        features = classifier.features(test)
        made, reference = (_quality(images, features, classifier) for images in (samples, real))
    return GenerationQuality(
        frechet=made.frechet,
        kernel=made.kernel,
        kernel_error=made.kernel_error,
        confidence=made.confidence,
        entropy=made.entropy,
        real=reference,
        samples=len(samples),
        test=len(test),
        classes=classifier.classes,
        accuracy=classifier.accuracy,
        warnings=_warnings(samples, data, reference.images),
    )


def _images(split: Split, places: Tensor) -> Tensor:
    """Clean images at these places of a split."""
    return torch.cat([split.batch(some).target for some in places.split(AT_ONCE)])


def _quality(images: Tensor, test: Tensor, classifier: Classifier) -> Quality:
    """Of images beside the features of test images."""
    features = classifier.features(images)
    kernel = kernel_distance(features, test)
    beliefs = classifier.log_probabilities(images).double().exp()
    counts = torch.bincount(beliefs.argmax(1), minlength=classifier.classes).double()
    return Quality(
        images=len(images),
        frechet=frechet_distance(features, test),
        kernel=kernel.value,
        kernel_error=kernel.error,
        confidence=beliefs.max(1).values.mean().item(),
        entropy=torch.distributions.Categorical(counts).entropy().item(),
    )


def _warnings(samples: Tensor, data: Data, real: int) -> list[str]:
    texts = []
    if min(len(samples), real) < FEWEST:
        texts.append(
            f"The Fréchet distance of {len(samples):,} samples and of {real:,} real images is too large by an amount "
            "that falls with their number: compare numbers of equally many only, or read the kernel distance."
        )
    if data.levels == 2 and not bool(((samples == 0) | (samples == 1)).all()):
        texts.append(
            "The data are binary and the samples are not: the classifier has not seen grey. Give draws, not their "
            "means."
        )
    return texts
