"""Residual blocks: parts of a graph that add something to a value and could as well leave it as it is.

A block is an Add (or Sum) of x and f(x), where f reads x, nothing outside reads what is inside f, and f holds no block
of its own. Its result y is the sum, or g(sum) where the operators g (a normalization, a Relu) have made x too: y =
g(x + f(x)), x = g(...). Either way y may be replaced by x. Blocks are found from what reads what alone, so it does not
matter what f is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...graph.edit import constant_of, stand_in
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model

_LONGEST = 12  # operators behind a sum; a normalization written out has nine
_SUMS = {"Add", "Sum"}
_ATTENTION = {"Attention", "MultiHeadAttention", "GroupQueryAttention"}


@dataclass(frozen=True)
class Block:
    """Names of the Add, of x and of y; bytes of the weights that go with it; whether attention is inside."""

    name: str
    entry: str
    exit: str
    size: int
    attention: bool


class NoBlock(Exception):
    """Why what looks like a block cannot be left out."""


def bypass(model: Model, entry: str, exit: str) -> None:
    """Let ``entry`` be read instead of ``exit``, and remove what nothing needs then."""
    values = {value.name: value for value in (*model.graph.inputs, *_made(model.graph))}
    stand_in(values[entry], values[exit])
    model.drop_unused()


def find_blocks(model: Model) -> tuple[dict[str, Block], dict[str, str]]:
    """The blocks of the main graph by the name of their Add, in order; and for what only looks like one the reason."""
    order = {node: place for place, node in enumerate(model.graph)}
    found: dict[str, Block] = {}
    declined: dict[str, str] = {}
    for node in order:
        if (ends := _ends(node, order)) is None:
            continue
        around = sorted(_before(ends[1], ends[0], order), key=order.__getitem__)
        inside = _reached(ends[0], around)
        if any(inner.name in found for inner in inside):  # a mask, say, that every layer adds to something
            continue
        try:
            block = _block(node, ends[0], around, inside, order)
        except NoBlock as reason:
            declined[node.name or "?"] = str(reason)
            continue
        if block.size:
            found[block.name] = block
        elif any(_is_weight(value) for node in inside for value in node.inputs):
            declined[block.name] = "all of its weights are read elsewhere too"
    return found, declined


def _made(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _ends(add: ir.Node, order: dict[ir.Node, int]) -> tuple[ir.Value, ir.Value] | None:
    """(x, f(x)) of a sum; None where neither summand is made from the other."""
    if add.op_type not in _SUMS or add.domain not in ONNX_DOMAINS or len(add.inputs) != 2:
        return None
    first, second = add.inputs
    if first is None or second is None or constant_of(first) is not None or constant_of(second) is not None:
        return None
    for entry, inner in ((first, second), (second, first)):
        if entry is not inner and _same_rank(entry, inner) and _made_from(inner, entry, order):
            return entry, inner
    return None


def _made_from(value: ir.Value, entry: ir.Value, order: dict[ir.Node, int]) -> bool:
    return any(entry in node.inputs for node in _before(value, entry, order))


def _same_rank(one: ir.Value, other: ir.Value) -> bool:
    return one.shape is None or other.shape is None or len(one.shape) == len(other.shape)


def _before(value: ir.Value, entry: ir.Value, order: dict[ir.Node, int]) -> set[ir.Node]:
    """The nodes that make a value, as far back as the entry stands."""
    start = _place(entry, order)
    found: set[ir.Node] = set()
    ahead = [value]
    while ahead:
        node = ahead.pop().producer()
        if node is not None and node not in found and order.get(node, -1) > start:
            found.add(node)
            ahead += [read for read in node.inputs if read is not None]
    return found


def _place(value: ir.Value, order: dict[ir.Node, int]) -> int:
    producer = value.producer()
    return -1 if producer is None else order[producer]


def _block(
    add: ir.Node, entry: ir.Value, around: list[ir.Node], inside: list[ir.Node], order: dict[ir.Node, int]
) -> Block:
    tail = _tail(add, entry, order)
    exit = tail[-1].outputs[0] if tail else add.outputs[0]
    if any(value.is_graph_output() for node in inside for value in node.outputs):
        raise NoBlock("one of its inner values is an output of the model")
    _check_shapes(entry, exit)
    if exit.is_graph_output() and (entry.producer() is None or entry.is_graph_output()):
        raise NoBlock("without it an output of the model would be an input, or another output")
    gone = _gone([*around, add, *tail])
    _check_readers(inside, gone)
    return Block(add.name or "?", entry.name or "?", exit.name or "?", _bytes(gone), any(map(_attends, inside)))


def _reached(entry: ir.Value, nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Those of some nodes, given in order, that depend on a value."""
    values, reached = {entry}, []
    for node in nodes:
        if any(value in values for value in node.inputs):
            reached.append(node)
            values.update(node.outputs)
    return reached


def _tail(add: ir.Node, entry: ir.Value, order: dict[ir.Node, int]) -> list[ir.Node]:
    """The longest run of operators behind a sum, alone in reading it, that is like the one which made the entry."""
    made = _made_by(entry, order)
    best: list[ir.Node] = []
    for tail in _runs(add, order):
        if [node.op_type for node in tail] == made[-len(tail) :]:
            best = tail
    return best


def _made_by(entry: ir.Value, order: dict[ir.Node, int]) -> list[str]:
    """Types of the last operators before a value."""
    found: set[ir.Node] = set()
    ahead = [entry]
    for _ in range(4 * _LONGEST):
        node = ahead.pop(0).producer() if ahead else None
        if node is not None and node in order and node not in found:
            found.add(node)
            ahead += [value for value in node.inputs if value is not None]
    return [node.op_type for node in sorted(found, key=order.__getitem__)][-_LONGEST:]


def _runs(add: ir.Node, order: dict[ir.Node, int]) -> Iterator[list[ir.Node]]:
    """Nodes behind a sum, ever more of them, wherever they give one value that all later readers go through."""
    run: list[ir.Node] = []
    waiting = _readers(add)
    while waiting and len(run) < _LONGEST:
        node = min(waiting, key=lambda reader: order.get(reader, -1))
        if node not in order or _has_matrix(node) or add.outputs[0].is_graph_output():
            return
        run.append(node)
        waiting = (waiting | _readers(node)) - {node}
        open_values = {v for n in (add, *run) for v in n.outputs if v.is_graph_output() or not _users(v) <= set(run)}
        if open_values == {node.outputs[0]}:
            yield list(run)


def _readers(node: ir.Node) -> set[ir.Node]:
    return {reader for value in node.outputs for reader in _users(value)}


def _users(value: ir.Value) -> set[ir.Node]:
    return {use.node for use in value.uses()}


def _has_matrix(node: ir.Node) -> bool:
    tensors = [constant_of(value) for value in node.inputs]
    return any(sum(size > 1 for size in t.shape.numpy()) > 1 for t in tensors if t is not None)


def _check_shapes(entry: ir.Value, exit: ir.Value) -> None:
    """Raise where sizes on record differ; what is not on record is seen on the data."""
    before, after = entry.shape, exit.shape
    if before is None or after is None:
        return
    if any(a != b for a, b in zip(before, after, strict=False) if isinstance(a, int) and isinstance(b, int)):
        raise NoBlock(f"its result is {after} where {before} goes in")


def _gone(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """Those of some nodes, given in order, that only one another read, counting from the last, which is bypassed."""
    gone = {nodes[-1]}
    for node in reversed(nodes[:-1]):
        outputs = node.outputs
        if not any(value.is_graph_output() for value in outputs) and _readers(node) <= gone:
            gone.add(node)
    return gone


def _check_readers(inside: Sequence[ir.Node], gone: set[ir.Node]) -> None:
    """Raise where something outside needs a layer of the block."""
    for node in inside:
        if node not in gone and any(_is_weight(value) for value in node.inputs):
            raise NoBlock(f"what {node.name} gives is read outside of the block too")


def _is_weight(value: ir.Value | None) -> bool:
    tensor = constant_of(value)
    return tensor is not None and tensor.size > 1 and tensor.dtype.is_floating_point()


def _bytes(gone: set[ir.Node]) -> int:
    """Bytes of the weights that only these nodes read."""
    weights = {value for node in gone for value in node.inputs if value is not None and constant_of(value) is not None}
    return sum(weight.const_value.nbytes for weight in weights if weight.const_value and _users(weight) <= gone)


def _attends(node: ir.Node) -> bool:
    """Whether a node is attention, or multiplies two computed values with one another."""
    if node.op_type in _ATTENTION:
        return True
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return node.op_type in ("MatMul", "Einsum") and len(computed) > 1
