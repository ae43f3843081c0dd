"""Scale and shift what a linear operator gives, by changing its weights: a (W x + b) + c = (a W) x + (a b + c).

a and c hold one number per output channel. Inputs are scaled as well: W x = (W diag(s)) (x / s).
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...files.stored_half import stored_half
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...nodes import attribute, constant_of, later
from .view import view_of, view_of_weight

_WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")


def scale_weight(node: ir.Node, outputs: Array | float = 1.0, inputs: Array | float = 1.0) -> None:
    """Multiply W by a number for each output, [groups * outputs], and for each input, [groups * inputs].

    The product is made when the model is saved, one weight at a time.
    """
    value = node.inputs[1]
    assert value is not None and value.const_value is not None
    old, sizes = value.const_value, tuple(value.const_value.shape.numpy())
    slim = view_of(node, (*sizes[:2], *[1] * (len(sizes) - 2)))
    groups, rows, columns, _ = slim.shape
    by_output = np.reshape(np.broadcast_to(outputs, groups * rows), (groups, rows, 1, 1))
    by_input = np.reshape(np.broadcast_to(inputs, groups * columns), (groups, 1, columns, 1))
    parts = [part for part, given in ((by_output, outputs), (by_input, inputs)) if isinstance(given, np.ndarray)]
    factor = parts[0] if len(parts) == 1 else by_output * by_input
    shaped = slim.back(np.broadcast_to(factor.astype(np.float32), slim.shape))
    value.const_value = later(lambda: (old.numpy() * shaped).astype(old.dtype.numpy()), old.dtype, sizes, old.name)


def linear_before(node: ir.Node, index: int) -> ir.Node | None:
    """The operator with stored weights of its own that makes a node's input, in the same graph; else None.

    None too where that input is an output of the graph, whose value must stay.
    """
    value = node.inputs[index]
    linear = value.producer() if value is not None else None
    if linear is None or linear.op_type not in _WITH_BIAS or linear.domain not in ONNX_DOMAINS:
        return None
    if linear.outputs[0].is_graph_output():
        return None
    weights = [value for value in linear.inputs[1:] if value is not None]
    if linear.graph is not node.graph or any(constant_of(value) is None for value in weights):
        return None
    if stored_half(weights[0]) is not None:
        return None  # what it became would be rounded to half precision again
    return linear if len(weights[0].uses()) == 1 and not weights[0].is_graph_output() else None


def output_channels(linear: ir.Node) -> int:
    """How many channels a linear operator gives."""
    return view_of_weight(linear).rows


def scale_and_shift(model: Model, linear: ir.Node, scale: Array, shift: Array) -> None:
    """Change weight and bias so that the operator gives ``scale * y + shift``; both are float64 [output channels]."""
    bias = numbers(linear.inputs[2] if len(linear.inputs) > 2 else None) * attribute(linear, "beta", 1.0)
    linear.attributes.pop("beta", None)
    scale_weight(linear, outputs=scale)
    _set_bias(model, linear, scale * bias + shift)


def absorb(linear: ir.Node, node: ir.Node) -> None:
    """Remove a node that nothing reads any more: the operator now gives what it gave, so its output takes that name."""
    new, old = linear.outputs[0], node.outputs[0]
    if not new.is_graph_output():  # which has the name already
        new.name, old.name = old.name, new.name
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def numbers(value: ir.Value | None) -> Array:
    """A constant in double precision; no constant is zero."""
    tensor = constant_of(value)
    return np.zeros(1) if tensor is None else tensor.numpy().astype(np.float64)


def _set_bias(model: Model, linear: ir.Node, bias: Array) -> None:
    weight, old = linear.inputs[1], linear.inputs[2] if len(linear.inputs) > 2 else None
    assert weight is not None and weight.const_value is not None and isinstance(linear.graph, ir.Graph)
    tensor = ir.Tensor(bias.astype(weight.const_value.dtype.numpy()))
    wish = old.name if old is not None and old.name else f"{weight.name}_bias"
    linear.resize_inputs(3)
    linear.replace_input_with(2, model.add_weight(wish, tensor, linear.graph))
