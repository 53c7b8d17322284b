"""Which parts of the bound the score of an element is multiplied with."""

from __future__ import annotations

import pytest
import torch
from gradient_cases import Normals, parameters

from jensen.gradients.signal import Signal, plate_dimension, relation, sum_draws


def factor(names: tuple[str, ...], *shape: int, plate: str | None = "rows") -> Normals:
    made = Normals("z", *parameters(shape, shape), plate)
    made.names = names
    return made


def test_a_factor_of_several_latents_is_as_dependent_as_the_worst() -> None:
    both = factor(("a", "b"), 4)
    terms = {"none": {"c": "mixed"}, "one": {"a": "aligned"}, "two": {"a": "aligned", "b": "aligned"}}
    terms["worst"] = {"a": "aligned", "b": "mixed"}
    found = {term: relation(terms, term, both) for term in [*terms, "unknown"]}
    assert found == {"none": "absent", "one": "aligned", "two": "aligned", "worst": "mixed", "unknown": "mixed"}
    assert relation(None, "one", both) == "mixed"
    assert relation(terms, "one", factor(("a",), 4, plate=None)) == "mixed"
    assert relation(terms, "one", factor(("a",))) == "mixed"  # a joint density over the plate
    assert relation(terms, "none", factor(("a",))) == "absent"


def test_signals_by_row_and_by_element() -> None:
    """Rows of two elements each (4, 2), with terms of columns and rows, rows alone, everything and nothing."""
    generator = torch.Generator().manual_seed(0)
    cells, rows, whole, own = (torch.randn(*s, generator=generator) for s in ((5, 3, 4), (5, 4), (5, 3), (5, 4, 2)))
    terms = {"cells": cells, "rows": rows, "whole": whole, "other": 100 * whole}
    dependence = {"cells": {"z": "aligned"}, "rows": {"z": "aligned"}, "whole": {"z": "mixed"}, "other": {}}
    found = Signal(terms, dependence, torch.zeros(5)).of(factor(("z",), 4, 2), own)
    for row in range(4):
        for element in range(2):
            expected = cells[:, :, row].sum(1) + rows[:, row] + whole.sum(1) + own[:, row, element]
            torch.testing.assert_close(found[:, row, element], expected)


def test_a_term_without_its_plate_is_not_guessed_at() -> None:
    rows = factor(("z",), 4)
    assert plate_dimension("t", torch.Size((3, 4)), rows) == 1
    for shape in ((3,), (4, 4)):
        with pytest.raises(ValueError, match=r"term 't' of shape .* plate 'rows', which has 4 rows"):
            plate_dimension("t", torch.Size(shape), rows)


def test_sums_over_all_but_draws() -> None:
    parts = [torch.ones(3, 2, 2), torch.tensor([[1.0, 2.0]]), torch.arange(3.0)]
    torch.testing.assert_close(sum_draws(parts, 3), torch.tensor([7.0, 8.0, 9.0]))
    torch.testing.assert_close(sum_draws(parts[1:2], 4), torch.full((4,), 3.0))
    with pytest.raises(ValueError, match="no terms"):
        sum_draws([], 3)
