"""quantize_static: weights and activations become int8, with ranges fixed by calibration data.

Stored as QDQ: q = clip(round(x / scale) + zero_point) and back, around each operator that has an integer kernel;
onnxruntime fuses DequantizeLinear -> operator -> QuantizeLinear into that kernel when it loads the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..graph.opset import require_opset
from ..model import ONNX_DOMAINS, Model
from ..passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register, selected
from .calibrate import Ranges, calibrate
from .eligible import reasons
from .formats import Asymmetric, Symmetric
from .placement import CORE, Placement, absorbed_output, place
from .qdq import Writer

if TYPE_CHECKING:
    import onnx_ir as ir

Operator = Literal["Conv", "Gemm", "MatMul"]
OPERATORS: list[Operator] = ["Conv", "Gemm", "MatMul"]
assert tuple(OPERATORS) == CORE
_INSIDE = "it stands in a subgraph, whose activations cannot be calibrated"
_MINIMUM_OPSET = 13  # DequantizeLinear with an axis


@register("quantize_static", promises=Promise.SHRINKS, needs={Need.CALIBRATION})
def quantize_static(
    model: Model,
    ctx: Context,
    *,
    operators: Annotated[list[Operator], Field(description="Operator types to quantize.")] = OPERATORS,
    per_channel: Annotated[bool, Field(description="One scale per output channel, else one per weight.")] = True,
    activation_type: Annotated[
        Literal["uint8", "int8"], Field(description="uint8 is 3-4 times faster on x86 CPUs; TensorRT wants int8.")
    ] = "uint8",
    reduce_range: Annotated[
        bool, Field(description="7-bit weights: u8 x s8 products cannot saturate on CPUs without VNNI.")
    ] = False,
    calibrator: Annotated[
        Literal["minmax", "percentile"], Field(description="How ranges follow from the values seen.")
    ] = "minmax",
    percentile: Annotated[
        float, Field(gt=50, le=100, description="Share of values kept by the percentile calibrator, in percent.")
    ] = 99.99,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Quantize weights and activations to 8 bits, with activation ranges from calibration data.

    Integer-arithmetic inference after Jacob et al. 2018 (arXiv:1712.05877), stored as QDQ. Weights are symmetric int8,
    biases int32, activations asymmetric uint8 (or symmetric int8). Adds, pools and reshapes between quantized operators
    stay in integers. Operators whose weight is computed, not float32 or not finite, whose activations were not finite,
    or that stand in a subgraph are declined.
    """
    require_opset(model, _MINIMUM_OPSET)
    change = Change()
    core = _eligible(model, [node for node in model.nodes() if _wanted(node, operators, only, skip)], change)

    def ranges_of(values: list[ir.Value]) -> Ranges:
        return calibrate(model, ctx, values, calibrator, percentile)

    placement, ranges = _placed(model, core, lambda node: selected(node, only, skip), ranges_of, change)
    writer = Writer(model, Symmetric(7 if reduce_range else 8), per_channel)
    _write(writer, placement, _forms(placement, ranges, activation_type), change)
    model.drop_unused()
    return change


def _wanted(node: ir.Node, operators: list[Operator], only: list[str], skip: list[str]) -> bool:
    return node.op_type in operators and node.domain in ONNX_DOMAINS and selected(node, only, skip)


def _eligible(model: Model, nodes: list[ir.Node], change: Change) -> list[ir.Node]:
    inside = {node: _INSIDE for node in nodes if node.graph is not model.graph}
    found = {**reasons(node for node in nodes if node not in inside), **inside}
    for node, reason in found.items():
        if reason:
            change.decline(node.name, reason)
    return [node for node, reason in found.items() if not reason]


def _placed(
    model: Model,
    core: list[ir.Node],
    glue_allowed: Callable[[ir.Node], bool],
    ranges_of: Callable[[list[ir.Value]], Ranges],
    change: Change,
) -> tuple[Placement, Ranges]:
    """A placement all of whose values were finite on the calibration data, and their ranges.

    Nodes at other values are left out; what reads them may then need a range that it had inherited before.
    """
    ranges: Ranges = {}
    bad: set[str] = set()
    while True:
        placement = place(model, core, lambda node: glue_allowed(node) and not _touches(node, bad))
        missing = [value for value in placement.calibrated if value.name not in ranges]
        if not missing:
            return placement, ranges
        ranges.update(ranges_of(missing))
        bad.update(name for name, found in ranges.items() if not math.isfinite(found.high - found.low))
        for node in [node for node in core if _touches(node, bad)]:
            change.decline(node.name, f"{node.op_type}: its activations are not finite on the calibration data")
            core.remove(node)


def _touches(node: ir.Node, names: set[str]) -> bool:
    return bool(
        names & {node.inputs[0].name if node.inputs[0] else "", node.outputs[0].name, absorbed_output(node).name}
    )


def _forms(placement: Placement, ranges: Ranges, activation_type: str) -> dict[ir.Value, Asymmetric]:
    found = {value: ranges[value.name or ""] for value in placement.calibrated}
    forms = {value: Asymmetric.of(span.low, span.high, activation_type) for value, span in found.items()}
    return {**forms, **{value: forms[source] for value, source in placement.inherited.items()}}


def _write(writer: Writer, placement: Placement, forms: dict[ir.Value, Asymmetric], change: Change) -> None:
    sources = {node: forms[node.inputs[0]] for node in placement.core if node.inputs[0] is not None}
    integer = {*placement.core, *placement.glue}
    for node in placement.core:
        writer.make_room(node, float(sources[node].scale))
    for node in placement.core:
        scale = writer.weight(node)
        writer.bias(node, scale * sources[node].scale)
        change.touch(node.name, f"{node.op_type} to int8")
    for value, form in forms.items():
        writer.activation(value, form, None if value in placement.settled else integer)
    for node in placement.glue:
        change.touch(node.name, f"{node.op_type} in integers")
