"""Quantization: fewer bits per number."""

from __future__ import annotations

from .dynamic import quantize_dynamic
from .smooth import smooth
from .static import quantize_static

PASSES = (smooth, quantize_dynamic, quantize_static)
