"""What a report looks like before it is rendered: a headline and tables of text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import units
from .visible import visible


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns (all empty: no header), rows of text, and notes that stand below."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def right_aligned(self) -> list[bool]:
        """For each column whether it holds numbers: those stand to the right."""
        return [bool(self.rows) and all(map(_is_number, cells)) for cells in zip(*self.rows, strict=True)] or [
            False for _ in self.columns
        ]

    def visible(self) -> Table:
        """The same, with what others named made safe to be shown."""
        rows = [[*map(visible, row)] for row in self.rows]
        columns, notes = ([*map(visible, texts)] for texts in (self.columns, self.notes))
        return Table(visible(self.title), columns, rows, notes)


_NUMBER = re.compile(r"[+-]?\d[\d.,]*x?(e[+-]\d+)?( [%\w]{1,3})?( \[.*\])?")


def _is_number(cell: str) -> bool:
    return cell == units.UNKNOWN or _NUMBER.fullmatch(cell) is not None


@dataclass(frozen=True)
class Page:
    """One answer: its title, the headline that says it in a sentence, and the tables that bear it out."""

    title: str
    headline: str
    tables: Sequence[Table] = field(default_factory=list)
