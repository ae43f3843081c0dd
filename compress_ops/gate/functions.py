"""Functions of a model: one of a name, no circle of calls, and a bounded number of nodes once they are written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..files.protobuf import bodies_of
from .imports import plain

MOST_NODES = 1_000_000  # functions that double what they call grow without bound in a small file

Key = tuple[str, str, str]


def function_faults(proto: Any) -> Iterator[str]:
    functions = {key_of(function.domain, function.name, function.overload): function for function in proto.functions}
    if len(functions) < len(proto.functions):
        yield "two functions have the same name"
    calls = {key: _calls(function, functions) for key, function in functions.items()}
    try:
        order = [*TopologicalSorter({key: set(inner) for key, inner in calls.items()}).static_order()]
    except CycleError as error:
        yield f"functions call one another in a circle: {', '.join(key[1] for key in error.args[1][:5])}"
        return
    sizes: dict[Key, int] = {}
    for key in order:
        sizes[key] = _written_out(functions[key], calls[key], sizes)
    if _written_out(proto.graph, _calls(proto.graph, functions), sizes) > MOST_NODES:
        yield f"its functions, written out, are more than {MOST_NODES} nodes"


def key_of(domain: str, name: str, overload: str) -> Key:
    return plain(domain), name, overload


def _calls(body: Any, functions: Iterable[Key]) -> list[Key]:
    keys = (key_of(node.domain, node.op_type, node.overload) for inner in bodies_of(body) for node in inner.node)
    return [key for key in keys if key in functions]


def _written_out(body: Any, calls: list[Key], sizes: dict[Key, int]) -> int:
    return sum(len(inner.node) for inner in bodies_of(body)) + sum(sizes[key] for key in calls)
