"""Roots R, R R^T = X^T X, of what layers read on calibration data: what a factorization weighs its errors with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..arrays import Array
from ..graph.layer_inputs import Rows, in_groups, products
from ..model import Model
from ..passes import Change, Context
from .layers import Layer

LARGEST = 4096  # numbers of a row or patch up to which its product is made
_DAMPING = 0.01  # of the mean diagonal, as in GPTQ (arXiv:2210.17323): what the data never showed still counts a little
_LOOKED_UP = 1.0  # the same for tied tables: rows are read as they are, so that all directions count


def with_roots(
    model: Model, ctx: Context, layers: Sequence[Layer], change: Change, label: str
) -> Iterator[tuple[Layer, Array | None]]:
    """Each layer with R, R R^T = X^T X; None where no data is given or reaches it. What reads NaN is declined."""
    rows = {layer.node: _rows(layer) for layer in layers if ctx.calibration is not None and can_be_tapped(model, layer)}
    for group in in_groups(layers, lambda layer: rows.get(layer.node, [])):
        wanted = [one for layer in group for one in rows.get(layer.node, [])]
        found = products(model, ctx, wanted, f"{label}: what layers read")
        for layer in ctx.progress(group, label):
            product = next((found[one.key] for one in rows.get(layer.node, [])), None)
            if product is not None and not np.isfinite(product).all():
                change.decline(layer.node.name, f"{layer.node.op_type}: it reads NaN or infinite values")
            else:
                damping = _LOOKED_UP if layer.lookups else _DAMPING
                yield layer, root_of(product, damping) if product is not None else None


def can_be_tapped(model: Model, layer: Layer) -> bool:
    """Taps reach the main graph only, and very long rows would take too much memory."""
    return layer.node.graph is model.graph and layer.inner <= LARGEST


def _rows(layer: Layer) -> list[Rows]:
    value = layer.node.inputs[0]
    assert value is not None
    return [Rows(value, layer.inner, layer.node if layer.is_conv else None)]


def root_of(product: Array, damping: float = _DAMPING) -> Array | None:
    """R with R R^T = X^T X, scaled to a mean diagonal of 1 and damped; None where nothing but zeros was read."""
    mean = np.trace(product) / len(product)
    if mean == 0:
        return None
    return np.linalg.cholesky(product / mean + damping * np.eye(len(product)))
