"""Weights and where they are read: as a matrix (MatMul, Gemm), a table of rows (Gather), a kernel (Conv), gates (LSTM).

A weight is looked at as [rows, inner], rows being what blocks never cross: output features of a matrix, rows of a
table, output channels of a kernel, gates of a recurrent layer. A table that is also a matrix with the same rows is
tied, and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ...arrays import Array
from ...graph.edit import attribute
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected
from ..int8.eligible import RECURRENT, weight_indices
from ..int8.left import to_the_right
from ..numbers.formats import is_finite

Operator = Literal["MatMul", "Gemm", "Gather", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"]
OPERATORS: list[Operator] = ["MatMul", "Gemm", "Gather", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"]
Role = Literal["matrix", "table", "kernel", "gates"]
_ROLES: dict[str, Role] = {
    "MatMul": "matrix",
    "Gemm": "matrix",
    "Gather": "table",
    "Conv": "kernel",
    "ConvTranspose": "kernel",
    **dict.fromkeys(RECURRENT, "gates"),
}
_QUANTIZED = (
    "DynamicQuantizeLSTM",
    "MatMulNBits",
    "GatherBlockQuantized",
    "MatMulInteger",
    "ConvInteger",
    "QLinear",
    "QGemm",
)


@dataclass(frozen=True)
class Site:
    """A node that reads a weight; ``rows_first`` tells that it reads it as [rows, inner] and not as [inner, rows]."""

    node: ir.Node
    role: Role
    rows_first: bool
    index: int = 1


@dataclass
class Weight:
    """A stored weight with all its readers, which agree on what its rows are."""

    value: ir.Value
    tensor: ir.TensorProtocol
    rows_first: bool
    sites: list[Site] = field(default_factory=list)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape.numpy())

    @property
    def rows(self) -> int:
        if "gates" in self.roles:
            return math.prod(self.sizes[:-1])
        return self.sizes[0] if self.rows_first else self.sizes[1]

    @property
    def inner(self) -> int:
        return math.prod(self.sizes) // self.rows

    @property
    def roles(self) -> set[Role]:
        return {site.role for site in self.sites}

    @property
    def name(self) -> str:
        return self.value.name or "weight"

    def matrix(self) -> Array:
        """The numbers as [rows, inner]."""
        numbers = self.tensor.numpy()
        return numbers.reshape(self.rows, -1) if self.rows_first else numbers.T


def find_weights(
    model: Model, operators: Collection[str], only: list[str], skip: list[str], change: Change
) -> list[Weight]:
    """The weights that can be quantized, in the order of their first readers; the others are declined."""
    wanted = [node for node in model.nodes() if selected(node, only, skip)]
    nodes = [node for node in wanted if node.op_type in operators and node.domain in ONNX_DOMAINS]
    chosen = dict.fromkeys(to_the_right(model, nodes, change, stored=False))
    found: dict[ir.Value, Weight | str] = {}
    for node, index in ((one, index) for one in chosen for index in weight_indices(one)):
        value = _stored(node, index)
        if not isinstance(value, str) and value not in found:
            found[value] = _weight(value, chosen)
        reason = value if isinstance(value, str) else found[value]
        if isinstance(reason, str) and reason:
            change.decline(node.name, f"{node.op_type}: {reason}")
    for node in wanted:
        if node.op_type.startswith(_QUANTIZED):
            change.decline(node.name, f"{node.op_type}: its weight is quantized already")
    return [weight for weight in found.values() if isinstance(weight, Weight)]


def _stored(node: ir.Node, index: int) -> ir.Value | str:
    """The initializer that a node reads as its weight (through a Transpose too), or why there is none."""
    value = node.inputs[index]
    if value is None:
        return "it has no weight"
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return "its weight is quantized already"
    if producer is not None and _turns(producer) and producer.inputs[0] is not None:
        value = producer.inputs[0]
    if value.is_initializer() and value.const_value is not None:
        return value
    return "" if node.op_type == "Gather" else "its weight is computed, not stored"


def _turns(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and list(attribute(node, "perm", [1, 0])) == [1, 0]


def _weight(value: ir.Value, chosen: Container[ir.Node]) -> Weight | str:
    """The weight with all its readers, or why it cannot be quantized."""
    tensor = value.const_value
    assert tensor is not None
    reason = _why_not_tensor(value, tensor)
    if reason:
        return reason
    found = [_site(node, index, turned, chosen, len(tensor.shape)) for node, index, turned in _readers(value)]
    sites = [site for site in found if isinstance(site, Site)]
    if len(sites) < len(found):
        return next(reason for reason in found if isinstance(reason, str))
    if len({site.rows_first for site in sites}) > 1:
        return "its weight is read by rows and by columns, which no block form serves"
    return Weight(value, tensor, sites[0].rows_first, sites)


def _why_not_tensor(value: ir.Value, tensor: ir.TensorProtocol) -> str:
    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"its weight is {tensor.dtype.name.lower()}, not float32 or float16"
    if len(tensor.shape) < 2:
        return "its weight is a vector"
    if value.is_graph_output():
        return "its weight is an output of the graph"
    return "" if is_finite(tensor.numpy()) else "its weight has NaN or infinite values"


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int, bool]]:
    """Nodes that read a value, with the input's index, and whether through a Transpose."""
    for node, index in value.uses():
        if _turns(node) and not node.outputs[0].is_graph_output():
            yield from ((user, at, True) for user, at in node.outputs[0].uses())
        else:
            yield node, index, False


def _site(node: ir.Node, index: int, turned: bool, chosen: Container[ir.Node], rank: int) -> Site | str:
    if node not in chosen or index not in weight_indices(node):
        return f"{node.op_type} {node.name} reads its weight too and needs it as it is"
    role = _ROLES[node.op_type]
    if rank > 2 and role not in ("kernel", "gates"):
        return f"its weight has {rank} dimensions, not 2"
    reason = _why_not(node, role)
    if reason:
        return reason
    transposed = bool(attribute(node, "transB", 0)) != turned
    return Site(node, role, transposed or role != "matrix", index)


def _why_not(node: ir.Node, role: Role) -> str:
    if node.op_type == "Gemm" and (
        attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    ):
        return "transA, alpha or beta has no such form"
    if role == "table" and attribute(node, "axis", 0) != 0:
        return "it looks up columns, not rows"
    first = node.inputs[0]
    if role == "matrix" and first is not None and first.shape is not None and len(first.shape) < 2:
        return "its input is a vector"
    if role == "matrix" and first is not None and first.is_initializer():
        return "both inputs are constants; run simplify first"
    return ""
