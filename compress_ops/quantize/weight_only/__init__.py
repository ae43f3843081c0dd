"""Weights alone become few bits, in blocks; activations stay as they are."""

from __future__ import annotations

from .quantize import quantize_weights

__all__ = ["quantize_weights"]
