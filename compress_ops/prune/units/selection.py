"""Selection: which units go, so that a share of channels, parameters, arithmetic or time goes.

One knob from 0 to 1 says how many units each group loses: the same share of each (uniform), those whose score is below
one threshold for all groups (global), or those whose price is (see ``least_error``). The knob is turned by bisection
until the goal is reached; rounding widths makes the last step coarse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ..channels import Group

Scope = Literal["uniform", "global", "least_error"]
By = Literal["channels", "parameters", "flops", "latency"]
Gone = Callable[[Sequence[int]], float]  # the share that is gone when groups lose so many units
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


@dataclass(frozen=True)
class Dial:
    """Groups with their scores; the knob's setting tells how many units each loses.

    ``prices`` are of the units in the order in which they go, rising; None: the group loses as uniform says. ``most``
    is the largest share of a group that may go.
    """

    groups: Sequence[Group]
    scores: Sequence[Array]
    widths: Widths
    scope: Scope
    prices: Sequence[Array | None] = ()
    most: float = 1.0

    def counts(self, knob: float) -> list[int]:
        ways = {"uniform": self._uniform, "global": self._global, "least_error": self._by_price}
        wanted = ways[self.scope](knob)
        return [self.widths.removed(group, want) for group, want in zip(self.groups, wanted, strict=True)]

    def channels_gone(self, removed: Sequence[int]) -> float:
        channels = sum(len(group) * group.width for group in self.groups) or 1
        return sum(n * group.width for n, group in zip(removed, self.groups, strict=True)) / channels

    def units(self, removed: Sequence[int]) -> Array:
        """The units to cut: in each group those with the lowest scores."""
        chosen = [
            group.units[np.argsort(score, kind="stable")[:count]]
            for group, score, count in zip(self.groups, self.scores, removed, strict=True)
        ]
        return np.concatenate([np.zeros(0, np.int64), *chosen])

    def of(self, members: Sequence[int]) -> Dial:
        """The dial of some of the groups."""
        return Dial([self.groups[i] for i in members], [self.scores[i] for i in members], self.widths, self.scope)

    def _uniform(self, knob: float) -> list[float]:
        return [knob * len(group) for group in self.groups]

    def _global(self, knob: float) -> list[float]:
        """All units in one order; the knob is the share of channels at which the threshold stands."""
        every = np.concatenate([np.zeros(0), *self.scores])
        order = np.argsort(every, kind="stable")
        weights = np.concatenate([np.zeros(0), *(np.full(len(group), group.width) for group in self.groups)])
        share = np.empty_like(every)
        share[order] = np.cumsum(weights[order]) / max(weights.sum(), 1)
        parts = np.split(share, np.cumsum([len(group) for group in self.groups])[:-1]) if self.groups else []
        return [float(np.count_nonzero(part <= knob)) for part in parts]

    def _by_price(self, knob: float) -> list[float]:
        """All units that cost no more than the threshold, which rises with the knob."""
        known = [prices for prices in self.prices if prices is not None]
        threshold = np.quantile(np.concatenate(known), knob) if known else 0.0
        return [
            min(self.most * len(group), knob * len(group) if prices is None else float((prices <= threshold).sum()))
            for group, prices in zip(self.groups, self.prices, strict=True)
        ]


def by_channels(dial: Dial, ratios: Sequence[float]) -> list[int]:
    """Groups of one ratio lose this share of their channels: each of them, or all together (global)."""
    removed = [0] * len(ratios)
    for ratio in dict.fromkeys(ratios):
        members = [i for i, own in enumerate(ratios) if own == ratio]
        part = dial.of(members)
        counts = part.counts(ratio) if dial.scope == "uniform" else turn(part, part.channels_gone, ratio)
        for i, count in zip(members, counts, strict=True):
            removed[i] = count
    return removed


def turn(dial: Dial, gone: Gone, ratio: float) -> list[int]:
    """The smallest setting of the knob at which the share gone reaches the ratio, or the largest there is."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if gone(dial.counts(middle)) >= ratio else (middle, high)
    return dial.counts(high)


def within_reach(most: float, ratio: float, what: str) -> None:
    """Raise PassError where even the largest cut takes less than the ratio."""
    if most < ratio:
        raise PassError(
            f"{ratio:.0%} of the {what} cannot go: at most {most:.1%} belong to channels that may be cut",
            hint="lower the ratio, or state it by channels",
        )
