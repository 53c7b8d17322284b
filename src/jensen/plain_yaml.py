"""YAML from others: plain values only, and no more of them than the file is long.

An alias repeats what its anchor holds. A few lines of aliases of aliases stand for billions of values, which is nothing
for the parser, that shares them, but stops whatever walks through them; an alias inside its own anchor never ends.
"""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["load_plain"]

MOST_REPEATED = 10
"""How many times as many values a file may stand for as are written in it."""
FEW = 10_000
"""So many values are always fine."""


def load_plain(text: str) -> Any:
    """What YAML text holds, of plain values: tags that would make objects are refused, and so are too many aliases.

    Raises:
        yaml.YAMLError: it is no YAML, names objects, is nested too deeply, or repeats itself far too often.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repetition(node)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # a date that does not exist, a number of thousands of digits
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    finally:
        loader.dispose()


def _refuse_repetition(root: yaml.Node) -> None:
    """Raise `yaml.YAMLError` if values that aliases repeat, or hold themselves, are too many."""
    sizes: dict[yaml.Node, int] = {}
    under_way: set[yaml.Node] = set()
    pending = [root]
    while pending:  # each node once, its parts before itself
        node = pending[-1]
        if node in sizes:
            pending.pop()
        elif node in under_way:
            sizes[node] = 1 + sum(sizes[part] for part in _parts(node))
            under_way.remove(node)
            pending.pop()
        else:
            under_way.add(node)
            for part in _parts(node):
                if part in under_way:
                    raise yaml.YAMLError("a part of it holds itself")
                pending.append(part)
    if sizes[root] > max(FEW, MOST_REPEATED * len(sizes)):
        raise yaml.YAMLError(f"its aliases stand for {sizes[root]:,} values, though {len(sizes):,} are written")


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
