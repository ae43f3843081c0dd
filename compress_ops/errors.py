"""What can go wrong by the user's hand: one small family, each error with its message, hint and place.

Everything here ends as exit status 2 with nothing written. Any other exception is our bug (exit status 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Self


@dataclass(frozen=True)
class Place:
    """Where a fault sits: a file (or a flag such as ``--set``) and, where known, line and column from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class OnnxpressError(Exception):
    """A fault that the user can mend: what is wrong, where, and how to mend it.

    ``bare`` is the message without what it is told within; ``kind`` is what reports call such a fault.
    """

    kind: ClassVar[str] = "OnnxpressError"

    def __init_subclass__(cls, kind: str = "") -> None:
        cls.kind = kind or cls.__name__

    def __init__(self, message: str, *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.message = self.bare = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}" + (f"\n  {self.hint}" if self.hint else "")

    def within(self, what: str, place: Place) -> OnnxpressError:
        """The same fault told as part of ``what``; it stands at ``place`` unless it has a place of its own."""
        return self._told(f"{what}: {self.message}", self.place or place)

    def moved(self, place: Place | None) -> OnnxpressError:
        """The same fault told at ``place``, if there is one, with the place that it had in front of the message."""
        if place is None:
            return self
        what = f"{self.place}: " if self.place else ""
        return self._told(what + self.message, place)

    def _told(self, message: str, place: Place) -> Self:
        told = copy(self)
        told.message, told.place = message, place
        return told


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


class NoGradient(PassError, kind="PassError"):
    """Something to be trained lies where no gradient comes: an operator has no rule for one."""


class BrokenPromise(OnnxpressError):
    """A step that changed nothing, or made larger what it promised to shrink."""


class RecipeError(OnnxpressError):
    """One fault in a recipe."""


class Faults(OnnxpressError):
    """Several faults found together, so that they can be mended together."""

    def __init__(self, faults: Iterable[OnnxpressError]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def within(self, what: str, place: Place) -> OnnxpressError:
        return Faults(fault.within(what, place) for fault in self.faults)

    def moved(self, place: Place | None) -> OnnxpressError:
        return Faults(fault.moved(place) for fault in self.faults)


def raise_all(faults: Iterable[OnnxpressError]) -> None:
    """Raise the faults as one error, each told once, in the order of their lines; do nothing when there are none."""
    found = {str(fault): fault for told in faults for fault in each(told)}.values()
    if found:
        raise next(iter(found)) if len(found) == 1 else Faults(sorted(found, key=_position))


def _position(fault: OnnxpressError) -> tuple[int, int]:
    return (fault.place.line, fault.place.column) if fault.place else (0, 0)


def each(fault: OnnxpressError) -> list[OnnxpressError]:
    """The single faults that an error stands for."""
    return fault.faults if isinstance(fault, Faults) else [fault]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suffix such as ``; did you mean 'prune_weights'?``, or an empty string when nothing comes close."""
    names = list(known)
    begun = [name for name in names if word and name.startswith(word)]
    close = get_close_matches(word, names, n=1, cutoff=0.5) or begun
    return f"; did you mean '{close[0]}'?" if close else ""
