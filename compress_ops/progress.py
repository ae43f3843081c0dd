"""How long work lets somebody watch: it hands what it iterates over to a callable that passes it through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
Label = str | Callable[[], str]
"""What is shown beside the bar; a callable is asked again after each item."""


class Progress(Protocol):
    """Wraps an iterable so that somebody can watch it go by."""

    def __call__(self, items: Iterable[T], label: Label, total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], label: Label, total: int | None = None) -> Iterable[T]:
    """Progress that nobody watches."""
    return items
