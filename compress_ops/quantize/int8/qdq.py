"""Write Q/DQ pairs: x -> QuantizeLinear -> DequantizeLinear, and stored codes -> DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ...arrays import Array
from ...graph import edit
from ...graph.edit import MICROSOFT, attribute
from ...graph.layers.view import output_axis
from ...lazy import ir
from ...measure.quality import Quality, weight_sqnr
from ...model import Model
from ..numbers.formats import AS_STORED, Asymmetric, Unsigned, WeightFormat, lazy_codes
from ..numbers.portable import Candidate, Portability

_SIXTEEN_BITS = 21  # the opset from which on QuantizeLinear knows 16 bits; before it is onnxruntime's own


def candidate_of(node: ir.Node, per_channel: bool) -> Candidate:
    """The weight of a core node as it is reduced to scales."""
    weight, axis = _weight_and_axis(node, per_channel)
    assert weight.const_value is not None
    rank = len(weight.const_value.shape)
    others = None if axis is None else tuple(i for i in range(rank) if i != axis)
    along = None if node.op_type == "Conv" else (rank - 1 if output_axis(node, rank) == 0 else rank - 2)
    array = weight.const_value.numpy()
    return Candidate(weight.name or "", array, others, along, saturates=not _is_depthwise(node, array.shape))


def _is_depthwise(node: ir.Node, shape: tuple[int, ...]) -> bool:
    return node.op_type == "Conv" and shape[1] == 1 and attribute(node, "group", 1) == shape[0] > 1


def _weight_and_axis(node: ir.Node, per_channel: bool) -> tuple[ir.Value, int | None]:
    """The node's weight and its axis of output channels; None where one scale serves the whole weight."""
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    rank = len(weight.const_value.shape)
    if not per_channel or (node.op_type == "MatMul" and rank > 2):
        return weight, None
    return weight, output_axis(node, rank)


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that gives a value, ONNX's or onnxruntime's own; None where there is none."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "DequantizeLinear" else None


@dataclass
class Writer:
    """Writes the pairs of one model; a weight or activation that several nodes read is written once.

    ``portability`` is None where no weight can saturate.
    """

    model: Model
    weights: WeightFormat
    per_channel: bool
    portability: Portability | None = None
    quality: Quality = field(default_factory=Quality)
    coded: dict[Any, tuple[ir.Value, Array]] = field(default_factory=dict)
    zeros: dict[tuple[int, ...], ir.Value] = field(default_factory=dict)
    least: dict[Any, Array] = field(default_factory=dict)

    def activation(self, value: ir.Value, form: Asymmetric, readers: set[ir.Node] | None) -> None:
        """Quantize a value for ``readers``, or for all that read it, the model's outputs included (None)."""
        name, producer = value.name, value.producer()
        scale, zero = self._constant(f"{name}_scale", form.scale), self._constant(f"{name}_zero_point", form.zero_point)
        uses = [(user, index) for user, index in value.uses() if readers is None or user in readers]
        codes = self._node("QuantizeLinear", [value, scale, zero], f"{name}_quantized", producer)
        floats = self._node("DequantizeLinear", [codes, scale, zero], f"{name}_dequantized", codes.producer())
        for user, index in uses:
            user.replace_input_with(index, floats)
        if readers is None and value.is_graph_output():
            self._stand_for_output(value, floats)

    def make_room(self, node: ir.Node, input_scale: float) -> None:
        """Let the weight's scale be large enough for the bias, whose scale is that of input times weight.

        Channels of tiny weights (vanished batch normalizations) need it: int32 would not hold their bias. It gets 30
        bits, so that the products have room beside it.
        """
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and bias.const_value is not None:
            needed = np.abs(bias.const_value.numpy().reshape(-1)) / (float(input_scale) * 2**30)
            weight, axis = _weight_and_axis(node, self.per_channel)
            least = needed if axis is not None else needed.max()
            self.least[weight, axis] = np.maximum(self.least.get((weight, axis), np.zeros(1)), least)

    def weight(self, node: ir.Node) -> Array:
        """Store the node's weight in 8 bits behind a DequantizeLinear; returns its float32 scales, flat."""
        weight, axis = _weight_and_axis(node, self.per_channel)
        if (weight, axis) not in self.coded:
            self.coded[weight, axis] = self._code(node, weight, axis)
        dequantized, scale = self.coded[weight, axis]
        node.replace_input_with(1, dequantized)
        return scale

    def bias(self, node: ir.Node, scale: Array) -> None:
        """Store the node's bias as int32 of the given scale (that of input times weight), where it has one."""
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or bias.const_value is None:
            return
        values = bias.const_value.numpy()
        flat = np.broadcast_to(values.reshape(-1), (max(values.size, scale.size),))
        limit = np.iinfo(np.int32)
        codes = np.clip(np.rint(flat.astype(np.float64) / scale), limit.min, limit.max).astype(np.int32)
        stored = self.model.add_weight(f"{bias.name}_int32", ir.Tensor(codes))
        node.replace_input_with(2, self._dequantized(stored, scale, 0))

    def _code(self, node: ir.Node, weight: ir.Value, axis: int | None) -> tuple[ir.Value, Array]:
        source, candidate = weight.const_value, candidate_of(node, self.per_channel)
        assert source is not None
        shape = [-1 if i == axis else 1 for i in range(len(source.shape))]
        least = self.least.get((weight, axis), np.zeros(1)).reshape(shape if axis is not None else ())
        least = np.maximum(least, self.portability.least(candidate)) if self.portability else least
        form, scale = self._format(node, axis).fit(candidate.weight, candidate.axes, least)
        self.quality.add(weight.name, weight_sqnr(candidate.weight, form.restored(candidate.weight, scale)))
        stored = self.model.add_weight(f"{weight.name}_{self.kind}", lazy_codes(source, scale, form, AS_STORED))
        flat = scale.reshape(-1) if axis is not None else scale.reshape(())
        zero = self._zeros(form, flat.shape, stored)
        return self._dequantized(stored, flat, axis, zero), flat.reshape(-1)

    @property
    def kind(self) -> str:
        return self.weights.dtype.name.lower()

    def _format(self, node: ir.Node, axis: int | None) -> WeightFormat:
        """QLinearConv takes one zero point for all channels: unsigned codes of a Conv have theirs in the middle."""
        if isinstance(self.weights, Unsigned) and node.op_type == "Conv" and axis is not None:
            return replace(self.weights, symmetric=True)
        return self.weights

    def _zeros(self, form: WeightFormat, shape: tuple[int, ...], stored: ir.Value) -> ir.Value:
        """Zero points of weights: optional in ONNX, but onnxruntime fuses Gemm (QGemm) only where they are written."""
        if isinstance(form, Unsigned):
            return self._constant(f"{stored.name}_zero_point", np.reshape(form.zero_point, shape))
        if shape not in self.zeros:
            self.zeros[shape] = self._constant("weight_zero_point", np.zeros(shape, np.int8))
        return self.zeros[shape]

    def _dequantized(self, stored: ir.Value, scale: Array, axis: int | None, zero: ir.Value | None = None) -> ir.Value:
        per_axis = axis is not None and scale.size > 1
        flat = scale if per_axis else scale.reshape(-1)[:1].reshape(())
        inputs = [stored, self._constant(f"{stored.name}_scale", flat)]
        if zero is not None:
            inputs.append(zero)
        attributes: dict[str, Any] = {"axis": axis} if per_axis else {}
        return self._node("DequantizeLinear", inputs, f"{stored.name}_dequantized", None, **attributes)

    def _node(
        self, op_type: str, inputs: list[ir.Value], name: str, behind: ir.Node | None, **attributes: Any
    ) -> ir.Value:
        """Right behind a node, or where the graph begins; of 16 bits in onnxruntime's domain where ONNX has none."""
        graph = self.model.graph
        place = partial(graph.insert_before, graph[0]) if behind is None else partial(graph.insert_after, behind)
        writer = edit.Writer(self.model, inputs[0].name or "", place)
        wide = inputs[-1].dtype in (ir.DataType.INT16, ir.DataType.UINT16) and self.model.opset < _SIXTEEN_BITS
        return writer.op(op_type, *inputs, called=name, domain=MICROSOFT if wide else "", **attributes)

    def _constant(self, name: str, array: Any) -> ir.Value:
        return self.model.add_weight(name, ir.Tensor(np.asarray(array)))

    def _stand_for_output(self, value: ir.Value, floats: ir.Value) -> None:
        """The dequantized value becomes the model's output, under the output's name."""
        name = value.name
        floats.type, floats.shape = value.type, value.shape
        outputs = self.model.graph.outputs
        outputs[:] = [floats if output is value else output for output in outputs]
        value.name = self.model.fresh(f"{name}_float")
        floats.name = name
