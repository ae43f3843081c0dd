"""Integer islands: float operators that stand between codes, where onnxruntime puts integer kernels in their place.

    DequantizeLinear -> Conv -> Relu -> QuantizeLinear      becomes  QLinearConv
    MatMulInteger -> Cast -> Mul(scales) -> Add(bias)       becomes  DynamicQuantizeMatMul
    DequantizeLinear of a stored weight -> MatMul           becomes  MatMulNBits

Each is found by its shape: a Cast to another float type inside, and the operators run in float after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from ...graph.edit import constant_of
from ...graph.layers.weights import is_dequantized
from ...lazy import ir
from ...model import Model
from ..int8.placement import MOVING

_DECODES, _ENCODES = "DequantizeLinear", "QuantizeLinear"
SUMS_INTEGERS = ("MatMulInteger", "ConvInteger")


def integer_islands(model: Model) -> set[ir.Node]:
    """The float operators of a model's integer islands."""
    island: set[ir.Node] = set()
    decoded: set[ir.Value] = set()
    for node in model.nodes():
        if node.op_type == _DECODES:
            decoded.update(node.outputs)
        elif _reads_codes(node, decoded) or _is_absorbed(node, island):
            island.add(node)
            if node.op_type in MOVING and node.inputs[0] in decoded:
                decoded.update(node.outputs)
        elif node.op_type in SUMS_INTEGERS:
            island.update(_rescaling(node))
    return island


def _reads_codes(node: ir.Node, decoded: set[ir.Value]) -> bool:
    """Whether all that it computes with was codes, biases apart; or a stored weight was."""
    values = [value for value in node.inputs if value is not None]
    if any(value in decoded and is_dequantized(value) for value in values):
        return True
    return any(v in decoded for v in values) and all(v in decoded or _is_small(v) or not _is_float(v) for v in values)


def _is_small(value: ir.Value) -> bool:
    """A bias or a bound, of at most one axis."""
    tensor = constant_of(value)
    return tensor is not None and len(tensor.shape) <= 1


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def _is_absorbed(node: ir.Node, island: Set[ir.Node]) -> bool:
    """An activation between an operator of an island and the codes that it gives."""
    first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    read_as_codes = any(user.op_type == _ENCODES for output in node.outputs for user in output.consumers())
    return read_as_codes and first is not None and first in island


def _rescaling(node: ir.Node) -> Iterator[ir.Node]:
    """What makes float numbers of integer sums: the Cast, the products of scales, and the stored bias."""
    casts = [user for user in node.outputs[0].consumers() if user.op_type == "Cast"]
    products = [user for cast in casts for user in cast.outputs[0].consumers() if user.op_type == "Mul"]
    yield from (*casts, *products)
    for product in products:
        yield from (producer for value in product.inputs if value is not None and (producer := value.producer()))
        for user in product.outputs[0].consumers():
            if user.op_type == "Add" and any(constant_of(value) is not None for value in user.inputs):
                yield user
