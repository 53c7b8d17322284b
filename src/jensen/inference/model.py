"""Black-box models: a log joint that the user writes for one draw of the latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor, nn

from jensen.errors import DataError
from jensen.inference.conjugate import Columns
from jensen.inference.supports import Variable

if TYPE_CHECKING:
    from jensen.inference.target import Target

__all__ = ["Batch", "Model", "Terms", "Values", "as_data"]

Terms: TypeAlias = Tensor | Mapping[str, Tensor]


class Values(Mapping[str, Any]):
    """Things by name, as attributes and as items: `z.mu` or `z["mu"]`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_values" not in self.__dict__:
            raise AttributeError(name)
        if name not in self._values:
            raise AttributeError(f"there is no {name!r}; there are: {', '.join(self._values) or 'none'}")
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise KeyError(f"there is no {name!r}; there are: {', '.join(self._values) or 'none'}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Batch(Values):
    """Rows of the data, by name, and which rows they are.

    Attributes:
        index: the rows' numbers, (rows,) int64; None where the model has no plate.
    """

    def __init__(self, values: Mapping[str, Any], index: Tensor | None = None) -> None:
        super().__init__(values)
        self.index = index


@dataclass(frozen=True)
class Model:
    """p(x, z) as a log joint density.

    Args:
        latents: shapes and supports by name (`jensen.inference.supports`).
        log_joint: (z, data) -> log p(x, z) in nats, or terms of it by name, for ONE draw of the latents: `z.mu` is a
            tensor of its declared shape; it is run for many draws at once by `torch.func.vmap`. A term may be left
            unsummed over declared plates, and must be over the plate of minibatches: the log likelihood of each row.
            What has no dimensions counts once, whatever the minibatch.
        parameters: what is learned together with q: tensors by name (`z.alpha` in the log joint) or a module, which
            the log joint calls.
        plates: sizes by name; the first is that of the data's rows. A term's dimensions are those of plates, in this
            order, recognised by their sizes.
        simulate: (z, data, generator) -> new data by name, for one draw of the latents: posterior predictive.
        prior: generator -> one draw of all latents by name: prior predictive, prior against posterior.

    Raises:
        ValueError, TypeError: no latents, names used twice, unknown plates, plates of equal size.
    """

    latents: Mapping[str, Variable]
    log_joint: Callable[[Any, Any], Terms]
    parameters: nn.Module | Mapping[str, Tensor] | None = None
    plates: Mapping[str, int] = field(default_factory=dict)
    simulate: Callable[[Any, Any, Generator], Mapping[str, Tensor]] | None = None
    prior: Callable[[Generator], Mapping[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "plates", dict(self.plates or {}))
        if not self.latents:
            raise ValueError("a model needs at least one latent")
        for name, variable in self.latents.items():
            if not isinstance(variable, Variable):
                raise TypeError(f"latent {name!r} must be declared by real(), positive(), ..., got {variable!r}")
            if hasattr(Values, name):
                raise ValueError(f"latent {name!r} cannot be called so, since z.{name} is something else: rename it")
            if variable.plate is not None and variable.plate not in self.plates:
                raise ValueError(f"latent {name!r} is on plate {variable.plate!r}, but plates are {self.plates}")
        if not callable(self.log_joint):
            raise TypeError(f"log_joint must be a function of (latents, data), got {self.log_joint!r}")
        if isinstance(self.parameters, Mapping):
            taken = [name for name in self.parameters if hasattr(Values, name)]
            if taken:
                raise ValueError(
                    f"parameter {taken[0]!r} cannot be called so, z.{taken[0]} is something else: rename it"
                )
            both = set(self.parameters) & set(self.latents)
            if both:
                raise ValueError(f"{sorted(both)} are both latents and parameters")
            wrong = [n for n, p in self.parameters.items() if not (isinstance(p, Tensor) and p.is_floating_point())]
            if wrong:
                raise TypeError(f"parameters must be floating tensors, but {wrong} are not")
        if not all(isinstance(n, int) and n > 0 for n in self.plates.values()):
            raise ValueError(f"plates need sizes of at least 1, got {self.plates}")
        if len(set(self.plates.values())) != len(self.plates):
            raise ValueError(f"plates are told apart by their sizes, but two are equal: {self.plates}")

    def target(self, data: Any = None) -> Target:
        """The log joint at these data; see `jensen.inference.target.Target`."""
        from jensen.inference.target import Target  # which knows this module

        return Target(self, data)

    @property
    def rows(self) -> str | None:
        """The plate of the data's rows, along which minibatches are cut."""
        return next(iter(self.plates), None)


def as_data(data: Any) -> Any:
    """Data as a model reads them: a tensor, or `Batch` of tensors and whatever else was in a mapping.

    NumPy arrays and lists of numbers become tensors; floating ones of double precision where they came from Python.

    Raises:
        TypeError: neither a tensor, an array, a mapping nor `Columns`.
        DataError: a list whose rows have different lengths.
    """
    if data is None:
        return Batch({})
    if isinstance(data, Tensor | np.ndarray):
        return torch.as_tensor(data)
    if isinstance(data, Columns):
        data = data._columns
    if not isinstance(data, Mapping):
        frame = ": give dict(data)" if hasattr(data, "columns") else ""
        raise TypeError(f"data must be a tensor, an array, a mapping or Columns, got {type(data).__name__}{frame}")
    return Batch({name: _entry(name, value) for name, value in data.items()})


def _entry(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.as_tensor(value)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    if not isinstance(value, Tensor) and hasattr(value, "__array__") and np.ndim(value):
        value = np.asarray(value).tolist()  # a column of a data frame
    if isinstance(value, list | tuple):
        try:
            array = np.array(value)
        except ValueError:
            raise DataError(
                f"data[{name!r}]: its rows have different lengths; pad them, or give one list each"
            ) from None
        if array.dtype == object:
            place = next((list(p) for p, v in np.ndenumerate(array) if v is None), None)
            if place is not None:
                raise DataError(
                    f"data[{name!r}] has no number (null) at {place}: leave it out, or give NaN and model it"
                )
        return torch.as_tensor(array) if array.dtype.kind in "biuf" else value
    return value
