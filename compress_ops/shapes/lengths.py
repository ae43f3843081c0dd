"""How many integers ONNX's shape inference would write out.

With data propagation it keeps a list of sizes for every vector that some of its rules read, as long as the vector,
known or not. A file of a few bytes can ask for vectors of any length (Range, Expand, Concat with itself), so they are
counted first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .elements import Evaluator, known_dims

if TYPE_CHECKING:
    import onnx_ir as ir

_MOST = 2**21  # integers of all vectors together
_READ = frozenset(["Add", "Cast", "Concat", "Gather", "Identity", "Mul", "Slice", "Squeeze", "Sub", "Unsqueeze"])
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
        for value in given:
            if value not in lengths:
                lengths[value] = _length(value)
        read = [lengths[value] for value in given]
        total += sum(read) if node.op_type in _READ else 0
        if total > _MOST:
            return False
        made = max([*_asked(node, evaluate), sum(read) if node.op_type == "Concat" else max(read, default=0)])
        lengths.update((value, made) for value in node.outputs if value.shape is None or not value.shape.is_static())
    return True


def _length(value: ir.Value) -> int:
    """How long a vector is, or becomes where it is flattened, as far as its shape tells."""
    if value.shape is None or not value.shape.is_static():
        return 0
    return math.prod(value.shape.numpy()) if len(value.shape) == 1 or _is_flattened(value) else 0


def _is_flattened(value: ir.Value) -> bool:
    return any(node.op_type in ("Flatten", "Reshape", "Squeeze") for node, _ in value.uses())


def _asked(node: ir.Node, evaluate: Evaluator) -> list[int]:
    """Numbers in the target that an operator makes its result by."""
    given = [node.inputs[index] for index in _TARGETS.get(node.op_type, ()) if index < len(node.inputs)]
    return [abs(element) for value in given for element in evaluate(value) or [] if isinstance(element, int)]
