"""Sensitivity of layers: how far the outputs move when each layer alone computes with few bits.

Weights become w' = s round(w / s) and are fed to one session in place of w. What the layer reads goes through a pair
x' = DequantizeLinear(QuantizeLinear(x)) behind a switch, Where(on, x', x), so that the same session serves every layer;
its ranges come from one pass over the data, by minimum and maximum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..errors import PassError
from ..graph.edit import Editor
from ..graph.layers.view import output_axis, view_of_weight
from ..graph.layers.weights import weight_indices
from ..graph.opset import require_opset
from ..graph.overridable import altered, compared, overridable
from ..lazy import ir
from ..measure.sensitivity import Effect, Part, effect_of
from ..model import Model
from ..passes import ALL, NONE, Change, Context
from ..runtime import Arrays
from .int8.eligible import able, chosen
from .int8.placement import CORE
from .int8.qdq import candidate_of
from .numbers.blocks import BlockFormat
from .numbers.formats import Asymmetric, Symmetric
from .ranges.calibrate import calibrate

_ACTIVATIONS = "uint8"
_BLOCK = 32  # numbers that share a scale where weights alone are quantized
_OPSET = 13  # QuantizeLinear, and Where for every type


@dataclass(frozen=True)
class LayerScan:
    """The effects of quantizing each layer, on how many samples, and why some were not looked at."""

    effects: list[Effect]
    samples: int
    declined: dict[str, str]


def scan_layers(model: Model, ctx: Context, *, bits: int | None = None, operators: Collection[str] = CORE) -> LayerScan:
    """Quantize each layer alone: its weight and what it reads to 8 bits, or with ``bits`` its weight in blocks of 32.

    The model stays as it is. One pass over the calibration data for ranges and one for each layer; what the float model
    gives is computed once for each batch. Raises PassError, with the reasons, where no layer can be quantized.
    """
    model = model.copy()
    require_opset(model, _OPSET)
    change = Change()
    nodes = able(model, chosen(model, operators, ALL, NONE), change)
    switches = _insert_switches(model, ctx, nodes, change) if bits is None else {}
    layers = [_Layer(node, bits, switches.get(node)) for node in nodes if bits is not None or node in switches]
    declined = {found.name: found.reason for found in change.declined}
    if not layers:
        told = "; ".join(f"{name}: {reason}" for name, reason in declined.items())
        raise PassError(f"there is no layer to quantize: {told or 'no operator has a weight that can be'}")
    fed = [value for layer in layers for value in layer.fed()]
    with overridable(model, ctx, fed) as session:
        versions = {str(i): layer.changed for i, layer in enumerate(layers)}
        found = compared(ctx, session, altered(session, versions, ctx, "one layer at a time"))
    effects = [effect_of(layer.part(), found, str(i)) for i, layer in enumerate(layers)]
    return LayerScan(effects, found.samples, declined)


@dataclass(frozen=True)
class _Layer:
    """A node whose weight can be quantized; ``switch`` turns on the rounding of what it reads, where there is any."""

    node: ir.Node
    bits: int | None
    switch: ir.Value | None

    @property
    def weight(self) -> ir.Value:
        weight = self.node.inputs[weight_indices(self.node)[0]]
        assert weight is not None
        return weight

    def fed(self) -> list[ir.Value]:
        return [self.weight, *([self.switch] if self.switch is not None else [])]

    def changed(self) -> Arrays:
        """What is fed when this layer alone is quantized."""
        rounded = _rounded(self.node, self.bits)
        switched = {self.switch.name or "": np.array(True)} if self.switch is not None else {}
        return {self.weight.name or "": rounded, **switched}

    def part(self) -> Part:
        tensor = self.weight.const_value
        assert tensor is not None
        sizes = tensor.shape.numpy()
        scales = math.ceil(tensor.size / _BLOCK) if self.bits else sizes[output_axis(self.node, len(sizes))]
        stored = tensor.size * (self.bits or 8) / 8 + 4 * scales
        what = f"{self.node.op_type}, {self.bits or 8} bits{', weight alone' if self.bits else ''}"
        return Part([self.node.name or "?"], what, tensor.size, round(tensor.nbytes - stored))


def _rounded(node: ir.Node, bits: int | None) -> Array:
    """What the codes of the node's weight give back, as it is stored: [its shape], float32."""
    candidate = candidate_of(node, per_channel=True)
    if bits is None:
        codes, scale = Symmetric().fit(candidate.weight, candidate.axes)
        return np.asarray(codes.restored(candidate.weight, scale))
    view = view_of_weight(node)
    rows = view.matrix(candidate.weight)
    form = BlockFormat(bits, _BLOCK, symmetric=False)
    blocks = form.blocked(rows)
    grid = form.grid(blocks)
    back = form.values(form.codes(blocks, grid), grid).reshape(len(rows), -1)[:, : rows.shape[1]]
    return np.ascontiguousarray(view.back(back.reshape(view.shape)))


def _insert_switches(model: Model, ctx: Context, nodes: Sequence[ir.Node], change: Change) -> dict[ir.Node, ir.Value]:
    """A pair behind a switch in front of each node, off by default; nodes that read no finite values are declined."""
    values = list(dict.fromkeys(node.inputs[0] for node in nodes if node.inputs[0] is not None))
    ranges = calibrate(model, ctx, values, "minmax")
    switches = {}
    for node in nodes:
        found = ranges[node.inputs[0].name or ""] if node.inputs[0] is not None else None
        if found is None or not math.isfinite(found.high - found.low) or found.low > found.high:
            change.decline(node.name, f"{node.op_type}: what it reads is not finite on the calibration data")
        else:
            switches[node] = _insert_switch(model, node, Asymmetric.of(found.low, found.high, _ACTIVATIONS))
    return switches


def _insert_switch(model: Model, node: ir.Node, form: Asymmetric) -> ir.Value:
    edit, value = Editor(model, node), node.inputs[0]
    scale, zero = (
        edit.constant(f"{node.name}/{what}", np.asarray(number))
        for what, number in (("scale", form.scale), ("zero", form.zero_point))
    )
    codes = edit.op("QuantizeLinear", value, scale, zero)
    switch = model.add_weight(f"{node.name}/on", ir.Tensor(np.array(False)))
    node.replace_input_with(0, edit.op("Where", switch, edit.op("DequantizeLinear", codes, scale, zero), value))
    return switch
