"""Constants that a graph generates (ConstantOfShape of a written shape), as stored weights.

A few bytes can ask for any size, so what is too large to be a weight of such a model stays generated.
"""

from __future__ import annotations

import math

import numpy as np

from ...lazy import ir
from ...model import Model
from ..edit import constant_of

_LARGEST = 2**24  # numbers in one constant
_TOGETHER = 2**26  # numbers in all constants of a model


class Store:
    """Stores generated constants of a model while there is room."""

    def __init__(self, model: Model) -> None:
        self._model, self._room = model, _TOGETHER

    def __call__(self, node: ir.Node) -> ir.Value | None:
        """The node's constant as a new weight, made when it is looked at; None where it stays generated."""
        shape, fill = written_shape(node), fill_of(node)
        if shape is None or min(shape, default=0) < 0 or math.prod(shape) > min(self._room, _LARGEST):
            return None
        self._room -= math.prod(shape)
        tensor = ir.LazyTensor(
            lambda: ir.Tensor(np.full(shape, fill.numpy().reshape(-1)[0])), dtype=fill.dtype, shape=ir.Shape(shape)
        )
        return self._model.add_weight(node.outputs[0].name or "weight", tensor, node.graph)


def written_shape(node: ir.Node) -> list[int] | None:
    """The shape of a ConstantOfShape, where it is a constant."""
    tensor = constant_of(node.inputs[0]) if node.op_type == "ConstantOfShape" else None
    return None if tensor is None else tensor.numpy().reshape(-1).tolist()


def fill_of(node: ir.Node) -> ir.TensorProtocol:
    """The number that a ConstantOfShape repeats, as a tensor of its type."""
    return node.attributes["value"].as_tensor() if "value" in node.attributes else ir.tensor(np.zeros(1, np.float32))
