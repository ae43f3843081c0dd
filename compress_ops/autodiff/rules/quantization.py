"""Gradients through quantization, rounding taken as the identity (straight through), with learned scales (LSQ).

    q = clip(round(x / s) + z):  dx = dq / s and ds = -dq x / s^2 where x / s + z lies inside the range, else 0
    y = (q - z) s:               dq = dy s   and ds = dy (q - z)

Integers stand for floats here: dq is a float tensor. Both together: dx = dy inside the range, and
ds = dy (round(x / s) - x / s) inside, dy (q - z) outside, as in Esser et al., Learned Step Size Quantization (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...lazy import ir
from ...nodes import limits_of
from ..rule import Result, gradient
from ..step import Step


@gradient("QuantizeLinear", stops=(2,), integers=True)
def quantize(step: Step, dy: ir.Value) -> Result:
    blocks = _Blocks.of(step)
    x, scale, zero = blocks.split(step.x), blocks.scale(), blocks.zero()
    ratio = step.div(x, scale)
    shifted = ratio if zero is None else step.add(ratio, zero)
    assert step.y.dtype is not None
    clipped = step.op("Clip", shifted, *map(step.number, limits_of(step.y.dtype)))
    inside = step.div(step.mul(blocks.split(dy), step.mask("Equal", shifted, clipped)), scale)
    return lambda: step.like(inside, step.x), lambda: blocks.sum(step.op("Neg", step.mul(inside, ratio)))


@gradient("DequantizeLinear", stops=(2,))
def dequantize(step: Step, dy: ir.Value) -> Result:
    blocks = _Blocks.of(step)
    scale, zero, dy_split = blocks.scale(), blocks.zero(), blocks.split(dy)

    def to_scale() -> ir.Value:
        codes = blocks.split(step.op("Cast", step.x, to=step.dtype))
        return blocks.sum(step.mul(dy_split, codes if zero is None else step.sub(codes, zero)))

    return lambda: step.like(step.mul(dy_split, scale), step.x), to_scale


@dataclass(frozen=True)
class _Blocks:
    """How scales meet elements: ``shape`` splits a tensor so that ``meets``, with 1 on shared axes, broadcasts."""

    step: Step
    shape: tuple[int, ...] | None
    meets: tuple[int, ...]

    @classmethod
    def of(cls, step: Step) -> _Blocks:
        rank, axis, block = step.rank(step.x), step.attribute("axis", 1), step.attribute("block_size", 0)
        if block:
            return cls._blocked(step, step.shape(step.x), axis % rank, block)
        channels = step.shape(step.inputs[1])
        if not channels or channels == (1,):
            return cls(step, None, (1,) * rank)
        return cls(step, None, (*(1,) * (axis % rank), channels[0], *(1,) * (rank - 1 - axis % rank)))

    @classmethod
    def _blocked(cls, step: Step, shape: tuple[int, ...], axis: int, block: int) -> _Blocks:
        count, rest = divmod(shape[axis], block)
        if rest:
            raise step.refusal(f"axis {axis} of size {shape[axis]} is no multiple of the block size {block}")
        outer, inner = shape[:axis], shape[axis + 1 :]
        return cls(step, (*outer, count, block, *inner), (*outer, count, 1, *inner))

    def split(self, value: ir.Value) -> ir.Value:
        return value if self.shape is None else self.step.op("Reshape", value, self.step.integers(self.shape))

    def scale(self) -> ir.Value:
        return self.step.op("Reshape", self.step.inputs[1], self.step.integers(self.meets))

    def zero(self) -> ir.Value | None:
        zero = self.step.optional(2)
        if zero is None:
            return None
        return self.step.op("Reshape", self.step.op("Cast", zero, to=self.step.dtype), self.step.integers(self.meets))

    def sum(self, value: ir.Value) -> ir.Value:
        """Down to the shape of the scales."""
        axes = [axis for axis, size in enumerate(self.meets) if size == 1]
        return self.step.like(self.step.sum(value, axes), self.step.inputs[1])
