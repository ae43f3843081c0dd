"""Quantization: fewer bits per number."""

from __future__ import annotations

from .dynamic import quantize_dynamic
from .static import quantize_static

PASSES = (quantize_dynamic, quantize_static)
