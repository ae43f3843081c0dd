"""Selection: which units go, so that a share of channels or of the model's parameters goes.

One knob from 0 to 1 says how many units each group loses: the same share of each (uniform), or those whose score is
below one threshold for all groups (global). The knob is turned by bisection until the goal is reached; rounding widths
makes the last step coarse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import PassError

if TYPE_CHECKING:
    import numpy as np

    from .channels import Group, Grouping

    Array: TypeAlias = np.ndarray[Any, Any]

Scope = Literal["uniform", "global"]
By = Literal["channels", "parameters"]
_STEPS = 40  # halvings of the knob's interval


@dataclass(frozen=True)
class Widths:
    """What a group's width may become: at least so many channels and units, a multiple of ``round_to`` channels.

    A group of less than two such multiples is not rounded.
    """

    channels: int = 1
    units: int = 1
    round_to: int = 1

    def removed(self, group: Group, wanted: float) -> int:
        """How many units to remove, given how many one would like to."""
        units = len(group)
        step = self.round_to // math.gcd(self.round_to, group.width)
        floor = min(units, max(self.units, math.ceil(self.channels / group.width)))
        kept = units - wanted
        if units >= 2 * step:
            kept = step * max(1, math.floor(kept / step + 0.5))
        return max(0, units - max(floor, math.floor(kept + 0.5)))


class Parameters:
    """The number of parameters that remain when groups lose units."""

    def __init__(self, grouping: Grouping, groups: Sequence[Group]) -> None:
        self._other = 0
        self._cuts: dict[Any, list[list[tuple[int, float]]]] = {
            weight: [[] for _ in layout] for weight, layout in grouping.trace.weights.items()
        }
        for number, group in enumerate(groups):
            for member in group.members:
                self._cuts[member.weight][member.axis].append((number, member.indices.shape[1] / member.groups))

    def left(self, removed: Sequence[int]) -> int:
        return sum(self._size(weight, cuts, removed) for weight, cuts in self._cuts.items())

    def _size(self, weight: Any, cuts: list[list[tuple[int, float]]], removed: Sequence[int]) -> int:
        size = 1.0
        for before, cut in zip(weight.const_value.shape.numpy(), cuts, strict=True):
            size *= before - sum(removed[number] * count for number, count in cut)
        return round(size)


def select(
    groups: Sequence[Group],
    scores: Sequence[Array],
    parameters: Parameters,
    widths: Widths,
    *,
    ratio: float,
    scope: Scope,
    by: By,
) -> Array:
    """The units to cut: in each group those with the lowest scores."""
    import numpy as np

    wanted = _uniform(groups) if scope == "uniform" else _global(groups, scores)

    def counts(knob: float) -> list[int]:
        return [widths.removed(group, want) for group, want in zip(groups, wanted(knob), strict=True)]

    if scope == "uniform" and by == "channels":
        removed = counts(ratio)
    else:
        removed = _turn(counts, _goal(groups, parameters, by), ratio, by)
    chosen = [
        group.units[np.argsort(score, kind="stable")[:count]]
        for group, score, count in zip(groups, scores, removed, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int64), *chosen])


Knob = Callable[[float], Sequence[float]]


def _uniform(groups: Sequence[Group]) -> Knob:
    return lambda knob: [knob * len(group) for group in groups]


def _global(groups: Sequence[Group], scores: Sequence[Array]) -> Knob:
    """All units in one order; the knob is the share of channels at which the threshold stands."""
    import numpy as np

    every = np.concatenate([np.zeros(0), *scores])
    order = np.argsort(every, kind="stable")
    weights = np.concatenate([np.zeros(0), *(np.full(len(group), group.width) for group in groups)])
    share = np.empty_like(every)
    share[order] = np.cumsum(weights[order]) / max(weights.sum(), 1)
    parts = np.split(share, np.cumsum([len(group) for group in groups])[:-1]) if len(groups) else []
    return lambda knob: [float(np.count_nonzero(part <= knob)) for part in parts]


def _goal(groups: Sequence[Group], parameters: Parameters, by: By) -> Callable[[Sequence[int]], float]:
    """The share that is gone when groups lose so many units."""
    if by == "parameters":
        whole = parameters.left([0] * len(groups))
        return lambda removed: 1 - parameters.left(removed) / whole
    channels = sum(len(group) * group.width for group in groups) or 1
    return lambda removed: sum(n * group.width for n, group in zip(removed, groups, strict=True)) / channels


def _turn(
    counts: Callable[[float], list[int]], gone: Callable[[Sequence[int]], float], ratio: float, by: By
) -> list[int]:
    """The smallest setting of the knob at which the share gone reaches the ratio."""
    low, high = 0.0, 1.0
    most = gone(counts(high))
    if most < ratio and by == "parameters":
        raise PassError(
            f"{ratio:.0%} of the parameters cannot go: at most {most:.1%} belong to channels that may be cut",
            hint="lower the ratio, or state it by channels",
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if gone(counts(middle)) >= ratio else (middle, high)
    return counts(high)
