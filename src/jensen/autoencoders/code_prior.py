"""An autoregressive prior over the integer codes of a VQ-VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from jensen.autoencoders.code_grids import flat_codes, split_codes
from jensen.autoencoders.condition import checked_shape
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output
from jensen.config import AutoregressiveConfig, ModelKind
from jensen.likelihoods.autoregressive import Autoregressive
from jensen.likelihoods.categorical import Categorical
from jensen.likelihoods.levels import level_values, levels_of
from jensen.nn.autoregressive.base import AutoregressiveNet
from jensen.nn.autoregressive.build import make_autoregressive

__all__ = ["CodePrior", "JointCodes"]

BLOCKS = 2  # residual convolutions of what a level sees of the one above


class CodePrior(NeuralModel):
    """p(codes | c) = p(top | c) prod_l p(level l | level l - 1, c), each factor an autoregressive network.

    van den Oord et al. 2017, "Neural discrete representation learning", section 3.3; of several levels: Razavi et al.
    2019, "Generating diverse high-fidelity images with VQ-VAE-2", section 3.2. A level sees of the one above a learned
    embedding of its codes, brought to its own grid (nearest neighbours) and through residual convolutions.

    As a model it is about flat codes k as values k / (K - 1), (batch, latent) with K levels, like any data on levels:
    -log p(codes) in nats is the rate of the VQ-VAE whose prior it is.

    Args:
        shapes: of each level of codes, (books, *grid), top first.
        code_levels: values that a code takes, K.
        net: the network of each level.
        condition_shape: of what the prior is told: (classes,), (attributes,), or (channels, height, width) of an image
            for codes on grids of two dimensions; None: nothing. Vectors are the same at every place.

    Wherever a method takes a condition, int64 class labels may stand in for one-hot vectors.

    Raises:
        ValueError: no level, K < 2, or a condition of an impossible shape.
    """

    # Each code is predicted from those before it: to be trained and scored, it is a density without a code of its own.
    kind: ModelKind = "autoregressive"
    latent = 0
    stochastic = False

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        code_levels: int,
        net: AutoregressiveConfig | None = None,
        *,
        condition_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if not shapes:
            raise ValueError("a prior needs at least one level of codes")
        self.code_shapes = tuple(tuple(shape) for shape in shapes)
        self.code_levels = code_levels
        self.condition_shape = checked_shape(condition_shape)
        self.sizes = [math.prod(shape) for shape in self.code_shapes]
        self.shape = self.target_shape = (sum(self.sizes),)
        self._likelihood = Categorical(code_levels)
        net = AutoregressiveConfig() if net is None else net
        told = [_Told(self.condition_shape, shape[1:], net.width) for shape in self.code_shapes]
        above = [
            _FromAbove(upper[0], code_levels, net.width, lower[1:])
            for upper, lower in zip(self.code_shapes, self.code_shapes[1:], strict=False)
        ]
        self.told = nn.ModuleList(told)
        self.above = nn.ModuleList(above)
        channels = [told[0].channels, *(part.channels + net.width for part in told[1:])]
        self.nets = nn.ModuleList(
            make_autoregressive(net, shape, code_levels, context)
            for shape, context in zip(self.code_shapes, channels, strict=True)
        )

    @property
    def likelihood(self) -> Categorical:
        """What a code is given those before it: categorical over K values."""
        return self._likelihood

    def _nets(self) -> list[nn.Module]:
        return list(self.nets)

    def grids(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Flat codes (..., latent) as those of each level, (..., books, *grid), the top first."""
        return split_codes(codes, self.code_shapes)

    def flat(self, grids: Sequence[Tensor]) -> Tensor:
        """The reverse of `grids`: (..., latent)."""
        return flat_codes(grids, self.code_shapes)

    def distributions(self, grids: Sequence[Tensor], condition: Tensor | None = None) -> tuple[Autoregressive, ...]:
        """p(level | level above, c) of each level, batch shape (*lead, books, *grid), top first.

        Args:
            grids: codes of each level, (*lead, books, *grid) int64; those of the last level are not looked at.
            condition: (*own, *condition_shape), own broadcastable to lead, for a prior that is told something.

        Raises:
            ValueError: the condition does not fit.
        """
        lead = tuple(grids[0].shape[: grids[0].ndim - len(self.code_shapes[0])])
        condition = self._condition(condition, *lead, exact=False)
        return tuple(self._distribution(i, grids, condition, lead) for i in range(len(self.nets)))

    def _distribution(
        self, level: int, grids: Sequence[Tensor], condition: Tensor | None, lead: tuple[int, ...]
    ) -> Autoregressive:
        planes: list[Tensor] = []
        dims = len(self.code_shapes[level])
        if condition is not None and self.condition_shape is not None:
            own = condition.shape[: condition.ndim - len(self.condition_shape)]
            told: Tensor = self.told[level](condition.reshape(-1, *self.condition_shape))
            planes.append(told.view(*own, *told.shape[1:]))
        if level:
            upper = grids[level - 1].reshape(-1, *self.code_shapes[level - 1])
            below: Tensor = self.above[level - 1](upper)
            planes.append(below.view(*lead, *below.shape[1:]))
        net = self.nets[level]
        assert isinstance(net, AutoregressiveNet)
        if not planes:
            return Autoregressive(net, None, lead)
        if len(planes) == 1:
            return Autoregressive(net, planes[0], lead)
        grid = self.code_shapes[level][1:]
        wide = [part.expand(*lead, part.shape[-dims], *grid) for part in planes]
        return Autoregressive(net, torch.cat(wide, -dims), lead)

    def log_prob(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p of each code given those before it and the condition, in nats, (*lead, latent).

        Args:
            codes: flat, (*lead, latent) int64.
            condition: see `distributions`.

        Raises:
            ValueError: the condition does not fit, or a code is none of the K.
        """
        grids = self.grids(codes)
        parts = zip(self.distributions(grids, condition), grids, strict=True)
        return self.flat([distribution.log_prob(grid) for distribution, grid in parts])

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """log p(target | c), as an output without levels; see `NeuralModel`. A mask is refused with a ValueError."""
        expected = self._checked(x, target)
        if mask is not None:
            raise ValueError("a prior over codes takes no mask: each code is given all those before it")
        condition = self._condition(condition, len(x))
        return Output(expected, JointCodes(self, len(x), condition), ())

    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """bits_per_code: what a code costs on average, in bits; log2 K if the prior knew nothing."""
        nats = -output.log_likelihood().detach().mean()
        return {"bits_per_code": nats / (self.shape[0] * math.log(2))}

    @torch.no_grad()
    def sample_codes(
        self,
        n: int,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """New codes, (n, latent) int64, drawn level by level from the top.

        Args:
            n: how many.
            temperature: logits are divided by it.
            condition: of each, (n, *condition_shape), or one for all, for a prior that is told something.
            top_k: of each code, only the k most probable values.
            top_p: of each code, only the most probable values that together have this probability.
            progress: called with the codes drawn so far and those to be drawn in all.

        Raises:
            ValueError: the condition does not fit, or temperature, top_k or top_p is impossible.
        """
        condition = self._condition(condition, n, exact=False)
        grids: list[Tensor] = []
        chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        for i in range(len(self.nets)):
            before = n * sum(self.sizes[:i])

            def moved(done: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, n * self.shape[0])

            distribution = self._distribution(i, grids, condition, (n,))
            grids.append(distribution.draw(progress=moved, **chosen))  # type: ignore[arg-type]
        return self.flat(grids)

    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        """New codes as values k / (K - 1), (n, latent) float32; `sample_codes` gives integers."""
        return level_values(self.sample_codes(n, temperature, condition), self.code_levels, torch.float32)

    def extra_repr(self) -> str:
        return f"shapes={self.code_shapes}, code_levels={self.code_levels}, condition_shape={self.condition_shape}"


class JointCodes(Distribution):
    """All codes of a `CodePrior` as one distribution over values k / (K - 1), batch shape (1, batch, latent).

    `log_prob` gives the logarithm of every factor p(code | codes before it), so that it sums to log p(codes). The value
    decides what each factor is given; that of the last call is kept, as the loss and the report ask for the same.

    Args:
        prior: whose codes.
        batch: how many data.
        condition: of each, (batch, *condition_shape); None: the prior is told nothing.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.unit_interval
    has_mean = False

    def __init__(self, prior: CodePrior, batch: int, condition: Tensor | None) -> None:
        self.prior, self.condition = prior, condition
        self._last: tuple[Tensor, bool, Tensor] | None = None
        super().__init__(torch.Size((1, batch, *prior.shape)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p of each code in nats, of codes k / (K - 1) of shape (..., batch, latent)."""
        gradients = torch.is_grad_enabled()
        if self._last is None or self._last[0] is not value or self._last[1] != gradients:
            codes = levels_of(value, self.prior.code_levels)
            self._last = value, gradients, self.prior.log_prob(codes, self.condition)
        return self._last[2]

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, 1, batch, latent)."""
        shape, condition = self._extended_shape(torch.Size(sample_shape)), self.condition
        n = math.prod(shape[:-1])
        if condition is not None:
            condition = condition.expand(n // len(condition), *condition.shape).flatten(0, 1)
        return self.prior.sample(n, condition=condition).view(shape)


class _FromAbove(nn.Module):
    """What a level sees of the level above: features (batch, width, *grid) of its codes (batch, books, *their grid)."""

    def __init__(self, books: int, levels: int, width: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        self.books = nn.ModuleList(nn.Embedding(levels, width) for _ in range(books))
        self.blocks = _residual(width, len(grid))

    def forward(self, codes: Tensor) -> Tensor:
        embedded = torch.stack([book(codes[:, i]) for i, book in enumerate(self.books)]).sum(0)
        features = F.interpolate(embedded.movedim(-1, 1), self.grid, mode="nearest")
        for block in self.blocks:
            features = features + block(features)
        return features


class _Told(nn.Module):
    """A condition (batch, *shape) as planes beside a grid of codes.

    A vector is the same at every place, (batch, features, 1[, 1]); an image is brought to the grid by convolutions of
    stride 2 and averages, (batch, width, *grid).
    """

    def __init__(self, shape: tuple[int, ...] | None, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.ones = [1] * len(grid)
        self.net: nn.Module | None = None
        self.channels = 0 if shape is None else shape[0]
        if shape is None or len(shape) == 1:
            return
        if len(grid) != 2:
            raise ValueError(f"an image {shape} cannot be told beside codes on a grid {grid} of one dimension")
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1)]
        size = shape[1:]
        while all(side >= 2 * place for side, place in zip(size, grid, strict=True)):
            layers += [nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1)]
            size = tuple(side // 2 for side in size)
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid))
        self.channels = width

    def forward(self, condition: Tensor) -> Tensor:
        planes: Tensor = condition.view(*condition.shape, *self.ones) if self.net is None else self.net(condition)
        return planes


def _residual(width: int, dims: int) -> nn.ModuleList:
    """Residual convolutions over a grid of one or two dimensions; each adds nothing at first."""
    convolution = nn.Conv1d if dims == 1 else nn.Conv2d
    blocks = nn.ModuleList()
    for _ in range(BLOCKS):
        last = convolution(width, width, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        blocks.append(nn.Sequential(nn.ReLU(), convolution(width, width, 3, padding=1), nn.ReLU(), last))
    return blocks
