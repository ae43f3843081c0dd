"""What can go wrong by the user's hand: one small family, each error with its message, hint and place.

Everything here ends as exit status 2 with nothing written. Any other exception is our bug (exit status 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Place:
    """Where a fault sits: a file (or a flag such as ``--set``) and, where known, line and column from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class OnnxpressError(Exception):
    """A fault that the user can mend: what is wrong, where, and how to mend it."""

    def __init__(self, message: str, *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}" + (f"\n  {self.hint}" if self.hint else "")


class UsageError(OnnxpressError):
    """Flags or arguments that do not go together."""


class ModelError(OnnxpressError):
    """A model file that cannot be read, trusted, run or written."""


class DataError(OnnxpressError):
    """Calibration, training or evaluation data that does not fit the model."""


class ProviderError(OnnxpressError):
    """An execution provider that is unknown, absent, or silently replaced by another."""


class OutputError(OnnxpressError):
    """An output path that cannot or must not be written."""


class PassError(OnnxpressError):
    """A pass that cannot do what its options ask on this model."""


class BrokenPromise(OnnxpressError):
    """A step that changed nothing, or made larger what it promised to shrink."""


class RecipeError(OnnxpressError):
    """One fault in a recipe."""


class Faults(OnnxpressError):
    """Several faults found together, so that they can be mended together."""

    def __init__(self, faults: Iterable[OnnxpressError]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def raise_all(faults: Iterable[OnnxpressError]) -> None:
    """Raise the faults as one error, each told once; do nothing when there are none."""
    found = list({str(fault): fault for fault in faults}.values())
    if found:
        raise found[0] if len(found) == 1 else Faults(found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suffix such as ``; did you mean 'prune_weights'?``, or an empty string when nothing comes close."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5) or [name for name in names if word and name.startswith(word)]
    return f"; did you mean '{close[0]}'?" if close else ""
