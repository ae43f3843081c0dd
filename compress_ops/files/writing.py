"""The one door for writing: what may be written is known before any work, and then it is there whole or not at all.

    check    every place that a run will write to, against one another and against all that it reads
    write    under a temporary name beside the place
    commit   without ``force`` by a hard link, which fails where something has appeared meanwhile; else by a rename

Nothing but a regular file is ever replaced. A link is none: what it leads to belongs to somebody else (a cache, a
device, the standard output).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputError
from .reading import is_utf8, kind_of, reason_of
from .temporary import temporary_file

_LINKS_ARE_UNKNOWN = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}


@dataclass(frozen=True)
class Output:
    """A file that is going to be written. ``flag`` named it, unless it is the result; ``appended``: only added to."""

    path: Path
    flag: str = ""
    appended: bool = False

    def __str__(self) -> str:
        return f"{self.flag} {self.path}".strip()


@dataclass(frozen=True)
class Input:
    """A file that is going to be read: its path, and what it is."""

    path: Path
    what: str


def output_faults(
    outputs: Iterable[Output], inputs: Iterable[Input] = (), *, force: bool = False
) -> Iterator[OutputError]:
    """All that forbids to write these files. Nothing is changed by asking."""
    read = {_identity(one.path): one for one in inputs}
    written: dict[object, Output] = {}
    for output in outputs:
        identity = _identity(output.path)
        if identity in written:
            yield OutputError(f"{output} is also {_role(written[identity])}", hint="give each output a file of its own")
        elif identity in read:
            yield OutputError(f"{output} is also {read[identity].what}, which is read", hint="name another file")
        elif fault := _fault(output, force=force):
            yield fault
        written.setdefault(identity, output)


def _identity(path: Path) -> object:
    """The same for all names of one file, whether they lead there by links, folders or letters."""
    try:
        status = path.stat()
        return status.st_dev, status.st_ino
    except (OSError, ValueError):
        return resolved(path)


def resolved(path: Path) -> str:
    """Where a path leads, as far as it can be followed."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


def _role(output: Output) -> str:
    return f"what {output.flag} names" if output.flag else "the result"


def _fault(output: Output, *, force: bool) -> OutputError | None:
    path, folder = output.path, output.path.parent
    if not (output.flag or is_utf8(path)):
        return OutputError(f"{output}: the name is not UTF-8", hint="onnxruntime opens models of such names only")
    try:
        kind = kind_of(path.stat() if output.appended else path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return _folder_fault(output)
    except (OSError, ValueError) as error:
        return OutputError(f"{output} cannot be written: {reason_of(error)}")
    if kind == "a folder":
        return OutputError(f"{output} is a folder; name the file to write")
    if kind:
        return OutputError(f"{output} is {kind}; nothing but a regular file is replaced", hint=_mend(path))
    if output.appended:
        return None if os.access(path, os.W_OK) else OutputError(f"{output} is not writable")
    if not force:
        return OutputError(f"{output} exists already", hint="give --force to replace it")
    return _folder_fault(output) if folder.is_dir() else None


def _mend(path: Path) -> str:
    return f"name the file that it leads to: {resolved(path)}" if path.is_symlink() else "name another file"


def _folder_fault(output: Output) -> OutputError | None:
    """Whether a file can be made in the folder is known only when one has been."""
    folder, of = output.path.parent, f"{output.flag}: " if output.flag else ""
    if not folder.is_dir():
        return OutputError(f"{of}the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    try:
        with temporary_file(folder) as probe:
            probe.touch(exist_ok=False)
    except OSError as error:
        return OutputError(f"{of}the folder {folder} is not writable: {reason_of(error)}")
    return None


@contextmanager
def written(out: Path, what: str = "") -> Iterator[None]:
    """Turn what the system refuses inside into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {what}{out}: {reason_of(error)}") from error


def write(out: Path, content: str | bytes | Callable[[Path], object], *, force: bool, what: str = "") -> None:
    """Write a file as a whole; ``content`` may be a function that writes to the path that it is given."""
    with written(out, what), temporary_file(out.parent) as path:
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        put_in_place(path, out, force=force)


def append(out: Path, text: str) -> None:
    """Add to a file, or begin it."""
    with written(out), out.open("a", encoding="utf-8") as file:
        file.write(text)


def put_in_place(path: Path, out: Path, *, force: bool) -> None:
    """Give a file that is complete its name, on the disk as well; raises OutputError where it must not have it."""
    _flush(path)
    if force:
        _refuse_irregular(out)
        os.replace(path, out)
        return
    try:
        os.link(path, out, follow_symlinks=False)
    except FileExistsError:
        raise _appeared(out) from None
    except OSError as error:
        if error.errno not in _LINKS_ARE_UNKNOWN:
            raise
        _claim(path, out)


def _flush(path: Path) -> None:
    """So that a crash of the machine cannot leave the name without the content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _refuse_irregular(out: Path) -> None:
    with suppress(FileNotFoundError):
        if kind := kind_of(out.lstat()):
            raise OutputError(f"cannot write {out}: it is {kind}, and nothing but a regular file is replaced")


def _appeared(out: Path) -> OutputError:
    return OutputError(f"{out} has appeared meanwhile, and is not replaced", hint="give --force to replace it")


def _claim(path: Path, out: Path) -> None:
    """Where no hard links can be had: an empty file that is new takes the name first, and is then replaced."""
    try:
        os.close(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise _appeared(out) from None
    try:
        os.replace(path, out)
    except BaseException:
        with suppress(OSError):
            out.unlink()
        raise
