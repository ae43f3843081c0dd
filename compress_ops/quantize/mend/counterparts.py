"""Layers of the model before quantization, each with what stands for it in the quantized model.

A layer that is written as QDQ keeps its node; one that is rewritten (MatMulInteger, MatMulNBits) keeps the name of its
output. Nothing else is asked of the quantized form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import PassError
from ...graph.edit import constant_of
from ...graph.layers.view import view_of_weight
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
        groups, outputs, *_ = view_of_weight(self.exact).shape
        return outputs if self.channels_last else groups * outputs

    @property
    def channels_last(self) -> bool:
        """Whether the output's channels are its last axis, else axis 1."""
        return self.exact.op_type in PRODUCTS

    @property
    def maker(self) -> ir.Node:
        """What makes the output."""
        return made_by(self.output)


def unquantized_of(ctx: Context, step: str) -> Model:
    """The model before quantization, or an error that tells where in a recipe the step belongs."""
    if ctx.earlier is None:
        hint = f"put {step} behind a step that quantizes, in the same recipe: passes: [quantize_static, {step}]"
        raise PassError("the model before quantization is needed", hint=hint)
    return ctx.earlier


def counterparts(model: Model, original: Model, only: list[str], skip: list[str], change: Change) -> list[Counterpart]:
    """The quantized layers in graph order; those that cannot be found are declined, those still float passed over."""
    nodes = {node.name: node for node in model.graph}
    values, pairs = computed(model), []
    for exact in (exact for exact in float_layers(original) if selected(exact, only, skip)):
        node, output = nodes.get(exact.name), values.get(exact.outputs[0].name or "")
        if node is not None and node.op_type == exact.op_type:
            if constant_of(node.inputs[1]) is None:
                pairs.append(Counterpart(exact, node.outputs[0], node))
        elif output is None:
            change.decline(exact.name, f"{exact.op_type}: nothing in the quantized model has the name of its output")
        else:
            pairs.append(Counterpart(exact, output, None))
    place = {node: i for i, node in enumerate(model.graph)}
    return sorted(pairs, key=lambda pair: place[pair.maker])


def computed(model: Model) -> dict[str, ir.Value]:
    """What the nodes of the main graph give, by name."""
    return {value.name or "": value for node in model.graph for value in node.outputs}


def float_layers(original: Model) -> Iterator[ir.Node]:
    """Layers of the main graph whose weight is stored as float32."""
    for node in original.graph:
        if node.op_type in LINEAR and node.domain in ONNX_DOMAINS:
            tensor = constant_of(node.inputs[1])
            if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
                yield node


def made_by(value: ir.Value) -> ir.Node:
    """What computes a value that is known to be computed."""
    node = value.producer()
    assert node is not None
    return node
