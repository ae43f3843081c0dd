"""Sliding windows of convolutions and pooling: output position p reads inputs p s + t d - b, for taps t of the kernel,
stride s, dilation d and padding b before. Along each axis of input size n, with r = d (k - 1) + 1,

    output size = floor((n + b + e - r) / s) + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ...lazy import ir
from ..step import Step


@dataclass(frozen=True)
class Window:
    """One number an axis: kernel, stride, dilation, padding before and after."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """How many inputs a window spans, r."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def taps(self) -> list[tuple[int, ...]]:
        """Offsets of the kernel's elements, d t, in storage order."""
        return list(product(*(range(0, d * k, d) for k, d in zip(self.kernel, self.dilations, strict=True))))

    @property
    def padded(self) -> bool:
        return any(self.begins) or any(self.ends)

    @property
    def pads(self) -> list[int]:
        return [*self.begins, *self.ends]

    def padded_by(self, totals: Sequence[int], upper: bool) -> Window:
        """So many inputs beside the ends of each axis; of an odd number one more behind (upper) or before."""
        less, more = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        return replace(self, begins=less, ends=more) if upper else replace(self, begins=more, ends=less)

    def spare(self, inputs: Sequence[int], outputs: Sequence[int]) -> tuple[int, ...]:
        """Inputs behind the last window; negative where the last window runs out of the input (ceil_mode)."""
        axes = zip(inputs, outputs, self.strides, self.reach, self.begins, self.ends, strict=True)
        return tuple(n + b + e - (m - 1) * s - r for n, m, s, r, b, e in axes)


def window_of(step: Step, kernel: Sequence[int], large: ir.Value, small: ir.Value) -> Window:
    """The windows of a node that slides over ``large`` and gives ``small``, by its attributes."""
    rank, bare, automatic = len(kernel), bare_window(step, kernel), step.attribute("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        pads = tuple(step.attribute("pads", (0,) * 2 * rank))
        return replace(bare, begins=pads[:rank], ends=pads[rank:])
    return bare if automatic == "VALID" else _same_size(step, bare, large, small, automatic == "SAME_UPPER")


def bare_window(step: Step, kernel: Sequence[int]) -> Window:
    """Without padding."""
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    strides, dilations = step.attribute("strides", ones), step.attribute("dilations", ones)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), zeros, zeros)


def _same_size(step: Step, window: Window, large: ir.Value, small: ir.Value, upper: bool) -> Window:
    """The paddings of SAME_UPPER and SAME_LOWER: e = b, or one more on that side."""
    if set(window.strides) == {1}:
        totals = [reach - 1 for reach in window.reach]
    else:
        axes = range(2, step.rank(large))
        totals = [max(-spare, 0) for spare in window.spare(step.shape(large, axes), step.shape(small, axes))]
    return window.padded_by(totals, upper)


def spread(
    step: Step, small: ir.Value, weight: ir.Value, window: Window, large: ir.Value, **attributes: Any
) -> ir.Value:
    """Every window's value times the weight, added up where windows overlap, in the size of ``large``."""
    axes = range(2, 2 + len(window.kernel))
    common = {"strides": window.strides, "dilations": window.dilations, **attributes}
    if all(isinstance(step.dims(value)[axis], int) for value in (large, step.y) for axis in axes):
        spare = window.spare(step.shape(large, axes), step.shape(step.y, axes))
        ends = [end + max(-rest, 0) for end, rest in zip(window.ends, spare, strict=True)]
        beyond = [max(rest, 0) for rest in spare]
        return step.op("ConvTranspose", small, weight, pads=[*window.begins, *ends], output_padding=beyond, **common)
    beyond = [stride - 1 for stride in window.strides]
    full = step.op("ConvTranspose", small, weight, pads=window.pads, output_padding=beyond, **common)
    return _cut(step, full, large, axes) if any(beyond) else full


def _cut(step: Step, full: ir.Value, large: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Without known sizes the ConvTranspose makes as much as there can be; what is too much goes."""
    ends = step.op("Shape", large, start=2)
    return step.op("Slice", full, step.integers([0] * len(axes)), ends, step.integers(axes))


def tap_slices(step: Step, large: ir.Value, window: Window) -> list[ir.Value]:
    """For each tap of the kernel the inputs that it meets, one an output position. Axes from 2 on are slid over."""
    axes = step.integers(range(2, 2 + len(window.kernel)))
    if window.padded:
        large = step.op("Pad", large, step.integers([0, 0, *window.begins, 0, 0, *window.ends]))
    if window.reach == window.strides == (1,) * len(window.kernel):
        return [large]
    slices = []
    for tap in window.taps:  # counted from the end, so that no size need be known
        last = [offset - reach + 1 or 2**31 for offset, reach in zip(tap, window.reach, strict=True)]
        bounds = step.integers(tap), step.integers(last)
        slices.append(step.op("Slice", large, *bounds, axes, step.integers(window.strides)))
    return slices
