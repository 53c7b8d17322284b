"""How sharp pictures are: energy of their edges, absolute or beside real ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Sharpness", "sharpness"]


@dataclass(frozen=True)
class Sharpness:
    """Two measures of a set of pictures, means over pictures and channels; both 0 for flat ones.

    Attributes:
        laplacian: variance over a picture of its Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in
            brightfield microscopy: a comparative study"), in squared units of the pixels.
        gradient: mean squared difference of neighbouring pixels, along both axes.
    """

    laplacian: float
    gradient: float

    def relative(self, real: Sharpness) -> Sharpness:
        """Each as a share of that of real pictures: below 1 is blurred, above 1 is noisy.

        Raises:
            ValueError: the real pictures are flat.
        """
        if real.laplacian <= 0 or real.gradient <= 0:
            raise ValueError("the real pictures are flat: nothing can be as sharp")
        return Sharpness(self.laplacian / real.laplacian, self.gradient / real.gradient)


def sharpness(images: Tensor) -> Sharpness:
    """That of pictures (n, channels, height, width), of 3 x 3 pixels or more.

    Neither tells detail from noise: draws of p(x | z) are sharper by these numbers than the pictures that they are of.
    The Laplacian is taken where its cross of five pixels lies within the picture.

    Raises:
        ValueError: the shape is another, there are no pictures, or a value is not finite.
    """
    if images.ndim != 4 or min(images.shape[2:]) < 3 or not len(images):
        raise ValueError(f"pictures should be (n, channels, height, width), 3 x 3 or more, got {tuple(images.shape)}")
    images = images.detach().double()
    if not bool(torch.isfinite(images).all()):
        raise ValueError("pictures should be finite")
    planes = images.flatten(0, 1).unsqueeze(1)
    kernel = planes.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    second = F.conv2d(planes, kernel[None, None]).flatten(1)
    along, down = images.diff(dim=3).square(), images.diff(dim=2).square()
    total = (along.sum() + down.sum()) / (along.numel() + down.numel())
    return Sharpness(second.var(1, correction=0).mean().item(), total.item())
