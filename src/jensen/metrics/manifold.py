"""Does a generated picture look like data at all?"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["manifold_precision"]


def manifold_precision(generated: Tensor, real: Tensor, k: int = 3) -> float:
    """Share of generated data that lie on the manifold of real data, in [0, 1].

    The manifold is the union of balls around each real datum that reach to its k-th nearest real neighbour
    (Kynkäänniemi et al. 2019, "Improved precision and recall metric", eq. 1 and 2), here in the space of the values
    themselves, which suits small images.

    Args:
        generated: (m, *shape).
        real: (n, *shape), n > k.
        k: which neighbour gives the radius.

    Raises:
        ValueError: shapes differ, or there are too few real data.
    """
    if generated.shape[1:] != real.shape[1:]:
        raise ValueError(
            f"generated {tuple(generated.shape)} and real {tuple(real.shape)} data should have equal shapes"
        )
    if not 1 <= k < len(real) or len(generated) == 0:
        raise ValueError(f"k should lie in 1 ... {len(real) - 1} and there should be generated data, got k = {k}")
    real, generated = real.flatten(1).double(), generated.flatten(1).double()
    radii = torch.cat([torch.cdist(some, real).kthvalue(k + 1, dim=1).values for some in real.split(1000)])
    inside = [(torch.cdist(some, real) <= radii).any(1) for some in generated.split(1000)]
    return torch.cat(inside).double().mean().item()
