"""Number formats: how real numbers become few bits, w = scale * (q - zero_point), and back.

Reductions look at a weight once; the codes themselves are made when the model is saved (lazy), so that no second
copy of the weights is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...lazy import ir
from ...nodes import later

PerChannel = Annotated[
    bool,
    Field(
        description="One scale per output channel, else one per weight. On by default: more accurate, for a "
        "few bytes per channel."
    ),
]


@dataclass(frozen=True)
class Symmetric:
    """Signed codes of ``bits`` bits around zero: q = round(w / scale) in [-limit, limit], zero_point = 0.

    The lowest code -2^(bits-1) is not used, so that the range is the same on both sides (ONNX and onnxruntime do
    so for weights). With ``power_of_two`` scales are rounded up to powers of two: fixed-point numbers.
    """

    bits: int = 8
    power_of_two: bool = False

    @property
    def dtype(self) -> ir.DataType:
        return ir.DataType.INT8

    @property
    def limit(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def scale(self, weight: Array, axes: tuple[int, ...] | None, least: Array | float = 0.0) -> Array:
        """float32 scales, max|w| / limit over ``axes`` (None: over everything), kept as axes of size 1.

        None is smaller than ``least``. All-zero slices without such get scale 1, so that their codes are zeros.
        """
        largest = np.maximum(weight.max(axis=axes, keepdims=True), -weight.min(axis=axes, keepdims=True))
        scale = largest.astype(np.float32) / np.float32(self.limit)
        return _usable(scale, np.asarray(least, np.float32), self.power_of_two)

    def fit(self, weight: Array, axes: tuple[int, ...] | None, least: Array | float = 0.0) -> tuple[Symmetric, Array]:
        """The format to code this weight with, and its scales."""
        return self, self.scale(weight, axes, least)

    def restored(self, weight: Array, scale: Array) -> Array:
        """What the codes of a weight give back, float32."""
        return np.multiply(self.codes(weight, scale), scale, dtype=np.float32)

    def codes(self, weight: Array, scale: Array) -> Array:
        """int8 codes of the weight's shape; ``scale`` broadcasts against it. Rounds half to even, as ONNX does."""
        codes = np.divide(weight, scale, dtype=np.float32)  # a float16 scale is widened first
        np.rint(codes, out=codes)
        np.clip(codes, -self.limit, self.limit, out=codes)
        return codes.astype(np.int8)


@dataclass(frozen=True)
class Unsigned:
    """8-bit codes 0..255 of a weight over the interval from its extremes to zero: q = round(w / scale) + zero_point.

    With ``symmetric`` the zero point is 128 everywhere: what operators that take one zero point for all channels need.
    """

    symmetric: bool = False
    power_of_two: bool = False
    zero_point: Array | int = 128

    @property
    def dtype(self) -> ir.DataType:
        return ir.DataType.UINT8

    def fit(self, weight: Array, axes: tuple[int, ...] | None, least: Array | float = 0.0) -> tuple[Unsigned, Array]:
        """The format with the zero points of this weight, and its scales; both kept as axes of size 1."""
        if self.symmetric:
            scale = Symmetric(power_of_two=self.power_of_two).scale(weight, axes, least)
            return replace(self, zero_point=np.full(scale.shape, 128, np.uint8)), scale
        low = np.minimum(weight.min(axis=axes, keepdims=True), 0).astype(np.float64)
        high = np.maximum(weight.max(axis=axes, keepdims=True), 0).astype(np.float64)
        scale = _usable((high - low) / 255, least, self.power_of_two)
        return replace(self, zero_point=np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)), scale

    def codes(self, weight: Array, scale: Array) -> Array:
        """uint8 codes of the weight's shape."""
        codes = np.divide(weight, scale, dtype=np.float32)
        np.rint(codes, out=codes)
        codes += self.zero_point
        return np.clip(codes, 0, 255, out=codes).astype(np.uint8)

    def restored(self, weight: Array, scale: Array) -> Array:
        """What the codes of a weight give back, float32."""
        return np.multiply(self.codes(weight, scale).astype(np.float32) - self.zero_point, scale, dtype=np.float32)


WeightFormat = Symmetric | Unsigned


@dataclass(frozen=True)
class Asymmetric:
    """Codes of 8 or 16 bits over an interval that holds zero: q = clip(round(x / scale) + zero_point).

    ``scale`` is float32; ``zero_point`` has the type of the codes.
    """

    scale: np.float32
    zero_point: np.integer[Any]

    @classmethod
    def of(
        cls, low: float, high: float, kind: str, symmetric: bool | None = None, power_of_two: bool = False
    ) -> Asymmetric:
        """The form whose codes cover [low, high] and zero exactly; an interval of length zero gets scale 1.

        Symmetric forms (None: where codes have a sign) have zero in the middle and do not use the lowest code. With
        ``power_of_two`` the scale is rounded up to a power of two.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        limits, symmetric = np.iinfo(kind), kind.startswith("int") if symmetric is None else symmetric
        wide = 2 * max(-low, high) if symmetric else high - low
        scale = _positive(wide / levels_of(kind, symmetric))
        scale = raised(scale) if power_of_two else scale
        zero = (limits.min + limits.max + 1) // 2 if symmetric else np.rint(-low / float(scale)) + limits.min
        return cls(scale, np.dtype(kind).type(np.clip(zero, limits.min, limits.max)))

    @property
    def interval(self) -> tuple[float, float]:
        """The numbers of the lowest and the highest code."""
        limits, zero = np.iinfo(self.zero_point.dtype), int(self.zero_point)
        return (limits.min - zero) * float(self.scale), (limits.max - zero) * float(self.scale)


def _usable(scale: Array, least: Array | float, power_of_two: bool) -> Array:
    """float32 scales, none below ``least``, 1 where they are too small to divide by."""
    wide = np.maximum(scale, least).astype(np.float32)
    wide = np.where(wide < np.finfo(np.float32).tiny, np.float32(1), wide)
    return raised(wide) if power_of_two else wide


def raised(scale: Any) -> Any:
    """Scales rounded up to powers of two, float32."""
    fraction, exponent = np.frexp(scale)  # scale = fraction 2^exponent, fraction in [1/2, 1)
    return np.ldexp(np.float32(1), np.where(fraction == 0.5, exponent - 1, exponent))


def levels_of(kind: str, symmetric: bool) -> int:
    """Steps from the lowest to the highest code; symmetric forms do not use the lowest."""
    bits = 16 if kind.endswith("16") else 8
    return (1 << bits) - (2 if symmetric else 1)


def _positive(scale: float) -> np.float32:
    return np.float32(scale) if scale >= np.finfo(np.float32).tiny else np.float32(1)


def as_half(scale: Array) -> Array:
    """Scales as float16, rounded up so that no code is clipped; as they are where float16 would lose precision."""
    limits = np.finfo(np.float16)
    if scale.min() < limits.tiny or scale.max() >= limits.max:
        return scale
    half = scale.astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)


def lazy_codes(source: ir.TensorProtocol, scale: Array, number_format: WeightFormat, layout: Layout) -> ir.LazyTensor:
    """An 8-bit tensor whose codes are computed from ``source`` when they are needed."""
    sizes = layout.shape(tuple(source.shape.numpy()))
    return later(lambda: number_format.codes(layout.apply(source.numpy()), scale), number_format.dtype, sizes)


@dataclass(frozen=True)
class Layout:
    """How a stored weight is turned before it is quantized: as it is, or with its last two axes exchanged."""

    transposed: bool = False

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    def apply(self, weight: Array) -> Array:
        return weight.swapaxes(-1, -2) if self.transposed else weight


AS_STORED = Layout()
