"""Standard output and error that are never the reason for a crash.

What their encoding lacks is escaped; a reader that has gone away (``| head``) and a stream that was closed are no
error; any other failure (a full disk) is remembered, for the exit status to tell.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
from contextlib import contextmanager


class Stream(io.TextIOWrapper):
    """Text to where another stream writes; after a failure, to nowhere."""

    failure: OSError | None = None

    def __init__(self, inner: Any) -> None:
        encoding = getattr(inner, "encoding", None) or "utf-8"
        super().__init__(inner.buffer, encoding, errors="backslashreplace", newline="" if os.name != "nt" else None)

    def write(self, text: str) -> int:
        try:
            super().write(text)
            super().flush()
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """What is still held, and what Python writes when it ends, goes nowhere."""
        self.failure = self.failure or (None if isinstance(error, BrokenPipeError) else error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Standard output and error are Streams meanwhile."""
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_patient, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Stream):
                stream.flush()
                stream.detach()  # or the stream that it writes to would be closed with it
        sys.stdout, sys.stderr = before


def put(text: str) -> None:
    """Write to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def put_json(document: object) -> None:
    """A name that holds a command of GitHub's logs is written as another JSON text of the same meaning."""
    import json

    put(json.dumps(document, indent=2, allow_nan=False).replace("##[", "\\u0023#[") + "\n")


def output_failure() -> str:
    """Why not all of the answer could be written to standard output; nothing where it could."""
    failure = getattr(sys.stdout, "failure", None)
    return failure.strerror if failure is not None else ""


def _open_closed() -> None:
    """What was closed by ``>&-`` leads nowhere: the next file to be opened would take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the program ends)


def _patient(inner: Any) -> Any:
    return Stream(inner) if hasattr(inner, "buffer") else inner
