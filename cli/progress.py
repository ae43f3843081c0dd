"""Progress on stderr: bars for people, now and then a line for pipes and CI, nothing with -q."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from compress_ops.progress import Label, Progress

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10


def watching(*, quiet: bool) -> AbstractContextManager[Progress]:
    """Bars while the block runs; lines where stderr is no terminal; silence where nobody wants to know."""
    import sys
    from contextlib import nullcontext

    from compress_ops.progress import silent

    if quiet:
        return nullcontext(silent)
    return Bars() if sys.stderr.isatty() else nullcontext(Lines())


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

        from compress_ops.report.visible import visible

        def text() -> str:
            return visible(label if isinstance(label, str) else label())

        task = self._display.add_task(text(), total=total or length_hint(items) or None)
        try:
            for item in items:
                yield item
                self._display.update(task, advance=1, description=text())
        finally:
            self._display.remove_task(task)


class _Stage:
    """What is being gone through, and how far: ``scoring 3 of 10``."""

    def __init__(self, label: Label, total: int) -> None:
        self.label, self.total, self.done = label, total, 0

    def __str__(self) -> str:
        label = self.label if isinstance(self.label, str) else self.label()
        return f"{label} {self.done}" + (f" of {self.total}" if self.total else "")


class Lines:
    """A line on stderr every ten seconds, after the first ten, that says what is being gone through and how far.

    ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        from time import monotonic

        self._clock = clock or monotonic
        self._start = self._told = self._clock()
        self._stages: list[_Stage] = []  # the outermost first

    def __call__(self, items: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        from operator import length_hint

        stage = _Stage(label, total or length_hint(items))
        self._stages.append(stage)
        try:
            self._tell()
            for item in items:
                yield item
                stage.done += 1
                self._tell()
        finally:
            self._stages.remove(stage)

    def _tell(self) -> None:
        from .faults import say

        now = self._clock()
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            say(f"{now - self._start:.0f} s: {', '.join(map(str, self._stages))}")
