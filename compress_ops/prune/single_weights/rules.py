"""Which weights of a tensor become zero: those whose score is at most a limit, or all but the N highest of every M."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...arrays import Array
from .layout import Weight
from .pattern import Pattern, limit_of, limits_by_row

Scope = Literal["tensor", "output", "global"]


@dataclass(frozen=True)
class Settings:
    """The pass's options, read."""

    pattern: Pattern
    scope: Scope
    ratio: float | None
    threshold: float | None
    normalize: bool

    @property
    def by_rank(self) -> bool:
        """Whether a share of each tensor goes, which is never all of it."""
        return self.ratio is not None and self.scope != "global"

    def choose(self, scores: Array) -> Array:
        """Where scores [rows, taps, inputs] are among the lowest, by ratio within them or by N:M."""
        if self.pattern.kept:
            return self.pattern.lowest(scores)
        units = self.pattern.units(scores)
        return self.pattern.spread(units <= self.limits(units))

    def limits(self, units: Array) -> Any:
        """The limit, or one a row, up to which units go."""
        assert self.ratio is not None
        return limits_by_row(units, self.ratio) if self.scope == "output" else limit_of(units, self.ratio)


@dataclass(frozen=True)
class Rule:
    """What of one weight goes; its magnitudes are multiplied with ``factors`` and divided by ``unit``."""

    weight: Weight
    pattern: Pattern
    factors: Array | None
    unit: float = 1.0
    limit: Any = None  # a number, or one a row; None for N:M

    def scores(self) -> Array:
        """float32 [rows, taps, inputs]."""
        size = np.abs(self.weight.layout.laid(self.weight.tensor.numpy())).astype(np.float32, copy=False)
        return size if self.factors is None else size * self.factors

    def units(self) -> Array:
        """Scores of what goes at once."""
        return self.pattern.units(self.scores()) / self.unit

    def pruned(self) -> Array:
        """The weight with zeros, in its own shape and type."""
        array = self.weight.tensor.numpy()
        gone = self.pattern.lowest(self.scores()) if self.limit is None else self.pattern.spread(self._low())
        return np.where(self.weight.layout.stored(gone), array.dtype.type(0), array)

    def _low(self) -> Array:
        return self.units() <= self.limit


def rules_for(scored: Iterable[tuple[Weight, Array | None]], settings: Settings) -> list[Rule]:
    """A rule for each weight, given the factors of its magnitudes."""
    rules = [Rule(weight, settings.pattern, factors) for weight, factors in scored]
    if settings.pattern.kept:
        return rules
    if settings.threshold is not None:
        return [replace(rule, limit=settings.threshold) for rule in rules]
    if settings.scope == "global":
        return _ranked_together(rules, settings)
    return [replace(rule, limit=settings.limits(rule.units())) for rule in rules]


def _ranked_together(rules: Sequence[Rule], settings: Settings) -> list[Rule]:
    if settings.normalize:
        rules = [replace(rule, unit=_norm(rule.scores())) for rule in rules]
    if not rules:
        return []
    limit = settings.limits(np.concatenate([rule.units().reshape(-1) for rule in rules]))
    return [replace(rule, limit=limit) for rule in rules]


def _norm(scores: Array) -> float:
    return float(np.sqrt(np.square(scores, dtype=np.float64).sum())) or 1.0
