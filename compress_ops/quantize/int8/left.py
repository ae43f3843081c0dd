"""A stored matrix on the left of a product goes to the right, where kernels expect it: W X = (X^T W^T)^T.

onnxruntime's integer and few-bit kernels take a constant right operand, with a scale for each of its columns: the rows
of W, which are its outputs. The transposes of activations are moves; onnxruntime joins them with others beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...graph.edit import Editor
from ...graph.layers.weights import is_left
from ...lazy import ir
from ...model import Model
from ...nodes import later
from ...passes import Change
from .eligible import float_reader, why_not_left


def to_the_right(model: Model, nodes: Iterable[ir.Node], change: Change, *, stored: bool = True) -> list[ir.Node]:
    """The nodes, each MatMul of a stored left matrix in its other form; one that cannot have it is declined.

    The turned matrix is ``stored`` in place of the other, or else left to a Transpose, for those who look through it.
    """
    nodes = list(nodes)
    left = [node for node in nodes if is_left(node)]
    if left:
        model.infer_shapes()
    further = (lambda node: _needed_elsewhere(node, left)) if stored else _several_matrices
    reasons = {node: why_not_left(node) or further(node) for node in left}
    for node, reason in reasons.items():
        if reason:
            change.decline(node.name, reason)
    able = (node for node in nodes if not reasons.get(node))
    return list(_turned_round(model, able, stored))


def _needed_elsewhere(node: ir.Node, left: list[ir.Node]) -> str:
    weight = node.inputs[0]
    assert weight is not None
    reader = float_reader(weight, lambda user, index: user in left and index == 0)
    return f"MatMul: its left matrix stays float for {reader}" if reader else ""


def _several_matrices(node: ir.Node) -> str:
    weight = node.inputs[0]
    rank = len(weight.shape) if weight is not None and weight.shape is not None else 0
    return f"MatMul: its left matrix has {rank} dimensions, not 2" if rank != 2 else ""


def _turned_round(model: Model, nodes: Iterable[ir.Node], stored: bool) -> Iterator[ir.Node]:
    turned: set[ir.Value] = set()
    for node in nodes:
        if not is_left(node):
            yield node
            continue
        edit, weight = Editor(model, node), node.inputs[0]
        assert weight is not None
        if stored and weight not in turned:
            _turn(weight)
            turned.add(weight)
        yield _rewritten(edit, weight if stored else edit.op("Transpose", weight, perm=_swap(weight)))


def _rewritten(edit: Editor, weight: ir.Value) -> ir.Node:
    x, output = edit.node.inputs[1], edit.node.outputs[0]
    assert x is not None
    turned = edit.op("Transpose", x, perm=_swap(x))
    product = edit.op("MatMul", turned, weight)
    rank = len(output.shape) if output.shape is not None else max(len(x.shape or ()), len(weight.shape or ()))
    turned.type = product.type = x.type
    made, name = product.producer(), edit.node.name
    edit.replace(edit.op("Transpose", product, perm=_order(rank)))
    assert made is not None
    made.name = name
    return made


def _swap(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return _order(len(value.shape))


def _order(rank: int) -> list[int]:
    """The permutation that exchanges the last two axes."""
    return [*range(rank - 2), rank - 1, rank - 2]


def _turn(weight: ir.Value) -> None:
    """Exchange the last two axes of a stored matrix; it is made so when it is needed."""
    tensor = weight.const_value
    assert tensor is not None
    *stack, rows, columns = tensor.shape.numpy()
    weight.shape, sizes = ir.Shape([*stack, columns, rows]), (*stack, columns, rows)
    weight.const_value = later(lambda: tensor.numpy().swapaxes(-1, -2).copy(), tensor.dtype, sizes, weight.name)
