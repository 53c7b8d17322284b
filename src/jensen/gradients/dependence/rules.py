"""Through which dimensions an operation on tensors lets latents flow: which rule holds for which operation.

A rule gives the flow into each result; None, and every operation without a rule, stands for "any element with any".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from jensen.gradients.dependence import indices, kinds, names
from jensen.gradients.dependence.call import Call, Flow

__all__ = ["flows_of", "has_rule"]

Rule = Callable[[Call, Sequence[Tensor]], Sequence[Flow] | None]

SPECIAL: dict[str, Rule] = {
    "max": kinds.extremum,
    "min": kinds.extremum,
    "where": kinds.where,
    "cross_entropy": kinds.cross_entropy,
    "nll_loss": kinds.cross_entropy,
    "linalg_solve_triangular": partial(kinds.solved, matrix=0, right=1),
    "cholesky_solve": partial(kinds.solved, matrix=1, right=0),
    "__getitem__": indices.getitem,
    "__setitem__": indices.setitem,
    "gather": indices.gather,
    "take_along_dim": indices.take_along,
    "index_select": indices.index_select,
    "embedding": indices.embedding,
    "one_hot": indices.one_hot,
}
KINDS: Sequence[tuple[Collection[str], Rule]] = (
    (names.SAME, kinds.same),
    (names.LIKE, kinds.like),
    (names.MOVES, kinds.moved),
    (names.PRODUCTS, kinds.product),
    (names.REDUCTIONS, kinds.reduced),
    (names.ALONG, kinds.along),
    (names.SCATTERS, kinds.scattered),
    (names.MATRIX, kinds.matrix),
    (names.ELEMENTWISE, kinds.elementwise),
)
IN_PLACE = (kinds.elementwise, indices.setitem)
"""Others cannot be run again once their argument is not what it was."""


def flows_of(call: Call, results: Sequence[Tensor]) -> Sequence[Flow]:
    """What flows into each result of a call; adds to `call.leaked` what its shapes or Python numbers depend on."""
    if call.name in names.DYNAMIC:
        call.leaked |= set(call.mixed)
    rule = rule_of(call.name)
    if call.in_place and rule not in IN_PLACE:
        rule = None
    found = None
    if rule is not None and "out" not in call.kwargs:
        try:
            found = rule(call, results)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            found = None  # a rule that does not fit this call
    if found is None:
        # A whole number may have become a size, a count or a place: what is made with it then differs in shape.
        for operand in call.operands:
            whole = operand.value.dim() == 0 and not operand.value.is_floating_point()
            if whole and not (rule is not None and operand is call.leaves[0]):
                call.leaked |= set(operand.flow)
        found = [call.mixed for _ in results]
    return found


def has_rule(name: str) -> bool:
    """Whether more is known of an operation than its results."""
    return rule_of(name) is not None


@cache
def rule_of(name: str) -> Rule | None:
    """The rule for an operation."""
    if name in SPECIAL:
        return SPECIAL[name]
    for members, rule in KINDS:
        if name in members:
            return rule
    return kinds.elementwise if _pointwise(name) else None


def _pointwise(name: str) -> bool:
    """Whether PyTorch itself marks all forms of an operation as elementwise."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() and not name.startswith("_") else None
    if packet is None or not hasattr(packet, "overloads"):
        return False
    forms = [getattr(packet, form) for form in packet.overloads() if not form.endswith("out")]
    return bool(forms) and all(torch.Tag.pointwise in form.tags for form in forms)
