"""ONNX files on disk: read without running into traps, write without losing the old one.

Weights may live outside the .onnx file; where they are said to be is checked before anything is read from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError

if TYPE_CHECKING:
    import onnx_ir as ir

EXTERNAL_TENSOR = 1024  # bytes; smaller tensors stay in the .onnx file


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(path: Path) -> list[Path]:
    """The .onnx file and the external data files that it names, each once."""
    locations = {_external(tensor)["location"] for tensor in _tensors(read_proto(path)) if _is_external(tensor)}
    return [path, *(path.parent / location for location in sorted(locations))]


def read_proto(path: Path) -> Any:
    import onnx

    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the .onnx file in it")
    try:
        proto = onnx.load(path, "protobuf", load_external_data=False)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError has no public name across versions
        raise ModelError(f"{path} is not an ONNX file, or it is truncated", hint=str(error)) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{path} is not an ONNX file, or it is truncated: it holds no graph")
    return proto


def refuse_what_would_be_lost(proto: Any, path: Path) -> None:
    if proto.training_info:
        raise ModelError(f"{path} has training_info, which would be lost", hint="export the model for inference")
    sparse = [s.values.name for graph in _graphs(proto.graph) for s in graph.sparse_initializer]
    if sparse:
        raise ModelError(
            f"{path} has sparse_initializer entries, which would be lost: {', '.join(sparse[:5])}",
            hint="store these weights as dense initializers first",
        )


def check_external_data(proto: Any, path: Path) -> bool:
    """Whether any weight lives outside the file; each such place is checked before anything is read from it."""
    external = [tensor for tensor in _tensors(proto) if _is_external(tensor)]
    for tensor in external:
        _check_place(tensor, path)
    return bool(external)


def _check_place(tensor: Any, path: Path) -> None:
    entry = _external(tensor)
    location = entry.get("location", "")
    what = f"{path}: external data of '{tensor.name}' in '{location}'"
    normal = os.path.normpath(location)
    if not location or os.path.isabs(location) or "\\" in location or normal.split(os.sep)[0] == "..":
        raise ModelError(f"{what} is outside the model's folder", hint="external data must lie beside the model")
    file = path.parent / location
    if not file.is_file():
        raise ModelError(f"{what} does not exist", hint=f"expected {file}")
    try:
        end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
    except ValueError as error:
        raise ModelError(f"{what} has an offset or length that is no number") from error
    if min(int(entry.get("offset", 0)), int(entry.get("length", 0))) < 0 or end > file.stat().st_size:
        raise ModelError(f"{what} is truncated: {end} bytes needed, {file.stat().st_size} there")


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == 1)  # TensorProto.EXTERNAL


def _external(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        yield from _node_graphs(node)


def _node_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graphs(inner)


def _tensors(proto: Any) -> Iterator[Any]:
    """Every TensorProto of the model: initializers and attributes, in subgraphs and functions too."""
    bodies = [*_graphs(proto.graph), *proto.functions]
    bodies += [inner for function in proto.functions for node in function.node for inner in _node_graphs(node)]
    for body in bodies:
        yield from getattr(body, "initializer", ())
        for node in body.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


class Staged:
    """A model on disk that is not yet the output: ``path`` can be loaded; ``commit`` puts it in place.

    Weights that live outside go to ``NAME.DIGEST.data``: a new name for new content, so that replacing the
    .onnx file is the one atomic step that switches from the old weights to the new.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        self._data_writing = out.with_name(f".{out.name}.{os.getpid()}.data.tmp")
        self._data: Path | None = None
        self._data_is_new = False

    def write(self, model: ir.Model, *, external: bool) -> None:
        import onnx_ir as ir

        if not external:
            _embed(model)
            ir.save(model, self.path, "protobuf")
            return
        ir.save(model, self.path, "protobuf", self._data_writing.name, EXTERNAL_TENSOR)
        if self._data_writing.exists():
            self._name_data_by_content()

    def _name_data_by_content(self) -> None:
        import onnx

        digest = file_digest(self._data_writing)[:8]
        self._data = self.out.with_name(f"{self.out.name}.{digest}.data")
        self._data_is_new = not self._data.exists()
        os.replace(self._data_writing, self._data)
        proto = onnx.load(self.path, "protobuf", load_external_data=False)
        for tensor in _tensors(proto):
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = self._data.name
        onnx.save(proto, self.path, "protobuf")

    @property
    def size(self) -> int:
        """Bytes on disk, external data included."""
        return self.path.stat().st_size + (self._data.stat().st_size if self._data else 0)

    def commit(self) -> None:
        """Put the model in place; data files of an older version of the same output go afterwards."""
        old = [path for path in self.out.parent.glob(f"{self.out.name}.????????.data") if path != self._data]
        os.replace(self.path, self.out)
        self._data_is_new = False
        for path in old:
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._data_writing.unlink(missing_ok=True)
        if self._data is not None and self._data_is_new:
            self._data.unlink(missing_ok=True)


def _embed(model: ir.Model) -> None:
    """Weights that a pass left pointing at some file are read into the model that is saved as one file."""
    import onnx_ir as ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
