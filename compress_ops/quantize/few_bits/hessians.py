"""What the Hessians H = X^T X of weights sum over: the inputs of all the layers that read them."""

from __future__ import annotations

from ...graph.edit import attribute
from ...graph.layer_inputs import Rows
from ...graph.layers.weights import Site
from ...model import Model
from .sites import Weight

LARGEST_PATCH = 2048  # numbers in a Conv's patch up to which its Hessian is made


def rows_of(model: Model, weight: Weight) -> list[Rows]:
    """What the Hessian of a weight sums over; nothing where no tap reaches its inputs, or where H is diagonal."""
    found = [_rows(site, weight) for site in weight.sites if site.node.graph is model.graph]
    return [rows for rows in found if rows is not None]


def _rows(site: Site, weight: Weight) -> Rows | None:
    value = site.node.inputs[0]
    if value is None or site.role == "table":
        return None  # a lookup's inputs are one-hot rows: H is diagonal, and GPTQ is rounding to nearest
    if site.role == "gates" and site.index != 1:
        return None  # it multiplies the state, which is no value of the graph
    if site.role in ("matrix", "gates"):
        return Rows(value, weight.inner)
    whole = site.node.op_type == "Conv" and attribute(site.node, "group", 1) == 1
    return Rows(value, weight.inner, site.node) if whole and weight.inner <= LARGEST_PATCH else None
