"""Add numbers to what a quantized layer gives, one for each output channel, in the form in which its bias is stored."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...arrays import Array
from ...graph.edit import Editor, Writer, constant_of
from ...graph.layers.weights import is_dequantized
from ...lazy import ir
from ...model import Model
from ..int8.qdq import dequantizer
from .counterparts import Counterpart, made_by

NO_BIAS = "it has no bias, and add_missing is false"


def add_to_bias(model: Model, pair: Counterpart, shift: Array, *, add_missing: bool = True) -> str:
    """Add float64 [channels] to a layer's output through its bias; returns why not, empty when it is done."""
    node = pair.node
    if node is None or node.op_type == "MatMul":
        return _add_behind(model, pair, shift, add_missing)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return _new_bias(model, node, shift) if add_missing else NO_BIAS
    if is_dequantized(bias):
        return _add_to_codes(model, node, made_by(bias), shift)
    if constant_of(bias) is None:
        return "its bias is computed, not stored"
    _add_to_constant(model, node, 2, shift)
    return ""


def _add_to_codes(model: Model, node: ir.Node, source: ir.Node, shift: Array) -> str:
    """b = scale q: q <- q + round(shift / scale), in the 32 bits there are."""
    codes, scale = constant_of(source.inputs[0]), constant_of(source.inputs[1])
    if codes is None or scale is None or codes.dtype != ir.DataType.INT32:
        return "its bias is stored in a form of its own"
    steps = np.rint(shift / scale.numpy().astype(np.float64))
    if not steps.any():
        return "its mean error is less than half a step of its bias"
    added = _int32(codes.numpy().astype(np.float64) + steps)
    _read_int32(model, node, codes.name or "bias", added, source.inputs[1])
    if not source.outputs[0].uses():
        model.graph.remove(source, safe=True)
    return ""


def _int32(numbers: Array) -> Array:
    limit = np.iinfo(np.int32)
    return np.clip(numbers, limit.min, limit.max).astype(np.int32)


def _read_int32(model: Model, node: ir.Node, wish: str, codes: Array, scale: ir.Value | None) -> None:
    """Let the node read its bias from new codes: the old ones may have other readers."""
    stored = model.add_weight(wish, ir.Tensor(codes))
    by_channel = scale is not None and scale.shape is not None and len(scale.shape)
    attributes: dict[str, Any] = {"axis": 0} if by_channel else {}
    edit = Editor(model, model.graph[0], stored.name)
    bias = edit.op("DequantizeLinear", stored, scale, called=f"{stored.name}_dequantized", **attributes)
    node.resize_inputs(3)
    node.replace_input_with(2, bias)


def _new_bias(model: Model, node: ir.Node, shift: Array) -> str:
    """int32 of the products' scale where input and weight are int8, else float32."""
    of_input, of_weight = _scale(node.inputs[0]), _scale(node.inputs[1])
    if of_input is None or of_weight is None or of_input.size > 1:
        node.resize_inputs(3)
        node.replace_input_with(2, model.add_weight(f"{node.name}_bias", ir.Tensor(shift.astype(np.float32))))
        return ""
    scale = of_input.reshape(()) * of_weight
    codes = _int32(np.rint(shift / scale.astype(np.float64)))
    if not codes.any():
        return "its mean error is less than half a step of a bias"
    stored = model.add_weight(f"{node.name}_bias_scale", ir.Tensor(scale))
    _read_int32(model, node, f"{node.name}_bias", codes, stored)
    return ""


def _scale(value: ir.Value | None) -> Array | None:
    """Scale of an int8 value or weight (one number, or one for each output channel); None where it has another form."""
    source = dequantizer(value)
    if source is None or "block_size" in source.attributes:
        return None
    tensor = constant_of(source.inputs[1])
    return None if tensor is None or len(tensor.shape) > 1 else np.asarray(tensor.numpy())


def _add_behind(model: Model, pair: Counterpart, shift: Array, add_missing: bool) -> str:
    """Into a constant that is added to the output (or makes it), else through an Add of its own."""
    for node, index in _additions(pair):
        _add_to_constant(model, node, index, shift)
        return ""
    if not add_missing:
        return NO_BIAS
    _insert_addition(model, pair, shift)
    return ""


def _additions(pair: Counterpart) -> list[tuple[ir.Node, int]]:
    """Nodes that hold a stored bias of the layer, with the index of that input."""
    makes, uses = pair.output.producer(), list(pair.output.uses())
    found = []
    if makes is not None and makes.op_type == "Add":
        found += [_stored(makes, index, pair) for index in (0, 1)]
    if len(uses) == 1 and uses[0][0].op_type == "Add" and not pair.output.is_graph_output() and pair.channels_last:
        found.append(_stored(uses[0][0], 1 - uses[0][1], pair))
    return [place for place in found if place is not None]


def _stored(node: ir.Node, index: int, pair: Counterpart) -> tuple[ir.Node, int] | None:
    """Where the bias that a node adds is stored as a vector: at the node, or before a Reshape of its own."""
    value = node.inputs[index]
    source = value.producer() if value is not None else None
    if source is not None and source.op_type == "Reshape" and len(source.outputs[0].uses()) == 1:
        node, index, value = source, 0, source.inputs[0]
    tensor = constant_of(value)
    return (node, index) if tensor is not None and tuple(tensor.shape.numpy()) == (pair.channels,) else None


def _add_to_constant(model: Model, node: ir.Node, index: int, shift: Array) -> None:
    old = constant_of(node.inputs[index])
    assert old is not None
    scaled = shift / node.attributes["beta"].value if "beta" in node.attributes else shift
    tensor = ir.Tensor((old.numpy().astype(np.float64) + scaled).astype(old.dtype.numpy()))
    node.replace_input_with(index, model.add_weight(old.name or "bias", tensor))


def _insert_addition(model: Model, pair: Counterpart, shift: Array) -> None:
    """All that read the output, the model's outputs included, read the sum instead."""
    value, shape = pair.output, shift.shape if pair.channels_last else (-1, *[1] * (len(pair.weight.shape) - 2))
    added = model.add_weight(f"{pair.name}_bias", ir.Tensor(shift.astype(np.float32).reshape(shape)))
    writer, is_output = Writer(model, pair.name, partial(model.graph.insert_after, pair.maker)), value.is_graph_output()
    (result,) = writer.ops("Add", value, added, outputs=1, label="correct_bias")
    result.name, result.type, result.shape = model.fresh(f"{value.name}_corrected"), value.type, value.shape
    value.replace_all_uses_with(result, replace_graph_outputs=True)
    made_by(result).replace_input_with(0, value)
    if is_output:
        value.name, result.name = result.name, value.name
