"""Integer kernels that an earlier step made possible must not be lost to a later one.

Which operators onnxruntime really runs in integers shows in the graph that it writes after its optimizations, only
there. They are counted before and after a step that leaves the codes of a model as they are and changes something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..errors import BrokenPromise, ModelError
from ..files.temporary import temporary_folder
from ..lazy import onnx
from ..model import Model
from ..runtime import Provider, open_session

_KERNELS = (
    *("QLinear*", "QGemm", "QAttention", "QMoE", "*Integer", "*IntegerToFloat"),
    *("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "GatherBlockQuantized"),
)
_CODERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def before_step(model: Model) -> Model | None:
    """The model as a step finds it, where it has codes; tensors are shared."""
    return model.copy() if _codes(model) else None


def hold_kernels(before: Model | None, after: Model, providers: Sequence[Provider]) -> None:
    """Raise BrokenPromise where a step left all codes in place, and onnxruntime runs fewer operators in integers."""
    if before is None or _codes(after) < _codes(before) or _built_of(before) == _built_of(after):
        return
    had, left = (integer_kernels(model, providers) for model in (before, after))
    if left.total() < had.total():
        lost = ", ".join(f"{count} {name}" for name, count in (had - left).most_common(5))
        raise BrokenPromise(
            f"it undoes what was gained: {left.total()} of {had.total()} integer kernels are left (lost: {lost})",
            hint="leave these operators out of it (skip); allow_undone: true on the step permits this",
        )


def integer_kernels(model: Model, providers: Sequence[Provider]) -> Counter[str]:
    """How many operators onnxruntime runs in integers, by kind; none where it does not write the graph that it runs."""
    with model.exported() as path, temporary_folder() as folder:
        written = folder / "optimized.onnx"
        try:
            open_session(path, providers, optimized_to=written, pack=False)
            graph = onnx.load(written, load_external_data=False).graph
        except ModelError:
            return Counter()
    return Counter(node.op_type for node in graph.node if _is_kernel(node.op_type))


def _is_kernel(operator: str) -> bool:
    return any(fnmatchcase(operator, pattern) for pattern in _KERNELS)


def _codes(model: Model) -> int:
    """Operators that read or write codes, in the model as it is written."""
    return sum(node.op_type in _CODERS or _is_kernel(node.op_type) for node in model.nodes())


def _built_of(model: Model) -> tuple[Counter[str], Counter[str]]:
    """Operators and types of weights: where neither changes, the kernels do not."""
    return Counter(node.op_type for node in model.nodes()), Counter(str(value.dtype) for value in model.weights())
