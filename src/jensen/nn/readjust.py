"""Batch normalisation with the statistics of what it will be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["readjusted"]


@contextmanager
def readjusted(net: nn.Module, run: Callable[[], object], batches: int = 20) -> Iterator[None]:
    """Within this context, batch normalisations hold the statistics of `batches` calls of `run`; then their old ones.

    In training the statistics are those of codes from the posterior. Samples from the prior at a low temperature have
    other ones, with which they come out better (Vahdat & Kautz 2020, section 4): let `run` draw such samples.

    Means and variances are those of all inputs that a layer had, each counted once: as of the concatenated data, not
    the moving averages of training. Variances hence include that between calls, which an average of theirs would miss.
    Only during the calls, which have no gradients, do batch normalisations normalise by the batch at hand, as in
    training; other layers (dropout) stay in the mode that they are in. Within the context batch normalisations are in
    evaluation mode. Layers that `run` does not reach keep their statistics, and so do those without any. On leaving,
    also by an exception, statistics and modes are exactly what they were.

    Args:
        net: has the batch normalisations; without any, nothing is run.
        run: a pass through the net, on more than one value a channel. What it draws from torch's generators is not
            undone.
        batches: calls of `run`.

    Raises:
        ValueError: there are no batches, or a statistic is not finite; the message names the layer.
    """
    if batches < 1:
        raise ValueError(f"batches should be at least 1, got {batches}")
    names = {
        module: name
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    modes = {layer: layer.training for layer in names}
    kept = {layer: [buffer.clone() for buffer in layer.buffers()] for layer in names}
    try:
        for layer, found in _seen(net, list(names), run, batches).items():
            _set(layer, found, names[layer])
        for layer in names:
            layer.eval()
        yield
    finally:
        for layer, buffers in kept.items():
            layer.train(modes[layer])
            with torch.no_grad():
                for buffer, value in zip(layer.buffers(), buffers, strict=True):
                    buffer.copy_(value)


class _Moments:
    """Mean and variance of all that was seen, each channel for itself."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(())

    def see(self, values: Tensor) -> None:
        """Values (batch, channels, *places); combined by the law of total variance (Chan, Golub & LeVeque 1983)."""
        over = [dim for dim in range(values.ndim) if dim != 1]
        wide = values if values.dtype == torch.float64 else values.float()
        variance, mean = torch.var_mean(wide, over, correction=0)
        count = values.numel() // max(1, values.shape[1])
        total = self.count + count
        away = mean - self.mean
        self.mean = self.mean + away * (count / total)
        self.squares = self.squares + variance * count + away.square() * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch normalisation keeps it."""
        return self.squares / max(1, self.count - 1)


def _seen(
    net: nn.Module, layers: list[_BatchNorm], run: Callable[[], object], batches: int
) -> dict[_BatchNorm, _Moments]:
    """What each layer is given in `batches` calls of `run`; layers that are not reached are left out."""
    moments: dict[_BatchNorm, _Moments] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        moments.setdefault(layer, _Moments()).see(inputs[0].detach())

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_uncompiled(net))
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(look).remove)
            layer.train()
        for _ in range(batches if layers else 0):
            run()
    return moments


@contextmanager
def _uncompiled(net: nn.Module) -> Iterator[None]:
    """Within this context the net runs as written: a compiled one may not see hooks that came later."""
    compiled = {module: call for module in net.modules() if (call := module._compiled_call_impl) is not None}
    try:
        for module in compiled:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


@torch.no_grad()
def _set(layer: _BatchNorm, found: _Moments, name: str) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(found.mean)
    layer.running_var.copy_(found.variance)
    if not (layer.running_mean.isfinite().all() and layer.running_var.isfinite().all()):
        of = f"the batch normalisation {name}" if name else "this batch normalisation"
        raise ValueError(f"{of} had inputs whose mean and variance are not finite, so it cannot be readjusted")
