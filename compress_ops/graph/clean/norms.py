"""unfuse_norms: a residual sum and the normalization after it stay two operators on the CPU.

onnxruntime fuses Add and LayerNormalization into SkipLayerNormalization, whose CPU kernel adds one number after another
to two running sums, where that of LayerNormalization takes several at a time. Measured on 512 rows of 384 numbers
(onnxruntime 1.31, one core with AVX512): 0.83 ms for the two fused, 0.08 ms for LayerNormalization alone, 0.04 ms for
the sum. The fusion looks for Add; Sum of two tensors is the same function.
"""

from __future__ import annotations

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import ALL, NONE, Change, Context, Only, Promise, Skip, register, selected
from ..edit import Editor, constant_of


@register("unfuse_norms", promises=Promise.PREPARES)
def unfuse_norms(model: Model, ctx: Context, *, only: Only = ALL, skip: Skip = NONE) -> Change:
    """Write the sums before layer normalizations so that onnxruntime's CPU runs the two one after the other, faster.

    The same function, to the last bit, from the standard's Sum instead of Add. A transformer's float32 residual sums
    take a tenth of the time so. Other providers keep Add: on a GPU the fused kernel is the fast one. Put it last:
    passes that follow residuals know them as Add.
    """
    change = Change()
    for node in [node for node in model.nodes() if _is_residual(node) and selected(node, only, skip)]:
        if ctx.providers[0].facts.fast_fused_norms:
            change.decline(node.name, "the provider's fused kernel is the fast one")
            continue
        edit = Editor(model, node)
        change.touch(node.name, "Sum")
        edit.replace(edit.op("Sum", *node.inputs))
    return change


def _is_residual(node: ir.Node) -> bool:
    """A sum of two computed values that a float32 normalization reads."""
    if node.op_type != "Add" or node.domain not in ONNX_DOMAINS or any(map(constant_of, node.inputs)):
        return False
    readers = [user for user, _ in node.outputs[0].uses()]
    return any(_is_normalization(user, node.outputs[0]) for user in readers)


def _is_normalization(node: ir.Node, value: ir.Value) -> bool:
    """LayerNormalization, or its beginning as older models write it: x - mean(x); the CPU's Sum is of float32."""
    if node.domain not in ONNX_DOMAINS or node.inputs[0] is not value:
        return False
    if node.op_type == "LayerNormalization":
        scale = constant_of(node.inputs[1])
        return scale is not None and scale.dtype == ir.DataType.FLOAT
    mean = node.inputs[1].producer() if node.op_type == "Sub" and node.inputs[1] is not None else None
    is_mean = mean is not None and mean.op_type == "ReduceMean" and mean.inputs[0] is value
    return is_mean and value.dtype == ir.DataType.FLOAT
