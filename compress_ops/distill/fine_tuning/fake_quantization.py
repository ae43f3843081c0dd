"""Weights that are stored as integers become floats that are quantized in the graph, and back.

    stored    DequantizeLinear(q, s, z) = s (q - z)
    trained   DequantizeLinear(QuantizeLinear(v, c, z), s, z), with dL/dv straight through the rounding
    after     q = clip(round(v / c) + z)

The gradient passes where v / c + z lies in the range of the codes (Bengio et al. 2013, arXiv:1308.3432). v is the
weight in units of s / c, where c is the same for all: an optimizer that moves every parameter by about its learning
rate then crosses a step in as many steps, be s large or small. For the same reason scales are learned as factors r,
with s = r s_0 and r c for c (LSQ, Esser et al. 2020, arXiv:1902.08153), which keeps their signs too. Measured on
digits-cnn, ten epochs: in 4 bits, one scale per channel, the squared error of the logits falls 8 times, with w itself 7
times; in 8 bits with activations 3 times, with w itself not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ...graph.edit import Editor, Writer, attribute, put_behind
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...nodes import limits_of
from ...passes import Change

_CODES = ("INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16")
PORTABLE = "onnxpress.portable"  # the metadata in which quantize_static says that outputs are the same on every CPU
_OVERFLOW = 128  # the largest sum of two codes that is safe in 16 bits: 255 x 129 is not
_STEP = 2.0**-3  # c: a power of two, so that codes come back exactly
_INSIDE = 0.49  # of a step: what lies farther from its middle is rounded to a neighbour
_COLUMNS = 1  # where the axis of DequantizeLinear is not said


@dataclass(frozen=True)
class Codes:
    """A weight of integers: the names of codes and scale, and the DequantizeLinear that reads them."""

    name: str
    scale: str
    node: ir.Node

    @property
    def tensor(self) -> ir.TensorProtocol:
        return tensor_of(self.node.inputs[0])

    def numbers(self, exact: Array | None = None) -> Array:
        """float32 v that are rounded to the codes: exact weights w / s where they are, else the middle of the step."""
        steps = self.steps()
        inside = np.where(np.abs(exact - steps) <= _INSIDE, exact, steps) if exact is not None else steps
        return (inside * _STEP).astype(np.float32)

    def steps(self) -> Array:
        """float32 q - z."""
        return self._codes() - self._zero()

    def scales(self) -> Array:
        """s, so that it meets single numbers."""
        return self._spread(tensor_of(self.node.inputs[1]).numpy())

    def rounded(self, weight: Array, factor: Array) -> Array:
        """Codes, in their own type, of numbers v, steps being learned factors as large: those of QuantizeLinear."""
        low, high = limits_of(self.tensor.dtype)
        inside = weight[tuple(slice(size) for size in self.tensor.shape.numpy())]
        codes = np.rint(inside / self._spread(factor * np.float32(_STEP))) + self._zero()
        return np.clip(codes, low, high).astype(np.int32).astype(self.tensor.dtype.numpy())

    def grew(self, after: Array) -> bool:
        """Whether two 8-bit codes of one sign now add up to what may overflow in 16 bits, and did not before."""
        if self.tensor.dtype.name != "INT8":
            return False
        before, now = (_largest_pair(codes) for codes in (self._codes(), after.astype("float32")))
        return now > max(before, _OVERFLOW)

    def _codes(self) -> Array:
        return self.tensor.numpy().astype(np.float32)

    def _zero(self) -> Array:
        zero = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        return (
            self._spread(tensor_of(zero).numpy().astype(np.float32)) if zero is not None else np.zeros((), np.float32)
        )

    def _spread(self, each: Array) -> Array:
        """What belongs to the weight, to channels or to blocks, so that it meets single numbers."""
        sizes = self.tensor.shape.numpy()
        axis = attribute(self.node, "axis", _COLUMNS) % max(len(sizes), 1)
        block = attribute(self.node, "block_size", 0)
        if block and each.size > 1:
            return np.repeat(each, block, axis=axis)[tuple(slice(size) for size in sizes)]
        return each if each.size == 1 else each.reshape([-1 if i == axis else 1 for i in range(len(sizes))])


def _largest_pair(codes: Array) -> float:
    """Over the whole weight: no less than over what any kernel pairs."""
    flat = codes.reshape(-1)
    tops = [np.partition(part, -2)[-2:].sum() for part in (np.maximum(flat, 0), np.maximum(-flat, 0)) if flat.size > 1]
    return float(max(tops, default=0))


def find_codes(model: Model, change: Change) -> list[Codes]:
    """The weights of the main graph that DequantizeLinear makes of integers; what cannot be trained is declined."""
    found = []
    for node in model.graph:
        if node.op_type == "DequantizeLinear" and node.domain in ONNX_DOMAINS and _is_weight(node.inputs[0]):
            reason = _why_not(node)
            if reason:
                change.decline(_name(node.inputs[0]), reason)
            else:
                found.append(Codes(_name(node.inputs[0]), _name(node.inputs[1]), node))
    return found


def other_forms(model: Model) -> Iterator[tuple[str, str]]:
    """Layers that are quantized in a form that has no gradient: their names, and what form to ask for."""
    for node in model.nodes():
        hint = next((hint for types, hint in _OTHER.items() if node.op_type.startswith(types)), None)
        if hint is not None:
            yield node.name or "?", f"{node.op_type} has no gradient; {hint}"


def has_integer_bias(node: ir.Node) -> bool:
    """Whether a layer that reads the DequantizeLinear has a bias of 32 bits."""
    for reader, _ in node.outputs[0].uses():
        bias = reader.inputs[2] if len(reader.inputs) > 2 else None
        source = bias.producer() if bias is not None else None
        codes = source.inputs[0] if source is not None and source.op_type == "DequantizeLinear" else None
        if codes is not None and codes.const_value is not None and codes.const_value.dtype.name == "INT32":
            return True
        if reader.op_type == "Reshape" and has_integer_bias(reader):
            return True
    return False


def refuse_contributed(model: Model) -> None:
    """Shapes and gradients are known of ONNX's own operators; 16 bits before opset 21 are onnxruntime's."""
    for node in model.nodes():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain not in ONNX_DOMAINS:
            hint = "put upgrade_opset: {to: 21} in front of the step that quantizes"
            raise PassError(f"{node.domain}.{node.op_type} '{node.name}' has no gradient", hint=hint)


_OTHER = {
    (
        "MatMulNBits",
        "GatherBlockQuantized",
    ): "quantize_weights: {storage: qdq} stores codes that can be trained (2 and 3 bits: {storage: decoded})",
    ("QLinear", "QGemm"): "quantize_static: {form: qdq} writes what can be trained",
    ("MatMulInteger", "ConvInteger", "DynamicQuantize"): "quantize_static writes what can be trained",
}


def _is_weight(value: ir.Value | None) -> bool:
    """Biases of 32 bits are as good as floats, and stay."""
    return value is not None and value.const_value is not None and value.const_value.dtype.name in _CODES


def _why_not(node: ir.Node) -> str:
    codes, scale, *rest = node.inputs
    assert codes is not None
    if any(value is not None and value.const_value is None for value in (scale, *rest)):
        return "its scale or zero point is computed"
    if tensor_of(scale).dtype.name != "FLOAT":
        return "its scale is not float32, and training is"
    if len(codes.uses()) > 1:
        return "several nodes read its codes"
    if codes.is_graph_output():
        return "its codes are an output of the graph"
    return ""


def with_floats(model: Model, codes: Sequence[Codes], exact: Mapping[str, Array] | None = None) -> Model:
    """A copy in which the codes are float32 weights of the same names, quantized by a node of the graph.

    ``exact``: what is known of weights from before they were quantized, in steps.
    """
    copy = model.copy()
    for weight in codes:
        value = copy.graph.initializers[weight.name]
        ((node, _),) = value.uses()
        numbers = _filled(node, weight.numbers((exact or {}).get(weight.name)))
        tensor = ir.Tensor(numbers, name=weight.name)
        value.const_value, value.type, value.shape = tensor, ir.TensorType(tensor.dtype), tensor.shape
        if numbers.shape != weight.tensor.shape.numpy():
            _cut(copy, node, weight.tensor.shape.numpy())
        _insert(copy, value, node, weight.tensor.dtype)
    return copy


def _filled(node: ir.Node, numbers: Array) -> Array:
    """With zeros up to the end of the last block: gradients are known for whole blocks."""
    block, axis = attribute(node, "block_size", 0), attribute(node, "axis", _COLUMNS) % numbers.ndim
    missing = -numbers.shape[axis] % block if block else 0
    return np.pad(numbers, [(0, missing if i == axis else 0) for i in range(numbers.ndim)])


def filled_mask(weight: Codes, keep: Array) -> Array:
    """The mask of a weight, with ones where its last block is filled up."""
    return _filled(weight.node, ~keep) == 0


def _cut(model: Model, node: ir.Node, sizes: Sequence[int]) -> None:
    """Leave out behind a DequantizeLinear what fills the last block."""
    whole = node.outputs[0]
    writer = Writer(model, node.name or "", lambda made: model.graph.insert_after(node, made))
    bounds = [writer.constant(f"{node.name}/bound", np.array(each, np.int64)) for each in ([0] * len(sizes), sizes)]
    put_behind(writer.op("Slice", whole, *bounds), whole)
    whole.shape = None


def _insert(model: Model, value: ir.Value, node: ir.Node, dtype: ir.DataType) -> None:
    """Quantize in front of the DequantizeLinear, in steps of c and to its zero points, which tell the type of codes."""
    edit, shape = Editor(model, node, value.name), tensor_of(node.inputs[1]).shape.numpy()
    steps = edit.constant(f"{value.name}/steps", np.full(shape, _STEP, np.float32))
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if zero is None:
        zero = edit.constant(f"{value.name}/zero", np.zeros(shape, dtype.numpy()))
    where = {key: attribute(node, key, 0) for key in ("axis", "block_size") if key in node.attributes}
    codes = edit.op("QuantizeLinear", value, steps, zero, **where)
    codes.type, codes.shape = ir.TensorType(dtype), value.shape
    node.replace_input_with(0, codes)


def _name(value: ir.Value | None) -> str:
    return (value.name if value is not None else None) or ""


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol:
    """The contents of a weight."""
    assert value is not None and value.const_value is not None
    return value.const_value
