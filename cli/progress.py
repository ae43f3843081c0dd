"""Progress bars on stderr, for people alone: not in a pipe, not in CI, not with -q."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from compress_ops.progress import Label, Progress

T = TypeVar("T")


def watching(*, quiet: bool) -> AbstractContextManager[Progress]:
    """Bars while the block runs, or silence where nobody watches."""
    import sys
    from contextlib import nullcontext

    from compress_ops.progress import silent

    return nullcontext(silent) if quiet or not sys.stderr.isatty() else Bars()


class Bars:
    """One bar for each iterable that is being gone through; gone when it is finished."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            Left(),
        )
        self._display = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Bars:
        self._display.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._display.stop()

    def __call__(self, items: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        from operator import length_hint

        from compress_ops.visible import visible

        def text() -> str:
            return visible(label if isinstance(label, str) else label())

        task = self._display.add_task(text(), total=total or length_hint(items) or None)
        try:
            for item in items:
                yield item
                self._display.update(task, advance=1, description=text())
        finally:
            self._display.remove_task(task)
