"""Layers of the model before quantization, each with what stands for it in the quantized model.

A layer that is written as QDQ keeps its node; one that is rewritten (MatMulInteger, MatMulNBits) keeps the name of its
output. Nothing else is asked of the quantized form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import PassError
from ...graph.edit import constant_of
from ...graph.layers.view import output_axis, view_of
from ...graph.layers.weights import LINEAR, PRODUCTS
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, Context, selected


@dataclass(frozen=True)
class Counterpart:
    """``exact``: the float layer. ``output``: the value that stands for its output. ``node``: the layer in QDQ form."""

    exact: ir.Node
    output: ir.Value
    node: ir.Node | None

    @property
    def name(self) -> str:
        return self.exact.name or "?"

    @property
    def weight(self) -> ir.TensorProtocol:
        """The float weight."""
        tensor = constant_of(self.exact.inputs[1])
        assert tensor is not None
        return tensor

    @property
    def channels(self) -> int:
        """How many output channels the layer has."""
        sizes = tuple(self.weight.shape.numpy())
        groups = view_of(self.exact, sizes).shape[0] if self.exact.op_type == "ConvTranspose" else 1
        return int(sizes[output_axis(self.exact, len(sizes))] * groups)

    @property
    def channels_last(self) -> bool:
        """Whether the output's channels are its last axis, else axis 1."""
        return self.exact.op_type in PRODUCTS


def unquantized_of(ctx: Context, step: str) -> Model:
    """The model before quantization, or an error that tells where in a recipe the step belongs."""
    if ctx.earlier is None:
        hint = f"put {step} behind a step that quantizes, in the same recipe: passes: [quantize_static, {step}]"
        raise PassError("the model before quantization is needed", hint=hint)
    return ctx.earlier


def counterparts(model: Model, original: Model, only: list[str], skip: list[str], change: Change) -> list[Counterpart]:
    """The quantized layers in graph order; those that cannot be found are declined, those still float passed over."""
    nodes = {node.name: node for node in model.graph}
    values = {value.name: value for node in model.graph for value in node.outputs}
    found = [
        _counterpart(exact, nodes, values, change) for exact in float_layers(original) if selected(exact, only, skip)
    ]
    place = {node: i for i, node in enumerate(model.graph)}
    pairs = [pair for pair in found if pair is not None]
    return sorted(pairs, key=lambda pair: place[_producer(pair.output)])


def float_layers(original: Model) -> Iterator[ir.Node]:
    """Layers of the main graph whose weight is stored as float32."""
    for node in original.graph:
        if node.op_type in LINEAR and node.domain in ONNX_DOMAINS:
            tensor = constant_of(node.inputs[1])
            if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
                yield node


def _counterpart(
    exact: ir.Node, nodes: dict[str | None, ir.Node], values: dict[str | None, ir.Value], change: Change
) -> Counterpart | None:
    node = nodes.get(exact.name)
    if node is not None and node.op_type == exact.op_type:
        stays_float = constant_of(node.inputs[1]) is not None
        return None if stays_float else Counterpart(exact, node.outputs[0], node)
    output = values.get(exact.outputs[0].name)
    if output is None:
        change.decline(exact.name, f"{exact.op_type}: nothing in the quantized model has the name of its output")
        return None
    return Counterpart(exact, output, None)


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
