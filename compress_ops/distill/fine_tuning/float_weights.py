"""Where in its step each float weight lay before it was rounded: the training begins there, not in the middle.

A weight near the edge of its step loses little by being rounded the other way, and is the first that training turns.
The integers are the same at the start either way. Measured on digits-cnn, 4 bits, one scale per channel, ten epochs:
the squared error of the logits falls 11.6 times, from the middle of the steps 8.6 times. Integers that were not chosen
by rounding to nearest (GPTQ, learn_rounding) begin in the middle: from where the float weights lay, training would
first undo what was chosen (4 bits in blocks of 64 by GPTQ: 4.1 times against 4.6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...arrays import Array
from ...graph.edit import constant_of
from ...lazy import ir
from ...model import Model
from .fake_quantization import Codes

_FORMS = ("Reshape", "Transpose")  # what may stand between a weight and its layer
_HALF = 0.501  # of a step: as far as rounding to nearest goes
_OTHERS = 0.02  # of all codes may lie farther: at the ends of the range


def float_weights(codes: Sequence[Codes], before: Model | None) -> dict[str, Array]:
    """By the names of codes, the float weights that were rounded to them, in steps; layers of the same name tell."""
    found = {weight.name: next(_ratios(weight, before), None) for weight in codes}
    return {name: array for name, array in found.items() if array is not None}


def pruned(codes: Sequence[Codes], before: Model | None) -> dict[str, Array]:
    """By the names of codes, where the weights were not zero before they were rounded; of those that had zeros."""
    found = {}
    for weight in codes:
        steps = weight.steps()
        for array in _arrays(weight, before):
            zeros = array == 0
            if zeros.any() and not steps[zeros].any():
                found[weight.name] = np.logical_not(zeros)
    return found


def _ratios(weight: Codes, before: Model | None) -> Iterator[Array]:
    """Of the arrays that the layers had, by rows and by columns, those that the codes are rounded from."""
    steps, scales = weight.steps(), weight.scales()
    for array in _arrays(weight, before):
        ratio = array / scales
        if (np.abs(ratio - steps) > _HALF).mean() < _OTHERS:
            yield ratio


def _arrays(weight: Codes, before: Model | None) -> Iterator[Array]:
    return weight_arrays(weight.node.outputs[0], weight.tensor.shape.numpy(), before)


def weight_arrays(weight: ir.Value, shape: Sequence[int], before: Model | None) -> Iterator[Array]:
    """What the layers that read a weight read in its place before, in its shape: by rows and by columns."""
    nodes = {node.name: node for node in before.graph if node.name} if before is not None else {}
    for name, index in _readers(weight):
        tensor = _weight_of(nodes[name], index) if name in nodes else None
        if tensor is not None and tensor.size == math.prod(shape) and tensor.dtype.name == "FLOAT":
            array = tensor.numpy()
            yield from (array.reshape(shape), array.reshape(shape[::-1]).T)


def _readers(value: ir.Value) -> Iterator[tuple[str, int]]:
    """Names of the layers that read a weight, and which of their inputs it is."""
    for reader, index in value.uses():
        if reader.op_type in _FORMS:
            yield from _readers(reader.outputs[0])
        else:
            yield reader.name or "", index


def _weight_of(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    while value is not None and (made := value.producer()) is not None and made.op_type in _FORMS:
        value = made.inputs[0]
    return constant_of(value)
