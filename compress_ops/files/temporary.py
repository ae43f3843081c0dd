"""Temporary files and folders: names that tell whose they are, and that nothing of them stays behind.

A name holds where its owner runs (machine, boot and PID namespace), its process and when that began, and a random
token: no two runs share one, on any host that sees the folder. What a process left that was killed is removed by the
next one that writes there; what is not known to be dead is let alone. ``remove_leftovers`` is for a process that ends
in haste, when cleaning up was itself interrupted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

_OWNED = re.compile(r"\.onnxpress-(?P<place>[0-9a-f]{8})-(?P<pid>[0-9]+)-(?P<start>[0-9]+)-[0-9a-f]{8}\.tmp")
_alive: set[Path] = set()


@contextmanager
def temporary_file(beside: Path) -> Iterator[Path]:
    """A name in a folder for a file to be written there; what lies there at the end goes."""
    with _owned(beside) as path:
        yield path


@contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[Path]:
    """A new folder in another, or where the system keeps such; gone at the end, with all that is in it."""
    with _owned(beside or Path(tempfile.gettempdir())) as path:
        path.mkdir(mode=0o700)
        yield path


@contextmanager
def _owned(parent: Path) -> Iterator[Path]:
    _remove_orphans(parent)
    start = _start_of(os.getpid())
    path = parent / f".onnxpress-{_place()}-{os.getpid()}-{start}-{secrets.token_hex(4)}.tmp"
    _alive.add(path)
    try:
        yield path
    finally:
        _remove(path)


def is_passing(path: Path) -> bool:
    """Whether a file lies in a temporary folder that is in another: nothing of it is to stay anywhere."""
    return all(_OWNED.fullmatch(folder.name) for folder in (path.parent, path.parent.parent))


def remove_leftovers() -> None:
    """Remove what is still there of this process."""
    for path in list(_alive):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    _alive.discard(path)


def _remove_orphans(folder: Path) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if _is_orphan(entry.name)]:
            _remove(path)


def _is_orphan(name: str) -> bool:
    """Whether a name is of a process that ran here and does no more."""
    owned = _OWNED.fullmatch(name)
    return owned is not None and owned["place"] == _place() and not _runs(int(owned["pid"]), int(owned["start"]))


@cache
def _place() -> str:
    """Where process numbers mean the same: this boot of this machine, and in it this PID namespace."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        told.append(os.readlink("/proc/self/ns/pid"))
    return sha256("\n".join(told).encode()).hexdigest()[:8]


def _start_of(pid: int) -> int:
    """When a process began, in the system's ticks; 0 where that cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _runs(pid: int, start: int) -> bool:
    if os.name == "nt":  # there os.kill ends the process that is asked for
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return _start_of(pid) in (0, start) or start == 0
