"""The nets, as ONNX graphs with a loss behind them: mean cross entropy, or the mean squared error for the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from compress_ops.distill.losses.objective import Objective
from compress_ops.model import Model, make_uniform

Array = np.ndarray[Any, Any]
OPSET = 18
VOCABULARY, WIDTH, HEADS, LAYERS, LENGTH = 1000, 384, 12, 6, 64
RESNET_WIDTHS = (16, 32, 64)
SMALL = 0.2


@dataclass(frozen=True)
class Net:
    """``asked`` is the step time over PyTorch's that is to be reached."""

    name: str
    objective: Objective
    feeds: dict[str, Array]
    asked: float

    @property
    def weights(self) -> dict[str, Array]:
        values = self.objective.model.graph.initializers
        found = {name: values[name].const_value for name in self.objective.parameters}
        return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


@dataclass
class Graph:
    """Writes nodes; weights are drawn for Relu nets (He et al., 2015) and get names as PyTorch has them."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def constant(self, array: Any) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(array)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def weight(self, name: str, *shape: int, inputs: int | None = None) -> str:
        fan = prod(shape[1:]) if inputs is None else inputs
        return self._trained(name, self.rng.standard_normal(shape) * sqrt(2 / fan))

    def vector(self, name: str, size: int, around: float = 0.0) -> str:
        """Not all equal, so that no two are merged."""
        return self._trained(name, around + 0.1 * self.rng.standard_normal(size))

    def _trained(self, name: str, array: Array) -> str:
        self.tensors[name] = array.astype(np.float32)
        self.trained.append(name)
        return name

    def finish(self, inputs: Sequence[tuple[str, Array]], loss: str) -> Objective:
        ports = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs
        ]
        output = helper.make_tensor_value_info(loss, TensorProto.FLOAT, [])
        tensors = [numpy_helper.from_array(array, name) for name, array in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "net", ports, [output], tensors)
        proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)])
        model = Model(ir.from_proto(proto))
        make_uniform(model)
        return Objective(model, loss, {}, {}, self.trained, ["t"])


def linear(g: Graph, name: str, x: str, inputs: int, outputs: int) -> str:
    weight = g.weight(f"{name}.weight", outputs, inputs)
    return g.op("Gemm", x, weight, g.vector(f"{name}.bias", outputs), transB=1)


def classified(g: Graph, name: str, logits: str, shape: tuple[int, ...], asked: float) -> Net:
    """Mean cross entropy with soft targets t."""
    samples = g.rng.standard_normal(shape).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[g.rng.integers(0, 10, shape[0])]
    inner = g.op("Mul", g.op("LogSoftmax", logits, axis=-1), "t")
    loss = g.op("Mul", g.op("ReduceSum", inner, keepdims=0), g.number(-1 / shape[0]))
    return Net(name, g.finish([("x", samples), ("t", targets)], loss), {"x": samples, "t": targets}, asked)


def mlp() -> Net:
    g = Graph()
    x = g.op("Relu", linear(g, "0", "x", 784, 64))
    x = g.op("Relu", linear(g, "2", x, 64, 64))
    return classified(g, "MLP 784-64-64-10, b128", linear(g, "4", x, 64, 10), (128, 784), 0.6)


def tiny() -> Net:
    """What a process builds once before it is measured, so that libraries have loaded what they need."""
    g = Graph()
    return classified(g, "one layer", linear(g, "0", "x", 8, 10), (2, 8), 1)


def cnn() -> Net:
    g, x = Graph(), "x"
    for name, inputs, outputs in (("0", 1, 32), ("3", 32, 64)):
        weight, bias = g.weight(f"{name}.weight", outputs, inputs, 3, 3), g.vector(f"{name}.bias", outputs)
        x = g.op("Relu", g.op("Conv", x, weight, bias, pads=[1] * 4))
        x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    logits = linear(g, "7", g.op("Flatten", x), 64 * 7 * 7, 10)
    return classified(g, "CNN 32/64, b128", logits, (128, 1, 28, 28), 1.15)


def normalized(g: Graph, name: str, x: str, channels: tuple[int, int], stride: int, scale: float = 1) -> str:
    """A convolution and a BatchNormalization whose statistics are frozen and whose scale and shift are trained."""
    weight = g.weight(f"{name}.0.weight", channels[1], channels[0], 3, 3)
    x = g.op("Conv", x, weight, pads=[1] * 4, strides=[stride] * 2)
    affine = g.vector(f"{name}.1.weight", channels[1], scale), g.vector(f"{name}.1.bias", channels[1])
    mean, variance = g.constant(np.zeros(channels[1], np.float32)), g.constant(np.ones(channels[1], np.float32))
    return g.op("BatchNormalization", x, *affine, mean, variance)


def resnet() -> Net:
    """ResNet-20 for 32 x 32 images (He et al., 2016), with 1x1 convolutions where sizes change."""
    g = Graph()
    x, inputs, block = g.op("Relu", normalized(g, "stem", "x", (3, 16), 1)), 16, 0
    for outputs in RESNET_WIDTHS:
        for _ in range(3):
            x = residual(g, f"blocks.{block}", x, (inputs, outputs))
            inputs, block = outputs, block + 1
    logits = linear(g, "head", g.op("Flatten", g.op("GlobalAveragePool", x)), 64, 10)
    return classified(g, "ResNet-20, b64", logits, (64, 3, 32, 32), 1.7)


def residual(g: Graph, name: str, x: str, channels: tuple[int, int]) -> str:
    """The last scale begins small (Goyal et al., 2017, begin at 0): else activations double from block to block, and
    the softmax of huge logits makes gradients of either side wrong by 5e-5."""
    inputs, outputs = channels
    stride = 1 if inputs == outputs else 2
    y = g.op("Relu", normalized(g, f"{name}.first", x, channels, stride))
    y = normalized(g, f"{name}.second", y, (outputs, outputs), 1, SMALL)
    if stride > 1:
        x = g.op("Conv", x, g.weight(f"{name}.shortcut.weight", outputs, inputs, 1, 1), strides=[stride] * 2)
    return g.op("Relu", g.op("Add", y, x))


def encoder() -> Net:
    """BERT's layers after the embedding, written as exporters do: MatMul and Add, Gelu by its formula."""
    g = Graph()
    tokens = g.rng.integers(0, VOCABULARY, (16, LENGTH))
    targets = g.rng.standard_normal((16, LENGTH, WIDTH)).astype(np.float32)
    x = g.op("Gather", g.weight("embedding.weight", VOCABULARY, WIDTH, inputs=2), "x")
    for layer in range(LAYERS):
        x = encoder_layer(g, f"layers.{layer}", x)
    difference = g.op("Sub", x, "t")
    loss = g.op("ReduceMean", g.op("Mul", difference, difference), keepdims=0)
    return Net(
        "BERT-like 6 x 384, s64 b16", g.finish([("x", tokens), ("t", targets)], loss), {"x": tokens, "t": targets}, 1.2
    )


def encoder_layer(g: Graph, name: str, x: str) -> str:
    def dense(part: str, value: str, inputs: int, outputs: int) -> str:
        product = g.op("MatMul", value, g.weight(f"{name}.{part}.weight", inputs, outputs, inputs=2 * inputs))
        return g.op("Add", product, g.vector(f"{name}.{part}.bias", outputs))

    def heads(part: str, order: list[int]) -> str:
        shape = g.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return g.op("Transpose", g.op("Reshape", dense(part, x, WIDTH, WIDTH), shape), perm=order)

    def norm(part: str, value: str) -> str:
        scale, shift = g.vector(f"{name}.{part}.weight", WIDTH, 1), g.vector(f"{name}.{part}.bias", WIDTH)
        return g.op("LayerNormalization", value, scale, shift, epsilon=1e-5)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", query, key), g.number(sqrt(WIDTH // HEADS)))
    mixed = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    mixed = g.op("Reshape", mixed, g.constant(np.array([0, 0, WIDTH])))
    x = norm("attention_norm", g.op("Add", dense("output", mixed, WIDTH, WIDTH), x))
    wide = dense("wide", x, WIDTH, 4 * WIDTH)
    bell = g.op("Add", g.op("Erf", g.op("Div", wide, g.number(sqrt(2)))), g.number(1))
    gelu = g.op("Mul", g.op("Mul", wide, bell), g.number(0.5))
    return norm("norm", g.op("Add", dense("narrow", gelu, 4 * WIDTH, WIDTH), x))


NETS: dict[str, Callable[[], Net]] = {"mlp": mlp, "cnn": cnn, "bert": encoder, "resnet": resnet}
