"""Every pass there is, by name, in the order in which most recipes apply them."""

from __future__ import annotations

from . import distill, factorize, graph, prune, quantize
from .passes import Pass

_FAMILIES = (graph, prune, factorize, distill, quantize)

PASSES: dict[str, Pass] = {operation.name: operation for family in _FAMILIES for operation in family.PASSES}
