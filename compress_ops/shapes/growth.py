"""How many numbers an operator makes out of next to nothing: a few bytes can ask for any memory.

What a model makes of its inputs is the caller's to choose. What it makes of written sizes is not, and onnxruntime
computes it when it loads the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from ..lazy import ir
from .elements import Evaluator, known_dims

_MOST = 2**27  # numbers: 512 MiB of float32
_MOST_OF_STORED = 64  # times the numbers that the model stores, where that is more


def generated_faults(nodes: Iterable[ir.Node], stored: int) -> Iterator[str]:
    """Nodes that make more numbers than a model that stores so many has a use for."""
    evaluate, most = Evaluator(known_dims), max(_MOST, _MOST_OF_STORED * stored)
    for node in nodes:
        made = _MADE[node.op_type](evaluate, node) if node.op_type in _MADE else 0
        if made > most:
            yield (
                f"node '{node.name}' ({node.op_type}) makes {made:,} numbers of written sizes; a model that stores "
                f"{stored:,} may make {most:,}"
            )


def _target(index: int) -> Callable[[Evaluator, ir.Node], int]:
    """The product of the sizes that an input holds."""
    return lambda evaluate, node: _product(evaluate, node, index)


def _product(evaluate: Evaluator, node: ir.Node, index: int) -> int:
    sizes = evaluate(node.inputs[index]) if index < len(node.inputs) else None
    return math.prod(max(size, 1) for size in sizes or [] if isinstance(size, int))


def _times(evaluate: Evaluator, node: ir.Node) -> int:
    """As often as its second input says what its first holds."""
    return _product(evaluate, node, 1) * _size(node.inputs[0])


def _range(evaluate: Evaluator, node: ir.Node) -> int:
    bounds = [evaluate.numbers(value) for value in node.inputs]
    if any(bound is None or len(bound) != 1 for bound in bounds):
        return 0
    start, limit, step = (bound[0] for bound in bounds if bound)
    return max(0, -(-(limit - start) // step)) if step else 0


def _pad(evaluate: Evaluator, node: ir.Node) -> int:
    pads = evaluate(node.inputs[1]) if len(node.inputs) > 1 else None
    numbers = [pad if isinstance(pad, int) else 0 for pad in pads or []]
    axes = len(numbers) // 2
    return math.prod(max(1, numbers[axis] + numbers[axis + axes]) for axis in range(axes))


def _size(value: ir.Value | None) -> int:
    """How many numbers a value holds, as far as its shape tells."""
    if value is None or value.shape is None:
        return 1
    return math.prod(max(size, 1) for size in value.shape if isinstance(size, int))


_MADE: dict[str, Callable[[Evaluator, ir.Node], int]] = {
    "ConstantOfShape": _target(0),
    "Expand": _target(1),
    "OneHot": _times,
    "Pad": _pad,
    "Range": _range,
    "Resize": _target(3),
    "Tile": _times,
}
