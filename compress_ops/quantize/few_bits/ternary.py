"""ternarize_weights and binarize_weights: one scale, and signs.

    ternary: w ~= a t, t in {-1, 0, 1}, t = sign(w) where |w| > d         (Li & Liu 2016, arXiv:1605.04711)
    binary:  w ~= a b, b in {-1, 1}, b = sign(w)                          (Rastegari et al. 2016, arXiv:1603.05279)
The best a is the mean of |w| over the weights that are not zero. For ternary weights, the squared error is then
|w|^2 - (sum of the m largest |w|)^2 / m: the best number m of them is found exactly, from sorted prefix sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...graph.opset import require_opset
from ...graph.packing import Unpacker, editor_for, owner, radices
from ...lazy import ir
from ...measure.quality import Quality
from ...model import Model
from ...passes import Change, Context, Promise, Selection, register
from .decoded import MINIMUM_OPSET, OPERATORS, Operator, Stored, find_stored, gains, signal_to_noise


class BinaryOptions(Selection):
    """What binarize_weights takes."""

    per_channel: Annotated[
        bool,
        Field(
            description="A scale for each output channel, else one for the whole weight. On by default: more exact, "
            "for 4 bytes a channel."
        ),
    ] = True
    operators: Annotated[
        list[Operator],
        Field(
            description="Operator types whose weights are changed. All by default: decoding costs no speed; name few "
            "where accuracy counts."
        ),
    ] = OPERATORS


class TernaryOptions(BinaryOptions):
    """What ternarize_weights takes."""

    threshold: Annotated[
        float | None,
        Field(
            gt=0,
            lt=4,
            description="Zero up to this times the mean of |w| (the paper: 0.7). Absent: the one with the least "
            "squared error.",
        ),
    ] = None


@register("ternarize_weights", promises=Promise.SHRINKS)
def ternarize_weights(model: Model, ctx: Context, options: TernaryOptions) -> Change:
    """Store weights as -1, 0 or 1 times a scale, five to a byte (ternary weight networks).

    Li & Liu 2016 (arXiv:1605.04711). By default the threshold is the one of least squared error, found exactly; the
    paper's 0.7 of the mean is its approximation for bell-shaped weights. Decoded by standard operators that onnxruntime
    folds at load: weights take a twentieth, runs take what the float model takes. Without training afterwards this
    costs much accuracy (digits-mlp 0.978 -> 0.961, digits-cnn 1.000 -> 0.530; with finetune_quantized behind it
    0.998): train, or leave out the first and the last layer.
    """
    return _apply(model, ctx, options, lambda rows: _ternary(rows, options.threshold), 3)


@register("binarize_weights", promises=Promise.SHRINKS)
def binarize_weights(model: Model, ctx: Context, options: BinaryOptions) -> Change:
    """Store weights as their signs times a scale, eight to a byte (binary weight networks).

    XNOR-Net's weights (Rastegari et al. 2016, arXiv:1603.05279): the scale is the mean of |w|, zero counts as positive.
    Decoded by standard operators that onnxruntime folds at load: weights take a thirtieth, runs take what the float
    model takes. Without training afterwards much accuracy is lost (digits-mlp 0.978 -> 0.941, digits-cnn to 0.152; with
    finetune_quantized behind it 0.989).
    """
    return _apply(model, ctx, options, _binary, 2)


def _binary(rows: Array) -> tuple[Array, Array]:
    """Scales [rows, 1] and magnitudes [rows, 1] above which a weight is not zero (all are)."""
    return np.abs(rows).mean(axis=1, keepdims=True, dtype=np.float64), np.full((len(rows), 1), -1.0)


def _ternary(rows: Array, threshold: float | None) -> tuple[Array, Array]:
    """Scales and thresholds [rows, 1] of every row."""
    if threshold is None:
        return _best_ternary(rows)
    size = np.abs(rows)
    limit = threshold * size.mean(axis=1, keepdims=True, dtype=np.float64)
    kept = size > limit
    total = np.einsum("ri,ri->r", size, kept, dtype=np.float64)
    return (total / np.maximum(kept.sum(axis=1), 1)).reshape(-1, 1), limit


def _best_ternary(rows: Array) -> tuple[Array, Array]:
    size = np.sort(np.abs(rows), axis=1)[:, ::-1].astype(np.float64)
    total, number = np.cumsum(size, axis=1), np.arange(1.0, rows.shape[1] + 1)
    last = (total**2 / number).argmax(axis=1)[:, None]
    scale = np.take_along_axis(total, last, axis=1) / (last + 1)
    return scale, scale / 2  # at the optimum, what is nearer to the scale than to zero is not zero


def _apply(
    model: Model, ctx: Context, options: BinaryOptions, rule: Callable[[Array], tuple[Array, Array]], levels: int
) -> Change:
    require_opset(model, MINIMUM_OPSET)
    change, unpacker, quality, per_channel = Change(), Unpacker(model), Quality(), options.per_channel
    weights = find_stored(model, options.operators, options.only, options.skip, change)
    for stored in ctx.progress(weights, "signs"):
        scales = stored.sizes[stored.axis] if per_channel else 1
        if not gains(stored, radices(levels), int(scales * stored.tensor.dtype.itemsize), change):
            continue
        signs = _Signs(stored, *rule(stored.rows(per_channel)), levels, per_channel)
        quality.add(stored.name, signs.signal_to_noise())
        signs.write(unpacker)
        told = f", {float((signs.codes() == 0).mean()):.0%} of them zero" if levels > 2 else ""
        change.touch(stored.name, f"{stored.tensor.size} signs and {scales} scales{told}")
    model.drop_unused()
    change.notes["sqnr_db"] = quality.by_name()
    return change


@dataclass(frozen=True)
class _Signs:
    """A weight as scale * sign, with sign 0 up to the threshold."""

    stored: Stored
    scale: Array
    threshold: Array
    levels: int
    per_channel: bool

    def codes(self) -> Array:
        """int8 signs [channels or 1, weights]."""
        rows = self.stored.rows(self.per_channel)
        signs = np.where(rows < 0, np.int8(-1), np.int8(1))
        return signs if self.levels == 2 else np.where(np.abs(rows) > self.threshold, signs, np.int8(0))

    def signal_to_noise(self) -> float:
        rows = self.stored.rows(self.per_channel)
        return signal_to_noise(rows, self.codes() * self.scale.astype(rows.dtype))

    def write(self, unpacker: Unpacker) -> None:
        """Let the weight's readers read scale * (code - 1), codes being 0 and 2, or 0, 1 and 2."""
        value, graph, size = self.stored.value, owner(self.stored.value), self.stored.tensor.size
        edit, bases = editor_for(unpacker.model, value), radices(self.levels)
        dtype, apart = self.stored.tensor.dtype.numpy(), 2 if self.levels == 2 else 1

        def packed() -> Array:
            return ((self.codes().reshape(1, -1) + 1) // apart).astype(np.uint8)

        planes = unpacker.store(f"{self.stored.name}_signs", packed, (1, size), bases, graph)
        codes = unpacker.unpack(edit, planes, bases, dtype.name, size, factor=apart)
        shape, back = self.stored.turned(self.per_channel)
        along = (-1, *[1] * (len(shape) - 1)) if self.per_channel else ()
        add = unpacker.model.add_weight
        scale = add(f"{self.stored.name}_scale", ir.Tensor(self.scale.reshape(along).astype(dtype)), graph)
        middle = unpacker.constant("middle", np.ones((), dtype))
        numbers = edit.op("Sub", edit.op("Reshape", codes, unpacker.shape(shape)), middle)
        numbers = edit.op("Mul", numbers, scale)
        if back != sorted(back):
            numbers = edit.op("Transpose", numbers, perm=back)
        value.replace_all_uses_with(numbers)
