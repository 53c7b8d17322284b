"""Values, gradients, Hessians and Hessian-vector products of many independent problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from jensen.inference.tape import NotRecordable, Tape

__all__ = ["Problems"]

_BUDGET = 4_000_000
"""numbers that one intermediate result of a Hessian may hold: a few of them still fit a processor's cache"""
_COPIES = 400_000
"""numbers in one intermediate result up to which columns of a Hessian are problems of their own"""
_AT_ONCE = 20_000_000
"""numbers in one intermediate result beyond which problems are evaluated one after the other"""
_RECORDED = 50_000
"""numbers in one intermediate result up to which Python takes longer than arithmetic"""
_COSTLY = 5_000_000
"""numbers in one intermediate result of all columns of a Hessian from which on it takes a good part of a second"""
_UNUSABLE = (LinAlgError, ValueError, ArithmeticError)
"""what a function may raise at a point where it has no value"""


class Problems:
    """R functions of P numbers each, evaluated together.

    The function runs forward once for all problems, and autograd runs outside of it: half the overhead of nested
    functional transforms. What is not finite counts as infinite, with a gradient of zero, so that one problem's
    accident never reaches another.

    Args:
        function: (R, P) -> (R,), row r of the result a function of row r alone; any number of rows.
        recordable: whether what it computes may be recorded at the second gradient and replayed (see `Tape`), which is
            done where problems are small.
        shortcut: a cheaper way to the Hessians or nearly to them, (R, P) -> (R, P, P), used where they are costly.
        columns: of a Hessian of which the shortcut is as much work, if it is exact; it is then used sooner.

    Attributes:
        evaluations: gradients asked for so far, summed over problems.
        products: Hessian-vector products so far, a Hessian counting P.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        recordable: bool = False,
        shortcut: Callable[[Tensor], Tensor] | None = None,
        columns: int | None = None,
    ) -> None:
        self.function = function
        self._shortcut, self.columns = shortcut, columns
        self._recordable = recordable
        self._tape: Tape | None = None
        self.evaluations = 0
        self.products = 0
        self._largest = self._size = 0

    @property
    def measured(self) -> bool:
        """Whether a gradient was asked for, so that sizes are known."""
        return self._largest > 0

    @property
    def costly(self) -> bool:
        """Whether a Hessian takes so long that gradients are better used to get near the optimum; known after one."""
        return (self._size if self.columns is None else self.columns) * self._largest > _COSTLY

    def columns_cost(self, x: Tensor) -> int:
        """Numbers in one intermediate result of all columns of a Hessian at x (P,); none, if there is a shortcut."""
        if self._shortcut is not None:
            return 0
        if not self.measured:
            self(x.unsqueeze(0))
        return len(x) * self._largest

    @property
    def largest(self) -> int:
        """Numbers in the largest intermediate result of a problem; 0 before the first gradient."""
        return self._largest

    def value(self, x: Tensor) -> Tensor:
        """The values, (R,); infinite where they are not finite."""
        with torch.no_grad():
            value = self.function(x)
        return torch.where(value.isfinite(), value, torch.inf)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values (R,) and gradients (R, P)."""
        self.evaluations += len(x)
        if self._largest * len(x) > _AT_ONCE and len(x) > 1:
            parts = [self._gradient(part) for part in x.split(max(1, _AT_ONCE // self._largest))]
            value, gradient = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        else:
            value, gradient = self._gradient(x)
        good = value.isfinite() & gradient.isfinite().all(-1)
        if bool(good.all()):
            return value, gradient
        return torch.where(good, value, torch.inf), torch.where(good.unsqueeze(-1), gradient, 0.0)

    def _gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._tape is not None and len(x) <= self._tape.shape[0]:
            return self._replay(self._tape, x)
        if self._recordable and self._tape is None and 0 < self._largest * len(x) <= _RECORDED:
            try:
                self._tape = Tape(self._differentiated, x)
            except (NotRecordable, *_UNUSABLE):
                self._recordable = False
            else:
                value, gradient = self._tape.outputs
                return value, gradient
        return self._both(x)

    def _replay(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor]:
        """From the tape, whose number of rows is fixed."""
        rows = len(x)
        if rows < tape.shape[0]:
            x = torch.cat([x, x[-1:].expand(tape.shape[0] - rows, -1)])
        value, gradient = tape(x)
        return value[:rows], gradient[:rows]

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By autograd; where the function cannot be evaluated at a problem's point, that problem alone is infinite."""
        try:
            return self._differentiated(x)
        except _UNUSABLE:
            if len(x) == 1:
                return torch.full_like(x[:, 0], torch.inf), torch.zeros_like(x)
        parts = [self._both(x[r : r + 1]) for r in range(len(x))]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _differentiated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.function(leaf) if self._largest else self._measured(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _measured(self, leaf: Tensor) -> Tensor:
        """The values; notes the largest intermediate result of a problem."""
        largest = 1

        def note(saved: Tensor) -> Tensor:
            nonlocal largest
            largest = max(largest, saved.numel())
            return saved

        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            value = self.function(leaf)
        self._largest, self._size = max(1, largest // len(leaf)), leaf.shape[1]
        return value

    def hessian(self, x: Tensor) -> Tensor:
        """Symmetric Hessians (R, P, P); what is not finite is left so."""
        rows, size = x.shape
        self.products += rows * size
        if not self._largest:
            with torch.enable_grad():
                self._measured(x.detach().requires_grad_())
        work = max(1, self._largest * rows)
        if self._shortcut is not None and (self.costly or (self.columns is not None and work * size > _COPIES)):
            return self._shortcut(x)
        small = work * size <= _COPIES
        hessian = self._copies(x) if small else self._columns(x, max(1, min(size, _BUDGET // work)))
        return 0.5 * (hessian + hessian.mT)

    def _copies(self, x: Tensor) -> Tensor:
        """Each column from a copy of its problem: least overhead where problems are small."""
        rows, size = x.shape
        leaf, gradient = self._differentiable(x.repeat_interleave(size, 0))
        if not gradient.requires_grad:  # linear
            return x.new_zeros(rows, size, size)
        direction = torch.eye(size, dtype=x.dtype, device=x.device).repeat(rows, 1)
        (hessian,) = torch.autograd.grad((gradient * direction).sum(), leaf)
        return hessian.reshape(rows, size, size)

    def _columns(self, x: Tensor, chunk: int) -> Tensor:
        """So many columns at once from one graph."""
        rows, size = x.shape
        leaf, gradient = self._differentiable(x)
        if not gradient.requires_grad:
            return x.new_zeros(rows, size, size)
        directions = torch.eye(size, dtype=x.dtype, device=x.device).unsqueeze(1).expand(size, rows, size)
        columns = [
            _products(gradient, leaf, directions[first : first + chunk], keep=first + chunk < size)
            for first in range(0, size, chunk)
        ]
        return torch.cat(columns).transpose(0, 1)

    def product(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """v (R, P) -> H v (R, P), or (K, R, P) for K vectors a problem; the graph at x is built once."""
        leaf, gradient = self._differentiable(x)

        def times(vector: Tensor) -> Tensor:
            self.products += vector.numel() // vector.shape[-1]
            if not gradient.requires_grad:
                return torch.zeros_like(vector)
            if vector.ndim == 3:
                return _products(gradient, leaf, vector, keep=True)
            (result,) = torch.autograd.grad(gradient, leaf, vector, retain_graph=True)
            return result

        return times

    def _differentiable(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x as a leaf, and the gradient there with its history."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.function(leaf).sum(), leaf, create_graph=True)
        return leaf, gradient


def _products(gradient: Tensor, leaf: Tensor, directions: Tensor, *, keep: bool) -> Tensor:
    """(K, R, P): Hessian times each of the K directions."""
    (result,) = torch.autograd.grad(gradient, leaf, directions, is_grads_batched=True, retain_graph=keep)
    return result.detach()
