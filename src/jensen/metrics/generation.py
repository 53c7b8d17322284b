"""How far generated data are from real ones, as distances between the distributions of their features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["KernelDistance", "frechet_distance", "kernel_distance"]

ROWS_AT_ONCE = 1000  # of a tile of the kernel matrix: 8 MB
BLOCKS = 10  # left out in turn for the error, at least


class KernelDistance(NamedTuple):
    """The squared maximum mean discrepancy and its standard error."""

    value: float
    error: float


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians with the means and covariances of two sets of features.

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), the "FID" of Heusel et al. 2017 ("GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium", eq. 6) where the features are those of their network.
    Between sets of the same distribution it is 0 for infinitely many rows only: it falls like 1 / N, so that only
    numbers from equally many rows can be compared.

    The trace of the root is the sum of the singular values of S_a^(1/2) S_b^(1/2), with roots from symmetric
    eigendecompositions in float64; a singular covariance (fewer rows than features, features that are always 0) does
    no harm.

    Args:
        a: features, (N, D).
        b: features, (M, D).

    Raises:
        ValueError: not two matrices of equally many columns and at least two rows each, or values that are not finite.
    """
    a, b = _checked(a, b, rows=2)
    root_a, root_b = (_root(torch.cov(each.T).reshape(each.shape[1], -1)) for each in (a, b))
    # What the squared roots sum to, and not the covariances: so that equal sets have a distance of 0 exactly.
    spread = root_a.square().sum() + root_b.square().sum() - 2 * torch.linalg.svdvals(root_a @ root_b).sum()
    distance: float = ((a.mean(0) - b.mean(0)).square().sum() + spread).clamp(min=0).item()
    return distance


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    # What rounding makes of 0 would be large as a root.
    noise = len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    roots = torch.where(values > noise, values, torch.zeros_like(values)).sqrt()
    root: Tensor = (vectors * roots) @ vectors.T
    return root


def kernel_distance(a: Tensor, b: Tensor) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy of two sets of features under the kernel (x.y / D + 1)^3.

    The "KID" of Bińkowski et al. 2018 ("Demystifying MMD GANs", section 4): 0 on average between sets of the same
    distribution however few they are, and so somewhat below 0 at times. Theirs is the mean over small subsets; here
    every pair of rows counts, in tiles, so that memory does not grow with N M. The standard error is the jackknife's,
    from leaving out random blocks of about a tenth of both sets.

    Args:
        a: features, (N, D).
        b: features, (M, D).

    Raises:
        ValueError: not two matrices of equally many columns and at least three rows each, or values that are not
            finite.
    """
    a, b = _checked(a, b, rows=3)
    count = max(BLOCKS, -(-max(len(a), len(b)) // ROWS_AT_ONCE))
    count = min(count, len(a), len(b))
    a_blocks, b_blocks = _blocks(a, count), _blocks(b, count)
    within_a, within_b = _sums(a_blocks, a_blocks), _sums(b_blocks, b_blocks)
    between = _sums(a_blocks, b_blocks)
    for within, blocks in ((within_a, a_blocks), (within_b, b_blocks)):
        own = torch.stack([_kernel((block * block).sum(1), block.shape[1]).sum() for block in blocks])
        within.diagonal().sub_(own)  # no row with itself
    sizes = tuple(
        torch.tensor([len(block) for block in blocks], dtype=a.dtype, device=a.device)
        for blocks in (a_blocks, b_blocks)
    )
    value = _discrepancy(within_a.sum(), within_b.sum(), between.sum(), sizes[0].sum(), sizes[1].sum())
    without = [_without(part) for part in (within_a, within_b, between)]
    left = [size.sum() - size for size in sizes]
    others = _discrepancy(without[0], without[1], without[2], left[0], left[1])
    error = ((count - 1) * (others - others.mean()).square().mean()).sqrt()
    return KernelDistance(value.item(), error.item())


def _discrepancy(within_a: Tensor, within_b: Tensor, between: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """Mean kernel of two different rows of a, and of b, less twice that of one of each, from sums over pairs."""
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)


def _without(sums: Tensor) -> Tensor:
    """Sums over all pairs without those that a block takes part in, from sums by pair of blocks: (blocks,)."""
    return sums.sum() - sums.sum(0) - sums.sum(1) + sums.diagonal()


def _blocks(features: Tensor, count: int) -> tuple[Tensor, ...]:
    """Rows in blocks of nearly equal size, in an order that owes nothing to theirs (which may be that of classes)."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order.to(features.device)].tensor_split(count)


def _sums(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Sum of the kernel over the pairs of rows of each pair of blocks, (blocks of a, blocks of b)."""
    return torch.stack([torch.stack([_kernel(first @ second.T, first.shape[1]).sum() for second in b]) for first in a])


def _kernel(products: Tensor, dims: int) -> Tensor:
    shifted = products / dims + 1
    return shifted.square() * shifted


def _checked(a: Tensor, b: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Both as float64."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.shape[1] == 0 or min(len(a), len(b)) < rows:
        raise ValueError(
            f"features should be (N, D) and (M, D) with at least {rows} rows, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    for name, values in (("first", a), ("second", b)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"the {name} features have values that are NaN or infinite")
    return a.detach().double(), b.detach().double()
