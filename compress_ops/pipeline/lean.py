"""Drop what exporters leave behind in a model: where each node came from, with stack traces and paths of a machine.

PyTorch writes its own notes under keys that begin with ``pkg.torch``, beside them ``namespace``, and stack traces into
the documentation of nodes. None of it is read when the model runs, and in a small model it is a third of the file. It
is told by what it is: such a key, or a text that names lines of Python files. Names, licences, documentation of the
model, and keys of anybody else stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from ..lazy import ir, onnx
from ..model import UNNAMED, Model

_EXPORTERS = ("pkg.torch.", "pkg.onnxscript.")
_BESIDE = "namespace"  # written by the same exporter; other tools' key of this name stays
_TRACE = re.compile(r'File ".+", line \d+|\S+\.py(?:\(\d+\)|:\d+)')


def drop_leftovers(model: Model) -> int:
    """Take exporters' leftovers out of the model; returns their bytes."""
    dropped = _drop(model.ir.metadata_props, traces=False)
    for function in model.ir.functions.values():
        dropped += _drop(function.metadata_props) + _drop_trace(function)
        dropped += sum(map(_drop_of_node, function))
    for graph in model.ir.graphs():
        dropped += _drop(graph.metadata_props, traces=False)
    return dropped + sum(map(_drop_all, _values(model))) + sum(map(_drop_of_node, model.nodes()))


def drop_given_names(model: Model) -> None:
    """Nodes that had no name in the file, and were given one so that patterns can speak of them, have none again."""
    for node in model.nodes():
        if node.meta.get(UNNAMED):
            node.name = None


def _values(model: Model) -> Iterator[ir.Value]:
    """Inputs and weights; what nodes give goes with the nodes."""
    for graph in model.ir.graphs():
        yield from dict.fromkeys((*graph.inputs, *graph.initializers.values()))


def _drop_of_node(node: ir.Node) -> int:
    return _drop_all(node) + sum(map(_drop_all, node.outputs))


def _drop_all(told: ir.Node | ir.Value) -> int:
    return _drop(told.metadata_props) + _drop_trace(told)


def _drop(metadata: MutableMapping[str, str], *, traces: bool = True) -> int:
    """Exporters' keys, and texts that are stack traces whatever their key; returns the bytes that they took."""
    gone = [key for key in metadata if key.startswith(_EXPORTERS)]
    gone += [_BESIDE] if gone and _BESIDE in metadata else []
    gone += [key for key, text in metadata.items() if traces and key not in gone and _TRACE.search(text)]
    return sum(entry_bytes(key, metadata.pop(key)) for key in gone)


def entry_bytes(key: str, text: str) -> int:
    """What an entry of metadata takes in the file."""
    return 2 + int(onnx.StringStringEntryProto(key=key, value=text).ByteSize())


def _drop_trace(told: Any) -> int:
    text = told.doc_string
    if not text or not _TRACE.search(text):
        return 0
    told.doc_string = None
    return 2 + len(text.encode())
