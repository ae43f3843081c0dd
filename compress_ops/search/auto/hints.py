"""What cannot be, and what would give more, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import UsageError
from ...recipe import Auto
from .loop import OF_LOSS, Loop, Point

_WORTH = 0.97  # of the size or the time: what saves less is not told


def proof_that_it_cannot_be(loop: Loop, *, narrower: bool) -> None:
    """Raise UsageError where the smallest form of every layer is too large together, before any model is made."""
    costs, predictions = loop.predictions.costs, loop.predictions
    original = predictions.original_size
    limit = loop.wishes.most_bytes(original)
    least = (
        np.where(np.isfinite(costs.loss), costs.bytes, np.iinfo(np.int64).max).min(axis=1)
        if len(costs.layers)
        else np.zeros(0)
    )
    rest = predictions.size - int(costs.bytes[:, 0].sum())
    total = rest + int(least.sum())
    if total <= limit or narrower:
        return
    told = f"the smallest that its layers can be is {total / original:.0%}"
    if len(least):
        largest = int(np.argmax(least))
        told += f", of which {costs.layers[largest].name} alone is {least[largest] / original:.0%}"
    raise UsageError(
        f"{loop.wishes.budget.max_size} cannot be reached: {told}; {rest / original:.0%} is no layer that can change",
        hint=f"ask for --max-size {math.ceil(total / original * 100)}% or more",
    )


def hints(loops: Sequence[Loop], loop: Loop, best: Point, auto: Auto) -> Iterator[str]:
    """Where limits are missed, the nearest; what a looser limit of loss, or training, would give."""
    original = loop.predictions.original_size
    if not best.meets:
        yield (
            f"No model that was made meets every limit; the nearest is {best.trial.bytes / original:.1%} of the size"
            f"{_fast(best)}{_close(best)}."
        )
    yield from _looser(loops, best)
    if not auto.retrain:
        yield "With --retrain --training DATA narrower models are tried, which learn to give what this one gives."


def _looser(loops: Sequence[Loop], best: Point) -> Iterator[str]:
    """The smallest, or else the fastest, that only lost too much."""
    lossy = [point for loop in loops for point in loop.points if not point.keeps(*OF_LOSS) and point.trial.closeness]
    gains = [point for point in lossy if point.trial.bytes < _WORTH * best.trial.bytes or _faster(point, best)]
    if gains:
        point = max(gains, key=lambda each: each.trial.closeness or 0.0)
        size = point.trial.bytes / loops[0].predictions.original_size
        yield f"With {_limit_of(point)}: {size:.1%} of the size{_fast(point)}."


def _limit_of(point: Point) -> str:
    """The limit of loss that a model would have held, in the way in which loss was limited."""
    if point.drop is not None and point.drop.relative_interval is not None:
        return f"--max-drop {math.ceil(point.drop.relative_interval.high * 1000) / 10:g}%"
    return f"--min-closeness {math.floor((point.trial.closeness or 0.0) * 1000) / 1000:g}"


def _faster(point: Point, best: Point) -> bool:
    return (point.trial.speedup or 1.0) * _WORTH > (best.trial.speedup or 1.0)


def _fast(point: Point) -> str:
    return f", {point.trial.speedup:.2f}x as fast" if point.trial.speedup else ""


def _close(point: Point) -> str:
    return f", closeness {point.trial.closeness:.4f}" if point.trial.closeness is not None else ""
