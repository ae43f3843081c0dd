"""Look at inner values of a model while calibration data runs through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..lazy import ir
from ..model import Model
from ..passes import Context
from ..runtime import Session, for_inner_values, open_session
from .edit import MICROSOFT


@contextmanager
def tapped(model: Model, ctx: Context, taps: Sequence[ir.Node]) -> Iterator[Session]:
    """A session whose only outputs are those of ``taps``, in order; the model is as it was afterwards.

    A tap is a node that stands in no graph yet and reads values of the main graph, directly or through others such.
    """
    graph, outputs = model.graph, list(model.graph.outputs)
    imports = dict(model.ir.opset_imports)
    added = list(dict.fromkeys([*_feeding(taps), *taps]))
    for i, node in enumerate(added):
        node.outputs[0].name = model.fresh(f"tap_{i}")
        _insert_early(graph, node)
    graph.outputs[:] = [tap.outputs[0] for tap in taps]
    model.ir.opset_imports.setdefault(MICROSOFT, 1)
    try:
        with model.exported() as path:
            yield open_session(path, for_inner_values(ctx.providers), threads=ctx.threads, in_graph_order=True)
    finally:
        graph.outputs[:] = outputs
        graph.remove(added, safe=True)
        model.ir.opset_imports.clear()
        model.ir.opset_imports.update(imports)


def constant(value: Any) -> ir.Value:
    """A constant for taps to read, from anything that NumPy makes an array of."""
    return ir.node("Constant", [], {"value": ir.tensor(np.asarray(value))}).outputs[0]


def reduced(model: Model, op_type: str, value: ir.Value, axes: list[int], keep: bool = False) -> ir.Node:
    """A tap that reduces over axes, in the form of the model's opset."""
    if model.opset >= 18:
        return ir.node(op_type, [value, constant(axes)], {"keepdims": int(keep)})
    return ir.node(op_type, [value], {"axes": axes, "keepdims": int(keep)})


def _insert_early(graph: ir.Graph, node: ir.Node) -> None:
    """Put a node right behind what it reads: a session in graph order then frees the tapped tensor early."""
    producers = [value.producer() for value in node.inputs if value is not None]
    last = next((producer for producer in producers if producer is not None and producer.graph is graph), None)
    if last is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(last, node)


def _feeding(taps: Sequence[ir.Node]) -> list[ir.Node]:
    """Nodes not yet in a graph that the taps read from, inputs first."""
    found: list[ir.Node] = []
    for tap in taps:
        for value in tap.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer.graph is None:
                found += [*_feeding([producer]), producer]
    return found
