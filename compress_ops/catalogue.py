"""Every pass there is, by name, in the order in which the reference lists them."""

from __future__ import annotations

from . import graph, prune, quantize
from .passes import Pass

PASSES: dict[str, Pass] = {p.name: p for p in (*graph.PASSES, *quantize.PASSES, *prune.PASSES)}
