"""Integer products that are the same on every processor.

x86 processors without VNNI multiply u8 by s8 in pairs and add both products into 16 signed bits, which saturate:
255 |q_1 + q_2| > 32,767 for two codes of one sign, that is, from |q_1 + q_2| = 129 on. Portable weights have scales
so large that no pair which a kernel may form exceeds 128: at worst those of 7 bits, smaller where pairs leave room.
MatMul and Gemm pair neighbours along the summed axis; a Conv may sum in any order, so that the two largest weights of
one sign count. Depthwise QLinearConv has a kernel of its own in onnxruntime, which adds in 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...measure.quality import told, weight_sqnr
from ...model import Model
from .formats import Symmetric

Portable = Annotated[
    bool | Literal["auto"],
    Field(
        description="The same outputs on CPUs without VNNI, for 0-1 bit. auto by default: each weight that keeps "
        "30 dB SQNR so is portable, the others keep all 8 bits; the report names the worst of them."
    ),
]
LEAST_SQNR = 30.0
"""dB that each portable weight must keep for ``auto``: noise of a thousandth of its power, a cosine of 0.9995."""
METADATA = "onnxpress.portable"
_PAIR = 127  # of a pair's sum in steps of the scale: rounding adds one at most


@dataclass(frozen=True)
class Candidate:
    """A weight that may have to be portable: how it is reduced to scales, and the axis that a kernel sums along.

    ``along`` is None for a Conv, whose first axis is that of output channels.
    """

    name: str
    weight: Array
    axes: tuple[int, ...] | None
    along: int | None
    saturates: bool = True

    def least(self) -> Array:
        """The smallest scales with which no pair of codes can saturate, shaped as the scales are."""
        if not self.saturates:
            return np.zeros((1,) * self.weight.ndim, np.float32)
        pairs = _ordered_pairs(self.weight, self.along) if self.along is not None else _any_pairs(self.weight)
        return pairs.max(axis=self.axes, keepdims=True) / np.float32(_PAIR)

    def sqnr(self) -> float:
        form = Symmetric()
        return weight_sqnr(self.weight, form.restored(self.weight, form.scale(self.weight, self.axes, self.least())))


def _ordered_pairs(weight: Array, along: int) -> Array:
    """Sums of neighbours of one sign along an axis, as magnitudes; all zero where there is but one number."""
    if weight.shape[along] < 2:
        return np.zeros_like(weight)
    turned = np.moveaxis(weight, along, 0)
    sums = [part[1:] + part[:-1] for part in (np.maximum(turned, 0), np.maximum(-turned, 0))]
    return np.moveaxis(np.maximum(*sums), 0, along)


def _any_pairs(weight: Array) -> Array:
    """For each output channel (axis 0), the sum of its two largest weights of one sign."""
    flat = weight.reshape(weight.shape[0], -1)
    shape = (-1,) + (1,) * (weight.ndim - 1)
    if flat.shape[1] < 2:
        return np.zeros(weight.shape[0], weight.dtype).reshape(shape)
    tops = [np.partition(part, -2, axis=1)[:, -2:].sum(axis=1) for part in (np.maximum(flat, 0), np.maximum(-flat, 0))]
    return np.maximum(*tops).reshape(shape)


@dataclass
class Portability:
    """Which weights become portable: all, none, or with ``auto`` each that stays precise.

    ``short`` holds the dB that a weight would have had, by the names of those that keep all 8 bits for it.
    """

    asked: Portable
    seen: int = 0
    short: dict[str, float] = field(default_factory=dict)

    def least(self, candidate: Candidate) -> Array:
        """The smallest scales of a weight, shaped as its scales are; zeros where it need not be portable."""
        self.seen += candidate.saturates
        if self.asked == "auto" and candidate.saturates and (found := candidate.sqnr()) < LEAST_SQNR:
            self.short[candidate.name] = found
        keeps_all = not self.asked or candidate.name in self.short
        return np.zeros((1,) * candidate.weight.ndim, np.float32) if keeps_all else candidate.least()

    @property
    def whole(self) -> bool:
        """Whether all weights are portable."""
        return bool(self.asked) and not self.short

    def notes(self) -> dict[str, str]:
        """Whether the step's weights are portable, and which one is least so."""
        if not self.short:
            return {"portable": "yes" if self.asked else "no"}
        worst = min(self.short, key=self.short.__getitem__)
        some = "no" if len(self.short) == self.seen else f"all but {len(self.short)} of {self.seen} weights"
        reason = f"{some}: {worst} would have {told(self.short[worst])}, less than {LEAST_SQNR:.0f}"
        return {"portable": f"{reason}; outputs may differ on x86 processors without VNNI"}


def record(model: Model, portable: bool) -> None:
    """Say in the model's metadata whether it is portable; one step that is not decides for the model."""
    before = model.ir.metadata_props.get(METADATA)
    model.ir.metadata_props[METADATA] = "true" if portable and before != "false" else "false"
