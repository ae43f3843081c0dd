"""A model's first run in a process of its own: what crashes onnxruntime there is a reason here, and no crash.

One child serves many models, so that each costs what it takes to open it; after a crash a new one is begun.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from ..data import Dataset
from ..runtime import Provider, check_providers

PROGRAM = Path(__file__).with_name("first_run.py")
_SECONDS = 120.0


@dataclass
class Isolated:
    """``program`` answers a line with a line, as first_run.py does; ``seconds`` is how long it may take for a model."""

    program: Path = PROGRAM
    seconds: float = _SECONDS
    child: subprocess.Popen[str] | None = None

    def why_not(self, model: Path, feeds: Feeds, providers: Sequence[Provider], threads: int) -> str:
        """Why the model does not run, in half a sentence; empty if it does."""
        child = self._running()
        asked = {"model": str(model), "providers": check_providers(providers), "threads": threads, **feeds.told()}
        timer = Timer(self.seconds, child.kill)
        timer.start()
        try:
            answer = _answer(child, json.dumps(asked))
            too_long = timer.finished.is_set()
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
        if not answer:
            return self._why_it_ended(child, too_long=too_long)
        reason = json.loads(answer)
        return f"onnxruntime refuses it: {reason}" if reason else ""

    def _running(self) -> subprocess.Popen[str]:
        if self.child is None:
            self.child = subprocess.Popen(
                [sys.executable, "-P", str(self.program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        return self.child

    def _why_it_ended(self, child: subprocess.Popen[str], *, too_long: bool) -> str:
        status = child.wait()
        self.close()
        if too_long:
            return f"it took more than {self.seconds:g} s"
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"it crashes onnxruntime ({name})"

    def close(self) -> None:
        """End the child, if there is one."""
        if self.child is None:
            return
        child, self.child = self.child, None
        child.kill()
        with suppress(OSError), child:
            pass


def _answer(child: subprocess.Popen[str], line: str) -> str:
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        return ""
    return child.stdout.readline()


@dataclass(frozen=True)
class Feeds:
    """The first samples of some data in a file, and the names of the inputs that its arrays are for."""

    path: Path
    names: list[str]

    @classmethod
    def stored(cls, data: Dataset, path: Path) -> Feeds:
        """The first batch, written to a path that ends in .npz."""
        batch = next(iter(data.batches(limit=1)))
        arrays = [array.astype(str) if array.dtype == object else array for array in batch.feeds.values()]
        np.savez(path, *arrays)
        return cls(path, [*batch.feeds])

    def told(self) -> dict[str, Any]:
        """As the child is told of them."""
        return {"feeds": str(self.path), "names": self.names}


@contextmanager
def isolation() -> Iterator[Isolated]:
    """A child that ends with the block."""
    isolated = Isolated()
    try:
        yield isolated
    finally:
        isolated.close()
