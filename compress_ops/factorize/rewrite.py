"""Write the factors of a layer into the graph: one node for each, the bias on the last.

Of a tied table W = B^T A^T, stored as [outputs, inner], rows of B^T are looked up: x W^T = (x A) B, W[i] = B^T[i] A^T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ..files.stored_half import store_like
from ..graph.edit import Editor
from ..lazy import ir
from ..model import Model
from .layers import Layer


def rewrite(model: Model, layer: Layer, scheme: str, factors: tuple[Array, ...]) -> None:
    """Let the factors of a scheme stand for the layer's weight."""
    if layer.lookups:
        _rewrite_tied(model, layer, *factors)
        return
    edit = Editor(model, layer.node)
    stored = [_store(model, layer, factor, edit.graph) for factor in factors]
    edit.replace(_REWRITES[scheme if layer.is_conv else layer.node.op_type](edit, stored))


def _store(model: Model, layer: Layer, factor: Array, graph: ir.Graph) -> ir.Value:
    tensor = ir.Tensor(factor.astype(layer.tensor.dtype.numpy(), order="C"))
    stored = model.add_weight(f"{layer.value.name}_factor", tensor, graph)
    store_like(stored, layer.value)
    return stored


def _rewrite_tied(model: Model, layer: Layer, first: Array, second: Array) -> None:
    """Both factors are stored once, where all readers of the table see them."""
    owner = layer.value.graph
    assert isinstance(owner, ir.Graph)
    narrow, rows = (_store(model, layer, factor, owner) for factor in (first, second.T))
    for lookup in layer.lookups:
        edit = Editor(model, lookup)
        picked = edit.op("Gather", rows, lookup.inputs[1], axis=0)
        edit.replace(edit.op("MatMul", picked, edit.op("Transpose", narrow, perm=[1, 0])))
    edit = Editor(model, layer.node)
    wide = edit.op("Transpose", rows, perm=[1, 0])
    edit.replace(_REWRITES[layer.node.op_type](edit, [narrow, wide]))


def _matmul(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    return edit.op("MatMul", edit.op("MatMul", edit.node.inputs[0], factors[0]), factors[1])


def _gemm(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    """alpha and beta stay on the second; B is stored as it is read."""
    attributes = {name: value for name, value in _attributes(edit).items() if name in ("alpha", "beta")}
    narrow = edit.op("MatMul", edit.node.inputs[0], factors[0])
    return edit.op("Gemm", narrow, factors[1], *edit.node.inputs[2:], **attributes)


def _narrow(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    """A padded kernel first: only the second, 1x1, has a bias, so that padding stays zero."""
    return edit.op("Conv", _same_conv(edit, edit.node.inputs[0], factors[0]), factors[1], *edit.node.inputs[2:])


def _tucker(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    entry = edit.op("Conv", edit.node.inputs[0], factors[0])
    return edit.op("Conv", _same_conv(edit, entry, factors[1]), factors[2], *edit.node.inputs[2:])


def _spatial(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    """Strides, padding and dilation of each axis go with the kernel that runs along it."""
    column = edit.op("Conv", edit.node.inputs[0], factors[0], **_along(edit, 0))
    return edit.op("Conv", column, factors[1], *edit.node.inputs[2:], **_along(edit, 1))


def _separable(edit: Editor, factors: list[ir.Value]) -> ir.Value:
    assert factors[0].shape is not None
    depthwise = _same_conv(edit, edit.node.inputs[0], factors[0], group=factors[0].shape[0])
    return edit.op("Conv", depthwise, factors[1], *edit.node.inputs[2:])


def _same_conv(edit: Editor, value: ir.Value | None, kernel: ir.Value, **others: Any) -> ir.Value:
    return edit.op("Conv", value, kernel, **{**_attributes(edit), **others})


def _along(edit: Editor, axis: int) -> dict[str, Any]:
    """The attributes of a Conv that matter on one of its two axes."""
    kept = _attributes(edit)
    for name, neutral in (("strides", 1), ("dilations", 1), ("pads", 0), ("kernel_shape", 1)):
        if name in kept:
            kept[name] = [size if i % 2 == axis else neutral for i, size in enumerate(kept[name])]
    return kept


def _attributes(edit: Editor) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in edit.node.attributes.items()}


_REWRITES: dict[str, Callable[[Editor, list[Any]], Any]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "narrow": _narrow,
    "tucker": _tucker,
    "spatial": _spatial,
    "separable": _separable,
}
