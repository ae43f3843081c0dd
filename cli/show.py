"""Where answers leave the program: tables by Rich, JSON, report files, and GitHub's step summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table as RichTable

    from compress_ops.measure.page import Page, Table

_WIDTH_OF_A_PIPE = 120
_GAP = 2  # between columns


class Manner(NamedTuple):
    """How an answer is to be given."""

    as_json: bool = False
    reports: list[Path] | None = None
    quiet: bool = False
    verbose: bool = False


def put(text: str) -> None:
    """Write to stdout; a reader that has gone away (``| head``) is no error."""
    import os
    import sys

    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # what Python flushes at exit goes nowhere too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def put_json(document: object) -> None:
    import json

    put(json.dumps(document, indent=2, allow_nan=False) + "\n")


def put_page(page: Page, *, quiet: bool = False) -> None:
    """The headline, and unless ``quiet`` the tables, as wide as the terminal."""
    from rich.console import Console, Group
    from rich.text import Text

    console = Console(width=None if _is_terminal() else _WIDTH_OF_A_PIPE, highlight=False)
    tables = [] if quiet else [_rendered(table, console.width) for table in page.tables]
    with console.capture() as capture:
        console.print(Group(Text(page.headline, style="bold"), *tables))
    put("\n".join(line.rstrip() for line in capture.get().split("\n")))


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _rendered(table: Table, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    notes = [Text(note, style="dim") for note in table.notes]
    body = [_grid(table, width)] if table.rows else []
    title = [Text(table.title, style="bold cyan")] if table.title else []
    return Group("", *title, *body, *notes)


def _grid(table: Table, width: int) -> RichTable:
    """The table; where it is wider than the terminal, intervals stand below their values."""
    from rich.table import Table as RichTable
    from rich.text import Text

    narrow = _too_wide(table, width)
    grid = RichTable(
        box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=any(table.columns), header_style="dim"
    )
    for name, right in zip(table.columns, table.right_aligned(), strict=True):
        grid.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(cell.replace(" [", "\n[") if narrow else cell) for cell in row))
    return grid


def _too_wide(table: Table, width: int) -> bool:
    columns = zip(*table.rows, table.columns, strict=True)
    return sum(max(map(len, column)) + _GAP for column in columns) - _GAP > width


def give(page: Page, document: Any, manner: Manner) -> None:
    """Report files first, so that a reader of stdout that leaves early costs none of them.

    ``document`` makes the JSON form for the folder that it will lie in (paths in it are relative to that).
    """
    from pathlib import Path

    for path in manner.reports or []:
        _write_report(path, page, document)
    _append_to_summary(page)
    if manner.as_json:
        put_json(document(Path()))
    else:
        put_page(page, quiet=manner.quiet)


def _write_report(path: Path, page: Page, document: Any) -> None:
    import json

    from compress_ops.measure.html import to_html
    from compress_ops.measure.markdown import to_markdown

    match path.suffix:
        case ".json":
            text = json.dumps(document(path.parent), indent=2, allow_nan=False) + "\n"
        case ".md":
            text = to_markdown(page)
        case _:
            text = to_html(page)
    replace_file(path, text)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    import os

    from compress_ops.errors import OutputError

    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        staged.unlink(missing_ok=True)


def _append_to_summary(page: Page) -> None:
    import os

    from compress_ops.measure.markdown import to_markdown

    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(to_markdown(page) + "\n")
