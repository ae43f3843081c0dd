"""Quantization: fewer bits per number."""

from __future__ import annotations

from .dynamic import quantize_dynamic
from .smooth import smooth
from .static import quantize_static
from .weight_only import quantize_weights

PASSES = (smooth, quantize_dynamic, quantize_static, quantize_weights)
