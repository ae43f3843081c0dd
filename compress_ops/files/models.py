"""ONNX files on disk: read without running into traps, write without losing the old one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..lazy import ir, onnx
from .not_onnx import ONNX, kind_of_file
from .protobuf import external_entries, is_external, set_location, tensors
from .reading import unreadable
from .temporary import temporary_folder
from .writing import put_in_place, written

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
    if why := unreadable(path):
        raise _no_file(path, why)
    try:
        proto = onnx.load(path, "protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError has no public name across versions
        raise _no_model(path, str(error)) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise _no_model(path, "it holds no graph")
    return proto


def _no_file(path: Path, why: str) -> ModelError:
    """A path that cannot be read; people name the folder of a model, too."""
    kind = kind_of_file(path) if os.path.isdir(path) else None
    if kind is None:
        return ModelError(f"{path} {why}", hint="name the .onnx file in it" if os.path.isdir(path) else "")
    return ModelError(f"{path} is {kind.what}", hint=kind.way_for(path))


def _no_model(path: Path, why: str) -> ModelError:
    """A file that holds no ONNX model, with what it is and the way to ONNX where that is known."""
    kind = kind_of_file(path)
    if kind is None or kind == ONNX:
        return ModelError(f"{path} is not an ONNX file, or it is truncated", hint=why)
    return ModelError(f"{path} is not an ONNX file: it is {kind.what}", hint=kind.way_for(path))


class Staged:
    """A model on disk that is not yet the output: ``path`` can be loaded; ``commit`` puts it in place.

    It lies in a temporary folder beside its place. Weights that live outside go to ``NAME.DIGEST.data``: a new name
    for new content, so that putting the .onnx file in its place is the one atomic step that switches from the old
    weights to the new.
    """

    def __init__(self, out: Path, *, force: bool = True) -> None:
        self.out, self._force = out, force
        self.path = out
        self._data: Path | None = None
        self._opened = ExitStack()

    def write(self, model: ir.Model, *, external: bool) -> None:
        if not external:
            _embed(model)
        with written(self.out):
            folder = self._opened.enter_context(temporary_folder(self.out.parent))
            self.path, data = folder / self.out.name, folder / "data"
            ir.save(model, self.path, "protobuf", data.name if external else None, EXTERNAL_TENSOR)
            if data.exists():
                self._data = data.rename(folder / f"{self.out.name}.{file_digest(data)[:8]}.data")
                self.rewrite(partial(_point_to, location=self._data.name))

    def rewrite(self, change: Callable[[Any], None]) -> None:
        """Change the protobuf of what was written."""
        with written(self.out):
            proto = onnx.load(self.path, "protobuf", load_external_data=False)
            change(proto)
            onnx.save(proto, self.path, "protobuf")

    @property
    def size(self) -> int:
        """Bytes on disk, external data included."""
        return sum(file.stat().st_size for file in (self.path, self._data) if file is not None)

    def commit(self) -> None:
        """Put the model in place; the data file of the version that it replaces goes afterwards."""
        with written(self.out):
            old = _own_data(self.out)
            with self._weights_in_place():
                put_in_place(self.path, self.out, force=self._force)
        _remove(*(file for file in old if self._data is None or file.name != self._data.name))

    @contextmanager
    def _weights_in_place(self) -> Iterator[None]:
        """The weights are there before the model; they go again where it cannot follow."""
        data = self.out.with_name(self._data.name) if self._data is not None else None
        is_new = data is not None and not (data.is_file() and file_digest(data) == file_digest(self._data or data))
        if self._data is not None and data is not None and is_new:
            put_in_place(self._data, data, force=self._force)
        try:
            yield
        except BaseException:
            if data is not None and is_new and not self._is_in_place():
                _remove(data)
            raise

    def _is_in_place(self) -> bool:
        return not self.path.exists() or (self.out.exists() and self.path.samefile(self.out))

    def discard(self) -> None:
        """Leave nothing behind that was not committed."""
        self._opened.close()


def _point_to(proto: Any, location: str) -> None:
    for tensor in tensors(proto):
        set_location(tensor, location)


def _own_data(out: Path) -> set[Path]:
    """The data files of a model that were named after it: nobody else's."""
    own = re.compile(re.escape(out.name) + r"\.[0-9a-f]{8}\.data")
    found = {file for file in out.parent.iterdir() if own.fullmatch(file.name)}
    try:
        return found & set(model_files(out)) if found else found
    except ModelError:  # no model was there, or none that can be read
        return set()


def _remove(*files: Path) -> None:
    for file in files:
        with suppress(OSError):  # not there, or in a folder that is not there
            file.unlink()


def _embed(model: ir.Model) -> None:
    """Weights that a pass left pointing at some file are read into the model that is saved as one file."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
