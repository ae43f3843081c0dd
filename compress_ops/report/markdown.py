"""A page as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .page import Page, Table
from .visible import visible

_MARKUP = re.compile(r"[\\`*|<&~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]")  # no more than needed: people read the source, too


def to_markdown(page: Page) -> str:
    """Headline, then a section for each table."""
    lines = [f"## {_text(page.title)}", "", f"**{_text(page.headline)}**", ""]
    for table in page.tables:
        lines += _section(table)
    return "\n".join(lines)


def _section(table: Table) -> Iterator[str]:
    yield f"### {_text(table.title)}"
    yield ""
    if table.rows:
        yield _row(table.columns)
        yield _row(["---:" if right else "---" for right in table.right_aligned()], escape=False)
        yield from map(_row, table.rows)
        yield ""
    for note in table.notes:
        yield f"{_text(note)}  "
    if table.notes:
        yield ""


def _row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(map(_text, cells) if escape else cells)} |"


def _text(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", visible(text))
