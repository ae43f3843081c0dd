"""A page as one HTML file that needs no other, readable in light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .page import Page, Table
from .visible import visible

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.headline { font-size: 1.1rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 1rem 0.25rem 0; text-align: left; border-bottom: 1px solid #8884; vertical-align: top; }
th { font-weight: 500; opacity: 0.7; } .number { text-align: right; }
.note { opacity: 0.7; margin: 0.25rem 0; }
""".strip()


def to_html(page: Page) -> str:
    """Headline, then a section for each table; all text is escaped."""
    sections = "\n".join(line for table in page.tables for line in _section(table))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(page.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{_text(page.title)}</h1>\n"
        f'<p class="headline">{_text(page.headline)}</p>\n{sections}\n</body>\n</html>\n'
    )


def _section(table: Table) -> Iterator[str]:
    yield f"<h2>{_text(table.title)}</h2>"
    if table.rows:
        numbers = table.right_aligned()
        yield '<div class="scroll"><table>'
        if any(table.columns):
            yield f"<thead>{_row('th', table.columns, numbers)}</thead>"
        yield from (_row("td", row, numbers) for row in table.rows)
        yield "</table></div>"
    yield from (f'<p class="note">{_text(note)}</p>' for note in table.notes)


def _row(tag: str, cells: Sequence[str], numbers: Sequence[bool]) -> str:
    marks = [' class="number"' if number else "" for number in numbers]
    return (
        "<tr>"
        + "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True))
        + "</tr>"
    )


def _text(text: str) -> str:
    return escape(visible(text))
