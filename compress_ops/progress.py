"""How long work lets somebody watch: it hands what it iterates over to a callable that passes it through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterable so that somebody can watch it go by."""

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """Progress that nobody watches."""
    return items
