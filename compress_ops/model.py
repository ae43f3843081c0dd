"""The one door to ONNX files: load, look, edit, check and save a model; nothing else touches raw protobufs.

In memory a model is an onnx-ir graph. What loading makes uniform, so that every pass sees one form only:
weights in Constant nodes become initializers of the same name; initializers that are listed as graph inputs
too stop being inputs (IR version 3) or lie aside as defaults of these inputs; weights in half precision behind a Cast
are float32 weights marked as such (``stored_half.py``); every node has a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrays import Array
from .errors import ModelError, PassError
from .files.interface import (
    as_written,
    maps_hidden,
    ports_kept,
    put_types_back,
    shaped_values,
    take_defaults,
    take_types,
)
from .files.models import Staged, model_files, read_proto
from .files.stored_half import as_stored, stored_bytes, widen
from .files.temporary import temporary_folder
from .gate import check_structure, forget_negative_sizes, settle_external_data, structure_faults
from .lazy import ir, ir_passes
from .nodes import ONNX_DOMAINS as ONNX_DOMAINS
from .nodes import bytes_of
from .shapes import generated_faults, infer, outline

if TYPE_CHECKING:
    import onnx_ir

EXTERNAL_ABOVE = 3 * 2**29  # bytes of weights (1.5 GiB) above which they leave the .onnx file
_MIN_IR_VERSION = 4  # the first in which an initializer need not be an input
UNNAMED = "onnxpress.unnamed"  # marks, in memory, a node that has no name in the file
_SMALL = 1024  # bytes; onnx-ir leaves weights of up to 1000 in the model that it has checked


@dataclass(frozen=True)
class Contract:
    """What a caller of the model relies on: names and types of inputs and outputs, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Model:
    """An ONNX model in memory. ``ir`` is the onnx-ir model; ``path`` is where it came from, ``files`` what it lies in.

    ``external``: some of its weights lie outside the .onnx file. ``reference`` is the model as it was before weights
    were first taken out of it; ``kept`` tells which indices of its inner values are left, by name and axis (axes that
    are whole are not listed). Passes that make up for what was lost compare with it. ``silenced`` holds, by who
    did it and by name of a weight, the part of the weight that is zero for now and may come back (0 elsewhere).
    ``defaults`` are what inputs hold unless a caller feeds them, ``types`` those (TypeProto) that onnx-ir does not
    know, ``shaped`` the inner values whose shape the file tells (see ``interface``).
    """

    ir: onnx_ir.Model
    path: Path | None = None
    external: bool = False
    files: list[Path] = field(default_factory=list)
    reference: Model | None = field(default=None, repr=False)
    kept: dict[str, dict[int, Array]] = field(default_factory=dict, repr=False)
    silenced: dict[str, dict[str, onnx_ir.TensorProtocol]] = field(default_factory=dict, repr=False)
    defaults: Mapping[str, onnx_ir.TensorProtocol] = field(default_factory=dict, repr=False)
    types: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shaped: frozenset[str] = field(default_factory=frozenset, repr=False)
    _names: set[str] = field(default_factory=set, repr=False)

    @property
    def graph(self) -> onnx_ir.Graph:
        return self.ir.graph

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return self.ir.opset_imports.get("", self.ir.opset_imports.get("ai.onnx", 0))

    def nodes(self) -> Iterator[onnx_ir.Node]:
        """Every node, those of subgraphs (If, Loop, Scan) included, in order. Safe to edit while iterating."""
        return iter(list(ir.traversal.RecursiveGraphIterator(self.graph)))

    def weights(self) -> Iterator[onnx_ir.Value]:
        """Every initializer of the graph and its subgraphs, each with its tensor in ``const_value``."""
        for graph in self.ir.graphs():
            yield from (value for value in list(graph.initializers.values()) if value.const_value is not None)

    def copy(self) -> Model:
        """The same graph once more, to be edited apart; tensors are shared, since nothing changes them in place."""
        kept = {name: dict(axes) for name, axes in self.kept.items()}
        silenced = {kind: dict(tensors) for kind, tensors in self.silenced.items()}
        return replace(self, ir=self.ir.clone(), kept=kept, silenced=silenced, _names=set())

    def keep_reference(self) -> None:
        """Remember the model as it is now, unless an earlier one is remembered; tensors are shared."""
        if self.reference is None:
            self.reference = self.copy()

    def contract(self) -> Contract:
        """Inputs and outputs as text, for comparison before and after a pass."""
        ports = (tuple(f"{v.name}: {v.type}" for v in side) for side in (self.graph.inputs, self.graph.outputs))
        return Contract(*ports)

    def keeping_ports(self) -> AbstractContextManager[None]:
        """What is told of inputs and outputs stays as it is, whatever is inferred or put in place meanwhile."""
        return ports_kept(self.graph)

    def fresh(self, wish: str) -> str:
        """A value or node name not used anywhere in the model: the wish, or the wish with a number."""
        if not self._names:
            self._names = set(_used_names(self))
        name, count = wish, 1
        while name in self._names:
            name, count = f"{wish}_{count}", count + 1
        self._names.add(name)
        return name

    def add_weight(
        self, name: str, tensor: onnx_ir.TensorProtocol, graph: onnx_ir.Graph | None = None
    ) -> onnx_ir.Value:
        """Register a tensor (eager or lazy) as an initializer under a fresh name made from ``name``."""
        name = self.fresh(name)
        tensor.name = name
        value = ir.Value(
            name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        (graph if graph is not None else self.graph).register_initializer(value)
        return value

    def drop_unused(self) -> int:
        """Remove nodes and weights that nothing reads; returns how many nodes and weights went."""
        before = sum(1 for _ in self.nodes()) + sum(1 for _ in self.weights())
        ir_passes.RemoveUnusedNodesPass()(self.ir)
        for graph in self.ir.graphs():
            _drop_unused_weights(graph)
        return before - sum(1 for _ in self.nodes()) - sum(1 for _ in self.weights())

    def check(self) -> None:
        """Raise PassError where the structure is none that the gate lets in (contents of weights are not looked at)."""
        try:
            ir_passes.TopologicalSortPass()(self.ir)
        except ValueError as error:
            raise PassError(f"the graph is not valid ONNX: {error}") from error
        for fault in structure_faults(outline(self.ir)):
            raise PassError(f"the graph is not valid ONNX: {fault}")

    def infer_shapes(self) -> None:
        """Fill in types and shapes of inner values where they can be found out; never fails on what cannot."""
        with maps_hidden(self.ir, self.nodes(), self.types):
            infer(self.ir)

    def weight_bytes(self) -> int:
        """Bytes of all weights as stored, external data included; generated constants count as if stored."""
        return sum(map(stored_bytes, self.weights())) + self.default_bytes() + self.generated_bytes()

    def default_bytes(self) -> int:
        """Bytes of what inputs hold unless a caller feeds them."""
        return sum(map(bytes_of, self.defaults.values()))

    def generated_bytes(self) -> int:
        """Bytes of the constants that the graph makes at run time (ConstantOfShape with a constant shape)."""
        return sum(map(_generated_bytes, self.nodes()))

    def stored_bytes(self) -> int:
        """Bytes of weights plus an estimate (names and attributes) of what nodes take in the file."""
        return self.weight_bytes() + sum(map(node_bytes, self.nodes()))

    def save(self, out: Path) -> None:
        """Write the model atomically: the old file stays whole until the new one is complete."""
        with self.staged(out) as staged:
            staged.commit()

    @contextmanager
    def staged(self, out: Path, *, force: bool = True) -> Iterator[Staged]:
        """The model written beside ``out`` under a temporary name, gone again unless ``commit()`` is called.

        Without ``force`` a file that has appeared there meanwhile is not replaced.
        """
        staged = Staged(out, force=force)
        try:
            with as_stored(self.ir), as_written(self.ir, self.defaults, self.shaped):
                staged.write(self.ir, external=self.external or self.weight_bytes() > EXTERNAL_ABOVE)
            if self.types:
                staged.rewrite(partial(put_types_back, types=self.types))
            yield staged
        finally:
            staged.discard()

    @contextmanager
    def exported(self) -> Iterator[Path]:
        """A path to the model as it is now, in a temporary folder, for onnxruntime to load."""
        with temporary_folder() as folder, self.staged(folder / "model.onnx") as staged:
            yield staged.path


def load(path: Path, *, drop_default_inputs: bool = False) -> Model:
    """Read an ONNX file; weights stay on disk (external) or in the file's own buffer until they are looked at.

    An input with a default stays one, unless it is to be dropped or the file is so old (IR version 3) that all weights
    had to be listed as inputs: then it is a weight.

    Raises ModelError for a file that is missing, not ONNX or truncated, for a structure that does not pass the gate,
    for external data that is missing, too short or outside the model's folder, and for parts that would be lost.
    """
    proto = read_proto(path)
    check_structure(proto, path)
    forget_negative_sizes(proto)
    files = model_files(path, proto)
    external = settle_external_data(proto, path)
    types, shaped = take_types(proto), shaped_values(proto)
    try:
        model = Model(ir.from_proto(proto), path, external, files, types=types, shaped=shaped)
        if not drop_default_inputs and (model.ir.ir_version or 0) >= _MIN_IR_VERSION:
            model.defaults = take_defaults(model.graph)
        make_uniform(model)
        _fetch_small(model)
    except Exception as error:
        raise ModelError(f"{path} is not a valid ONNX model: {_root_cause(error)}") from error
    _refuse_what_asks_for_memory(model)
    return model


def _refuse_what_asks_for_memory(model: Model) -> None:
    stored = sum(value.const_value.size for value in model.weights() if value.const_value is not None)
    for fault in generated_faults(model.nodes(), stored):
        raise ModelError(f"{model.path}: {fault}", hint="what is so large can be an input of the model instead")


def make_uniform(model: Model) -> None:
    """Bring the graph into the one form that passes see (see the top of this file), after a load or a foreign pass."""
    model._names.clear()  # foreign passes add names without asking
    ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model.ir)
    ir_passes.RemoveInitializersFromInputsPass()(model.ir)
    ir_passes.TopologicalSortPass()(model.ir)  # copies can be made only of what is in order
    widen(model.ir)
    model.ir.ir_version = max(model.ir.ir_version or 0, _MIN_IR_VERSION)
    _keep_texts(model)
    for node in model.nodes():
        if not node.name:
            node.name = model.fresh(f"{node.op_type}_{node.outputs[0].name if node.outputs else ''}")
            node.meta[UNNAMED] = True


def _keep_texts(model: Model) -> None:
    """Texts that were computed lie in an array, which onnx-ir cannot write; it has a tensor for them."""
    for value in model.weights():
        tensor = value.const_value
        if isinstance(tensor, ir.Tensor) and tensor.dtype.is_string():
            value.const_value = ir.StringTensor(tensor.numpy().astype(object), shape=tensor.shape, name=value.name)


def _fetch_small(model: Model) -> None:
    """Read small external weights: onnx-ir hands them to ONNX's checker with a path that it refuses."""
    for value in model.weights():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes <= _SMALL:
            value.const_value = ir.external_data.convert_tensors_from_external([tensor])[0]


def _drop_unused_weights(graph: onnx_ir.Graph) -> None:
    """onnx-ir removes unused initializers from the main graph only."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _used_names(model: Model) -> Iterator[str]:
    for graph in model.ir.graphs():
        yield from (value.name or "" for value in (*graph.inputs, *graph.initializers.values()))
    for node in model.nodes():
        yield node.name or ""
        yield from (value.name or "" for value in node.outputs)


def _generated_bytes(node: onnx_ir.Node) -> int:
    """Bytes of the constant that a ConstantOfShape with a constant shape makes at run time; 0 for other nodes."""
    if node.op_type != "ConstantOfShape" or node.inputs[0] is None or node.inputs[0].const_value is None:
        return 0
    value = node.attributes.get("value")
    itemsize = value.as_tensor().dtype.itemsize if value is not None else 4
    return int(math.prod(node.inputs[0].const_value.numpy().tolist()) * itemsize)


def node_bytes(node: onnx_ir.Node) -> int:
    """An estimate, from names and attributes, of what a node takes in the file."""
    names = [node.name, node.op_type, *(v.name for v in (*node.inputs, *node.outputs) if v is not None)]
    return sum(len(name or "") + 2 for name in names) + sum(len(name) + 8 for name in node.attributes)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
