"""ONNX files on disk: read without running into traps, write without losing the old one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError, OutputError
from .protos import external_entries, is_external, set_location, tensors

if TYPE_CHECKING:
    import onnx_ir as ir

EXTERNAL_TENSOR = 1024  # bytes; smaller tensors stay in the .onnx file


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(path: Path, proto: Any = None) -> list[Path]:
    """The .onnx file and the external data files that it names, each once; ``proto`` saves reading the file again."""
    found = tensors(proto if proto is not None else read_proto(path))
    locations = {external_entries(tensor).get("location", "") for tensor in found if is_external(tensor)}
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

    def rewrite(self, change: Callable[[Any], None]) -> None:
        """Change the protobuf of what was written."""
        import onnx

        with self._writing():
            proto = onnx.load(self.path, "protobuf", load_external_data=False)
            change(proto)
            onnx.save(proto, self.path, "protobuf")

    def _name_data_by_content(self) -> None:
        import onnx

        digest = file_digest(self._data_writing)[:8]
        self._data = self.out.with_name(f"{self.out.name}.{digest}.data")
        self._data_is_new = not self._data.exists()
        os.replace(self._data_writing, self._data)
        proto = onnx.load(self.path, "protobuf", load_external_data=False)
        for tensor in tensors(proto):
            set_location(tensor, self._data.name)
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
