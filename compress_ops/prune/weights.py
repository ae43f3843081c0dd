"""prune_weights: the smallest weights become zero.

With a threshold t, w' = w where |w| > t, else 0. For a ratio r, t is the r-quantile of |w|: of each tensor, or of all
tensors together (global), where |w| may first be divided by the tensor's root mean square so that tensors compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..errors import PassError
from ..graph.edit import constant_of
from ..model import ONNX_DOMAINS, Model
from ..passes import ALL, NONE, Change, Context, Fraction, Only, Promise, Skip, register, selected

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

_WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
_SMALLEST = 64  # elements; below that a tensor is a bias-like thing whose zeros gain nothing


@register("prune_weights", promises=Promise.SHRINKS)
def prune_weights(
    model: Model,
    ctx: Context,
    *,
    ratio: Annotated[Fraction | None, Field(description="Share of weights that become zero.")] = None,
    threshold: Annotated[float | None, Field(gt=0, description="Weights up to this magnitude become zero.")] = None,
    scope: Annotated[
        Literal["tensor", "global"], Field(description="Whether the ratio holds in each tensor, or over all together.")
    ] = "tensor",
    normalize: Annotated[
        bool, Field(description="With scope global: divide each tensor's magnitudes by their root mean square.")
    ] = True,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Set the smallest weights to zero, by ratio or by threshold (magnitude pruning).

    After Han et al. 2015 (arXiv:1506.02626). Shapes stay: onnxruntime computes with the zeros as with other numbers, so
    the model is no faster and the plain file no smaller; what shrinks is the compressed (zstd) size, which the report
    states. Give one of ratio and threshold. Weights of Conv, ConvTranspose, Gemm, MatMul and Gather are pruned; biases
    and normalization are not.
    """
    if (ratio is None) == (threshold is None):
        raise PassError("give one of ratio and threshold", hint="for example prune_weights: {ratio: 0.5}")
    change = Change()
    model.keep_reference()
    chosen = _weights(model, only, skip, change)
    limits = _limits(chosen, ratio, threshold, scope, normalize)
    zeros = elements = 0
    by_rank = ratio is not None and scope == "tensor"
    for weight, limit in ctx.progress(list(zip(chosen, limits, strict=True)), "prune_weights"):
        zeros += _prune(weight, limit, change, keep_some=by_rank)
        elements += weight.tensor.size
    change.notes = {"sparsity": round(zeros / elements, 4) if elements else 0.0, "weights": elements}
    return change


@dataclass(frozen=True)
class _Weight:
    value: ir.Value
    tensor: ir.TensorProtocol


def _weights(model: Model, only: list[str], skip: list[str], change: Change) -> list[_Weight]:
    """The weights to prune, each once, however many nodes read it; a reader that is not selected protects it."""
    found: list[_Weight] = []
    for value in dict.fromkeys(map(_weight_of, model.nodes())):
        tensor = constant_of(value)
        if value is None or tensor is None:
            continue
        reason = _why_not(value, tensor, only, skip)
        if reason:
            change.decline(value.name, reason)
        else:
            found.append(_Weight(value, tensor))
    return found


def _weight_of(node: ir.Node) -> ir.Value | None:
    index = _WEIGHT_INPUT.get(node.op_type) if node.domain in ONNX_DOMAINS else None
    return node.inputs[index] if index is not None else None


def _why_not(value: ir.Value, tensor: ir.TensorProtocol, only: list[str], skip: list[str]) -> str:
    import numpy as np
    import onnx_ir as ir

    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"it is {tensor.dtype.name.lower()}, not a float"
    if not all(selected(user, only, skip) for user, _ in value.uses()):
        return "the patterns leave out a node that reads it"
    if tensor.size < _SMALLEST:
        return f"its {tensor.size} elements are too few to gain"
    return "" if np.isfinite(tensor.numpy()).all() else "it has NaN or infinite values"


def _limits(
    weights: Sequence[_Weight], ratio: float | None, threshold: float | None, scope: str, normalize: bool
) -> list[float]:
    """The magnitude up to which each tensor's weights become zero."""
    import numpy as np

    if threshold is not None:
        return [threshold] * len(weights)
    assert ratio is not None
    if scope == "tensor":
        return [_quantile(np.abs(weight.tensor.numpy()).reshape(-1), ratio) for weight in weights]
    units = [_root_mean_square(weight.tensor.numpy()) if normalize else 1.0 for weight in weights]
    scaled = [np.abs(weight.tensor.numpy()).reshape(-1) / unit for weight, unit in zip(weights, units, strict=True)]
    limit = _quantile(np.concatenate(scaled), ratio) if scaled else 0.0
    return [limit * unit for unit in units]


def _root_mean_square(array: np.ndarray[Any, Any]) -> float:
    import numpy as np

    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) or 1.0


def _quantile(magnitudes: np.ndarray[Any, Any], ratio: float) -> float:
    """The magnitude of the last of the ``ratio`` smallest, so that at least that share becomes zero."""
    import numpy as np

    rank = max(round(ratio * magnitudes.size) - 1, 0)
    return float(np.partition(magnitudes, rank)[rank])


def _prune(weight: _Weight, limit: float, change: Change, keep_some: bool) -> int:
    """Zero the weight's small elements, lazily; returns how many elements of it are zero then.

    ``keep_some`` spares a tensor that ties would empty: no share of it is smaller than the rest.
    """
    import numpy as np
    import onnx_ir as ir

    source = weight.tensor
    small = np.abs(source.numpy()) <= limit
    zeros = int(small.sum())
    if keep_some and limit > 0 and zeros == source.size:
        change.decline(weight.value.name, "its largest magnitude is so frequent that nothing would be left")
        return source.size - int(np.count_nonzero(source.numpy()))
    if not np.any(source.numpy()[small]):
        change.decline(weight.value.name, "its smallest weights are zero already")
        return zeros
    weight.value.const_value = ir.LazyTensor(
        lambda: ir.Tensor(_without_small(source.numpy(), limit), name=source.name),
        dtype=source.dtype,
        shape=ir.Shape(source.shape.numpy()),
        name=source.name,
    )
    change.touch(weight.value.name, f"{zeros} of {source.size} are zero")
    return zeros


def _without_small(array: np.ndarray[Any, Any], limit: float) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.where(np.abs(array) <= limit, array.dtype.type(0), array)
