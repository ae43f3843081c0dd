"""simplify: the same function from fewer nodes and weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

from pydantic import Field

from ...lazy import ir, ir_passes
from ...model import ONNX_DOMAINS, Model, make_uniform
from ...passes import Change, Context, Promise, register
from ..edit import constant_of, stand_in
from .affine import fold_affine
from .batchnorm import fold_batchnorm as fold_batchnorm_into_linear
from .batchnorm import left_unfolded
from .constants import fold_constants
from .duplicates import merge_duplicate_nodes, merge_duplicate_weights
from .gelu import spell_gelu
from .generated import Store
from .softmax_guards import remove_guards

_FOLD_BATCHNORM = "fold BatchNormalization"
_HARDSWISH_OPSET = 14
_WEIGHT_OPERATORS = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "LSTM",
    "GRU",
    "RNN",
    "PRelu",
    "Add",
    "Mul",
}


@register("simplify", promises=Promise.PREPARES)
def simplify(
    model: Model,
    ctx: Context,
    *,
    fold_batchnorm: Annotated[
        bool, Field(description="Fold BatchNormalization into the Conv or Gemm before it.")
    ] = True,
) -> Change:
    """Fold constants, BatchNormalization and scales; drop dead, duplicate and identity nodes, and duplicate weights.

    The result computes the same function (to float rounding). Expressions of stored tensors, such as weight
    normalization, are evaluated with onnx's reference operators through onnxscript, but only where the file does not
    grow by it: a weight that something else reads too is not stored once more as its transpose or product.
    DequantizeLinear of a weight stays, since folding it would undo a quantization. Weights that the graph generates
    (ConstantOfShape) become stored ones. GELU is spelled the way that onnxruntime fuses. Guards against NaN behind a
    Softmax (IsNaN and Where) go where its mask is finite, or leaves a place open in every row: scores that are not
    finite then come out as NaN instead of 0.
    """
    change = Change()
    for what, action in _ACTIONS.items():
        if what != _FOLD_BATCHNORM or fold_batchnorm:
            _apply(model, change, what, action)
    for name, reason in left_unfolded(model) if fold_batchnorm else ():
        change.decline(name, reason)
    return change


def _apply(model: Model, change: Change, what: str, action: Callable[[Model], int | None]) -> None:
    before = _counts(model)
    rewritten = action(model)
    make_uniform(model)
    model.drop_unused()
    after = _counts(model)
    if after != before or rewritten:
        change.touch(what, f"nodes {before[0]} -> {after[0]}, weights {before[1]} -> {after[1]}")


def _counts(model: Model) -> tuple[int, int]:
    return sum(1 for _ in model.nodes()), sum(1 for _ in model.weights())


def _inline_functions(model: Model) -> None:
    """Functions of another version of an operator set than the model's stay: their nodes would mean something else."""
    if model.ir.functions:
        inlined = model.ir.clone()  # what fails half-way leaves a graph that is neither
        with suppress(ValueError):
            ir_passes.InlinePass()(inlined)
            model.ir = inlined


def _store_generated_weights(model: Model) -> None:
    store = Store(model)
    for node in model.nodes():
        if node.op_type == "ConstantOfShape" and _is_weight(node.outputs[0]) and (weight := store(node)) is not None:
            node.outputs[0].replace_all_uses_with(weight)


def _is_weight(value: ir.Value) -> bool:
    uses = list(value.uses())
    return (
        bool(uses)
        and not value.is_graph_output()
        and all(user.op_type in _WEIGHT_OPERATORS and index > 0 for user, index in uses)
    )


def _remove_identities(model: Model) -> None:
    from onnxscript import rewriter
    from onnxscript.rewriter.rules import common

    dropouts = [common.dropout_zero_rule, common.dropout_inference_rule]
    rewriter.rewrite(model.ir, [*dropouts, common.collapse_slice_rule, common.collapse_slice2_rule])
    for node in model.nodes():
        same = _passed_through(node)
        if same is not None:
            stand_in(same, node.outputs[0])


_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
_COMMUTES = {"Add", "Mul"}


def _passed_through(node: ir.Node) -> ir.Value | None:
    """The input that a node gives as it is: of an Identity, of x + 0 and of x * 1.

    To the digit: what looks like 0 or 1 may be what keeps a quotient finite, such as 1e-12.
    """
    if node.domain not in ONNX_DOMAINS:
        return None
    if node.op_type == "Identity":
        return node.inputs[0]
    if node.op_type not in _NEUTRAL:
        return None
    places = (1, 0) if node.op_type in _COMMUTES else (1,)
    return next((node.inputs[1 - i] for i in places if _is_neutral(node, i)), None)


def _is_neutral(node: ir.Node, index: int) -> bool:
    tensor, other = constant_of(node.inputs[index]), node.inputs[1 - index]
    if tensor is None or other is None or tensor.size != 1 or tensor.dtype.is_string():
        return False
    rank, theirs = len(tensor.shape), len(other.shape) if other.shape is not None else 0
    return rank <= theirs and bool(tensor.numpy().item() == _NEUTRAL[node.op_type])


def _fuse_hardswish(model: Model) -> None:
    """x clip(x + 3, 0, 6) / 6 is one operator since opset 14; older models keep its parts."""
    from onnxscript import rewriter
    from onnxscript.rewriter.rules import common

    if model.opset >= _HARDSWISH_OPSET:
        rewriter.rewrite(model.ir, common.fuse_hardswish_rules())


_ACTIONS: dict[str, Callable[[Model], int | None]] = {
    "inline functions": _inline_functions,
    "store generated weights": _store_generated_weights,
    "fold constants": fold_constants,
    "remove identities": _remove_identities,
    _FOLD_BATCHNORM: fold_batchnorm_into_linear,
    "fold scales and shifts": fold_affine,
    "fuse HardSwish": _fuse_hardswish,
    "spell GELU as runtimes know it": spell_gelu,
    "remove guards of Softmax": remove_guards,
    "merge duplicate weights": merge_duplicate_weights,
    "merge duplicate nodes": merge_duplicate_nodes,
}
