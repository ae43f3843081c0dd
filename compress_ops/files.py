"""ONNX files on disk: read without running into traps, write without losing the old one.

Weights may live outside the .onnx file; where they are said to be is checked before anything is read from there.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError, OutputError

if TYPE_CHECKING:
    import onnx_ir as ir

EXTERNAL_TENSOR = 1024  # bytes; smaller tensors stay in the .onnx file


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(path: Path, proto: Any = None) -> list[Path]:
    """The .onnx file and the external data files that it names, each once; ``proto`` saves reading the file again."""
    tensors = _tensors(proto if proto is not None else read_proto(path))
    locations = {_external(tensor)["location"] for tensor in tensors if _is_external(tensor)}
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
    sparse = [tensor.values.name for graph in _graphs(proto.graph) for tensor in graph.sparse_initializer]
    sparse += [a.sparse_tensor.values.name for a in _attributes(proto) if a.HasField("sparse_tensor")]
    if sparse:
        raise ModelError(
            f"{path} has sparse_initializer or sparse_value entries, which would be lost: {', '.join(sparse[:5])}",
            hint="store these weights as dense initializers first",
        )


def check_tensors(proto: Any, path: Path) -> None:
    """Refuse tensors that do not hold what their shape asks for: the file is damaged."""
    for tensor in _tensors(proto):
        if not _is_external(tensor):
            need, have = _needed(tensor, path), _stored(tensor)
            if have != need:
                raise ModelError(f"{path} is damaged: '{tensor.name}' needs {need} bytes or numbers, {have} are there")


def _stored(tensor: Any) -> int:
    """Bytes, or numbers where the tensor lists them one by one."""
    import onnx

    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))


def _needed(tensor: Any, path: Path) -> int:
    import onnx_ir as ir

    size = int(math.prod(tensor.dims))
    if min(tensor.dims, default=0) < 0 or tensor.data_type not in set(ir.DataType) - {ir.DataType.UNDEFINED}:
        raise ModelError(f"{path} is damaged: '{tensor.name}' has a negative size or an unknown type")
    dtype = ir.DataType(tensor.data_type)
    if dtype.is_string():
        return size
    if tensor.HasField("raw_data") or _is_external(tensor) or dtype.bitwidth < 8:
        return -(-size * dtype.bitwidth // 8)
    return size * (2 if dtype.name.startswith("COMPLEX") else 1)


def settle_external_data(proto: Any, path: Path) -> bool:
    """Whether any weight lives outside the file. Each such place is checked before anything is read from there.

    Places become absolute, since later nobody knows the model's folder. Tensors in nodes are read in: only
    initializers are mapped lazily.
    """
    outside = [tensor for tensor in _initializers(proto) if _is_external(tensor)]
    in_nodes = [tensor for tensor in _node_tensors(proto) if _is_external(tensor)]
    for tensor in outside:
        _set_location(tensor, str(_checked_place(tensor, path)))
    for tensor in in_nodes:
        _read_in(tensor, _checked_place(tensor, path))
    return bool(outside or in_nodes)


def _checked_place(tensor: Any, path: Path) -> Path:
    entry = _external(tensor)
    location = entry.get("location", "")
    what = f"{path}: external data of '{tensor.name}' in '{location}'"
    if _leaves_folder(location, path):
        raise ModelError(f"{what} is outside the model's folder", hint="external data must lie beside the model")
    file = (path.parent / location).resolve()
    if not file.is_file():
        raise ModelError(f"{what} does not exist", hint=f"expected {file}")
    need = _needed(tensor, path)
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", need))
    except ValueError as error:
        raise ModelError(f"{what} has an offset or length that is no number") from error
    if offset < 0 or length != need:
        raise ModelError(f"{what} is damaged: offset {offset}, length {length} where the shape needs {need}")
    if offset + need > file.stat().st_size:
        raise ModelError(f"{what} is truncated: {offset + need} bytes needed, {file.stat().st_size} there")
    return file


def _leaves_folder(location: str, path: Path) -> bool:
    """As onnxruntime judges: a linked model (a download cache) may have its data beside it or beside its target."""
    if not location or os.path.isabs(location) or "\\" in location or os.path.normpath(location).startswith(".."):
        return True
    file = (path.parent / location).resolve()
    return not any(file.is_relative_to(folder) for folder in (path.parent.resolve(), path.resolve().parent))


def _set_location(tensor: Any, location: str) -> None:
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location


def _read_in(tensor: Any, file: Path) -> None:
    import onnx

    with file.open("rb") as data:
        data.seek(int(_external(tensor).get("offset", 0)))
        tensor.raw_data = data.read(_needed(tensor, file))
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


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
    yield from _initializers(proto)
    yield from _node_tensors(proto)


def _initializers(proto: Any) -> Iterator[Any]:
    for body in _bodies(proto):
        yield from getattr(body, "initializer", ())


def _node_tensors(proto: Any) -> Iterator[Any]:
    for attribute in _attributes(proto):
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _attributes(proto: Any) -> Iterator[Any]:
    return (attribute for body in _bodies(proto) for node in body.node for attribute in node.attribute)


def _bodies(proto: Any) -> Iterator[Any]:
    """Every graph, and every function, whose body is not a graph."""
    yield from _graphs(proto.graph)
    for function in proto.functions:
        yield function
        for node in function.node:
            yield from _node_graphs(node)


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
        with self._writing():
            ir.save(model, self.path, "protobuf", self._data_writing.name if external else None, EXTERNAL_TENSOR)
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
            _set_location(tensor, self._data.name)
        onnx.save(proto, self.path, "protobuf")

    @property
    def size(self) -> int:
        """Bytes on disk, external data included."""
        return self.path.stat().st_size + (self._data.stat().st_size if self._data else 0)

    def commit(self) -> None:
        """Put the model in place; data files of an older version of the same output go afterwards."""
        own = re.compile(re.escape(self.out.name) + r"\.[0-9a-f]{8}\.data")
        with self._writing():
            old = [file for file in self.out.parent.iterdir() if own.fullmatch(file.name) and file != self._data]
            os.replace(self.path, self.out)
        self._data_is_new = False
        _remove(*old)

    def discard(self) -> None:
        """Leave nothing behind that was not committed."""
        _remove(self.path, self._data_writing, *([self._data] if self._data and self._data_is_new else []))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self.out}: {error.strerror or error}") from error


def _remove(*files: Path) -> None:
    for file in files:
        with suppress(OSError):  # not there, or in a folder that is not there
            file.unlink()


def _embed(model: ir.Model) -> None:
    """Weights that a pass left pointing at some file are read into the model that is saved as one file."""
    import onnx_ir as ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
