"""Biases of 32 bits while a quantized model is trained: floats, and back.

A bias b is stored as q with b = s_x s_w q, s_x and s_w being the scales of the layer's input and weight: runtimes take
it to have that scale. Its step is so small that rounding it is left out of the training; afterwards

    s_b = s_x s_w,     q = round(b / s_b),

with the scales as they are by then, learned or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...graph.edit import constant_of
from ...lazy import ir
from ...model import Model
from ..lesson.held_out import weights_of


@dataclass(frozen=True)
class Bias:
    """Names: of the codes, of their scale, and of the scales that it is the product of."""

    name: str
    scale: str
    factors: tuple[str, str]

    def numbers(self, model: Model) -> Array:
        """float32 b."""
        found = weights_of(model, [self.name, self.scale])
        return (found[self.name] * found[self.scale].astype("float64")).astype("float32")

    def product(self, model: Model) -> Array:
        """float32 s_x s_w, in the shape of the stored scale."""
        found = weights_of(model, [*self.factors, self.scale])
        product = found[self.factors[0]].reshape(-1) * found[self.factors[1]].reshape(-1)
        return product.reshape(found[self.scale].shape)


def find_biases(model: Model) -> list[Bias]:
    """Those that DequantizeLinear reads for layers that agree on the scales of their input and weight."""
    found = []
    for node in model.graph:
        codes = constant_of(node.inputs[0]) if node.op_type == "DequantizeLinear" and node.inputs else None
        if codes is not None and codes.dtype.name == "INT32" and (bias := _bias(node)) is not None:
            found.append(bias)
    return found


def _bias(node: ir.Node) -> Bias | None:
    codes, scale, *zero = node.inputs
    assert codes is not None and scale is not None
    pairs = set(_scales_of_layers(node))
    shared = len(codes.uses()) > 1 or len(scale.uses()) > 1 or node.outputs[0].is_graph_output()
    if len(pairs) != 1 or shared or any(value is not None for value in zero):
        return None
    (pair,) = pairs
    if pair is None or not _is_product(scale, pair, node):
        return None
    return Bias(codes.name or "", scale.name or "", pair)


def _is_product(scale: ir.Value, factors: tuple[str, str], node: ir.Node) -> bool:
    """Whether all are weights of the main graph, of fitting sizes."""
    weights = node.graph.initializers if node.graph is not None else {}
    tensors = [constant_of(scale), *(constant_of(weights.get(name)) for name in factors)]
    sizes = [tensor.size for tensor in tensors if tensor is not None]
    return len(sizes) == 3 and sizes[1] == 1 and sizes[0] == sizes[2]


def _scales_of_layers(node: ir.Node) -> Iterator[tuple[str, str] | None]:
    """The scales of input and weight of each layer that reads the bias; None where it is read as something else."""
    for reader, index in node.outputs[0].uses():
        sources = [value.producer() if value is not None else None for value in reader.inputs[:2]]
        if index != 2 or any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            yield None
        else:
            yield tuple(source.inputs[1].name or "" for source in sources)  # type: ignore[misc, union-attr]


def with_float_biases(copy: Model, biases: Sequence[Bias]) -> None:
    """Let a copy hold b and read it."""
    for bias in biases:
        numbers, value = bias.numbers(copy), copy.graph.initializers[bias.name]
        ((node, _),) = value.uses()
        node.outputs[0].replace_all_uses_with(value)
        copy.graph.remove(node, safe=True)
        tensor = ir.Tensor(numbers, name=bias.name)
        value.const_value, value.type = tensor, ir.TensorType(tensor.dtype)
        del copy.graph.initializers[bias.scale]


def stored(bias: Bias, numbers: Array, model: Model) -> dict[str, Array]:
    """Codes and scale, by name, of a bias in a model whose other scales are what they are to be."""
    scale, limit = bias.product(model), np.iinfo(np.int32)
    codes = np.clip(np.rint(numbers / scale.astype(np.float64)), limit.min, limit.max)
    return {bias.name: codes.astype(np.int32), bias.scale: scale}
