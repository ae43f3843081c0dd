"""Operator sets that a model imports: each once, of a version that is known here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..lazy import onnx

STANDARD = ("", "ai.onnx")


def versions(imports: Iterable[Any]) -> dict[str, int]:
    """Version by domain, the standard one under its short name."""
    return {plain(entry.domain): entry.version for entry in imports}


def plain(domain: str) -> str:
    """A domain under the one name that it has here."""
    return "" if domain in STANDARD else domain


def import_faults(proto: Any) -> Iterator[str]:
    yield from _faults(proto.opset_import, "the model")
    for function in proto.functions:
        yield from _faults(function.opset_import, f"function '{function.name}'")


def _faults(imports: Any, whose: str) -> Iterator[str]:
    found = versions(imports)
    newest = onnx.defs.onnx_opset_version()
    for entry in imports:
        if found[plain(entry.domain)] != entry.version:
            yield f"{whose} imports operator set '{entry.domain or 'ai.onnx'}' in two versions"
    for domain, version in found.items():
        if not (0 if domain else 1) <= version < 2**31:
            yield f"{whose} imports version {version} of operator set '{domain or 'ai.onnx'}'"
    if found.get("", 0) > newest:
        yield f"{whose} imports version {found['']} of operator set 'ai.onnx'; {newest} is the newest known here"
