"""Normal approximations along a descent: inverse Hessians as quasi-Newton methods see them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Approximation", "along_path", "inverse_hessian", "laplace", "next_diagonal"]

MEMORY = 20
"""pairs of steps and changes of gradient that an inverse Hessian is made of; the paper's 6 see less of a covariance"""
_LEAST_CURVATURE = 1e-12


@dataclass(frozen=True)
class Approximation:
    """N(loc, S (I + Q diag(stretch^2 - 1) Q^T) S), S = diag(exp(log_scale)), Q of orthonormal columns.

    Attributes:
        loc: (D,).
        log_scale: (D,).
        directions: Q, (D, R).
        log_stretch: (R,).
    """

    loc: Tensor
    log_scale: Tensor
    directions: Tensor
    log_stretch: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Points (K, D) of standard normal noise (K, D)."""
        along = (noise @ self.directions) * torch.expm1(self.log_stretch)
        return self.loc + self.log_scale.exp() * (noise + along @ self.directions.mT)

    def log_prob(self, points: Tensor) -> Tensor:
        """Log density in nats, (S,), of points (S, D)."""
        scaled = (points - self.loc) * (-self.log_scale).exp()
        along = (scaled @ self.directions).square() @ torch.expm1(-2 * self.log_stretch)
        return -0.5 * (scaled.square().sum(1) + along + len(self.loc) * math.log(2 * math.pi)) - self.log_volume

    @property
    def log_volume(self) -> Tensor:
        """Half the logarithm of the covariance's determinant."""
        return self.log_scale.sum() + self.log_stretch.sum()

    @property
    def sd(self) -> Tensor:
        """Marginal standard deviations, (D,)."""
        along = self.directions.square() @ torch.expm1(2 * self.log_stretch)
        return self.log_scale.exp() * (1 + along).clamp(min=0).sqrt()


def next_diagonal(diagonal: Tensor, move: Tensor, turn: Tensor) -> Tensor:
    """The diagonal inverse Hessian after one more pair, (D,), positive.

    One over the diagonal of the BFGS update of the Hessian (a / b) diag(1 / diagonal), a = y^T diag(diagonal) y and
    b = s^T y (Gilbert & Lemarechal 1989), as Pathfinder has it (Zhang, Carpenter, Gelman & Vehtari 2022).

    Args:
        diagonal: (D,), positive.
        move: s, the step, (D,).
        turn: y, the change of the gradient, (D,), with s . y > 0.
    """
    a, b, c = turn @ (diagonal * turn), move @ turn, move @ (move / diagonal)
    # Positive up to rounding, by Cauchy and Schwarz.
    inverse = a / (b * diagonal) + turn.square() / b - a * move.square() / (b * c * diagonal.square())
    return 1 / inverse.clamp(min=torch.finfo(inverse.dtype).tiny)


def inverse_hessian(diagonal: Tensor, moves: Tensor, turns: Tensor) -> tuple[Tensor, Tensor] | None:
    """What stretches diag(diagonal) to the L-BFGS inverse Hessian: axes (D, R) and log stretches (R,), R = min(2 m, D).

    H = A + [A Y, S] G [A Y, S]^T, the compact form of Byrd, Nocedal & Schnabel (1994), by a thin QR of
    A^-1/2 [A Y, S] and the eigenvectors of what is left, a small matrix; None where rounding has made it indefinite.

    Args:
        diagonal: of A, (D,).
        moves: S^T, (m, D), oldest first.
        turns: Y^T, (m, D).
    """
    products = moves @ turns.mT
    upper = products.triu()
    inner = torch.diag(products.diagonal()) + (turns * diagonal) @ turns.mT
    eye = torch.eye(len(moves), dtype=moves.dtype, device=moves.device)
    inverse = torch.linalg.solve_triangular(upper, eye, upper=True)
    small = torch.cat(
        [
            torch.cat([torch.zeros_like(inverse), -inverse], 1),
            torch.cat([-inverse.mT, inverse.mT @ inner @ inverse], 1),
        ]
    )
    root = diagonal.sqrt()
    axes, triangle = torch.linalg.qr(torch.cat([turns * root, moves / root]).mT)
    values, vectors = torch.linalg.eigh(_symmetric(triangle @ small @ triangle.mT))
    stretch = 1 + values
    if not bool((stretch > 0).all()) or not bool(stretch.isfinite().all()):
        return None
    return axes @ vectors, 0.5 * stretch.log()


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)


def along_path(positions: Tensor, gradients: Tensor, memory: int = MEMORY) -> Iterator[tuple[int, Approximation]]:
    """The normal approximation at each point of a descent but its start, where there is one.

    Its mean is a quasi-Newton step from the point, its covariance the inverse Hessian that the last `memory` pairs with
    positive curvature imply.

    Args:
        positions: (L, D), of a descent of -log p.
        gradients: (L, D), of -log p.
    """
    diagonal = torch.ones_like(positions[0])
    pairs: list[tuple[Tensor, Tensor]] = []
    for place in range(1, len(positions)):
        move, turn = positions[place] - positions[place - 1], gradients[place] - gradients[place - 1]
        if float(move @ turn) > _LEAST_CURVATURE * float(turn @ turn) > 0:
            diagonal = next_diagonal(diagonal, move, turn)
            pairs = [*pairs, (move, turn)][-memory:]
        if not pairs:
            continue
        found = inverse_hessian(diagonal, torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
        if found is None:
            continue
        axes, log_stretch = found
        root, gradient = diagonal.sqrt(), gradients[place]
        whitened = root * gradient
        step = root * (whitened + axes @ (torch.expm1(2 * log_stretch) * (axes.mT @ whitened)))
        if bool(step.isfinite().all()):
            yield place, Approximation(positions[place] - step, diagonal.log() / 2, axes, log_stretch)


def laplace(position: Tensor, gradient: Tensor, hessian: Tensor) -> Approximation | None:
    """The normal distribution of the quadratic expansion of -log p at a point; None where that is no maximum of p.

    Args:
        position: (D,).
        gradient: (D,), of -log p.
        hessian: (D, D), of -log p.
    """
    scale = hessian.diagonal()
    if not bool(hessian.isfinite().all()) or not bool((scale > 0).all()):
        return None
    root = scale.rsqrt()
    values, vectors = torch.linalg.eigh(_symmetric(root.unsqueeze(-1) * hessian * root))
    if not bool((values > 1e-12).all()):
        return None
    step = root * (vectors @ ((vectors.mT @ (root * gradient)) / values))
    return Approximation(position - step, root.log(), vectors, -0.5 * values.log())
