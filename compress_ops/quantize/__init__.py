"""Quantization: fewer bits per number."""

from __future__ import annotations

from .codebook import cluster_weights
from .correct_bias import correct_bias
from .dynamic import quantize_dynamic
from .equalize import equalize
from .float16 import to_float16
from .keep_float import keep_float
from .learn_rounding import learn_rounding
from .smooth import smooth
from .static import quantize_static
from .ternary import binarize_weights, ternarize_weights
from .weight_only import quantize_weights

PASSES = (
    equalize,
    smooth,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    to_float16,
    cluster_weights,
    ternarize_weights,
    binarize_weights,
    keep_float,
    learn_rounding,
    correct_bias,
)
