"""quantize_static: weights and activations become int8, with ranges fixed by calibration data.

Stored as QDQ: q = clip(round(x / scale) + zero_point) and back, around each operator that has an integer kernel;
onnxruntime fuses DequantizeLinear -> operator -> QuantizeLinear into that kernel when it loads the model.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from ...errors import PassError
from ...graph.layers.weights import RECURRENT
from ...graph.opset import require_opset
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context, Need, Promise, Selection, register, selected
from ..numbers.formats import Asymmetric, PerChannel, Symmetric, Unsigned
from ..numbers.portable import Portability, Portable, record
from ..ranges.activation_quality import activation_quality
from ..ranges.calibrate import CalibratorName, Ranges, calibrate
from ..ranges.clipping import quality
from .eligible import able, chosen, decline_quantized
from .left import to_the_right
from .placement import CODED_OUTPUTS, CORE, SENSITIVE, Placement, absorbed_output, place
from .qdq import Writer
from .qoperator import to_operators
from .slower import AllowSlower, refuse_slower

Operator = Literal["Conv", "Gemm", "MatMul"]
OPERATORS: list[Operator] = ["Conv", "Gemm", "MatMul"]
assert tuple(OPERATORS) == CORE
ActivationType = Literal["uint8", "int8", "uint16", "int16"]
_MINIMUM_OPSET = 13  # DequantizeLinear with an axis
_NO_KERNEL = "it has no integer kernel with fixed ranges; quantize_dynamic and quantize_weights store it in few bits"
"""Of recurrent layers, which hold most bytes of many models: they are not passed over without a word."""


class StaticOptions(Selection):
    """What quantize_static takes."""

    operators: Annotated[
        list[Operator],
        Field(description="Operator types to quantize. All with integer kernels by default: speed needs them all."),
    ] = OPERATORS
    per_channel: PerChannel = True
    activation_type: Annotated[
        ActivationType,
        Field(
            description="uint8 by default: with s8 the same operators took 3-4 times as long on an x86 CPU. TensorRT "
            "wants int8; 16 bits run in float on CPUs."
        ),
    ] = "uint8"
    symmetric: Annotated[
        bool | None,
        Field(description="Zero points of activations in the middle; absent: for types with a sign, as runtimes want."),
    ] = None
    weight_type: Annotated[
        Literal["int8", "uint8"],
        Field(
            description="int8 by default: symmetric, with the fast kernels; uint8 is asymmetric, and slower without "
            "VNNI."
        ),
    ] = "int8"
    power_of_two: Annotated[
        bool,
        Field(
            description="Scales rounded up to powers of two, for fixed-point hardware. Off by default: it costs up to "
            "a bit, and CPUs gain nothing."
        ),
    ] = False
    portable: Portable = "auto"
    calibrator: Annotated[
        CalibratorName,
        Field(
            description="How ranges follow from the values seen. minmax by default: it clips nothing, has nothing to "
            "tune and costs one pass over the data; the histogram rules cost a second one."
        ),
    ] = "minmax"
    percentile: Annotated[
        float,
        Field(
            gt=50,
            le=100,
            description="Share of values kept by the percentile calibrator, in percent. 99.99 by default: of "
            "ten thousand values one is an outlier.",
        ),
    ] = 99.99
    form: Annotated[
        Literal["qdq", "qoperator"],
        Field(
            description="qdq by default: all runtimes fuse it; qoperator writes QLinearConv and the like for those "
            "that cannot."
        ),
    ] = "qdq"
    allow_slower: AllowSlower = False

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero points of activations lie in the middle."""
        return self.activation_type.startswith("int") if self.symmetric is None else self.symmetric


@register("quantize_static", promises=Promise.SHRINKS, needs={Need.CALIBRATION})
def quantize_static(model: Model, ctx: Context, options: StaticOptions) -> Change:
    """Quantize weights and activations to 8 bits, with activation ranges from calibration data.

    Integer-arithmetic inference after Jacob et al. 2018 (arXiv:1712.05877), stored as QDQ. Weights are symmetric int8,
    biases int32, activations asymmetric uint8 (or symmetric int8). Adds, pools and reshapes between quantized operators
    stay in integers. Operators whose weight is computed, not float32 or not finite, whose activations were not finite,
    or that stand in a subgraph are declined. The report lists the ten tensors of the lowest SQNR, weights from their
    codes, activations from the histograms of the calibrator or else on one batch.
    """
    change = Change()
    _refuse_what_cannot_run(ctx, options)
    from_0 = options.is_symmetric and options.activation_type == "int8"
    refuse_slower(ctx, options.form, allowed=options.allow_slower, zero_point_is_0=from_0)
    require_opset(model, _MINIMUM_OPSET)
    decline_quantized(model, options.operators, options.only, options.skip, change)
    for node in chosen(model, RECURRENT, options.only, options.skip):
        change.decline(node.name, f"{node.op_type}: {_NO_KERNEL}")
    wanted = chosen(model, options.operators, options.only, options.skip)
    turned = to_the_right(model, [node for node in wanted if node.graph is model.graph], change)
    core = able(model, [*turned, *(node for node in wanted if node.graph is not model.graph)], change)
    placement, ranges = _placed(model, ctx, core, options, change)
    if placement.core:
        _quantize(model, ctx, placement, ranges, options, change)
    model.drop_unused()
    return change


def _quantize(
    model: Model, ctx: Context, placement: Placement, ranges: Ranges, options: StaticOptions, change: Change
) -> None:
    rule = Symmetric if options.weight_type == "int8" else Unsigned
    # u8 x u8 is added in 32 bits everywhere, and 16-bit activations are multiplied in float
    saturates = options.weight_type == "int8" and not options.activation_type.endswith("16")
    portability = Portability(options.portable if saturates else True)
    weights = rule(power_of_two=options.power_of_two)
    writer = Writer(model, weights, options.per_channel, portability if saturates else None)
    forms = _forms(placement, ranges, options)
    _add_quality(writer, ctx, {value: forms[value] for value in placement.calibrated}, ranges)
    _write(writer, placement, forms, change)
    change.notes = {**portability.notes(), **writer.quality.notes()}
    record(model, portability.whole)
    if options.form == "qoperator":
        to_operators(model, {*placement.core, *placement.glue})


def _refuse_what_cannot_run(ctx: Context, options: StaticOptions) -> None:
    kind, first = options.activation_type, ctx.providers[0]
    if kind.endswith("16") and options.form == "qoperator":
        raise PassError(f"form qoperator has no {kind} activations", hint="form: qdq has")
    if kind.endswith("16") and not first.facts.int16_activations:
        raise PassError(
            f"provider '{first.name}' has no {kind} activations",
            hint="activation_type: int8 runs there; the CPU provider runs 16 bits, in float",
        )


def _add_quality(writer: Writer, ctx: Context, forms: dict[ir.Value, Asymmetric], ranges: Ranges) -> None:
    """What clipping and rounding cost each activation: from its histogram, or seen on one batch where there is none."""
    histograms = {value: ranges[value.name or ""].histogram for value in forms}
    uncounted = {value: form for value, form in forms.items() if histograms[value] is None}
    seen = activation_quality(writer.model, ctx, uncounted)
    for value, form in forms.items():
        histogram = histograms[value]
        writer.quality.add(value.name, *(seen[value.name or ""] if histogram is None else quality(histogram, form)))


def _placed(
    model: Model, ctx: Context, core: list[ir.Node], options: StaticOptions, change: Change
) -> tuple[Placement, Ranges]:
    """A placement all of whose values were finite on the calibration data, and their ranges.

    Nodes at other values are left out; what reads them may then need a range that it had inherited before.
    """
    ranges: Ranges = {}
    bad: set[str] = set()
    coded = CORE if options.form == "qoperator" else CODED_OUTPUTS

    def allowed(node: ir.Node) -> bool:
        """Of glue; sensitive operators have to be named by their type."""
        named = node.op_type not in SENSITIVE or node.op_type in options.only
        return named and selected(node, options.only, options.skip) and not _touches(node, bad)

    while True:
        placement = place(model, core, allowed, coded)
        missing = [value for value in placement.calibrated if value.name not in ranges]
        if not missing:
            return placement, ranges
        rule, share, kind = options.calibrator, options.percentile, options.activation_type
        ranges.update(calibrate(model, ctx, missing, rule, share, kind, options.is_symmetric))
        bad.update(name for name, found in ranges.items() if not math.isfinite(found.high - found.low))
        empty = {name for name, found in ranges.items() if found.low > found.high}
        for node in [node for node in core if _touches(node, bad)]:
            what = "empty throughout" if _touches(node, empty) else "not finite on"
            change.decline(node.name, f"{node.op_type}: its activations are {what} the calibration data")
            core.remove(node)


def _touches(node: ir.Node, names: set[str]) -> bool:
    return any(value.name in names for value in (node.inputs[0], node.outputs[0], absorbed_output(node)) if value)


def _forms(placement: Placement, ranges: Ranges, options: StaticOptions) -> dict[ir.Value, Asymmetric]:
    found = {value: ranges[value.name or ""] for value in placement.calibrated}
    how = (options.activation_type, options.is_symmetric, options.power_of_two)
    forms = {value: Asymmetric.of(span.low, span.high, *how) for value, span in found.items()}
    return {**forms, **{value: forms[source] for value, source in placement.inherited.items()}}


def _write(writer: Writer, placement: Placement, forms: dict[ir.Value, Asymmetric], change: Change) -> None:
    sources = {node: forms[node.inputs[0]] for node in placement.core if node.inputs[0] is not None}
    integer = {*placement.core, *placement.glue}
    for node in placement.core:
        writer.make_room(node, float(sources[node].scale))
    for node in placement.core:
        name = node.inputs[1].name if node.inputs[1] is not None else None
        scale = writer.weight(node)
        writer.bias(node, scale * sources[node].scale)
        change.touch(node.name, f"{node.op_type} to {writer.kind}, {writer.quality.of(name)}")
    for value, form in forms.items():
        writer.activation(value, form, None if value in placement.settled else integer)
    for node in placement.glue:
        change.touch(node.name, f"{node.op_type} in integers")
