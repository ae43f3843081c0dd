"""Compute ahead what stored tensors alone determine, where the file does not grow by it.

Operators that read stored tensors alone form expressions, such as the weight normalization g v / |v|. What others read
of an expression could be stored in its place. That is done where
    bytes of what is read then  <=  bytes of the tensors that nothing else reads  +  bytes of the nodes that go,
first for all expressions that share tensors together (three slices of one weight are as large as the weight), then for
each value alone. A weight that stays in use is not stored a second time as its transpose or its product. Small results
are always computed: shapes and axes, that other passes look at.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable

from ...files.stored_half import StoredHalf, mark_stored_half, stored_bytes, stored_half
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model, node_bytes
from ...nodes import bodies, constant_of
from .duplicates import RANDOM
from .folding import fold

_SPREAD = 2**24  # bytes that a result may have however small what it is made from is
_SMALL = 256  # bytes of a result that is always stored
_FEW = 64  # elements read by an operator whose result's size is not known
_LONGEST = 64  # operators of an expression that is judged alone
_ROUNDS = 4
_PACKED_ELEMENTS = 64
_NEVER = RANDOM | {"DequantizeLinear", "QuantizeLinear", "ConstantOfShape", "DynamicQuantizeLinear"}
_SPREADING = {"Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "OneHot", "EyeLike", "CenterCropPad"}
_MOVING = {
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
    *("Slice", "Concat", "Gather", "Expand", "Tile"),
}


def fold_constants(model: Model) -> None:
    """Evaluate expressions of stored tensors (by onnx's reference operators, through onnxscript) without growth."""
    _fold(model, set())
    for _ in range(_ROUNDS):
        plan = _plan(model)
        if not plan:
            return
        before, kept = model.stored_bytes(), model.ir.clone()
        halves = {node.outputs[0].name or "": half for node in plan if (half := _stays_half(node)) is not None}
        _fold(model, plan)
        for value in model.weights():
            if value.name in halves:
                mark_stored_half(value, halves[value.name])
        if model.stored_bytes() > before:  # an operator that could not be evaluated left a part of its expression
            model.ir = kept
            return


def _fold(model: Model, plan: Collection[ir.Node]) -> None:
    fold(model, lambda node: node in plan or _is_small(node))  # what is worth it is decided here


def _is_small(node: ir.Node) -> bool:
    """Whether a result is so small that it is stored whatever becomes of its sources."""
    if _stays(node):
        return False
    size = _result_bytes(node.outputs[0])
    if size is not None:
        return size <= _SMALL
    read = sum(value.const_value.size for value in node.inputs if value is not None and value.const_value is not None)
    return node.op_type not in _SPREADING and read <= _FEW


def _stays(node: ir.Node) -> bool:
    return node.op_type in _NEVER or _unpacks(node)


def _unpacks(node: ir.Node) -> bool:
    """Whether a Cast makes wider numbers of stored small ones: codes of a packed weight, which folding would undo."""
    stored = node.inputs[0].const_value if node.op_type == "Cast" and node.inputs[0] is not None else None
    if stored is None or stored.size < _PACKED_ELEMENTS:
        return False
    return ir.DataType(node.attributes["to"].as_int()).bitwidth > stored.dtype.bitwidth <= 8


def _result_bytes(value: ir.Value) -> int | None:
    """Bytes of a value of known type and shape."""
    shape, dtype = value.shape, value.dtype
    if shape is None or dtype is None or dtype.is_string() or not all(isinstance(size, int) for size in shape):
        return None
    return math.ceil(math.prod(map(int, shape.numpy())) * float(dtype.itemsize))


def _plan(model: Model) -> set[ir.Node]:
    """The nodes to evaluate: those of whole expressions, then of single values, that make the file no larger."""
    constant = _constant_nodes(model)
    plan: set[ir.Node] = set()
    for expression in _expressions(constant):
        if _pays(expression):
            plan.update(expression)
        else:
            plan |= _parts_that_pay(expression)
    return plan


def _constant_nodes(model: Model) -> dict[ir.Node, None]:
    """Nodes of one output of known size that read stored tensors alone, directly or through others such, in order."""
    found: dict[ir.Node, None] = {}
    for node in model.nodes():
        inputs = [value for value in node.inputs if value is not None]
        known = all(constant_of(value) is not None or value.producer() in found for value in inputs)
        if inputs and known and _is_pure(node) and not any(value.is_graph_input() for value in inputs):
            found[node] = None
    return found


def _is_pure(node: ir.Node) -> bool:
    single = len(node.outputs) == 1 and _is_bounded(node)
    return node.domain in ONNX_DOMAINS and single and not bodies(node) and not _stays(node)


def _is_bounded(node: ir.Node) -> bool:
    """Whether the size of the result is known, and not far beyond what it is made from: a few bytes can ask for any."""
    made = _result_bytes(node.outputs[0])
    read = sum(_result_bytes(value) or 0 for value in node.inputs if value is not None)
    return made is not None and made <= max(_SPREAD, 2 * read)


def _expressions(nodes: Iterable[ir.Node]) -> list[dict[ir.Node, None]]:
    """Nodes that read one another or the same stored tensor (small ones aside), together and in order."""
    leader: dict[ir.Node, ir.Node] = {}

    def led_by(node: ir.Node) -> ir.Node:
        while leader[node] is not node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    first: dict[ir.Value, ir.Node] = {}
    for node in nodes:
        leader[node] = node
        for value in (value for value in node.inputs if value is not None):
            made = value.producer() if constant_of(value) is None else None
            other = made or (first.setdefault(value, node) if stored_bytes(value) > _SMALL else node)
            leader[led_by(node)] = led_by(other)
    together: dict[ir.Node, dict[ir.Node, None]] = defaultdict(dict)
    for node in nodes:
        together[led_by(node)][node] = None
    return list(together.values())


def _pays(nodes: Collection[ir.Node]) -> bool:
    """Whether storing what others read of these nodes takes no more bytes than what goes with them."""
    outputs = [node.outputs[0] for node in nodes]
    read = [
        value for value in outputs if value.is_graph_output() or any(user not in nodes for user in value.consumers())
    ]
    sources = {value for node in nodes for value in node.inputs if value is not None and constant_of(value) is not None}
    gone = [
        value for value in sources if not value.is_graph_output() and all(user in nodes for user in value.consumers())
    ]
    freed = sum(map(stored_bytes, gone)) + sum(map(node_bytes, nodes))
    return bool(read) and sum(_kept_bytes(value, nodes) for value in read) <= freed


def _kept_bytes(value: ir.Value, nodes: Collection[ir.Node]) -> int:
    node = value.producer()
    size, half = _result_bytes(value), _stays_half(node) if node is not None else None
    assert size is not None
    return size if half is None else math.ceil(size * float(half.dtype.itemsize) / 4)


def _stays_half(node: ir.Node, depth: int = _LONGEST) -> StoredHalf | None:
    """How the result is stored where numbers are only moved that are all stored in half precision, else None."""
    if node.op_type not in _MOVING or not depth:
        return None
    moved = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    found = [_half_of(value, depth - 1) for value in moved]
    kinds = {half.dtype for half in found if half is not None}
    return found[0] if len(kinds) == 1 and None not in found else None


def _half_of(value: ir.Value | None, depth: int) -> StoredHalf | None:
    producer = value.producer() if value is not None else None
    if value is None or producer is None:
        return stored_half(value) if value is not None else None
    return _stays_half(producer, depth)


def _parts_that_pay(expression: dict[ir.Node, None]) -> set[ir.Node]:
    """Of an expression that as a whole would grow: all that leads to one value, where that does not; the last first."""
    plan: set[ir.Node] = set()
    for node in reversed(expression):
        leading = _leading_to(node, expression) if node not in plan else set()
        if leading and _pays(leading):
            plan |= leading
    return plan


def _leading_to(node: ir.Node, within: Collection[ir.Node]) -> set[ir.Node]:
    """The node and all that it is computed from; nothing where that is much."""
    found, waiting = {node}, [node]
    while waiting:
        for value in waiting.pop().inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer in within and producer not in found:
                found.add(producer)
                waiting.append(producer)
        if len(found) > _LONGEST:
            return set()
    return found
