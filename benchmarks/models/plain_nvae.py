"""NVAE (Vahdat & Kautz 2020) as one writes it in PyTorch from the paper: modules in a row, float32, nothing saved.

Without flow, weight normalisation and spectral regularisation; Bernoulli likelihood; every scale half the size of the
one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Decoding", "Encoding", "PlainNVAE"]


class Excitation(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


def norm(channels: int) -> nn.Module:
    """As published."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.05)


class Encoding(nn.Module):
    """The encoder's cell, figure 3 (b), which halves the image (of an even size) where `half`."""

    def __init__(self, before: int, after: int, half: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(before),
            nn.SiLU(),
            nn.Conv2d(before, after, 3, 2 if half else 1, padding=1, bias=False),
            norm(after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, padding=1),
            Excitation(after),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1)) if half else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + 0.1 * self.body(x)
        return out


class Decoding(nn.Module):
    """The decoder's cell, figure 3 (a), which doubles the image where `double`; its expansion is 3 near the data."""

    def __init__(self, before: int, after: int, double: bool = False, expansion: int = 6) -> None:
        super().__init__()
        wide = expansion * before
        enlarge = [nn.UpsamplingNearest2d(scale_factor=2)] if double else []
        self.body = nn.Sequential(
            *enlarge,
            norm(before),
            nn.Conv2d(before, wide, 1, bias=False),
            norm(wide),
            nn.SiLU(),
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            norm(wide),
            nn.SiLU(),
            nn.Conv2d(wide, after, 1, bias=False),
            norm(after),
            Excitation(after),
        )
        self.skip = nn.Sequential(*enlarge, nn.Conv2d(before, after, 1)) if double else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + 0.1 * self.body(x)
        return out


class Posterior(nn.Module):
    """Parameters of a group's residual posterior."""

    def __init__(self, latents: int, width: int, top: bool) -> None:
        super().__init__()
        before = [nn.ELU(), nn.Conv2d(width, width, 1), nn.ELU()] if top else []
        self.out = nn.Sequential(*before, nn.Conv2d(width, 2 * latents, 3, padding=1))
        self.merge = None if top else nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        out: Tensor = self.out(features if self.merge is None else features + self.merge(state))
        return out


class Step(nn.Module):
    """Down from a group: its latents join the state."""

    def __init__(self, latents: int, width: int, body: nn.Module) -> None:
        super().__init__()
        self.join = nn.Conv2d(width + latents, width, 1)
        self.body = body

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.body(self.join(torch.cat([state, z], 1)))
        return out


class PlainNVAE(nn.Module):
    """Called with images in [0, 1], (batch, channels, side, side): minus the ELBO in nats, mean over the batch.

    Args:
        channels: of the image.
        side: of the image, which can be halved down to the last scale without a remainder.
        scales: (groups, latents, width), nearest the data first.
        halvings: from the image to the first scale, at least one; the widths above it halve too.
        stem: cells at the image's size and at those between it and the first scale, on each way.
        cells: a group, on each way.
    """

    def __init__(
        self, channels: int, side: int, scales: Sequence[tuple[int, int, int]], halvings: int, stem: int, cells: int
    ) -> None:
        super().__init__()
        groups = [
            (latents, width, side >> halvings + i) for i, (n, latents, width) in enumerate(scales) for _ in range(n)
        ]
        widths = [scales[0][2] >> halvings - i for i in range(halvings + 1)]  # from the image's size to the groups'
        first: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), *_same(Encoding, widths[0], stem)]
        last: list[nn.Module] = [nn.Conv2d(widths[0], channels, 3, padding=1), nn.ELU()]  # from its end
        for i, (above, below) in enumerate(pairwise(widths), 1):
            count = stem if i < halvings else cells
            first += [Encoding(above, below, half=True), *_same(Encoding, below, count)]
            near = [Decoding(above, above, expansion=3) for _ in range(stem)]
            last += [*near, Decoding(below, above, double=True, expansion=3)]
        ups: list[nn.Module] = [nn.Sequential(*first)]
        downs = [Step(*groups[0][:2], nn.Sequential(*last[::-1]))]
        for (_, width, size), (latents, wider, smaller) in pairwise(groups):
            half = [Encoding(width, wider, half=True)] if smaller < size else []
            double = [Decoding(wider, width, double=True)] if smaller < size else []
            ups.append(nn.Sequential(*half, *_same(Encoding, wider, cells)))
            downs.append(Step(latents, wider, nn.Sequential(*double, *_same(Decoding, width, cells))))
        top = len(groups) - 1
        self.ups = nn.ModuleList(ups)
        self.posteriors = nn.ModuleList(Posterior(*group[:2], i == top) for i, group in enumerate(groups))
        self.start = nn.ParameterList([torch.randn(1, groups[top][1], groups[top][2], groups[top][2])])
        self.downs = nn.ModuleList(downs[::-1])
        self.priors = nn.ModuleList(
            nn.Sequential(nn.ELU(), nn.Conv2d(width, 2 * latents, 1)) for latents, width, _ in groups[-2::-1]
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for up in self.ups:
            features.append(up(features[-1]))
        state = self.start[0].expand(len(x), -1, -1, -1)
        rate = x.new_zeros(())
        for i, down in enumerate(self.downs):
            change = self.posteriors[-1 - i](features[-1 - i], state)
            shift, log_ratio = (5 * torch.tanh(half / 5) for half in change.chunk(2, 1))
            mean, log_sigma = torch.zeros_like(shift), torch.zeros_like(shift)
            if i > 0:
                mean, log_sigma = self.priors[i - 1](state).chunk(2, 1)
                log_sigma = 5 * torch.tanh(log_sigma / 5)
            sigma, ratio = log_sigma.exp(), log_ratio.exp()
            rate = rate + 0.5 * ((shift / sigma).square() + ratio.square() - 2 * log_ratio - 1).flatten(1).sum(1)
            z = mean + shift + sigma * ratio * torch.randn_like(mean)
            state = down(state, z)
        distortion = F.binary_cross_entropy_with_logits(state, x, reduction="none").flatten(1).sum(1)
        return (distortion + rate).mean()

    def decode(self, z: Sequence[Tensor]) -> Tensor:
        """Means of the image, given the latents of every group, the top first."""
        state = self.start[0].expand(len(z[0]), -1, -1, -1)
        for down, latents in zip(self.downs, z, strict=True):
            state = down(state, latents)
        return torch.sigmoid(state)


def _same(kind: type[Encoding] | type[Decoding], width: int, count: int) -> list[nn.Module]:
    return [kind(width, width) for _ in range(count)]
