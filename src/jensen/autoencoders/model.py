"""What training, evaluation and runs need of any model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.autoencoders.condition import checked_condition, one_hot, require_tensor
from jensen.bound import Level, Output
from jensen.config import ModelConfig, ModelKind
from jensen.likelihoods import Likelihood

__all__ = ["NeuralModel", "compile_net"]


class NeuralModel(nn.Module, ABC):
    """Base of every model that is trained by minibatch gradients of a bound on log p(x).

    Attributes:
        shape: of a datum.
        target_shape: of what is predicted.
        condition_shape: of what the model is told beside x; None: nothing.
        latent: numbers in a code; 0: there is no code.
        stochastic: whether forward draws; if not, more than one sample of z tells nothing new.
        config: what `jensen.autoencoders.make_model` makes the same model from, if anything does.
    """

    kind: ModelKind
    shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    condition_shape: tuple[int, ...] | None
    latent: int
    stochastic: bool = True
    config: ModelConfig | None = None

    @property
    @abstractmethod
    def likelihood(self) -> Likelihood:
        """p(x | decoder output)."""

    @abstractmethod
    def _nets(self) -> list[nn.Module]:
        """The networks that are worth compiling."""

    def compile_nets(self) -> None:
        """Compile the networks in place (torch.compile); what is around them is cheap."""
        for net in self._nets():
            compile_net(net)

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """The terms of the bound for a batch.

        Args:
            x: input, (batch, *shape).
            target: what to predict, (batch, *target_shape); None: x.
            samples: draws of z a datum.
            condition: what is known beside x, (batch, *condition_shape), for a model that has one.
            mask: 1 where the target is to be scored and 0 where not, (1 or batch, *target_shape); None: everywhere.

        Raises:
            ValueError: x, target, condition or mask have another shape than the model's.
        """

    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """Named finite scalars to log beside the terms of the loss, which they do not enter; by default none.

        They are means over the batch, on its device.

        Args:
            output: of this model for a batch.
            label: the true class of each datum, (batch,) int64, whether the model was told it or not; None: no classes.
            condition: what the model was told, (batch, *condition_shape).
        """
        return {}

    def levels(self, x: Tensor, condition: Tensor | None = None) -> tuple[tuple[Level, ...], Tensor | None]:
        """`levels` and `log_weights` of the `Output` of one draw a datum; not decoded, where the model knows how.

        Raises:
            ValueError: x or the condition do not fit.
        """
        output = self(x, x.new_zeros(len(x), *self.target_shape), condition=condition)
        return output.levels, output.log_weights

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        """New data from the prior, (n, *target_shape); TypeError where the model has none."""

    def _condition(self, condition: Tensor | None, *lead: int | None, exact: bool = True) -> Tensor | None:
        """The condition, checked, of what has these leading dimensions; labels as one-hot vectors."""
        shape = self.condition_shape
        require_tensor(condition, shape, lead, exact=exact)
        if condition is not None and not condition.is_floating_point() and shape is not None and len(shape) == 1:
            numbers = (t.dtype for t in chain(self.parameters(), self.buffers()) if t.is_floating_point())
            condition = one_hot(condition, shape[0], next(numbers, torch.get_default_dtype()))
        return checked_condition(condition, shape, lead, exact=exact)

    def _check_input(self, x: Tensor) -> None:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x should have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")

    def _checked(self, x: Tensor, target: Tensor | None) -> Tensor:
        self._check_input(x)
        target = x if target is None else target
        if target.shape != (x.shape[0], *self.target_shape):
            raise ValueError(f"target should have shape {(x.shape[0], *self.target_shape)}, got {tuple(target.shape)}")
        return target.unsqueeze(0)


def compile_net(net: nn.Module) -> None:
    """Compile a network in place (torch.compile): its parameters and their names stay as they are."""

    # What nn.Module.compile does, but with a function of ours in between: it skips code of torch.nn, and so would
    # leave a net that is an nn.Sequential as it was, without a word.
    def call(*inputs: Tensor) -> Tensor:
        out: Tensor = net._call_impl(*inputs)
        return out

    checks = Distribution._validate_args
    # Sizes as constants: with variable ones the compiler fails on enlarged images, and batches have few sizes.
    net._compiled_call_impl = torch.compile(call, dynamic=False)
    Distribution.set_default_validate_args(checks)  # the compiler switches the checks off for the whole process
