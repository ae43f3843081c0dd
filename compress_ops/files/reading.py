"""What may be read: regular files alone. A pipe may wait for ever, a device never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


def kind_of(status: os.stat_result) -> str:
    """``a folder``, ``a pipe`` ...; nothing for a regular file."""
    return "" if stat.S_ISREG(status.st_mode) else _KINDS.get(stat.S_IFMT(status.st_mode), "something else")


def is_absent(path: Path) -> bool:
    """Whether there is nothing of that name."""
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def unreadable(path: Path, *, or_folder: bool = False) -> str:
    """Why a path cannot be read as a file, in words that follow its name; nothing where it can."""
    if is_absent(path):
        return "does not exist"
    try:
        kind = kind_of(path.stat())
    except (OSError, ValueError) as error:
        return f"cannot be read: {reason_of(error)}"
    if not kind or (or_folder and path.is_dir()):
        return ""
    return f"is {kind}" if path.is_dir() else f"is {kind}, not a regular file"


def is_utf8(path: Path) -> bool:
    """Whether a name is text; onnxruntime and ONNX itself know no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def reason_of(error: Exception) -> str:
    """What the system says: ``No space left on device``."""
    return str(getattr(error, "strerror", None) or error)
