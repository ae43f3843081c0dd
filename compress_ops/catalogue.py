"""Every pass there is, by name, in the order in which most recipes apply them."""

from __future__ import annotations

from . import factorize, graph, prune, quantize
from .passes import Pass

PASSES: dict[str, Pass] = {p.name: p for p in (*graph.PASSES, *prune.PASSES, *factorize.PASSES, *quantize.PASSES)}
