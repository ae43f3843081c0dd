"""How many integers ONNX's shape inference would write out.

With data propagation it keeps a list of sizes for every vector that some of its rules read, as long as the vector,
known or not; so does onnxscript's constant folding. A file of a few bytes can ask for vectors of any length (Range,
Expand, Concat with itself), so they are counted first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..lazy import ir
from .elements import Evaluator, known_dims

_MOST = 2**21  # integers of all vectors together
_READ = {"Add", "Cast", "Concat", "Gather", "Identity", "Mul", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze"}
_TARGETS = {
    **dict.fromkeys(("Expand", "OneHot", "Pad", "Reshape", "Tile"), (1,)),
    "ConstantOfShape": (0,),
    "Range": (0, 1),
}


def is_short(nodes: Iterable[ir.Node]) -> bool:
    """Whether these nodes, in order, hand on few integers; their shapes are inferred as far as may be without."""
    lengths: dict[ir.Value, int] = {}
    evaluate, total = Evaluator(known_dims), 0
    for node in nodes:
        given = [value for value in node.inputs if value is not None]
        read = [_length(value, lengths) for value in given]
        total += sum(
            length
            for value, length in zip(given, read, strict=True)
            if node.op_type in _READ or not value.is_initializer()
        )
        if total > _MOST:
            return False
        made = max(1, sum(read) if node.op_type == "Concat" else max(read, default=0), *_asked(node, evaluate))
        lengths.update(dict.fromkeys(node.outputs, made))
    return True


def _length(value: ir.Value, made: dict[ir.Value, int]) -> int:
    """How long a vector is; 0 for what is none. Of unknown shapes the nodes before tell."""
    if value.shape is None or (len(value.shape) == 1 and not value.shape.is_static()):
        return made.get(value, 0)
    return int(value.shape.numpy()[0]) if len(value.shape) == 1 else 0


def _asked(node: ir.Node, evaluate: Evaluator) -> list[int]:
    """Numbers in the target that an operator makes its result by; what is flattened is as long as all of it."""
    given = [evaluate(node.inputs[index]) for index in _TARGETS.get(node.op_type, ()) if index < len(node.inputs)]
    flat = node.op_type == "Squeeze" or (node.op_type == "Reshape" and (given[0] is None or len(given[0]) == 1))
    if flat and node.inputs[0] is not None and node.inputs[0].shape is not None:
        return [math.prod(size for size in node.inputs[0].shape if isinstance(size, int))]
    return [abs(element) for target in given for element in target or [] if isinstance(element, int)]
