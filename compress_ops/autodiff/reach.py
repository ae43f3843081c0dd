"""Which nodes matter: those that lie on a path from a wanted value to a differentiated one.

needed = (what depends on a wanted value) and (what a differentiated value depends on)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import NoGradient
from ..lazy import ir
from ..model import Model
from ..nodes import bodies
from .table import is_flat, operators, rule_of

_SHOWN, _NAMED = 20, 5


@dataclass(frozen=True)
class Reach:
    """``nodes`` in topological order; ``values`` are those whose gradient is wanted or passed on."""

    nodes: list[ir.Node]
    values: set[ir.Value]


def reach(model: Model, wanted: Iterable[ir.Value], of: Iterable[ir.Value]) -> Reach:
    """Raises NoGradient with every node on the way that has no gradient."""
    wanted = list(wanted)
    way = way_between(model, wanted, of)
    _refuse_unsupported(model, without_rule(way.nodes), wanted)
    return way


def way_between(model: Model, wanted: Iterable[ir.Value], of: Iterable[ir.Value]) -> Reach:
    """All that lies between, whether it has a gradient or not."""
    nodes = list(model.graph)
    values = set(wanted)
    for node in nodes:
        if not is_flat(node) and any(value in values for value in _differentiated(node)):
            values.update(value for value in node.outputs if _carries(node, value))
    behind = _leading_to(nodes, set(of), values)
    return Reach([node for node in nodes if node in behind], values)


def without_rule(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    return [node for node in nodes if rule_of(node) is None]


def _differentiated(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs that a gradient can reach, and what subgraphs read from outside."""
    rule = rule_of(node)
    stops = rule.stops if rule is not None else frozenset()
    yield from (value for i, value in enumerate(node.inputs) if value is not None and i not in stops)
    for graph in bodies(node):
        inner = ir.traversal.RecursiveGraphIterator(graph)
        yield from (value for each in inner for value in each.inputs if value is not None)
        yield from graph.outputs


def _carries(node: ir.Node, value: ir.Value) -> bool:
    """Whether gradients pass the value: it holds floats, or integers that a rule declares to stand for floats."""
    rule = rule_of(node)
    return value.dtype is None or value.dtype.is_floating_point() or (rule is not None and rule.integers)


def _leading_to(nodes: list[ir.Node], targets: set[ir.Value], values: set[ir.Value]) -> set[ir.Node]:
    """The nodes behind which a target lies and before which a wanted value does."""
    found, open_values = set(), targets & values
    for node in reversed(nodes):
        if not is_flat(node) and any(value in open_values for value in node.outputs):
            found.add(node)
            open_values.update(value for value in _differentiated(node) if value in values)
    return {node for node in found if any(value in values for value in _differentiated(node))}


def _refuse_unsupported(model: Model, nodes: list[ir.Node], wanted: Iterable[ir.Value]) -> None:
    if not nodes:
        return
    missing = _some([f"{node.op_type} '{node.name}'" for node in nodes], _SHOWN)
    before = depending(model, (value for node in nodes for value in node.outputs))
    behind = [f'"{value.name}"' for value in wanted if value not in before]
    way_out = f"train only what lies behind: train: [{_some(behind, _NAMED)}]" if behind else "no weight lies behind"
    raise NoGradient(
        f"no gradient is known for {missing}",
        hint=f"{way_out}; {len(operators())} operators have a gradient",
    )


def _some(words: Sequence[str], most: int) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def depending(model: Model, of: Iterable[ir.Value]) -> set[ir.Value]:
    """Every value, weights included, from which a gradient of ``of`` can be asked."""
    found = set(of)
    for node in reversed(list(model.graph)):
        if not is_flat(node) and any(value in found and _carries(node, value) for value in node.outputs):
            found.update(_differentiated(node))
    return found
