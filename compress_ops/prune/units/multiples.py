"""What widths are rounded to where nobody says: the number of channels that kernels take at a time.

CPU: 8. With 30 % of the channels gone, 1 thread, AVX512, the speed-up was, for widths rounded to 1, 4, 8, 16: resnet50
1.56, 1.70, 1.86, 1.91; a text detector 1.02, 1.48, 1.55, 1.50.

CUDA, TensorRT: tensor cores are used best where sizes are multiples of 16 bytes (NVIDIA, "Matrix Multiplication
Background User's Guide", section on tensor core requirements): 16 numbers of int8, 8 of float16. float32 weights count
as float16, which is what is run there. Not measured here. Other providers: 8, as on the CPU.
"""

from __future__ import annotations

from ...model import Model

_USUAL = 8
_OF_INT8 = 16
_NVIDIA = ("cuda", "tensorrt")


def block_of(provider: str, model: Model) -> int:
    """The multiple for this provider's kernels."""
    return _OF_INT8 if provider in _NVIDIA and _has_int8(model) else _USUAL


def _has_int8(model: Model) -> bool:
    return any(weight.dtype is not None and weight.dtype.name == "INT8" for weight in model.weights())
