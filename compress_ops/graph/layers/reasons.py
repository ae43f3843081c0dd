"""Why a weight cannot be used: one sentence a fact. A pass names the facts that it minds, in order; the first tells.

A fact takes a ``Site`` and returns the reason, or nothing. Those of one pass alone stand in that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...nodes import attribute, constant_of
from ..fixed import why_fixed
from .weights import PRODUCTS, Site, is_dequantized, is_left

INSIDE = "it is inside a branch or loop, whose values cannot be looked at"
Fact: TypeAlias = Callable[[Site], str]


def why_not(site: Site, facts: Iterable[Fact]) -> str:
    """The first reason; empty where the weight can be used."""
    return next(filter(None, (fact(site) for fact in facts)), "")


def stored(site: Site) -> str:
    if site.tensor is not None:
        return ""
    if is_dequantized(site.value):
        return "its weight is quantized already"
    if site.value is not None and site.index == 1 and is_left(site.node):
        return "its stored matrix stands on the left"
    return "its weight is computed, not stored"


def of_type(*names: str) -> Fact:
    """The types of numbers, such as float32."""

    def fact(site: Site) -> str:
        name = _type_of(site.tensor) if site.tensor is not None else names[0]
        return "" if name in names else f"its weight is {name}, not {' or '.join(names)}"

    return fact


def _type_of(tensor: ir.TensorProtocol) -> str:
    return "float32" if tensor.dtype == ir.DataType.FLOAT else tensor.dtype.name.lower()


def of_axes(count: int) -> Fact:
    def fact(site: Site) -> str:
        axes = len(site.tensor.shape) if site.tensor is not None else count
        return "" if axes == count else f"its weight has {axes} dimensions, not {count}"

    return fact


def no_vector(site: Site) -> str:
    return "its weight is a vector" if site.tensor is not None and len(site.tensor.shape) < 2 else ""


def no_output(site: Site) -> str:
    return "its weight is an output of the graph" if site.value is not None and site.value.is_graph_output() else ""


def alone(site: Site) -> str:
    others = site.value is not None and len(site.value.uses()) > 1
    return "others read its weight too" if others else no_output(site)


def fed(site: Site) -> str:
    """What a layer computes from stored numbers alone is a constant."""
    other = site.node.inputs[1 - site.index] if site.index < 2 else None
    return "both inputs are constants; run simplify first" if constant_of(other) is not None else ""


def plain(site: Site) -> str:
    """Of Gemm, y = x W + b is meant."""
    node = site.node
    scaled = attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    odd = node.op_type == "Gemm" and (scaled or attribute(node, "transA", 0))
    return "it computes more than x W + b (transA, alpha or beta)" if odd else ""


def untransposed(site: Site) -> str:
    return "its input is transposed (transA)" if attribute(site.node, "transA", 0) else ""


def ungrouped(site: Site) -> str:
    return "its channels are in groups" if attribute(site.node, "group", 1) != 1 else ""


def matrix(site: Site) -> str:
    """Two axes, of an operator that has no kernel."""
    return of_axes(2)(site) if site.node.op_type in PRODUCTS else ""


def outside_branches(graph: ir.Graph) -> Fact:
    """Taps look at values of the main graph."""

    def fact(site: Site) -> str:
        return "" if site.node.graph is graph else INSIDE

    return fact


def finite(site: Site) -> str:
    told = "its weight has NaN or infinite values"
    return "" if site.tensor is None or is_finite(site.tensor.numpy()) else told


def trained(site: Site) -> str:
    return why_fixed(site.tensor)


def is_finite(numbers: Array) -> bool:
    """Whether there is neither NaN nor infinity, without making a mask of the size."""
    return bool(np.isfinite(numbers.min(initial=0)) and np.isfinite(numbers.max(initial=0)))
