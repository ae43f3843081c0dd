"""A layer's weight as [groups, outputs of a group, inputs of a group], whatever the operator stores, and back."""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...graph.edit import attribute, constant_of
from ...lazy import ir
from ...model import Model


def sizes_of(node: ir.Node) -> Array:
    """float64 [groups, outputs, inputs]: the largest |w| over the kernel."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    weight = tensor.numpy()
    largest = np.abs(weight.reshape(*weight.shape[:2], -1)).max(axis=2).astype(np.float64)
    if node.op_type == "ConvTranspose":  # (inputs, outputs of a group, kernel)
        return largest.reshape(_groups(node), -1, weight.shape[1]).swapaxes(1, 2)
    if node.op_type == "Conv":  # (outputs, inputs of a group, kernel)
        return largest.reshape(_groups(node), -1, weight.shape[1])
    return (largest if attribute(node, "transB", 0) else largest.T)[None]


def output_channels(node: ir.Node) -> int:
    groups, outputs, _ = _grouped_shape(node)
    return groups * outputs


def input_channels(node: ir.Node) -> int:
    groups, _, inputs = _grouped_shape(node)
    return groups * inputs


def rescale(model: Model, node: ir.Node, outputs: Array | None, inputs: Array | None) -> None:
    """Divide by ``outputs`` what gives each output channel, bias included; multiply what reads each input channel."""
    shape = _grouped_shape(node)
    factor = np.ones(shape)
    if outputs is not None:
        factor /= outputs.reshape(*shape[:2], 1)
        _rescale_bias(model, node, outputs)
    if inputs is not None:
        factor *= inputs.reshape(shape[0], 1, shape[2])
    _rescale_weight(node, factor)


def _grouped_shape(node: ir.Node) -> tuple[int, int, int]:
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    first, second, *_ = tensor.shape.numpy()
    groups = _groups(node)
    if node.op_type == "ConvTranspose":
        return groups, second, first // groups
    if node.op_type == "Conv":
        return groups, first // groups, second
    return (1, first, second) if attribute(node, "transB", 0) else (1, second, first)


def _groups(node: ir.Node) -> int:
    return int(attribute(node, "group", 1))


def _rescale_weight(node: ir.Node, factor: Array) -> None:
    """The product is made when the model is saved, one weight at a time."""
    value = node.inputs[1]
    assert value is not None and value.const_value is not None
    old = value.const_value
    shaped = _as_stored(node, factor, len(old.shape)).astype(np.float32)
    value.const_value = ir.LazyTensor(
        lambda: ir.Tensor((old.numpy() * shaped).astype(old.dtype.numpy()), name=old.name),
        dtype=old.dtype,
        shape=ir.Shape(old.shape.numpy()),
        name=old.name,
    )


def _as_stored(node: ir.Node, factor: Array, rank: int) -> Array:
    """[groups, outputs, inputs] in the layout of the operator's weight, kernel axes of size 1."""
    kernel = [1] * (rank - 2)
    groups, outputs, inputs = factor.shape
    if node.op_type == "ConvTranspose":
        return factor.swapaxes(1, 2).reshape(groups * inputs, outputs, *kernel)
    if node.op_type == "Conv":
        return factor.reshape(groups * outputs, inputs, *kernel)
    return factor[0] if attribute(node, "transB", 0) else factor[0].T


def _rescale_bias(model: Model, node: ir.Node, outputs: Array) -> None:
    """A new weight, since others may read the old one. Every form of Gemm's bias broadcasts along its last axis."""
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        return
    assert isinstance(node.graph, ir.Graph)
    tensor = ir.Tensor((bias.numpy() / outputs).astype(bias.dtype.numpy()))
    node.replace_input_with(2, model.add_weight(bias.name or f"{node.name}_bias", tensor, node.graph))
