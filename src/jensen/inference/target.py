"""A model with its data: the log joint of many draws, checked, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.errors import DataError, NonFiniteError
from jensen.gradients.dependence import Dependence, trace
from jensen.inference.coordinates import Coordinates
from jensen.inference.model import Batch, Model, Values, as_data
from jensen.inference.trouble import cut_short, draw_by_draw, entries, hint, not_a_term, not_finite, shapes, unfinished

__all__ = ["Target", "unvalidated"]


class Target(nn.Module):
    """The log joint of a model at its data, as a function of draws. Its parameters are the model's (theta).

    Args:
        model: a black-box model.
        data: a tensor, a mapping or `Columns`; None for a model without data.

    Raises:
        DataError: the data have another number of rows than the model's first plate says.
    """

    def __init__(self, model: Model, data: Any = None) -> None:
        super().__init__()
        self.model = model
        self.data = as_data(data)
        self.device = _device(self.data)
        self.rows = None if model.rows is None else model.plates[model.rows]
        self.theta: nn.Module | None = _module(model.parameters)
        self._named = isinstance(model.parameters, Mapping)
        self._sliced = self._row_entries()
        self._whole = self.batch()
        self._slow: str | None = None
        self._dependence: Dependence | None = None
        self._layout: dict[str, tuple[str, ...]] = {}  # plates of each term, from all the data
        self.continuous = not any(v.discrete for v in model.latents.values())
        self.coordinates = Coordinates(model)

    # --- data -------------------------------------------------------------------------------------------------------

    def _row_entries(self) -> list[str]:
        if self.rows is None:
            return []
        if isinstance(self.data, Tensor):
            if len(self.data) != self.rows:
                raise DataError(f"plate {self.model.rows!r} has {self.rows} rows, but the data have {len(self.data)}")
            return []
        return [n for n, v in self.data.items() if isinstance(v, Tensor) and v.dim() and len(v) == self.rows]

    def batch(self, index: Tensor | None = None) -> Any:
        """The data, or some of their rows: entries as long as the first plate are cut, others stay whole.

        Its `index` has the rows' numbers, (rows,), if the model has a plate; that of a tensor, too.
        """
        if index is None:
            if isinstance(self.data, Tensor):
                every = None if self.rows is None else torch.arange(self.rows, device=self.device)
                return _numbered(self.data[...], every)
            every = None if self.rows is None else torch.arange(self.rows, device=self.device)
            return Batch(self.data, every)
        if self.rows is None:
            raise ValueError("minibatches need a plate: Model(..., plates={'rows': N})")
        if isinstance(self.data, Tensor):
            return _numbered(self.data[index], index)
        return Batch({n: v[index] if n in self._sliced else v for n, v in self.data.items()}, index)

    @property
    def whole(self) -> Any:
        """All the data."""
        return self._whole

    def size_of(self, batch: Any) -> int | None:
        """Rows of a batch; None for a model without plates."""
        if self.rows is None:
            return None
        return len(batch) if isinstance(batch, Tensor) else len(batch.index)

    # --- the log joint ----------------------------------------------------------------------------------------------

    def terms(self, values: Mapping[str, Tensor], batch: Any = None) -> dict[str, Tensor]:
        """Terms of the log joint in nats, (samples, *plates) each, those along the rows times N / B.

        Args:
            values: latents on their supports, (samples, *shape).
            batch: of `batch()`; all the data if None.

        Raises:
            ValueError: a term's dimensions are not those of plates, or those of a batch could be of either of two.
        """
        batch = self.whole if batch is None else batch
        found = self._many(dict(values), batch)
        size = self.size_of(batch)
        scales = self.scales(batch)
        if not scales:
            return found
        return {
            name: term * scales.get(next(iter(self._plates_of(name, term.shape[1:], size)), ""), 1.0)
            for name, term in found.items()
        }

    def scales(self, batch: Any) -> dict[str, float]:
        """N / B for the plate of the rows, if the batch is not all of them."""
        size = self.size_of(batch)
        if self.rows is None or size is None or size == self.rows:
            return {}
        return {str(self.model.rows): self.rows / size}

    def log_prob(self, values: Mapping[str, Tensor], batch: Any = None) -> Tensor:
        """log p(x, z) in nats, (samples,)."""
        return sum_terms(self.terms(values, batch))

    def log_density(self, vector: Tensor, batch: Any = None) -> Tensor:
        """log p(x, z(u)) + log |dz / du| in nats, (samples,), at real coordinates u, (samples, D)."""
        values, log_jacobian = self.coordinates.constrain(vector)
        return self.log_prob(values, batch) + log_jacobian

    def one(self, values: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """Unscaled terms of one draw; numbers that the log joint makes tensors of are of double precision."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # else HalfCauchy(5.0) would round what it is given to single precision
        try:
            return self._one(values, batch)
        finally:
            torch.set_default_dtype(before)

    def _one(self, values: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        named = dict(self.theta.named_parameters()) if self._named and self.theta is not None else {}
        terms = self.model.log_joint(Values({**values, **named}), batch)
        if not isinstance(terms, Tensor | Mapping | float | int):
            raise TypeError(f"the log joint should return a tensor or terms by name, but gave a {type(terms).__name__}")
        terms = terms if isinstance(terms, Mapping) else {"log_joint": terms}
        if not terms:
            raise ValueError("the log joint returned no terms")
        wrong = next((n for n, t in terms.items() if not isinstance(t, Tensor | float | int)), None)
        if wrong is not None:
            raise TypeError(not_a_term(wrong, terms[wrong]))
        return {n: t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64) for n, t in terms.items()}

    def _many(self, values: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
        with unvalidated():
            if self.vectorised:
                found: dict[str, Tensor] = torch.func.vmap(lambda v: self.one(v, batch))(values)
                return found
            count = len(next(iter(values.values())))
            each = [self.one({n: v[s] for n, v in values.items()}, batch) for s in range(count)]
            return {name: torch.stack([terms[name] for terms in each]) for name in each[0]}

    def _sizes(self, size: int | None) -> dict[str, int]:
        return {p: size if p == self.model.rows and size is not None else n for p, n in self.model.plates.items()}

    def _plates_of(self, name: str, shape: torch.Size, size: int | None) -> tuple[str, ...]:
        """The plates that a term's dimensions run over, in their declared order."""
        sizes, rest = self._sizes(size), list(shape)
        if name in self._layout and [sizes[plate] for plate in self._layout[name]] == rest:
            return self._layout[name]
        if len(set(sizes.values())) < len(sizes) and rest:
            raise ValueError(
                f"whether term {name!r} of shape {tuple(shape)} runs over the rows cannot be told: a batch is as long "
                f"as another plate, {sizes}; take another batch_size"
            )
        found: list[str] = []
        for plate, n in sizes.items():
            if rest and rest[0] == n:
                found.append(plate)
                rest.pop(0)
        if rest:
            raise ValueError(
                f"term {name!r} has shape {tuple(shape)}, which is not that of plates {sizes} in this order: sum it "
                f"over what is no plate, or declare the plate; the data are {shapes(entries(self.data))}"
            )
        return tuple(found)

    # --- checks -----------------------------------------------------------------------------------------------------

    def check(self, values: Mapping[str, Tensor], batch: Any = None) -> None:
        """Run the log joint at draws: shapes, plates, whether it can be vectorised, whether it is finite anywhere.

        Raises:
            ValueError, TypeError: shapes, what the log joint returns, or a latent that it does not use.
            NonFiniteError: a term is NaN or infinite at every draw; names the term and data that hold NaN.
            Exception: of the user's own function, with the latents' shapes in a note.
        """
        batch = self.whole if batch is None else batch
        first = {n: v[0] for n, v in values.items()}
        alone = self._tried(first, batch)
        for name, term in alone.items():
            plates = self._plates_of(name, term.shape, self.size_of(batch))
            if not term.is_floating_point():
                raise TypeError(f"term {name!r} of the log joint is {term.dtype}: log densities are floating")
            if self.size_of(batch) == self.rows:
                self._layout[name] = plates
        self._slow = None
        try:
            found = self._many(dict(values), batch)
        except RuntimeError as refused:  # control flow that depends on a draw, or an operation without a batching rule
            self._slow = draw_by_draw(refused)
            try:
                found = self._many(dict(values), batch)
            except Exception as error:  # at another draw than the first
                draws = len(next(iter(values.values())))
                error.add_note(f"while the log joint was run on {draws} draws of {self._shapes(first, batch)}")
                raise
        bad = [n for n, t in found.items() if not bool(t.reshape(len(t), -1).isfinite().all(1).any())]
        if bad:
            raise NonFiniteError(not_finite(bad, found, self.data))
        self._refuse_unused(values, batch)

    def _tried(self, first: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """Terms of one draw, and what is to be said where there are none."""
        try:
            return self.one(first, batch)
        except Exception as error:
            if isinstance(error, ValueError) and unfinished(self.data):
                # `torch.distributions` refuses NaN without saying whose it is: the terms without its checks do.
                found = self._unchecked(first, batch)
                bad = [n for n, t in found.items() if not bool(t.isfinite().all())]
                if bad:
                    raise NonFiniteError(not_finite(bad, found, self.data)) from error
            self._explain(error, first, batch)
            raise

    def _explain(self, error: Exception, first: Mapping[str, Tensor], batch: Any) -> None:
        advice = hint(error, self.data, self.model.parameters)
        error.add_note(f"while the log joint was run on {self._shapes(first, batch)}{advice}")

    def _shapes(self, values: Mapping[str, Tensor], batch: Any) -> str:
        return f"latents {shapes(values)} and data {shapes(entries(batch))}"

    def _unchecked(self, first: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """Terms of one draw, (1, *plates), whatever their arguments; none where that is impossible."""
        try:
            with unvalidated():
                return {n: t.unsqueeze(0) for n, t in self.one(first, batch).items()}
        except Exception:  # the first error is the one to be told
            return {}

    def _refuse_unused(self, values: Mapping[str, Tensor], batch: Any) -> None:
        """A latent without bounds that no term depends on has no posterior: it was forgotten."""
        unbounded = [n for n, v in self.model.latents.items() if v.unbounded]
        named = dict(self.theta.named_parameters()) if self._named and self.theta is not None else {}
        leaves = {n: v[0].clone().requires_grad_(v.is_floating_point()) for n, v in values.items()}
        try:
            with torch.enable_grad(), unvalidated():
                total = sum_terms({n: t.unsqueeze(0) for n, t in self.one(leaves, batch).items()}).sum()
        except Exception as error:  # what runs without gradients but not with them, such as .numpy()
            self._explain(error, leaves, batch)
            raise
        if not (unbounded or named):
            return
        floating = [n for n in unbounded if leaves[n].requires_grad]
        if total.requires_grad:
            asked = {**{n: leaves[n] for n in floating}, **named}
            slopes = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
            used = {n for n, slope in zip(asked, slopes, strict=True) if slope is not None}
            unbounded = [n for n in unbounded if n not in used]
            named = {n: p for n, p in named.items() if n not in used}
        if named:
            raise ValueError(
                f"no term of the log joint has a gradient in parameter {next(iter(named))!r}: leave it out"
            )
        if unbounded:  # a comparison or a cast cuts the graph: only following the latents is certain
            dependence = self.dependence(values)
            entering = {name for term in dependence for name in dependence[term]}
            unbounded = [n for n in unbounded if n not in entering]
        if unbounded:
            raise ValueError(
                f"latent {unbounded[0]!r} enters no term of the log joint: its posterior is improper. Add the term of "
                "its prior, or leave the latent out"
            )

    def check_rows(self, values: Mapping[str, Tensor], size: int) -> None:
        """Look for terms that sum over the rows of a minibatch by themselves: they would not be scaled by N / B.

        Args:
            values: latents on their supports, (samples, *shape), of all rows.
            size: rows of a minibatch.

        Raises:
            ValueError: what a term without the rows' dimension is depends on which rows there are.
        """
        if self.rows is None or not 0 < size < self.rows:
            return
        every = torch.arange(self.rows, device=self.device)
        before, again, after = (self._cut(values, index) for index in (every[:size], every[:size], every[-size:]))
        for name, plates in self._layout.items():
            if self.model.rows in plates or name not in before or name not in after:
                continue
            fixed = torch.equal(before[name], again[name])  # one that draws random numbers tells nothing
            if fixed and not torch.equal(before[name], after[name]):
                raise ValueError(
                    f"term {name!r} has no dimension for the rows (plate {self.model.rows!r}) but depends on which "
                    "rows are in the minibatch: leave it unsummed over them, so that it can be scaled"
                )

    def _cut(self, values: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        """Unscaled terms of the first draw on some rows."""
        latents = self.model.latents
        first = {n: v[0][index] if latents[n].plate == self.model.rows else v[0] for n, v in values.items()}
        batch = self.batch(index)
        try:
            with torch.no_grad():
                return self.one(first, batch)
        except Exception as error:  # all the rows were no trouble
            assert self.rows is not None
            error.add_note(cut_short(latents, str(self.model.rows), len(index), self.rows, batch))
            raise

    @property
    def vectorised(self) -> bool:
        """Whether many draws are run at once; the log joint is run draw by draw if not."""
        return self._slow is None

    @property
    def slow(self) -> str | None:
        """Why the log joint is run draw by draw, in words; None where it is not."""
        return self._slow

    def dependence(self, values: Mapping[str, Tensor]) -> Dependence:
        """Which term depends on which latent, found by following one draw, (1, *shape) each; found once."""
        if self._dependence is None:
            first = {n: v[0] for n, v in values.items()}
            plates = {n: v.plate for n, v in self.model.latents.items()}
            self._dependence = trace(self.one, first, self.whole, dict(self.model.plates), plates)
        return self._dependence


@contextmanager
def unvalidated() -> Iterator[None]:
    """Distributions that are made inside give NaN or -inf for impossible parameters and values, and raise nothing.

    One draw of thousands whose scale rounds to 0 or infinity is a draw without density, not a fault of the model.
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _numbered(rows: Tensor, index: Tensor | None) -> Tensor:
    """A tensor that knows which rows of the data it is."""
    rows.index = index  # type: ignore[method-assign, assignment]
    return rows


def sum_terms(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum over terms and plates, (samples,)."""
    total: Tensor | None = None
    for term in terms.values():
        each = term.reshape(len(term), -1).sum(1) if term.dim() > 1 else term
        total = each if total is None else total + each
    assert total is not None
    return total


def _module(parameters: nn.Module | Mapping[str, Tensor] | None) -> nn.Module | None:
    if parameters is None or isinstance(parameters, nn.Module):
        return parameters
    module = nn.Module()
    for name, value in parameters.items():
        module.register_parameter(name, nn.Parameter(value.detach().clone()))
    return module


def _device(data: Any) -> torch.device:
    tensors = [data] if isinstance(data, Tensor) else [v for v in data.values() if isinstance(v, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")
