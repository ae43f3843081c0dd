"""Pruning: fewer numbers."""

from __future__ import annotations

from .prune_channels import prune_channels
from .prune_heads import prune_heads
from .refit import refit
from .weights import prune_weights

PASSES = (prune_channels, prune_heads, prune_weights, refit)
