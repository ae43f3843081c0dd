"""What cannot be, and what would give more, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import UsageError
from ...recipe import Auto
from .rounds import OF_LOSS, Loop, Point

_WORTH = 0.97  # of the size or the time: what saves less is not told


def why_it_cannot_be(loop: Loop) -> UsageError | None:
    """What to raise where the smallest form of every layer is too large together: known before any model is made."""
    costs, original = loop.predictions.costs, loop.predictions.original_size
    alone = costs.bytes - costs.shared
    least = np.where(np.isfinite(costs.loss), alone, np.inf).min(axis=1)
    rest = loop.predictions.size - alone[:, 0].sum()
    total = rest + least.sum()
    if total <= loop.wishes.most_bytes(original):
        return None
    told = f"the smallest that its layers can be is {total / original:.0%}"
    if len(least):
        largest = int(np.argmax(least))
        told += f", of which {costs.layers[largest].name} alone is {least[largest] / original:.0%}"
    return UsageError(
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
    """The closest of those that are smaller or faster than the best and only lost too much."""
    lossy = [point for loop in loops for point in loop.points if not point.keeps(*OF_LOSS) and _closeness(point)]
    gains = [point for point in lossy if point.trial.bytes < _WORTH * best.trial.bytes or _faster(point, best)]
    if gains:
        point = max(gains, key=lambda each: each.trial.closeness or 0.0)
        original = loops[0].predictions.original_size
        yield f"With {_limits(point)}: {point.trial.bytes / original:.1%} of the size{_fast(point)}."


def _limits(point: Point) -> str:
    """Those on what is lost that the model would have kept, in place of those that it did not."""
    missed = {verdict.limit for verdict in point.verdicts if verdict.verdict != "met"}
    told = []
    if "max_drop" in missed and point.drop is not None and point.drop.relative_interval is not None:
        told.append(f"--max-drop {math.ceil(point.drop.relative_interval.high * 1000) / 10:g}%")
    if "min_closeness" in missed or not told:
        told.append(f"--min-closeness {_closeness(point):g}")
    return " ".join(told)


def _closeness(point: Point) -> float:
    """Rounded down to what is asked for."""
    return math.floor((point.trial.closeness or 0.0) * 1000) / 1000


def _faster(point: Point, best: Point) -> bool:
    return (point.trial.speedup or 1.0) * _WORTH > (best.trial.speedup or 1.0)


def _fast(point: Point) -> str:
    return f", {point.trial.speedup:.2f}x as fast" if point.trial.speedup else ""


def _close(point: Point) -> str:
    return f", closeness {point.trial.closeness:.4f}" if point.trial.closeness is not None else ""
