"""How well codes stand for activations: SQNR and the share of clipped numbers, summed inside the session.

For each activation x with codes of scale s that reach from a to b, on the first batch in which it is not empty:
    SQNR     10 log10(sum x^2 / sum (x - x_q)^2), x_q being what QuantizeLinear and DequantizeLinear give back
    clipped  the share of numbers below a - s/2 or above b + s/2
Calibrators that count histograms know both from there, for all of the data.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...graph.edit import MICROSOFT
from ...graph.tap import constant, tapped
from ...lazy import ir
from ...measure.quality import decibels
from ...model import Model
from ...passes import Context
from ..numbers.formats import Asymmetric


def activation_quality(
    model: Model, ctx: Context, forms: Mapping[ir.Value, Asymmetric]
) -> dict[str, tuple[float, float]]:
    """SQNR in dB and share of clipped numbers of each main-graph value in its codes, by name."""
    if not forms:
        return {}
    taps = [tap for value, form in forms.items() for tap in _taps(value, form)]
    seen = np.zeros((len(forms), 4))
    with tapped(model, ctx, taps) as session:
        for feeds in ctx.calibration_batches("calibrate: quality"):
            found = np.array([float(number) for number in session.run(feeds).values()]).reshape(-1, 4)
            seen = np.where(seen[:, 3:] > 0, seen, found)
            if seen[:, 3].all():  # one batch is enough to tell the worst from the others
                break
    return {
        value.name or "": (decibels(signal, noise), outside / max(size, 1))
        for value, (signal, noise, outside, size) in zip(forms, seen, strict=True)
    }


def _taps(value: ir.Value, form: Asymmetric) -> list[ir.Node]:
    """sum x^2 and sum (x - x_q)^2, both over s^2, how many numbers lie outside, and how many there are."""
    scale, zero = constant(form.scale), constant(form.zero_point)
    codes = ir.node("QuantizeLinear", [value, scale, zero], domain=MICROSOFT).outputs[0]
    restored = ir.node("DequantizeLinear", [codes, scale, zero], domain=MICROSOFT).outputs[0]
    error = ir.node("Sub", [value, restored]).outputs[0]
    signal, noise = (ir.node("Div", [numbers, scale]).outputs for numbers in (value, error))  # squares then are finite
    half = constant(np.float32(float(form.scale) / 2))
    low, high = (np.float32(bound) for bound in form.interval)
    within = ir.node("Clip", [value, constant(low), constant(high)]).outputs[0]
    beyond = ir.node("Abs", ir.node("Sub", [value, within]).outputs).outputs
    outside = ir.node("Cast", ir.node("Greater", [*beyond, half]).outputs, {"to": ir.DataType.FLOAT.value}).outputs
    whole = {"keepdims": 0}
    return [
        ir.node("ReduceSumSquare", signal, whole),
        ir.node("ReduceSumSquare", noise, whole),
        ir.node("ReduceSum", outside, whole),
        ir.node("Size", [value]),
    ]
