"""Which inputs of an operator are weights, how one is stored, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ...lazy import ir
from ...model import ONNX_DOMAINS
from ...nodes import attribute, constant_of

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("Gemm", "MatMul")
LINEAR = (*CONVOLUTIONS, *PRODUCTS)
RECURRENT = ("LSTM", "GRU", "RNN")
WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(LINEAR, (1,)),
    **dict.fromkeys(RECURRENT, (1, 2)),  # for what they read, and for their state
    "Gather": (0,),
}
ON_CODES = {
    "MatMulInteger": {"MatMul", "Gemm"},
    "MatMulNBits": {"MatMul", "Gemm"},
    "DynamicQuantizeMatMul": {"MatMul", "Gemm"},
    "QLinearMatMul": {"MatMul"},
    "QGemm": {"Gemm"},
    "ConvInteger": {"Conv"},
    "QLinearConv": {"Conv"},
    "GatherBlockQuantized": {"Gather"},
    "DynamicQuantizeLSTM": {"LSTM"},
}
"""Operators on codes, and what they were before."""


Role = Literal["kernel", "matrix", "gates", "table"]
_ROLES: dict[str, Role] = {
    **dict.fromkeys(CONVOLUTIONS, "kernel"),
    **dict.fromkeys(PRODUCTS, "matrix"),
    **dict.fromkeys(RECURRENT, "gates"),
    "Gather": "table",
}


@dataclass(frozen=True)
class Site:
    """Where a node reads ``value`` as a weight, its input ``index``; ``turned``: through a Transpose of two axes."""

    node: ir.Node
    index: int
    value: ir.Value | None
    turned: bool = False

    @property
    def tensor(self) -> ir.TensorProtocol | None:
        """The stored numbers; None where there are none."""
        return constant_of(self.value)

    @property
    def role(self) -> Role:
        """What the weight is to the node, an operator that has weights."""
        return _ROLES[self.node.op_type]

    @property
    def rows_first(self) -> bool:
        """Whether it is stored as [rows, ...]; only matrices may be stored as [inner, rows]."""
        return self.role != "matrix" or bool(attribute(self.node, "transB", 0)) != self.turned


def weight_indices(node: ir.Node) -> tuple[int, ...]:
    """Which inputs of an operator are weights; none of one without."""
    return WEIGHT_INPUTS.get(node.op_type, ()) if node.domain in ONNX_DOMAINS else ()


def sites_of(node: ir.Node) -> list[Site]:
    """Where a node reads weights."""
    return [Site(node, index, node.inputs[index]) for index in weight_indices(node)]


def through_transpose(site: Site) -> Site:
    """What is stored behind a Transpose of two axes, if the node reads its weight through one (tied tables)."""
    made = site.value.producer() if site.value is not None else None
    if made is None or not turns(made) or constant_of(made.inputs[0]) is None:
        return site
    return Site(site.node, site.index, made.inputs[0], turned=True)


def turns(node: ir.Node) -> bool:
    """Whether a node exchanges two axes."""
    if node.op_type != "Transpose" or node.domain not in ONNX_DOMAINS:
        return False
    return list(attribute(node, "perm", [1, 0])) == [1, 0]


def readers(value: ir.Value) -> Iterator[Site]:
    """All that reads a stored weight, also behind a Transpose of two axes that is no output itself."""
    for node, index in value.uses():
        if turns(node) and not node.outputs[0].is_graph_output():
            yield from (Site(user, at, value, turned=True) for user, at in node.outputs[0].uses())
        else:
            yield Site(node, index, value)


def is_left(node: ir.Node) -> bool:
    """Whether a MatMul's left operand alone is stored."""
    is_product = node.op_type == "MatMul" and node.domain in ONNX_DOMAINS
    return is_product and constant_of(node.inputs[0]) is not None and constant_of(node.inputs[1]) is None


def is_dequantized(value: ir.Value | None) -> bool:
    """Whether a value is stored codes behind a DequantizeLinear."""
    source = value.producer() if value is not None else None
    return source is not None and source.op_type == "DequantizeLinear" and constant_of(source.inputs[0]) is not None
