"""Which layers add most quantization noise: the growth of noise over signal from a layer's input to its output.

With r = sum (a - b)^2 / sum a^2 of a value's float form a and quantized form b on the same data, a layer that reads x
and gives y adds r(y) - r(x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...graph.tap import tapped
from ...lazy import ir
from ...model import Model
from ...passes import Context
from .counterparts import computed

_BATCHES = 2


def noise_added(original: Model, model: Model, ctx: Context, layers: Sequence[ir.Node]) -> dict[str, float]:
    """What each layer of the original adds in the quantized model, by its name; 0 where its output cannot be seen."""
    ends = {node.name or "": (_name(node.inputs[0]), _name(node.outputs[0])) for node in layers}
    named = {name for pair in ends.values() for name in pair}
    values = sorted(named & computed(original).keys() & computed(model).keys())
    ratios = _noise_ratios(original, model, values, ctx) if values else {}
    return {layer: ratios.get(y, 0.0) - ratios.get(x, 0.0) if y in ratios else 0.0 for layer, (x, y) in ends.items()}


def _name(value: ir.Value | None) -> str:
    return (value.name or "") if value is not None else ""


def _noise_ratios(original: Model, model: Model, values: Sequence[str], ctx: Context) -> dict[str, float]:
    sums = np.zeros((len(values), 2))
    with (
        tapped(original, ctx, _taps(original, values)) as exact,
        tapped(model, ctx, _taps(model, values)) as rounded,
    ):
        for _, feeds in zip(range(_BATCHES), ctx.calibration_batches("keep_float: noise by layer"), strict=False):
            pairs = zip(exact.run(feeds).values(), rounded.run(feeds).values(), strict=True)
            sums += [_energies(a, b) for a, b in pairs]
    return {name: float(noise / signal) for name, (noise, signal) in zip(values, sums, strict=True) if signal > 0}


def _energies(exact: Array, rounded: Array) -> tuple[float, float]:
    difference = exact.astype(np.float64) - rounded
    return float(np.square(difference).sum()), float(np.square(exact, dtype=np.float64).sum())


def _taps(model: Model, values: Sequence[str]) -> list[ir.Node]:
    found = computed(model)
    return [ir.node("Identity", [found[name]]) for name in values]
