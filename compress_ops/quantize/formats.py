"""Number formats: how real numbers become few bits, w = scale * (q - zero_point), and back.

Reductions look at a weight once; the codes themselves are made when the model is saved (lazy), so that no second
copy of the weights is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

Array = Any  # a NumPy array; dtype and shape are in the docstrings


@dataclass(frozen=True)
class Symmetric:
    """Signed codes of ``bits`` bits around zero: q = round(w / scale) in [-limit, limit], zero_point = 0.

    The lowest code -2^(bits-1) is not used, so that the range is the same on both sides (ONNX and onnxruntime do
    so for weights).
    """

    bits: int = 8

    @property
    def limit(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def scale(self, weight: Array, axes: tuple[int, ...] | None, least: Array | float = 0.0) -> Array:
        """float32 scales, max|w| / limit over ``axes`` (None: over everything), kept as axes of size 1.

        None is smaller than ``least``. All-zero slices without such get scale 1, so that their codes are zeros.
        """
        import numpy as np

        largest = np.maximum(weight.max(axis=axes, keepdims=True), -weight.min(axis=axes, keepdims=True))
        scale = np.maximum(largest.astype(np.float32) / np.float32(self.limit), np.float32(least))
        tiny = np.finfo(np.float32).tiny
        return np.where(scale < tiny, np.float32(1), scale)

    def codes(self, weight: Array, scale: Array) -> Array:
        """int8 codes of the weight's shape; ``scale`` broadcasts against it. Rounds half to even, as ONNX does."""
        import numpy as np

        codes = np.divide(weight, scale, dtype=np.float32)  # a float16 scale is widened first
        np.rint(codes, out=codes)
        np.clip(codes, -self.limit, self.limit, out=codes)
        return codes.astype(np.int8)


@dataclass(frozen=True)
class Asymmetric:
    """8-bit codes over an interval that holds zero: q = clip(round(x / scale) + zero_point).

    ``scale`` is float32; ``zero_point`` is uint8, or int8 zero for the symmetric int8 form.
    """

    scale: np.float32
    zero_point: np.uint8 | np.int8

    @classmethod
    def of(cls, low: float, high: float, kind: str) -> Asymmetric:
        """The form whose codes cover [low, high] and zero exactly; an interval of length zero gets scale 1."""
        import numpy as np

        low, high = min(low, 0.0), max(high, 0.0)
        if kind == "int8":
            return cls(_positive(max(-low, high) / 127), np.int8(0))
        scale = _positive((high - low) / 255)
        return cls(scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255)))


def _positive(scale: float) -> np.float32:
    import numpy as np

    return np.float32(scale) if scale >= np.finfo(np.float32).tiny else np.float32(1)


def as_half(scale: Array) -> Array:
    """Scales as float16, rounded up so that no code is clipped; as they are where float16 would lose precision."""
    import numpy as np

    limits = np.finfo(np.float16)
    if scale.min() < limits.tiny or scale.max() >= limits.max:
        return scale
    half = scale.astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)


def is_finite(weight: Array) -> bool:
    """Whether a weight has neither NaN nor infinity, without making a mask of its size."""
    import numpy as np

    return bool(np.isfinite(weight.min(initial=0)) and np.isfinite(weight.max(initial=0)))


def lazy_codes(source: ir.TensorProtocol, scale: Array, number_format: Symmetric, layout: Layout) -> ir.LazyTensor:
    """An int8 tensor whose codes are computed from ``source`` when they are needed."""
    import onnx_ir as ir

    shape = layout.shape(tuple(source.shape.numpy()))
    return ir.LazyTensor(
        lambda: ir.Tensor(number_format.codes(layout.apply(source.numpy()), scale)),
        dtype=ir.DataType.INT8,
        shape=ir.Shape(shape),
    )


@dataclass(frozen=True)
class Layout:
    """How a stored weight is turned before it is quantized: as it is, or transposed (Gemm's transB)."""

    transposed: bool = False

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[::-1] if self.transposed else shape

    def apply(self, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return weight.T if self.transposed else weight


AS_STORED = Layout()
