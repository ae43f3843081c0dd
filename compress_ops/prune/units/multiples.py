"""What widths are rounded to where nobody says: the number of channels that kernels take at a time.

float32 weights count as float16, which is what is run where that is fast; see ``compress_ops.providers``.
"""

from __future__ import annotations

from ...model import Model
from ...providers import facts_of

_USUAL = 8


def block_of(provider: str, model: Model) -> int:
    """The multiple for this provider's kernels."""
    return facts_of(provider).int8_multiple if _has_int8(model) else _USUAL


def _has_int8(model: Model) -> bool:
    return any(weight.dtype is not None and weight.dtype.name == "INT8" for weight in model.weights())
