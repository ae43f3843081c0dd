"""What the data tells about weights: the rows that they are multiplied with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...arrays import Array
from ...graph.layer_inputs import Rows, squares
from ...graph.layers import reasons
from ...graph.layers.weights import PRODUCTS, Site
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context
from .layout import Weight


def with_rows(model: Model, weights: Sequence[Weight], change: Change) -> list[tuple[Weight, list[Rows]]]:
    """The weights that data reaches, with what each is multiplied with; the others are declined."""
    found = []
    for weight in weights:
        reason = next(filter(None, (_why_not(model, weight, *use) for use in weight.value.uses())), "")
        if reason or not weight.agreed():
            change.decline(weight.value.name, reason or "it is read by rows and by columns")
        else:
            found.append((weight, [_rows(weight, node) for node in weight.readers]))
    return found


def _why_not(model: Model, weight: Weight, node: ir.Node, index: int) -> str:
    if node.op_type not in ("Conv", *PRODUCTS) or index != 1:
        return f"{node.op_type} does not multiply its input with it; score magnitude looks at the weight alone"
    facts = (reasons.outside_branches(model.graph), reasons.matrix, reasons.untransposed, reasons.fed)
    return reasons.why_not(Site(node, index, weight.value), facts)


def _rows(weight: Weight, node: ir.Node) -> Rows:
    value = node.inputs[0]
    assert value is not None
    _, taps, inputs = weight.layout.laid_sizes
    return Rows(value, taps * inputs, node if node.op_type == "Conv" else None)


def with_norms(model: Model, ctx: Context, weights: Sequence[Weight], change: Change) -> Iterator[tuple[Weight, Array]]:
    """Weights with |x_j|_2 of each number of the rows, to be multiplied with a weight [rows, taps, inputs].

    Inputs that the data never showed count a little, so that their weights rank by magnitude.
    """
    found = with_rows(model, weights, change)
    sums = squares(model, ctx, [one for _, rows in found for one in rows], "prune_weights: norms of inputs")
    for weight, rows in found:
        norms = np.sqrt(sum(sums[one.key].astype(np.float64) for one in rows))
        if not np.isfinite(norms).all() or not norms.any():
            change.decline(weight.value.name, "its inputs are all zero, or not finite, on the calibration data")
            continue
        norms = np.maximum(norms, np.finfo(np.float32).eps * norms.max())
        yield weight, _laid(weight, norms).astype(np.float32)


def _laid(weight: Weight, norms: Array) -> Array:
    """[rows or 1, taps, inputs] of norms [groups * inputs * taps]."""
    rows, taps, inputs = weight.layout.laid_sizes
    groups = norms.size // (taps * inputs)
    by_group = norms.reshape(groups, inputs, taps).swapaxes(1, 2)
    return by_group if groups == 1 else by_group.repeat(math.ceil(rows / groups), axis=0)
