"""Of weights with the same contents, and of nodes that compute the same, one is enough.

onnx-ir's own passes do not serve: of weights, the one that hashes fails on a transposed array and the other holds a
second copy of them all; of nodes, it merges Bernoulli and Dropout, foreign operators and no branches.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...nodes import bodies
from ..edit import stand_in

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that give something else at each call."""


def merge_duplicate_weights(model: Model) -> None:
    """Store equal weights of a graph once; only those that share type and shape with another are read."""
    for graph in model.ir.graphs():
        alike: dict[Any, list[ir.Value]] = defaultdict(list)
        for value in graph.initializers.values():
            if value.const_value is not None and not value.is_graph_output():
                alike[value.const_value.dtype, tuple(value.const_value.shape)].append(value)
        for values in alike.values():
            if len(values) > 1:
                _merge_equal(values)


def _merge_equal(values: list[ir.Value]) -> None:
    first: dict[bytes, ir.Value] = {}
    for value in values:
        assert value.const_value is not None
        kept = first.setdefault(_digest(value.const_value), value)
        if kept is not value:
            value.replace_all_uses_with(kept)


def _digest(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype.is_string():
        return repr(tensor.numpy().tolist()).encode()
    return hashlib.sha256(tensor.tobytes()).digest()


def merge_duplicate_nodes(model: Model) -> None:
    """Compute once what nodes of one graph compute alike: same operator, inputs and attributes, nothing random."""
    for graph in list(model.ir.graphs()):
        first: dict[Any, ir.Node] = {}
        for node in list(graph):
            kept = first.setdefault(_likeness(node), node)
            if kept is not node and all(map(stand_in, kept.outputs, node.outputs)):
                graph.remove(node, safe=True)


def _likeness(node: ir.Node) -> Any:
    """Equal for nodes that compute the same; of its own for a node that may not be merged."""
    if bodies(node) or node.op_type in RANDOM or node.domain not in ONNX_DOMAINS:
        return node
    attributes = sorted(ir.to_proto(attribute).SerializeToString() for attribute in node.attributes.values())
    named = tuple(bool(output.name) for output in node.outputs)
    return node.op_type, tuple(node.inputs), tuple(attributes), named
