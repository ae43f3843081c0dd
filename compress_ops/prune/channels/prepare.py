"""Bring a model into the form in which its channels are best seen; the function that it computes stays.

Functions are inlined; constants that the graph generates are stored; sizes that are known become numbers (a
division by the square root of the head size must keep the old size, whatever is cut); and vectors that exporters
shared because they were equal (biases of zeros, scales of ones) get a copy per user, since their users need not lose
the same channels. ``merge_copies`` undoes the last where nothing came of it.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from ...graph.clean.folding import fold, stays_small
from ...graph.clean.generated import Store, fill_of
from ...graph.clean.quiet import quietly
from ...graph.edit import constant_of
from ...lazy import ir, ir_passes
from ...model import Model, make_uniform
from ...shapes.elements import Evaluator, known_dims
from .rules.attention import write_scales
from .strided import read_in_order

_ROUNDS = 8  # a size that becomes known makes shapes known, from which further sizes follow
_SMALL = 256  # elements of constants that are folded: shapes, paddings, indices
Copies: TypeAlias = "list[tuple[ir.Value, ir.Value]]"


def prepare(model: Model) -> Copies:
    """Prepare a model in place; returns (original, copy) of each vector that was given to its users separately."""
    if model.ir.functions:
        ir_passes.InlinePass()(model.ir)
    _store_generated(model)
    with model.keeping_ports(), quietly():
        for _ in range(_ROUNDS):
            model.infer_shapes()
            folded = _fold(model)
            make_uniform(model)
            if not _write_known_sizes(model) + read_in_order(model) and not folded:
                break
            _forget_guesses(model)
    write_scales(model)
    model.drop_unused()
    return _separate_vectors(model)


def _fold(model: Model) -> bool:
    def judge(node: ir.Node) -> bool | None:
        return None if stays_small(node, _SMALL) else False

    return fold(model, judge, largest_input=_SMALL, largest_output=_SMALL, infer=False)


def merge_copies(model: Model, copies: Copies) -> None:
    """Let equal copies be one weight again."""
    for original, copy in copies:
        old, new = constant_of(original), constant_of(copy)
        if old is not None and new is not None and old.shape == new.shape and np.array_equal(old.numpy(), new.numpy()):
            copy.replace_all_uses_with(original)
    model.drop_unused()


def _store_generated(model: Model) -> None:
    store = Store(model)
    for node in model.nodes():
        is_float = node.op_type == "ConstantOfShape" and fill_of(node).dtype.is_floating_point()
        if is_float and (weight := store(node)) is not None:
            node.outputs[0].replace_all_uses_with(weight, replace_graph_outputs=False)


def _home(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _write_known_sizes(model: Model) -> int:
    """Replace integer tensors that follow from known dimensions by constants; returns how many."""
    evaluate, written = Evaluator(known_dims), 0
    for node in model.nodes():
        output = node.outputs[0]
        numbers = evaluate.numbers(output) if _is_size(output) else None
        if numbers and len(numbers) == math.prod(_static(output)) and output.dtype is not None:
            array = np.array(numbers, output.dtype.numpy()).reshape(_static(output))
            weight = model.add_weight(output.name or "size", ir.Tensor(array), _home(node))
            output.replace_all_uses_with(weight)
            written += 1
    return written


def _forget_guesses(model: Model) -> None:
    """Shape inference keeps the names that it invented ("unk__7") even when it could know better by now."""
    for node in model.nodes():
        for output in node.outputs:
            sizes = [size for size in output.shape or [] if not isinstance(size, int)]
            if any((size.value or "").startswith("unk__") for size in sizes) and not output.is_graph_output():
                output.shape = None


def _is_size(value: ir.Value) -> bool:
    integer = value.dtype is not None and value.dtype.name in ("INT64", "INT32")
    return integer and value.shape is not None and bool(value.uses()) and not value.is_graph_output()


def _static(value: ir.Value) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in value.shape or []]


def _separate_vectors(model: Model) -> Copies:
    copies: Copies = []
    for weight in list(model.weights()):
        tensor = weight.const_value
        if tensor is None or not _is_vector(tensor) or weight.is_graph_output():
            continue
        for node, index in list(weight.uses())[1:]:
            copy = model.add_weight(weight.name or "vector", _view(tensor), weight.graph)
            node.replace_input_with(index, copy)
            copies.append((weight, copy))
    return copies


def _is_vector(tensor: ir.TensorProtocol) -> bool:
    sizes = [size for size in tensor.shape.numpy() if size != 1]
    return len(sizes) == 1 and (tensor.dtype.is_floating_point() or tensor.dtype.name in ("INT8", "UINT8", "INT32"))


def _view(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.LazyTensor(
        lambda: ir.Tensor(tensor.numpy(), dtype=tensor.dtype), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy())
    )
