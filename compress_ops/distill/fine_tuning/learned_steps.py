"""Step sizes that learn, of weights and of activations (LSQ, Esser et al. 2020, arXiv:1902.08153).

    s = r s_0,   dL/dr = s_0 dL/ds,   ds = dy (round(x / s) - x / s) inside the range, dy (q - z) outside

Factors r begin at 1, so that one learning rate serves scales of every size, and signs stay. Where several nodes read
a scale, as QuantizeLinear and the DequantizeLinear behind it do, or tensors that share one, they go on sharing it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...graph.edit import Editor, constant_of, put_behind
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from .fake_quantization import Codes, tensor_of

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_SCALE = 1  # where both read it


def with_weight_factors(copy: Model, codes: Sequence[Codes]) -> dict[str, str]:
    """Let steps and scales of weights in a copy be products with factors; returns the factors' names by scale."""
    found: dict[str, ir.Value] = {}
    for weight in codes:
        ((made, _),) = copy.graph.initializers[weight.name].uses()
        scale, steps = copy.graph.initializers[weight.scale], made.inputs[_SCALE]
        assert steps is not None
        if weight.scale not in found:
            found[weight.scale] = _factor(copy, scale)
        multiply(copy, steps, found[weight.scale])
    return {name: factor.name or "" for name, factor in found.items()}


def activation_scales(model: Model) -> list[str]:
    """The stored float32 scales that quantizers of activations read, and nothing else does."""
    return [name for name, value in model.graph.initializers.items() if _is_of_activations(value)]


def with_factors(copy: Model, scales: Sequence[str]) -> dict[str, str]:
    """Let other scales be products with factors too."""
    return {name: _factor(copy, copy.graph.initializers[name]).name or "" for name in scales}


def _is_of_activations(value: ir.Value) -> bool:
    tensor, uses = value.const_value, list(value.uses())
    if tensor is None or tensor.dtype.name != "FLOAT" or not uses or value.is_graph_output():
        return False
    return all(
        index == _SCALE
        and node.op_type in _QUANTIZERS
        and node.domain in ONNX_DOMAINS
        and constant_of(node.inputs[0]) is None
        for node, index in uses
    )


def _factor(copy: Model, scale: ir.Value) -> ir.Value:
    """Ones that the scale is multiplied by from now on."""
    ones = np.ones(tensor_of(scale).shape.numpy(), np.float32)
    factor = copy.add_weight(f"{scale.name}/factor", ir.Tensor(ones))
    multiply(copy, scale, factor)
    return factor


def multiply(model: Model, scale: ir.Value, factor: ir.Value) -> None:
    """Let the readers of a weight read its product with a factor."""
    put_behind(Editor(model, model.graph[0], scale.name).op("Mul", scale, factor), scale)
