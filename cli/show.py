"""Where answers leave the program: tables by Rich, JSON, report files, and GitHub's step summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .streams import put, put_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rich.table import Table as RichTable

    from compress_ops.errors import OutputError
    from compress_ops.files.writing import Output
    from compress_ops.report.page import Page, Table

_WIDTH_OF_A_PIPE = 120
_GAP = 2  # between columns


class Manner(NamedTuple):
    """How an answer is to be given."""

    as_json: bool = False
    reports: list[Path] | None = None
    quiet: bool = False
    verbose: bool = False
    force: bool = False

    @property
    def outputs(self) -> list[Output]:
        """The files that the answer goes to."""
        from pathlib import Path

        from compress_ops.files.writing import Output

        summary = _summary()
        return [
            *(Output(path, "--report") for path in self.reports or []),
            *([Output(Path(summary), _SUMMARY, appended=True)] if summary else []),
        ]


_SUMMARY = "GITHUB_STEP_SUMMARY"


def _summary() -> str | None:
    import os

    return os.environ.get(_SUMMARY)


def put_page(page: Page, *, quiet: bool = False) -> None:
    """The headline, and unless ``quiet`` the tables, as wide as the terminal."""
    from rich.console import Console, Group
    from rich.text import Text

    from compress_ops.report.visible import visible, without_commands

    console = Console(width=None if _is_terminal() else _WIDTH_OF_A_PIPE, highlight=False)
    tables = [] if quiet else [_rendered(table, console.width) for table in page.tables]
    with console.capture() as capture:
        console.print(Group(Text(visible(page.headline), style="bold"), *tables))
    put(without_commands("\n".join(line.rstrip() for line in capture.get().split("\n"))))


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _rendered(table: Table, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    table = table.visible()
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


def put_answer(document: Mapping[str, Any], status: int = 0) -> None:
    """The one JSON document of a command that came to its end, with the exit status that follows."""
    put_json({**document, "exit_status": status})


def give(
    page: Page, document: Any, manner: Manner, *, failed: bool = False, undelivered: Sequence[OutputError] = ()
) -> list[OutputError]:
    """The answer in all its forms; returns why some of them, and some before, could not be written, if so.

    ``failed``: the exit status will be 1 all the same.

    Report files come first, so that a reader of stdout that leaves early costs none of them. ``document`` makes the
    JSON form for the folder that it will lie in (paths in it are relative to that).
    """
    from functools import partial
    from pathlib import Path

    from compress_ops.files.writing import append
    from compress_ops.report.markdown import to_markdown

    undelivered = list(undelivered)
    for path in manner.reports or []:
        attempt(partial(_write_report, path, page, document, int(failed), force=manner.force), undelivered)
    if summary := _summary():
        attempt(partial(append, Path(summary), to_markdown(page) + "\n"), undelivered)
    if manner.as_json:
        put_answer(document(Path()), int(failed or bool(undelivered)))
    else:
        put_page(page, quiet=manner.quiet)
    return undelivered


def attempt(action: Callable[[], None], undelivered: list[OutputError]) -> None:
    """Do it, or keep the reason why it could not be done: the work is done, and what else there is to give stays."""
    from compress_ops.errors import OutputError

    try:
        action()
    except OutputError as error:
        undelivered.append(error)


def end_undelivered(undelivered: Sequence[OutputError]) -> None:
    """Exit status 1 where a part of the answer could not be written."""
    import typer

    from . import faults
    from .guard import UNFULFILLED

    if undelivered:
        faults.tell(undelivered)
        raise typer.Exit(UNFULFILLED)


def _write_report(path: Path, page: Page, document: Any, status: int, *, force: bool) -> None:
    from compress_ops.files.writing import write

    from .reports import FORMS

    text = FORMS[path.suffix](page, {**document(path.parent), "exit_status": status})
    write(path, text, force=force)
