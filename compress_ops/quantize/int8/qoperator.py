"""QOperator: Q/DQ pairs around an operator become one operator that reads and writes codes.

DequantizeLinear -> Conv -> QuantizeLinear is QLinearConv, and so on; QLinearConv and QLinearMatMul are in the ONNX
standard, the others are onnxruntime's own. A Relu or Clip between is dropped where the output's codes reach no further.
Pairs that no such operator takes stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ...graph.edit import MICROSOFT, Editor, attribute, constant_of
from ...lazy import ir
from ...model import Model
from .placement import ABSORBED, ARITHMETIC, CORE, MOVING, SENSITIVE
from .qdq import dequantizer

_STANDARD = ("Conv", "MatMul")
_CONVERTED = {*CORE, *ARITHMETIC, *SENSITIVE}


def to_operators(model: Model, quantized: Collection[ir.Node]) -> None:
    """Rewrite those of the quantized nodes for which there is such an operator."""
    for node in [node for node in model.graph if node in quantized]:
        quantizer = _quantizer(node)
        inputs = [_coded(value) for value in _data(node)]
        if quantizer is None or not all(inputs) or (_bias(node) is not None and _coded_bias(node) is None):
            continue
        edit = Editor(model, quantizer)  # what it emits stands behind all that the operator reads
        if node.op_type in MOVING:
            attributes = {name: held.value for name, held in node.attributes.items()}
            edit.replace(edit.op(node.op_type, inputs[0][0], *node.inputs[1:], **attributes))
        elif node.op_type in _CONVERTED:
            edit.replace(_converted(edit, node, [value for coded in inputs for value in coded]))
    model.drop_unused()


def _data(node: ir.Node) -> list[ir.Value | None]:
    several = {"Conv": 2, "Gemm": 2, "MatMul": 2, "Add": 2, "Mul": 2, "Concat": len(node.inputs)}
    return list(node.inputs[: several.get(node.op_type, 1)])


def _coded(value: ir.Value | None) -> Sequence[ir.Value | None]:
    """Codes, scale and zero point of a quantized value; nothing of another."""
    source = dequantizer(value)
    return () if source is None or len(source.inputs) < 3 or None in source.inputs else source.inputs


def _quantizer(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone reads the node, directly or behind a Relu or Clip that its codes make needless."""
    users = list(node.outputs[0].consumers())
    between = None
    if len(users) == 1 and users[0].op_type in ABSORBED:
        between, users = users[0], list(users[0].outputs[0].consumers())
    if len(users) != 1 or users[0].op_type != "QuantizeLinear" or node.outputs[0].is_graph_output():
        return None
    return users[0] if between is None or _is_needless(between, users[0]) else None


def _is_needless(limiter: ir.Node, quantizer: ir.Node) -> bool:
    """Whether codes reach at most a step beyond what Relu or Clip lets through."""
    scale, zero = (float(tensor.numpy()) for tensor in map(constant_of, quantizer.inputs[1:3]) if tensor is not None)
    limits = np.iinfo(constant_of(quantizer.inputs[2]).numpy().dtype)  # type: ignore[union-attr]
    low, high = (limits.min - zero) * scale, (limits.max - zero) * scale
    if limiter.op_type == "Relu":
        return low >= 0
    bounds = [constant_of(value) for value in [*limiter.inputs[1:3], None, None][:2]]
    if any(bound is None and value is not None for bound, value in zip(bounds, limiter.inputs[1:3], strict=False)):
        return False
    least, most = bounds
    return (least is None or low >= float(least.numpy()) - scale) and (
        most is None or high <= float(most.numpy()) + scale
    )


def _converted(edit: Editor, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Value:
    attributes = {name: held.value for name, held in node.attributes.items() if name != "beta"}
    if node.op_type == "Softmax":
        attributes["opset"] = edit.model.opset
        attributes.setdefault("axis", attribute(node, "axis", -1))
    name = "QGemm" if node.op_type == "Gemm" else f"QLinear{node.op_type}"
    domain = "" if node.op_type in _STANDARD else MICROSOFT
    return edit.op(name, *_ordered(node, inputs, edit.node.inputs[1:3]), domain=domain, **attributes)


def _ordered(
    node: ir.Node, inputs: Sequence[ir.Value | None], output: Sequence[ir.Value | None]
) -> Sequence[ir.Value | None]:
    """What the operator on codes reads: its inputs, scale and zero point of its output, and the codes of the bias."""
    if node.op_type == "Concat":
        return [*output, *inputs]
    codes = _coded_bias(node)
    if node.op_type == "Gemm":
        return [*inputs, codes, *output]
    return [*inputs, *output] if codes is None else [*inputs, *output, codes]


def _bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2 else None


def _coded_bias(node: ir.Node) -> ir.Value | None:
    """The codes of a bias that is stored in 32 bits; nothing of one that callers feed, or that is computed."""
    made = dequantizer(_bias(node))
    codes = constant_of(made.inputs[0]) if made is not None else None
    return made.inputs[0] if made is not None and codes is not None and codes.dtype == ir.DataType.INT32 else None
