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

Attributes = dict[str, Any]


def rewrite(model: Model, layer: Layer, scheme: str, factors: tuple[Array, ...]) -> None:
    """Let the factors of a scheme stand for the layer's weight."""
    if layer.lookups:
        _rewrite_tied(model, layer, *factors)
        return
    edit = Editor(model, layer.node)
    stored = [_store(model, layer, factor, edit.graph) for factor in factors]
    edit.replace(_convolutions(edit, stored, scheme) if layer.is_conv else _products(edit, *stored))


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
    edit.replace(_products(edit, narrow, wide))


def _products(edit: Editor, narrow: ir.Value, wide: ir.Value) -> ir.Value:
    """alpha and beta of a Gemm stay on the second product; B is stored as it is read."""
    attributes = {name: value for name, value in _attributes(edit).items() if name in ("alpha", "beta")}
    inner = edit.op("MatMul", edit.node.inputs[0], narrow)
    return edit.op(edit.node.op_type, inner, wide, *edit.node.inputs[2:], **attributes)


def _convolutions(edit: Editor, kernels: list[ir.Value], scheme: str) -> ir.Value:
    """Only the last has a bias, so that what the others pad stays zero."""
    assert kernels[0].shape is not None
    value, own = edit.node.inputs[0], _SCHEMES[scheme](_attributes(edit), kernels[0].shape[0])
    *first, last = zip(kernels, own, strict=True)
    for kernel, attributes in first:
        value = edit.op("Conv", value, kernel, **attributes)
    return edit.op("Conv", value, last[0], *edit.node.inputs[2:], **last[1])


def _along(kept: Attributes, axis: int) -> Attributes:
    """The attributes of a Conv that matter on one of its two axes."""
    found = dict(kept)
    for name, neutral in (("strides", 1), ("dilations", 1), ("pads", 0), ("kernel_shape", 1)):
        if name in kept:
            found[name] = [size if i % 2 == axis else neutral for i, size in enumerate(kept[name])]
    return found


def _attributes(edit: Editor) -> Attributes:
    return {name: attribute.value for name, attribute in edit.node.attributes.items()}


_SCHEMES: dict[str, Callable[[Attributes, Any], list[Attributes]]] = {
    "narrow": lambda kept, _: [kept, {}],
    "tucker": lambda kept, _: [{}, kept, {}],
    "spatial": lambda kept, _: [_along(kept, 0), _along(kept, 1)],
    "separable": lambda kept, channels: [kept | {"group": channels}, {}],
}
"""The attributes of each kernel's Conv, from those of the one that they stand for and the first kernel's channels."""
