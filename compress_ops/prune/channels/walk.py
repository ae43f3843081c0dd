"""The walk over a graph in which every dimension of every value gets its labels.

Each operator's rule (``rules``) reads the axes of its inputs, joins what must be cut together, and sets the axes of
its outputs. After DepGraph (Fang et al. 2023, arXiv:2301.12900), here at the level of single indices, so that
concatenation, flattening, shuffles, grouped convolutions and attention heads need no case of their own.
"""

from __future__ import annotations

from ...lazy import ir
from ...shapes.elements import hands_on
from .axes import Unclear, labels_of, subgraphs
from .loud import is_loud
from .rules.table import READS_SHAPES, rule_for
from .trace import Trace

_MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # of a graph that cannot run


def walk(trace: Trace, graph: ir.Graph) -> None:
    """Apply the rules to a graph and, before the node that holds it, to each subgraph."""
    for node in graph:
        for subgraph in subgraphs(node):
            _enter(trace, node, subgraph)
        _visit(trace, node)
        given = [value for value in node.inputs if value is not None]
        if given and all(map(trace.is_constant, given)) and not subgraphs(node):
            trace.constants.update(node.outputs)
        for output in node.outputs:
            if output not in trace.layouts:
                trace.set(output, None)


def _enter(trace: Trace, node: ir.Node, subgraph: ir.Graph) -> None:
    for value in subgraph.inputs:
        trace.set(value, None)
    walk(trace, subgraph)
    trace.protect((axis for value in subgraph.outputs for axis in trace.sizes_in(value)), node, "it returns sizes")


def _visit(trace: Trace, node: ir.Node) -> None:
    trace.limits.look(sum(_labels_in(trace, value) for value in node.inputs if value is not None))
    try:
        _check_sizes(trace, node)
        rule_for(node)(trace, node)
    except Unclear as unclear:
        trace.give_up(node, str(unclear))
    except _MISFITS:
        trace.give_up(node, "its inputs and attributes do not fit together")
    if is_loud(trace, node):
        trace.loud.update(node.outputs)


def _labels_in(trace: Trace, value: ir.Value) -> int:
    axes = trace.layouts.get(value) or []
    return sum(len(labels) for axis in axes if (labels := labels_of(axis)) is not None)


def _check_sizes(trace: Trace, node: ir.Node) -> None:
    """Channel counts that are read at run time must go where they are understood."""
    for index, value in enumerate(node.inputs):
        if index in READS_SHAPES.get(node.op_type, ()) or value is None or value.is_initializer():
            continue
        if (axes := trace.sizes_in(value)) and not hands_on(trace.elements, node):
            trace.protect(axes, node, "it computes with the number of these channels")
