"""Markdown tables, and figures held against what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What a figure was asked to reach: at least ``limit``, or at most where ``at_most``."""

    what: str
    reached: float
    limit: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.reached <= self.limit if self.at_most else self.reached >= self.limit

    def row(self) -> list[str]:
        asked = f"{'<=' if self.at_most else '>='} {self.limit:.4g}"
        return [self.what, f"{self.reached:.4g}", asked, "yes" if self.is_met else "**no**"]


def put_goals(goals: Sequence[Goal]) -> None:
    """Print what was asked beside what was reached."""
    put(["case", "reached", "asked", "met"], [goal.row() for goal in goals])


def put(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print one table, after a heading where there is a title."""
    print(f"\n### {title}\n" if title else "")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(end="", flush=True)
