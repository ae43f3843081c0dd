"""A pass that does what a test wants to see done in a run."""

from __future__ import annotations

from collections.abc import Callable

from compress_ops.model import Model
from compress_ops.passes import Change, Context, Pass, Promise, register


def fake(action: Callable[[Model], object], promises: Promise = Promise.SHRINKS, *, touch: bool = True) -> Pass:
    """A pass called ``fake`` that does one thing."""

    def function(model: Model, ctx: Context) -> Change:
        """Do as told."""
        action(model)
        return Change({"w": "changed"} if touch else {})

    return register("fake", promises=promises)(function)


def improving(action: Callable[[Model], object]) -> Pass:
    return fake(action, Promise.IMPROVES)
