"""quantize_dynamic: weights become int8 now, activations at run time.

With W_q = round(W / s_W) and, measured on each input X as it comes, X_q = round(X / s_X) + z_X:
    X @ W  ~=  s_X * s_W * ((X_q - z_X) @ W_q)         (MatMulInteger, ConvInteger)
An embedding table has no activation: its rows are stored as int8 and scaled after the lookup. An LSTM becomes
onnxruntime's DynamicQuantizeLSTM; GRU and RNN have no integer kernel: their int8 weights are decoded when the model is
loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ...graph.edit import MICROSOFT, Editor, attribute, constant_of
from ...graph.layers.weights import sites_of, weight_indices
from ...graph.opset import require_opset
from ...lazy import ir
from ...measure.quality import Quality, weight_sqnr
from ...model import Model
from ...passes import Change, Context, Promise, Selection, register
from ..numbers.formats import Layout, PerChannel, Symmetric, as_half, lazy_codes
from ..numbers.portable import Candidate, Portability, Portable, record
from .eligible import chosen, decline_quantized, reasons
from .left import to_the_right
from .slower import AllowSlower, refuse_slower

Operator = Literal["MatMul", "Gemm", "Conv", "Gather", "LSTM", "GRU", "RNN"]
OPERATORS: list[Operator] = ["MatMul", "Gemm", "Conv", "Gather", "LSTM", "GRU", "RNN"]
_WEIGHTS_ALONE = {"Gather", "GRU", "RNN"}  # what reads these reads floats, from operators that all providers have
_MINIMUM_OPSET = 11  # DynamicQuantizeLinear
_FORM = Symmetric()


class DynamicOptions(Selection):
    """What quantize_dynamic takes."""

    operators: Annotated[
        list[Operator],
        Field(
            description="Operator types to quantize. All by default, for the smallest file; leave Conv out for speed "
            "on CPUs, which have no fast ConvInteger."
        ),
    ] = OPERATORS
    per_channel: PerChannel = True
    portable: Portable = "auto"
    allow_slower: AllowSlower = False


@register("quantize_dynamic", promises=Promise.SHRINKS)
def quantize_dynamic(model: Model, ctx: Context, options: DynamicOptions) -> Change:
    """Store weights as int8 and quantize activations as they come; no data needed.

    Weights are symmetric int8 (Jacob et al. 2018, arXiv:1712.05877), activations asymmetric uint8 per tensor
    (ONNX DynamicQuantizeLinear). onnxruntime fuses the nodes written for MatMul into one kernel. Gemm becomes
    MatMul and Add. Embedding tables (Gather) have one scale per row. An LSTM becomes DynamicQuantizeLSTM, of integer
    products too; GRU and RNN compute in float, with int8 weights that are decoded at load. Operators whose weight is
    computed, not float32, not finite or too small to gain are declined.
    """
    if not set(options.operators) <= _WEIGHTS_ALONE:
        refuse_slower(ctx, "dynamic", allowed=options.allow_slower)
    require_opset(model, _MINIMUM_OPSET)
    change, wanted = Change(), chosen(model, options.operators, options.only, options.skip)
    found = reasons(to_the_right(model, wanted, change))
    has_products = any(not reason and node.op_type not in _WEIGHTS_ALONE for node, reason in found.items())
    work = _Work(model, options.per_channel, change, Portability(options.portable))
    decline_quantized(model, options.operators, options.only, options.skip, change)
    for node, reason in ctx.progress(found.items(), "quantize_dynamic", len(wanted)):
        _quantize(work, node, reason)
    if has_products:
        change.notes = dict(work.portability.notes())
        record(model, work.portability.whole)
    change.notes |= work.quality.notes()
    model.drop_unused()
    return change


@dataclass
class _Work:
    model: Model
    per_channel: bool
    change: Change
    portability: Portability
    quality: Quality = field(default_factory=Quality)
    shared: dict[Any, tuple[ir.Value, ...]] = field(default_factory=dict)
    coded: dict[Any, tuple[ir.Value, ir.Value]] = field(default_factory=dict)


def _quantize(work: _Work, node: ir.Node, reason: str) -> None:
    if node.op_type == "Gather" and constant_of(node.inputs[0]) is None:
        return  # a lookup in a computed tensor has no weight to speak of
    if reason:
        work.change.decline(node.name, reason)
        return
    weights, kind = [site.value.name for site in sites_of(node) if site.value is not None], node.op_type
    _REWRITES[kind](work, node)
    told = "; ".join(map(work.quality.of, weights))
    work.change.touch(node.name, f"{kind} weights to int8, {told}")


def _product(work: _Work, node: ir.Node) -> None:
    """MatMul and Gemm; a matrix has a flat scale, a stack of them one that broadcasts."""
    edit, sizes = Editor(work.model, node), _sizes(node, 1)
    product = _integer_product(work, edit, "MatMulInteger", (-1,) if len(sizes) == 2 else (*sizes[:-2], 1, sizes[-1]))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    edit.replace(product if bias is None else edit.op("Add", product, bias))


def _conv(work: _Work, node: ir.Node) -> None:
    edit, by_channel = Editor(work.model, node), (1, -1, *[1] * (len(_sizes(node, 1)) - 2))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    product = _integer_product(work, edit, "ConvInteger", by_channel, **attributes)
    if bias is not None:
        shape = edit.constant(f"{node.name}/bias_shape", np.array(by_channel, np.int64))
        product = edit.op("Add", product, edit.op("Reshape", bias, shape))
    edit.replace(product)


def _gather(work: _Work, node: ir.Node) -> None:
    edit, rows = Editor(work.model, node), node.inputs[1]
    codes, scale = _coded(work, node, 0, (-1, 1))
    picked = edit.op("Cast", edit.op("Gather", codes, rows, axis=0), to=ir.DataType.FLOAT.value)
    is_half = scale.dtype == ir.DataType.FLOAT16
    if work.per_channel:
        scale = edit.op("Gather", scale, rows, axis=0)
    if is_half:
        scale = edit.op("Cast", scale, to=ir.DataType.FLOAT.value)
    edit.replace(edit.op("Mul", picked, scale))


def _lstm(work: _Work, node: ir.Node) -> None:
    """DynamicQuantizeLSTM reads W and R as [directions, inputs, gates], with a scale a gate row or a direction."""
    edit = Editor(work.model, node)
    inputs: list[ir.Value | None] = [*node.inputs, *[None] * (8 - len(node.inputs))]
    for index in weight_indices(node):
        shape = _sizes(node, index)[: 2 if work.per_channel else 1]
        inputs[index], scale = _coded(work, node, index, shape)
        inputs += [scale, _zero(work, edit, shape)]
    node.domain, node.op_type = MICROSOFT, "DynamicQuantizeLSTM"
    node.attributes.pop("layout", None)
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    work.model.ir.opset_imports.setdefault(MICROSOFT, 1)


def _decoded(work: _Work, node: ir.Node) -> None:
    """Codes times scale in front of the node: onnxruntime folds that when it loads the model."""
    for index in weight_indices(node):
        edit = Editor(work.model, node)
        key = ("decoded", node.inputs[index], edit.graph)
        if key not in work.shared:
            codes, scale = _coded(work, node, index, (*_sizes(node, index)[:2], 1))
            work.shared[key] = (edit.op("Mul", edit.op("Cast", codes, to=ir.DataType.FLOAT.value), scale),)
        node.replace_input_with(index, work.shared[key][0])


_REWRITES: dict[str, Callable[[_Work, Any], None]] = {
    "MatMul": _product,
    "Gemm": _product,
    "Conv": _conv,
    "Gather": _gather,
    "LSTM": _lstm,
    "GRU": _decoded,
    "RNN": _decoded,
}


def _integer_product(
    work: _Work, edit: Editor, op_type: str, scale_shape: tuple[int, ...], **attributes: Any
) -> ir.Value:
    """s_X * s_W * (X_q op W_q), written in the order that onnxruntime's fusion looks for."""
    codes, scale = _coded(work, edit.node, 1, scale_shape)
    x, x_scale, x_zero = _quantized_input(work, edit)
    product = edit.op(op_type, x, codes, x_zero, _zero(work, edit), **attributes)
    as_float = edit.op("Cast", product, to=ir.DataType.FLOAT.value)
    return edit.op("Mul", as_float, edit.op("Mul", x_scale, scale))


def _quantized_input(work: _Work, edit: Editor) -> tuple[ir.Value, ...]:
    """The node's input as (codes, scale, zero_point); quantized once where several nodes of a graph read it."""
    value = edit.node.inputs[0]
    key = (value, edit.graph)
    if key not in work.shared:
        work.shared[key] = edit.ops("DynamicQuantizeLinear", value, outputs=3, label="int8")
    return work.shared[key]


def _zero(work: _Work, edit: Editor, shape: tuple[int, ...] = ()) -> ir.Value:
    key = ("zero_point", shape, edit.graph)
    if key not in work.shared:
        work.shared[key] = (edit.constant("weight_zero_point", np.zeros(shape, np.int8)),)
    return work.shared[key][0]


def _sizes(node: ir.Node, index: int) -> tuple[int, ...]:
    tensor = constant_of(node.inputs[index])
    assert tensor is not None
    return tuple(tensor.shape.numpy())


def _coded(work: _Work, node: ir.Node, index: int, scale_shape: tuple[int, ...]) -> tuple[ir.Value, ir.Value]:
    """The int8 codes and the scale of an operator's weight as initializers; made once for a weight used several times.

    They stand in the weight's own graph, where all that read it see them. A table has one scale for each of many rows:
    float16 where that loses nothing that matters. Where channels have no scales of their own, there is one for all, of
    an LSTM one for each direction.
    """
    weight, kind = node.inputs[index], node.op_type
    assert weight is not None and weight.const_value is not None and isinstance(weight.graph, ir.Graph)
    source, whole = weight.const_value, (-2, -1) if kind == "LSTM" else None
    summed = tuple(range(1, len(source.shape))) if kind == "Conv" else (-1,) if kind in _WEIGHTS_ALONE else (-2,)
    reduced = summed if work.per_channel else whole
    layout = Layout(kind == "LSTM" or (kind == "Gemm" and bool(attribute(node, "transB", 0))))
    key = (weight, layout, reduced)
    if key not in work.coded:
        array, least = layout.apply(source.numpy()), np.zeros(())
        if kind not in _WEIGHTS_ALONE:
            along = None if kind == "Conv" else -2
            least = work.portability.least(Candidate(weight.name or "", array, reduced, along))
        scale = _FORM.scale(array, reduced, least)
        scale = as_half(scale) if kind == "Gather" and work.per_channel else scale
        work.quality.add(weight.name, weight_sqnr(array, _FORM.restored(array, scale)))
        stored = scale.reshape(scale_shape if work.per_channel or whole else ())
        coded = lazy_codes(source, scale, _FORM, layout)
        work.coded[key] = (
            work.model.add_weight(f"{weight.name}_int8", coded, weight.graph),
            work.model.add_weight(f"{weight.name}_scale", ir.Tensor(stored), weight.graph),
        )
    return work.coded[key]
