"""to_float16: weights and activations in half precision, where that keeps the numbers.

float16 has 11 significant bits (rounding loses 2^-12 of a number on average, 73 dB) and ends at 65504; below 6e-5 it
loses bits one by one. bfloat16 has 8 significant bits (55 dB) and float32's range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ...errors import PassError
from ...graph.opset import require_opset
from ...lazy import ir
from ...measure.quality import Quality, decibels, told
from ...model import Model
from ...passes import Change, Context, Need, Promise, Selection, register, selected
from .half_trials import WholeTrial, measured_quality
from .half_types import Lowerable, lowerable, types_of
from .islands import integer_islands
from .lowering import Lowering

Format = Literal["float16", "bfloat16"]
SENSITIVE = frozenset(
    {
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization"),
        *("RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        *("Softmax", "LogSoftmax", "Softplus", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"),
        *("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
        *("ReduceLogSum", "ReduceLogSumExp", "CumSum", "Range", "LpPool", "GlobalLpPool"),
        *("NonMaxSuppression", "RoiAlign", "Einsum"),
    }
)
"""What stays float32 without data: sums over many numbers, and functions that leave float16's range easily."""

MOVING = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Slice", "Expand", "Split", "Tile", "Gather"),
    }
)
"""What only moves numbers: it takes the type of what it moves."""

_OPSET = {"float16": 7, "bfloat16": 13}


class HalfOptions(Selection):
    """What to_float16 takes."""

    format: Annotated[
        Format,
        Field(
            description="float16 by default: it has 11 significant bits, and kernels everywhere. bfloat16 has "
            "float32's range and 8 significant bits; CPUs have no kernels for it."
        ),
    ] = "float16"
    min_sqnr_db: Annotated[
        float,
        Field(
            gt=0,
            le=60,
            description="What keeps less than this of its signal stays float32. 40 dB, an error of 1 %, by default: "
            "rounding alone leaves 73 dB (float16) or 55 dB (bfloat16), so that less is a sign of "
            "overflow or cancellation.",
        ),
    ] = 40.0

    @property
    def half(self) -> ir.DataType:
        """The format as a type of tensors."""
        return ir.DataType[self.format.upper()]


@register("to_float16", promises=Promise.SHRINKS, needs={Need.SHAPES})
def to_float16(model: Model, ctx: Context, options: HalfOptions) -> Change:
    """Store and compute in half precision (float16 or bfloat16), where that keeps the numbers (mixed precision).

    Inputs and outputs of the model keep their types. With calibration data every operator is tried on it: what
    overflows, or keeps less than ``min_sqnr_db`` of its signal, stays float32, and what feeds it too where its inputs'
    rounding is the cause; then the whole is tried, and what keeps it from running or makes it overflow is found by
    halves and stays float32. Without data a list stays float32: normalizations, Softmax, Exp, Log, Pow, Sqrt,
    Reciprocal and sums over axes. So do nodes with weights beyond the format's range (or far below it), operators that
    ONNX does not define for the format or of whose ports a type is not known, and operators between codes, which
    integer kernels replace. GPUs run float16 about twice as fast; onnxruntime's CPU kernels mostly cast back to
    float32, so there the file is half as large and no faster.
    """
    require_format(ctx, options.format)
    require_opset(model, _OPSET[options.format])
    model.infer_shapes()
    change, trial = Change(), WholeTrial(model, ctx, options.half)
    chosen, followers = _choose(model, ctx, options, change)
    chosen = trial.settle(chosen, followers, change)
    Lowering(model, options.half, chosen, followers).apply()
    model.drop_unused()
    for node in chosen:
        change.touch(node.name, f"{node.op_type} in {options.format}")
    return change


def require_format(ctx: Context, format: str) -> None:
    """Refuse what the provider has no kernels for."""
    first = ctx.providers[0]
    if format == "bfloat16" and not first.facts.bfloat16:
        raise PassError(
            f"bfloat16 does not run on '{first.name}': onnxruntime has no MatMul or Conv kernel for it there",
            hint="format that runs here: float16; bfloat16 is for provider cuda",
        )


def _choose(
    model: Model, ctx: Context, options: HalfOptions, change: Change
) -> tuple[dict[ir.Node, Lowerable], dict[ir.Node, Lowerable]]:
    """Nodes that are lowered, and those that read what they are given, each with the parts concerned."""
    able, followers = _candidates(model, options)
    islands = integer_islands(model)
    for node in [node for node in able if node in islands]:
        able.pop(node)
        change.decline(node.name, f"{node.op_type}: it stands between codes, where an integer kernel takes its place")
    spoiled = _spoiled_weights(model, able, options, change)
    if ctx.calibration is None:
        spoiled |= _readers(spoiled, able, change)
    able = {node: parts for node, parts in able.items() if node not in spoiled}
    for node in _sensitive(model, ctx, able, options, change):
        able.pop(node, None)
    return _without_lone_moves(able), followers


def _candidates(model: Model, options: HalfOptions) -> tuple[dict[ir.Node, Lowerable], dict[ir.Node, Lowerable]]:
    """Nodes that can be lowered; and those without float outputs, which can read either type."""
    able, followers, types = {}, {}, types_of(model)
    for node in model.nodes():
        parts = lowerable(model, node, types, options.format)
        if parts.outputs and selected(node, options.only, options.skip):
            able[node] = parts
        elif parts.inputs and not parts.outputs and len(parts.inputs) == 1:
            followers[node] = parts
    return able, followers


def _spoiled_weights(
    model: Model, able: Mapping[ir.Node, Lowerable], options: HalfOptions, change: Change
) -> set[ir.Node]:
    """Nodes with a weight that the format cannot hold well enough; the worst SQNRs go into the report."""
    quality = Quality()
    spoiled: set[ir.Node] = set()
    for value in model.weights():
        readers = [node for node, index in value.uses() if node in able and index in able[node].inputs]
        if not readers or value.const_value is None:
            continue
        found = rounding_quality(value.const_value.numpy(), options.half)
        if found >= options.min_sqnr_db:
            quality.add(value.name, found)
            continue
        spoiled.update(readers)
        for node in readers:
            change.decline(node.name, f"{node.op_type}: {value.name} keeps {told(found)} in {options.format}")
    change.notes["sqnr_db"] = quality.by_name()
    return spoiled


def _readers(spoiled: set[ir.Node], able: Mapping[ir.Node, Lowerable], change: Change) -> set[ir.Node]:
    """What reads the output of a node that stays float32 for its weights: that may lie outside the format too."""
    found = {reader for node in spoiled for output in node.outputs for reader in output.consumers()} - spoiled
    for node in (node for node in able if node in found):
        change.decline(node.name, f"{node.op_type}: what it reads may lie outside the format; data would tell")
    return found


def rounding_quality(numbers: Any, half: ir.DataType) -> float:
    """SQNR in dB of numbers rounded to the format; -inf where one leaves its range or is not finite."""
    signal = noise = 0.0
    flat = numbers.reshape(-1)
    for start in range(0, flat.size, 2**20):
        part = flat[start : start + 2**20].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            error = part - part.astype(np.float32).astype(half.numpy()).astype(np.float64)
        signal, noise = signal + float(part @ part), noise + float(error @ error)
    return round(decibels(signal, noise), 2) if math.isfinite(noise) else -math.inf


def _sensitive(
    model: Model, ctx: Context, able: Mapping[ir.Node, Lowerable], options: HalfOptions, change: Change
) -> set[ir.Node]:
    """Nodes that stay float32 for what they compute: measured where data reaches them, by their type elsewhere."""
    measured = {node for node in able if ctx.calibration is not None and node.graph is model.graph}
    by_type = [node for node in able if node not in measured and node.op_type in SENSITIVE]
    for node in by_type:
        change.decline(node.name, f"{node.op_type}: stays float32 unless data shows that {options.format} serves")
    losers: set[ir.Node] = set()
    for node, found in measured_quality(model, ctx, {n: able[n] for n in able if n in measured}, options.half).items():
        if found is None or not found >= options.min_sqnr_db:
            change.decline(node.name, f"{node.op_type}: {_told(found)} in {options.format} on the calibration data")
            losers |= {node, *_feeders(node, able[node])}
    return {*by_type, *losers}


def _told(quality: float | None) -> str:
    if quality is None:
        return "could not be tried"
    return f"keeps {told(quality)}" if math.isfinite(quality) else "overflows"


def _feeders(node: ir.Node, parts: Lowerable) -> set[ir.Node]:
    """What computes the float inputs of a node: their rounding is part of its loss."""
    values = (node.inputs[i] for i in parts.inputs)
    return {producer for value in values if value is not None and (producer := value.producer()) is not None}


def _without_lone_moves(able: dict[ir.Node, Lowerable]) -> dict[ir.Node, Lowerable]:
    """Nodes that only move numbers stay float32 behind a float32 node: casting there would gain nothing."""
    kept: dict[ir.Node, Lowerable] = {}
    for node, parts in able.items():
        first = node.inputs[0]
        behind_float = first is not None and not first.is_initializer() and first.producer() not in kept
        if node.op_type not in MOVING or not behind_float:
            kept[node] = parts
    return kept
