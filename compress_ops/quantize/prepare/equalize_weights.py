"""How large a layer's weights are by channel, and how its channels are rescaled."""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...graph.edit import constant_of
from ...graph.layers.scaling import scale_weight
from ...graph.layers.view import view_of_weight
from ...lazy import ir
from ...model import Model


def sizes_of(node: ir.Node) -> Array:
    """float64 [groups, outputs of a group, inputs of a group]: the largest |w| over the kernel."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    return np.abs(view_of_weight(node).of(tensor.numpy())).max(axis=3).astype(np.float64)


def input_channels(node: ir.Node) -> int:
    """How many channels a layer reads."""
    groups, _, inputs, _ = view_of_weight(node).shape
    return groups * inputs


def rescale(model: Model, node: ir.Node, outputs: Array | None, inputs: Array | None) -> None:
    """Divide by ``outputs`` what gives each output channel, bias included; multiply what reads each input channel."""
    if outputs is not None:
        _rescale_bias(model, node, outputs)
    scale_weight(node, 1.0 if outputs is None else 1 / outputs, 1.0 if inputs is None else inputs)


def _rescale_bias(model: Model, node: ir.Node, outputs: Array) -> None:
    """A new weight, since others may read the old one. Every form of Gemm's bias broadcasts along its last axis."""
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        return
    assert isinstance(node.graph, ir.Graph)
    tensor = ir.Tensor((bias.numpy() / outputs).astype(bias.dtype.numpy()))
    node.replace_input_with(2, model.add_weight(bias.name or f"{node.name}_bias", tensor, node.graph))
