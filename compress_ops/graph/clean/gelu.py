"""GELU in the one spelling that onnxruntime fuses into one operator, from the others that exporters write.

GELU(x) = x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016, arXiv:1606.08415). onnxruntime knows it where x is
divided by sqrt 2, not multiplied by 1 / sqrt 2, and where the sum meets x or x / 2 before the half; the dynamo exporter
of PyTorch writes x (0.5 (1 + erf)). Halving is exact in floating point, so only x / sqrt 2 may round differently.
"""

from __future__ import annotations

import numpy as np

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...nodes import constant_of, maker
from ..edit import Editor

_ROOT = 2**0.5
_CLOSE = 1e-3  # relative; float16 keeps 11 bits


def spell_gelu(model: Model) -> int:
    """Rewrite every GELU whose inner values nobody else reads to (x (erf(x / sqrt 2) + 1)) 0.5; how many there were."""
    found = [node for node in model.nodes() if node.op_type == "Erf" and node.domain in ONNX_DOMAINS]
    return sum(_spell(model, node) for node in found)


def _spell(model: Model, erf: ir.Node) -> bool:
    x, total = _argument(erf), _reader(erf, "Add")
    if x is None or total is None or not _is_number(_beside(total, erf.outputs[0]), 1.0, x):
        return False
    first = _reader(total, "Mul")
    last = _last(first, total.outputs[0], x) if first is not None else None
    if first is None or last is None:
        return False
    if maker(erf.inputs[0], "Div") and not _is_number(_beside(first, total.outputs[0]), 0.5, x):
        return False
    edit = Editor(model, last)
    root, one, half = (_constant_like(edit, total, number) for number in (_ROOT, 1.0, 0.5))
    raised = edit.op("Add", edit.op("Erf", edit.op("Div", x, root)), one)
    edit.replace(edit.op("Mul", edit.op("Mul", x, raised), half))
    return True


def _argument(erf: ir.Node) -> ir.Value | None:
    """x where erf is taken of x / sqrt 2."""
    node = maker(erf.inputs[0], "Div", "Mul")
    if node is None:
        return None
    if node.op_type == "Div":
        return node.inputs[0] if _is_number(node.inputs[1], _ROOT, node.inputs[0]) else None
    pairs = (node.inputs, node.inputs[::-1])
    return next((x for x, factor in pairs if _is_number(factor, 1 / _ROOT, x)), None)


def _last(first: ir.Node, total: ir.Value, x: ir.Value) -> ir.Node | None:
    """The node that gives the whole product of the sum, x and a half, ``first`` being the one that reads the sum."""
    other = _beside(first, total)
    if _is_half_of(other, x):
        return first
    last = _reader(first, "Mul")
    rest = _beside(last, first.outputs[0]) if last is not None else None
    fits = (other is x and _is_number(rest, 0.5, x)) or (rest is x and _is_number(other, 0.5, x))
    return last if fits else None


def _is_half_of(value: ir.Value | None, x: ir.Value) -> bool:
    node = maker(value, "Mul")
    return node is not None and x in node.inputs and _is_number(_beside(node, x), 0.5, x)


def _reader(node: ir.Node, op_type: str) -> ir.Node | None:
    """The only reader of the node's output, where it is such an operator."""
    value = node.outputs[0]
    users = [user for user, _ in value.uses()]
    fits = len(users) == 1 and not value.is_graph_output() and users[0].op_type == op_type
    return users[0] if fits and users[0].domain in ONNX_DOMAINS and users[0].graph is node.graph else None


def _beside(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other operand."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _is_number(value: ir.Value | None, number: float, x: ir.Value | None) -> bool:
    """Whether a value is this one constant number, of a shape that adds no axis to ``x``."""
    tensor = constant_of(value)
    if tensor is None or tensor.size != 1 or x is None:
        return False
    rank = len(x.shape) if x.shape is not None else 0
    return len(tensor.shape) <= rank and abs(float(tensor.numpy().item()) - number) <= _CLOSE * number


def _constant_like(edit: Editor, node: ir.Node, number: float) -> ir.Value:
    """A scalar of the type that the node's constant operand has."""
    tensor = next(tensor for tensor in map(constant_of, node.inputs) if tensor is not None)
    return edit.constant("gelu", np.array(number, tensor.numpy().dtype))
