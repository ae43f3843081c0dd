"""BatchNormalization after a linear operator becomes part of it.

With a = gamma / sqrt(variance + epsilon) for each output channel:
    BN(W x + b) = (a W) x + a (b - mean) + beta.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ..edit import attribute, constant_of, stand_in
from ..layers.scaling import absorb, linear_before, numbers, scale_and_shift


def fold_batchnorm(model: Model) -> None:
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm whose output it alone reads."""
    for node in model.nodes():
        if node.op_type == "BatchNormalization" and node.domain in ONNX_DOMAINS and _only_normalizes(node):
            linear = linear_before(node, 0)
            if linear is None or set(linear.outputs[0].consumers()) != {node} or _has_no_root(node):
                continue
            if stand_in(linear.outputs[0], node.outputs[0]):
                _fold(model, linear, node)


def left_unfolded(model: Model) -> Iterator[tuple[str, str]]:
    """The BatchNormalizations that give NaN, by name, with the reason why they stay."""
    for node in model.nodes():
        if node.op_type == "BatchNormalization" and node.domain in ONNX_DOMAINS and _has_no_root(node):
            yield node.name or "", "BatchNormalization: its variance is negative or NaN, so what it gives is NaN"


def _has_no_root(node: ir.Node) -> bool:
    """Whether variance + epsilon is not above 0 for some channel."""
    if constant_of(node.inputs[4]) is None:
        return False
    return not bool((numbers(node.inputs[4]) + attribute(node, "epsilon", 1e-5) > 0).all())


def _only_normalizes(node: ir.Node) -> bool:
    """Not training (before opset 14 further outputs mean that), and one constant mean and variance for each channel."""
    outputs = [output for output in node.outputs if output.name]
    inference = len(outputs) == 1 and attribute(node, "training_mode", 0) == 0 and attribute(node, "spatial", 1) == 1
    return inference and all(constant_of(value) is not None for value in node.inputs[1:])


def _fold(model: Model, linear: ir.Node, node: ir.Node) -> None:
    gamma, beta, mean, variance = (numbers(value) for value in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    scale_and_shift(model, linear, scale, beta - scale * mean)
    absorb(linear, node)
