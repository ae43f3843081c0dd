"""Weights outside the .onnx file: where they are said to be is checked before anything is read from there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files.protobuf import external_entries, initializers, is_external, node_tensors, set_location
from ..lazy import onnx
from .tensors import needed


def settle_external_data(proto: Any, path: Path) -> bool:
    """Whether any weight lives outside the file. Each such place is checked before anything is read from there.

    Places become absolute, since later nobody knows the model's folder. Tensors in nodes are read in: only
    initializers are mapped lazily.
    """
    outside = [tensor for tensor in initializers(proto) if is_external(tensor)]
    in_nodes = [tensor for tensor in node_tensors(proto) if is_external(tensor)]
    for tensor in outside:
        set_location(tensor, str(_checked_place(tensor, path)))
    for tensor in in_nodes:
        _read_in(tensor, _checked_place(tensor, path))
    return bool(outside or in_nodes)


def _checked_place(tensor: Any, path: Path) -> Path:
    entry = external_entries(tensor)
    what = f"{path}: external data of '{tensor.name}' in '{entry.get('location', '')[:200]}'"
    file = _file(entry.get("location", ""), path, what)
    need = needed(tensor)
    offset, length = (_number(entry.get(key, str(usual)), what) for key, usual in (("offset", 0), ("length", need)))
    if length != need:
        raise ModelError(f"{what} is damaged: offset {offset}, length {length} where the shape needs {need}")
    if offset + need > file.stat().st_size:
        raise ModelError(f"{what} is truncated: {offset + need} bytes needed, {file.stat().st_size} there")
    return file


def _file(location: str, path: Path, what: str) -> Path:
    try:
        if _leaves_folder(location, path):
            raise ModelError(f"{what} is outside the model's folder", hint="external data must lie beside the model")
        file = (path.parent / location).resolve()
        there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, a NUL in it, links in a circle
        raise ModelError(f"{what} is no name that a file can have: {error}") from error
    if not there:
        raise ModelError(f"{what} does not exist", hint=f"expected {file}")
    return file


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"{what} has an offset or length that is no number of bytes: '{text[:40]}'")
    return int(text)


def _leaves_folder(location: str, path: Path) -> bool:
    """As onnxruntime judges: a linked model (a download cache) may have its data beside it or beside its target."""
    if not location or os.path.isabs(location) or "\\" in location or os.path.normpath(location).startswith(".."):
        return True
    file = (path.parent / location).resolve()
    return not any(file.is_relative_to(folder) for folder in (path.parent.resolve(), path.resolve().parent))


def _read_in(tensor: Any, file: Path) -> None:
    with file.open("rb") as data:
        data.seek(int(external_entries(tensor).get("offset", 0)))
        tensor.raw_data = data.read(needed(tensor))
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
