"""correct_bias: the mean error of a quantized layer goes into its bias, where it costs nothing.

With y = W x + b before quantization and y' after it, E[y' - y] is in general not zero: rounding W shifts a layer by
(W_q - W) E[x], which ReLU and what was quantized before add to. Empirical bias correction (Nagel et al. 2019,
arXiv:1906.04721, section 4.2; Finkelstein et al. 2019, arXiv:1906.03193) sets, for each output channel,
    b <- b + E[y] - E[y']
over the calibration data, which lessens the mean squared error E[(y' - y)^2] by E[y' - y]^2. Layers are taken in order,
so that each sees those before it corrected: all at once, later ones would make up for errors that are mended already
(digits-cnn, 8 bits: 43 dB without correction, 46 in order, 35 all at once). The model is run in stages: each layer goes
on from what those before it left, so that the whole takes about two passes of the data, however deep the model.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...graph.stages import Stages
from ...graph.tap import constant, reduced
from ...lazy import ir
from ...model import Model
from ...nodes import bodies
from ...passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register
from .add_to_bias import add_to_bias
from .counterparts import Counterpart, counterparts, unquantized_of


@register("correct_bias", promises=Promise.IMPROVES, needs={Need.CALIBRATION, Need.UNQUANTIZED})
def correct_bias(
    model: Model,
    ctx: Context,
    *,
    add_missing: Annotated[
        bool,
        Field(
            description="Give layers without a bias one. On by default: free for Conv and Gemm; behind MatMul it is "
            "an addition."
        ),
    ] = True,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Shift the biases of quantized layers so that their mean outputs are those of the float model.

    Empirical bias correction (Nagel et al. 2019, arXiv:1906.04721): for each output channel the mean over calibration
    data of float minus quantized output is added. Put it behind the steps that quantize; the model before them is what
    is compared with. int32 biases of QDQ layers get other codes, float biases other numbers; a layer without a bias
    gets one, unless ``add_missing`` is false. Layers whose bias is computed, or whose outputs are not finite, are
    declined.
    """
    original, change = unquantized_of(ctx, "correct_bias"), Change()
    pairs = counterparts(model, original, only, skip, change)
    stages = Stages(ctx, "correct_bias: means")
    float_layers = {pair.exact.outputs[0].name or "": pair for pair in pairs}
    exact = _means(original, Stages(ctx, stages.label), float_layers)
    for depth, group in ctx.progress(_by_depth(model, pairs), "correct_bias"):
        later = {value for value, own in _depths(model, pairs).items() if own >= depth}
        found = _means(model, stages, {pair.output.name or "": pair for pair in group}, later)
        for pair in group:
            _correct(model, pair, exact[pair] - found[pair], change, add_missing=add_missing)
    model.drop_unused()
    return change


def _by_depth(model: Model, pairs: Sequence[Counterpart]) -> list[tuple[int, list[Counterpart]]]:
    """Layers in groups none of which depends on another: those with as many layers before them, the first first."""
    depths, groups = _depths(model, pairs), dict[int, list[Counterpart]]()
    for pair in pairs:
        groups.setdefault(depths[pair.output], []).append(pair)
    return sorted(groups.items(), key=lambda item: item[0])


def _depths(model: Model, pairs: Sequence[Counterpart]) -> dict[ir.Value, int]:
    """How many of the layers lead to each computed value one after another, its own included."""
    outputs = {pair.output for pair in pairs}
    depths: dict[ir.Value, int] = {}
    for node in model.graph:
        reads = (
            depths.values() if bodies(node) else [depths.get(value, 0) for value in node.inputs if value is not None]
        )
        depth = max(reads, default=0)
        depths.update({value: depth + (value in outputs) for value in node.outputs})
    return depths


def _correct(model: Model, pair: Counterpart, error: Array, change: Change, *, add_missing: bool) -> None:
    if not np.isfinite(error).all():
        change.decline(pair.name, f"{pair.exact.op_type}: its outputs are not finite on the calibration data")
        return
    problem = add_to_bias(model, pair, error, add_missing=add_missing)
    if problem:
        change.decline(pair.name, f"{pair.exact.op_type}: {problem}")
    else:
        change.touch(pair.name, f"bias shifted by up to {np.abs(error).max():.3g}")


def _means(
    model: Model, stages: Stages, layers: Mapping[str, Counterpart], later: Container[ir.Value] = ()
) -> dict[Counterpart, Array]:
    """float64 [channels] of each named value: its mean over all data, batches weighted by their size."""

    def taps(part: Model, values: Mapping[str, ir.Value]) -> list[ir.Node]:
        return [tap for name, pair in layers.items() for tap in _taps(part, values[name], pair)]

    sums, counts = [np.zeros(pair.channels) for pair in layers.values()], np.zeros(len(layers))
    for seen in stages.run(model, [*layers], taps, later) if layers else ():
        for i, (mean, size) in enumerate(zip(seen[::2], seen[1::2], strict=True)):
            if size:
                sums[i] += mean.astype(np.float64) * float(size)
                counts[i] += size
    with np.errstate(invalid="ignore"):
        return {pair: total / count for pair, total, count in zip(layers.values(), sums, counts, strict=True)}


def _taps(model: Model, value: ir.Value, pair: Counterpart) -> list[ir.Node]:
    """The mean of each channel, and how many numbers the value has."""
    if not pair.channels_last:
        return [reduced(model, "ReduceMean", value, [0, *range(2, len(pair.weight.shape))]), ir.node("Size", [value])]
    flat = ir.node("Reshape", [value, constant(np.array([-1, pair.channels], np.int64))]).outputs[0]
    return [reduced(model, "ReduceMean", flat, [0]), ir.node("Size", [value])]
