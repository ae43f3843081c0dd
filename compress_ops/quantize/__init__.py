"""Quantization: fewer bits per number."""

from __future__ import annotations

from .few_bits.cluster_weights import cluster_weights
from .few_bits.quantize_weights import quantize_weights
from .few_bits.ternary import binarize_weights, ternarize_weights
from .half.float16 import to_float16
from .int8.dynamic import quantize_dynamic
from .int8.static import quantize_static
from .mend.correct_bias import correct_bias
from .mend.keep_float import keep_float
from .mend.learn_rounding import learn_rounding
from .prepare.equalize import equalize
from .prepare.smooth import smooth

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
