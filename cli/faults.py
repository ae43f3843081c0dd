"""Faults as people, GitHub and programs read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress_ops.errors import OnnxpressError


def tell(faults: Sequence[OnnxpressError]) -> None:
    """One line each on stderr, the hint indented below; on GitHub an annotation each, too."""
    import os

    for fault in faults:
        typer.echo(str(fault) if fault.place else f"error: {fault}", err=True)
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        for fault in faults:
            typer.echo(annotation(fault), err=True)


def annotation(fault: OnnxpressError) -> str:
    """A workflow command that GitHub shows at the line of the file."""
    where = ""
    if fault.place and fault.place.line:
        where = f" file={_property(fault.place.file)},line={fault.place.line},col={fault.place.column}"
    return f"::error{where}::{_escaped(fault.message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def tell_as_json(kind: str, faults: Sequence[OnnxpressError], status: int) -> None:
    """The one document of a failed run."""
    from .show import put_json

    found = [_plain(fault) for fault in faults]
    one = (
        {**found[0], "kind": kind} if len(found) == 1 else {**found[0], "kind": kind, "message": f"{len(found)} faults"}
    )
    put_json({"error": one, "faults": found, "exit_status": status})


def _plain(fault: OnnxpressError) -> dict[str, Any]:
    place = fault.place
    where = {"file": place.file, "line": place.line or None, "column": place.column or None} if place else None
    return {"kind": type(fault).__name__, "message": fault.message, "hint": fault.hint, "place": where}


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
