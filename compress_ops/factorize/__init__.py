"""Factorization: one large weight becomes a product of small ones, and equal weights are stored once."""

from __future__ import annotations

from .low_rank import low_rank
from .separable import separable_conv
from .share_weights import share_weights

PASSES = (low_rank, separable_conv, share_weights)
