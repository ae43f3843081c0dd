"""What each layer takes to run, by onnxruntime's profile of the model of layers apart.

A layer's time is the sum of its kernels' times, each as it usually is over several runs; what several layers share is
divided among them. Quantizing what a layer reads, and decoding what it gives, is told by itself: beside another layer
in integers it is not needed. What a layer takes follows from its operators, their attributes and the shapes that go in:
under a digest of these it is kept, in a table for each processor, version of onnxruntime and number of threads.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from ...arrays import Array
from ...errors import OutputError
from ...files.temporary import temporary_folder
from ...files.writing import write
from ...lazy import ir, onnx
from ...measure.cost import read_events
from ...measure.environment import describe_environment
from ...model import Model
from ...report.report import plain
from ...runtime import Arrays, Provider, open_session

_SECONDS = 0.3  # of runs under the profiler
_RUNS, _MOST_RUNS = 5, 400
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_TIME = "_kernel_time"


@dataclass(frozen=True)
class Times:
    """Seconds of each layer, [layers]: of its own kernels, and of quantizing and decoding at its edges."""

    kernels: Array
    edges: Array


@dataclass
class Timetable:
    """Times by digest, ``file`` being where they are kept; without one they are kept for this run alone."""

    providers: Sequence[Provider]
    threads: int
    file: Path | None = None
    known: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def opened(cls, providers: Sequence[Provider], threads: int, folder: Path | None) -> Timetable:
        """The table of this machine in a folder; what cannot be read is as good as none."""
        if folder is None:
            return cls(providers, threads)
        machine = json.dumps(_machine(providers, threads), sort_keys=True)
        file = folder / f"times-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"
        return cls(providers, threads, file, _kept(file))

    def keep(self) -> None:
        """Write the table, whole or not at all; where nothing can be written, nothing is kept."""
        if self.file is None:
            return
        told = {"measured on": _machine(self.providers, self.threads), "times": self.known}
        with suppress(OSError, OutputError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write(self.file, json.dumps(told, indent=0), force=True)

    def of(self, model: Model, feeds: Arrays, layers: Sequence[Sequence[str]]) -> Times:
        """What each layer of a model of layers apart takes; only what is not known is measured."""
        keys = [_digest(model, names, feeds) for names in layers]
        if not all(key in self.known for key in keys):
            found = _profiled(model, feeds, layers, self)
            self.known.update({key: times for key, times in zip(keys, found, strict=True) if key not in self.known})
        kernels, edges = np.array([self.known[key] for key in keys]).reshape(-1, 2).T
        return Times(kernels, edges)


def _machine(providers: Sequence[Provider], threads: int) -> object:
    return plain(describe_environment(providers[0].name, threads))


def _kept(file: Path) -> dict[str, tuple[float, float]]:
    """The times in a file; none where it is not there or not in order."""
    try:
        entries = json.loads(file.read_bytes())["times"].items()
        return {key: (float(kernels), float(edges)) for key, (kernels, edges) in entries}
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def _digest(model: Model, names: Sequence[str], feeds: Arrays) -> str:
    """What a layer's time follows from."""
    made = {value.name: value for node in model.graph for value in node.outputs}
    numbers: dict[ir.Node, int] = {}
    told = [_told(node, numbers, feeds) for name in names for node in _behind(made[name], numbers)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _behind(value: ir.Value, numbers: dict[ir.Node, int]) -> Iterator[ir.Node]:
    """Nodes that lead to a value, each once, those that it needs first; they are numbered on the way."""
    node = value.producer()
    if node is None or node in numbers:
        return
    for one in node.inputs:
        if one is not None:
            yield from _behind(one, numbers)
    numbers[node] = len(numbers)
    yield node


def _told(node: ir.Node, numbers: Mapping[ir.Node, int], feeds: Arrays) -> list[object]:
    attributes = {name: str(value) for name, value in node.attributes.items()}
    return [node.domain, node.op_type, attributes, [_source(value, numbers, feeds) for value in node.inputs]]


def _source(value: ir.Value | None, numbers: Mapping[ir.Node, int], feeds: Arrays) -> object:
    if value is None:
        return None
    if value.const_value is not None:
        return [str(value.const_value.dtype), list(value.const_value.shape.numpy())]
    made = value.producer()
    if made is not None:
        return numbers[made]
    array = feeds.get(value.name or "")
    return None if array is None else [str(array.dtype), list(array.shape)]


def _profiled(
    model: Model, feeds: Arrays, layers: Sequence[Sequence[str]], table: Timetable
) -> list[tuple[float, float]]:
    """Run the model under the profiler, and divide the time of its kernels among the layers."""
    with temporary_folder() as folder, model.exported() as path:
        written = folder / "optimized.onnx"
        session = open_session(
            path, table.providers, threads=table.threads, profile_to=folder / "profile", optimized_to=written
        )
        taken, start, runs = session.taken(feeds), perf_counter(), 0
        while runs < _RUNS or (runs < _MOST_RUNS and perf_counter() - start < _SECONDS):
            session.run(taken)
            runs += 1
        seconds = _seconds(Path(session.raw.end_profiling()).read_bytes())
        graph = onnx.load(written, load_external_data=False).graph
    return _divided(graph, layers, seconds)


def _seconds(written: bytes) -> dict[str, float]:
    """Seconds of each node, by name."""
    times = defaultdict(list)
    for event in read_events(written):
        if event.get("cat") == "Node" and event["name"].endswith(_TIME):
            times[event["name"].removesuffix(_TIME)].append(event["dur"])
    return {name: _usual(np.sort(each)) * 1e-6 for name, each in times.items()}


def _usual(times: Array) -> float:
    """The mean of the lower three quarters: the profile counts whole microseconds, and what disturbs only adds."""
    return float(times[: max(len(times) * 3 // 4, 1)].mean())


def _divided(
    graph: onnx.GraphProto, layers: Sequence[Sequence[str]], seconds: Mapping[str, float]
) -> list[tuple[float, float]]:
    made = {output: node for node in graph.node for output in node.output}
    leading = [_leading(made, names) for names in layers]
    readers: dict[str, int] = defaultdict(int)
    for names in leading:
        for name in names:
            readers[name] += 1
    ends = {port.name for port in (*graph.input, *graph.output)}
    edges = {
        node.name for node in graph.node if node.op_type in _CONVERSIONS and ends & {*node.input[:1], *node.output}
    }
    return [
        (
            sum(seconds.get(name, 0.0) / readers[name] for name in names - edges),
            sum(seconds.get(name, 0.0) / readers[name] for name in names & edges),
        )
        for names in leading
    ]


def _leading(made: Mapping[str, onnx.NodeProto], names: Sequence[str]) -> set[str]:
    """Names of the nodes that lead to some values."""
    found: set[str] = set()
    todo = [made[name] for name in names if name in made]
    while todo:
        node = todo.pop()
        if node.name not in found:
            found.add(node.name)
            todo += [made[name] for name in node.input if name in made]
    return found
