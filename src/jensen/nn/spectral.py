"""What keeps a deep VAE's KL bounded: penalties on how much its layers can stretch their input.

NVAE (Vahdat & Kautz 2020, section 3.2) adds lambda (sum_i s_i + sum_j max |gamma_j|) to the loss: s_i is the largest
singular value of layer i, gamma_j the scales of batch normalisation j, which could undo the former.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

__all__ = ["SpectralNorms", "batch_norm_scales"]

_FIRST = 40
"""iterations more in the first call, from a random start"""


class SpectralNorms(nn.Module):
    """Sum of the largest singular values of all convolution and linear weights, by power iteration.

    A weight is looked at as a matrix (out, rest); for a convolution this bounds its norm as an operator only up to a
    factor of its kernel's size, which is the published choice. Each call in training goes `iterations` steps on from
    the vectors of the call before: weights move little between two optimiser steps, so the estimate, which never
    exceeds the true value, stays close. Weights of one shape share their matrix products.

    The left singular vectors are buffers, 0 until a call in training: they go into the state, so that a resumed run has
    the same losses bit for bit. The net is not kept but walked at each call, so that its parameters appear once, and a
    deep copy of whatever owns both looks at its own weights.

    Args:
        net: whose weights are looked at: call with it, or with a copy of the same architecture.
        iterations: steps of power iteration a call.

    Raises:
        ValueError: the net has no such weights, or there are no iterations.
    """

    _under_way: bool

    def __init__(self, net: nn.Module, iterations: int = 4) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations should be at least 1, got {iterations}")
        self.iterations = iterations
        groups = _matrices(net)
        if not groups:
            raise ValueError("the net has no convolution or linear weights, so nothing to regularise")
        for name, matrices in groups.items():
            self.register_buffer(name, matrices[0].new_zeros(len(matrices), len(matrices[0])))
        self._under_way = False
        self.register_load_state_dict_post_hook(_look_again)  # type: ignore[no-untyped-call]

    def forward(self, net: nn.Module) -> Tensor:
        """Sum of the largest singular values, a scalar in float32 or wider; the gradient of each is u v^T.

        Only in training mode with gradients enabled do the vectors move.

        Raises:
            ValueError: the net's weights have other shapes than at construction.
        """
        groups = _matrices(net)
        shapes = {name: len(matrices) for name, matrices in groups.items()}
        if shapes != {name: len(vectors) for name, vectors in self.named_buffers()}:
            raise ValueError("the net has other convolution and linear weights than the one this was made for")
        moving = self.training and torch.is_grad_enabled()
        starts = self._starts()
        steps = self.iterations if starts is None else self.iterations + _FIRST
        total = []
        for name, matrices in groups.items():
            buffer = self.get_buffer(name)
            with torch.autocast(buffer.device.type, enabled=False):
                weights = torch.stack(matrices)
                u = _iterated(weights.detach(), (buffer if starts is None else starts[name]).to(weights), steps)
                image = _times(u, weights)
                total.append((image * _normalised(image.detach(), image.detach())).sum())
            if moving:
                buffer.copy_(u)
        return torch.stack(total).sum()

    def _starts(self) -> dict[str, Tensor] | None:
        """Random vectors while the own ones are 0, and point nowhere; None: a call in training has gone by."""
        self._under_way = self._under_way or any(bool(buffer.any()) for buffer in self.buffers())
        if self._under_way:
            return None
        # Its own generator: the draws of others should not depend on whether there is a penalty.
        generator = torch.Generator().manual_seed(0)
        return {
            name: torch.randn(buffer.shape, generator=generator, device="cpu") for name, buffer in self.named_buffers()
        }

    def extra_repr(self) -> str:
        return f"{sum(len(vectors) for vectors in self.buffers())} weights, iterations={self.iterations}"


def _look_again(norms: nn.Module, _: object) -> None:
    assert isinstance(norms, SpectralNorms)
    norms._under_way = False  # the state may be of before the first call


def batch_norm_scales(net: nn.Module) -> Tensor:
    """Sum over the net's batch normalisations of their largest absolute scale, a scalar; 0 where none has scales."""
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.affine]
    groups = _by_name((f"of_{layer.num_features}", _wide(layer.weight)) for layer in layers)
    if not groups:
        return next((parameter.new_zeros(()) for parameter in net.parameters()), torch.zeros(()))
    return torch.stack([torch.stack(scales).abs().amax(1).sum() for scales in groups.values()]).sum()


def _matrices(net: nn.Module) -> dict[str, list[Tensor]]:
    """The weights as matrices (out, rest) in float32 or wider, those of one shape together."""
    layers = (module for module in net.modules() if isinstance(module, (_ConvNd, nn.Linear)))
    matrices = (_wide(_matrix(layer)) for layer in layers)
    return _by_name(("of_{}x{}".format(*matrix.shape), matrix) for matrix in matrices)


def _matrix(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, *kernel)
        grouped: Tensor = weight.unflatten(0, (layer.groups, -1))
        return grouped.transpose(1, 2).flatten(0, 1).flatten(1)
    return weight.flatten(1)


def _by_name(named: Iterable[tuple[str, Tensor]]) -> dict[str, list[Tensor]]:
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in named:
        groups.setdefault(name, []).append(tensor)
    return groups


@torch.no_grad()
def _iterated(weights: Tensor, u: Tensor, iterations: int) -> Tensor:
    """`iterations` steps of power iteration from u, (n, out), on matrices (n, out, rest)."""
    u = _normalised(u, u)
    for _ in range(iterations):
        v = _times(u, weights)
        u = _normalised(_times(_normalised(v, v), weights.mT), u)
    return u


def _times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """(n, rows) by (n, rows, columns): (n, columns). Vectors as rows: as columns it takes 4 to 10 times as long."""
    return torch.bmm(vectors.unsqueeze(1), matrices).squeeze(1)


def _normalised(vectors: Tensor, instead: Tensor) -> Tensor:
    """Of norm 1; `instead` where the norm is 0 or not finite: a vector that vanished would never come back."""
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where((norms > 0) & norms.isfinite(), vectors / norms, instead)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
