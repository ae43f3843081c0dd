"""Graphs: every value has one name and one giver, is read where it is in scope, and nothing waits for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..files.protobuf import subgraphs

Scopes = tuple[frozenset[str], ...]


def graph_faults(proto: Any) -> Iterator[str]:
    if not proto.graph.output:
        yield "the graph gives no outputs"
    for kind, ports in (("input", proto.graph.input), ("output", proto.graph.output)):
        for name in _repeated(port.name for port in ports):
            yield f"two {kind}s are called '{name}'"
    yield from _graph_faults(proto.graph, ())
    for function in proto.functions:
        yield from _body_faults(function, function.input, function.output, [], ())


def called(node: Any) -> str:
    """A node as faults name it."""
    return f"node '{node.name or (node.output[0] if node.output else '')}' ({node.op_type})"


def _graph_faults(graph: Any, outer: Scopes) -> Iterator[str]:
    initializers = [tensor.name for tensor in graph.initializer]
    for name in _repeated(initializers):
        yield f"two initializers are called '{name}'"
    inputs, outputs = ([port.name for port in ports] for ports in (graph.input, graph.output))
    yield from _body_faults(graph, inputs, outputs, initializers, outer)


def _body_faults(
    body: Any, inputs: Iterable[str], outputs: Iterable[str], initializers: list[str], outer: Scopes
) -> Iterator[str]:
    given = list(inputs)
    made = [name for node in body.node for name in node.output if name]
    own = frozenset((*given, *initializers, *made))
    if "" in own:
        yield f"an input or initializer of '{body.name}' has no name"
    for name in _repeated((*given, *made)) or sorted({*initializers} & {*made}):
        yield f"two values of '{body.name}' are called '{name}'"
    for name in outputs:
        if name not in own:
            yield f"nothing in '{body.name}' gives its output '{name}'"
    yield from _node_faults(body, (own, *outer))


def _node_faults(body: Any, scopes: Scopes) -> Iterator[str]:
    reads = []
    for node in body.node:
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                yield f"{called(node)} reads '{name}', which nothing gives"
        for graph in subgraphs(node):
            yield from _graph_faults(graph, scopes)
        reads.append({*node.input, *(name for graph in subgraphs(node) for name in _captured(graph))})
    yield from _cycle_faults(body, reads)


def _captured(graph: Any) -> set[str]:
    """The names that a graph reads and does not give: values of the graphs around it."""
    inner = {name for node in graph.node for name in node.input}
    inner |= {name for node in graph.node for held in subgraphs(node) for name in _captured(held)}
    own = {name for node in graph.node for name in node.output}
    return inner - own - {port.name for port in graph.input} - {tensor.name for tensor in graph.initializer}


def _cycle_faults(body: Any, reads: list[set[str]]) -> Iterator[str]:
    makers = {name: index for index, node in enumerate(body.node) for name in node.output if name}
    order = TopologicalSorter({index: [makers[n] for n in names if n in makers] for index, names in enumerate(reads)})
    try:
        order.prepare()
    except CycleError as error:
        around = ", ".join(called(body.node[index]) for index in error.args[1][:5])
        yield f"values of '{body.name}' wait for one another in a circle: {around}"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
