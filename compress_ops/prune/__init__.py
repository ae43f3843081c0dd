"""Pruning: fewer numbers."""

from __future__ import annotations

from .weights import prune_weights

PASSES = (prune_weights,)
