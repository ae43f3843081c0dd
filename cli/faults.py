"""Faults as people, GitHub and programs read them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress_ops.errors import OnnxpressError


_SHOWN = 20
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES}
"""What a machine may lack: its owner can mend that."""


def say(text: str) -> None:
    """Lines on stderr, in which nothing that others named can do harm."""
    from compress_ops.report.visible import visible, without_commands

    _put(without_commands(visible(text, keep="\n")))


def _put(text: str) -> None:
    import sys

    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def tell(faults: Sequence[OnnxpressError]) -> None:
    """One line each on stderr, the hint indented below, of no more than people read; on GitHub an annotation, too."""
    for fault in faults[:_SHOWN]:
        say(_told(fault))
    if len(faults) > _SHOWN:
        say(f"... and {len(faults) - _SHOWN:,} more")
    annotate(faults[:_SHOWN])


def annotate(faults: Sequence[OnnxpressError]) -> None:
    """Annotations, where GitHub runs this."""
    import os

    if os.environ.get("GITHUB_STEP_SUMMARY") or os.environ.get("GITHUB_ACTIONS") == "true":
        for fault in faults:
            _put(annotation(fault))


def _told(fault: OnnxpressError) -> str:
    from compress_ops.report.visible import visible

    where = visible(str(fault.place)) if fault.place else "error"
    return f"{where}: {visible(fault.message)}" + (f"\n  {fault.hint}" if fault.hint else "")


def annotation(fault: OnnxpressError) -> str:
    """A workflow command that GitHub shows at the line of the file."""
    from compress_ops.report.visible import visible

    where = ""
    if fault.place and fault.place.line:
        file = _property(visible(fault.place.file))
        where = f" file={file},line={fault.place.line},col={fault.place.column}"
    return f"::error{where}::{_escaped(visible(fault.message))}"


def of_the_machine(error: OSError) -> OnnxpressError:
    """A full disk, a folder without permission: where, if that is known."""
    from compress_ops.errors import OutputError

    where = f": {error.filename}" if error.filename else ""
    return OutputError(f"{error.strerror}{where}", hint="temporary files lie in the folder that TMPDIR names")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def tell_as_json(kind: str, faults: Sequence[OnnxpressError], status: int) -> None:
    """The one document of a failed run."""
    from .streams import put_json

    found = [_plain(fault) for fault in faults]
    one = (
        {**found[0], "kind": kind} if len(found) == 1 else {**found[0], "kind": kind, "message": f"{len(found)} faults"}
    )
    put_json({"error": one, "faults": found, "exit_status": status})


def _plain(fault: OnnxpressError) -> dict[str, Any]:
    place = fault.place
    where = {"file": place.file, "line": place.line or None, "column": place.column or None} if place else None
    return {"kind": fault.kind, "message": fault.message, "hint": fault.hint, "place": where}


def how_to_report() -> str:
    """What a bug report must say."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = [f"Python {platform.python_version()} on {platform.system()}"]
    for name in ("onnxpress", "onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"please report it to the project's issues, with the lines above, the command, and: {', '.join(versions)}"
