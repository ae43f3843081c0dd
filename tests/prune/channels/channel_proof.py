"""The proof of a cut: the pruned model's outputs equal those of the original with the same channels zeroed.

Every index that a cut removes from a weight is zeroed in the original (divisors and variances become one), so the
cut channels are zero and nothing reads them. Where an operator sees channels together, the original's operator is
replaced by itself over the channels that remain: LayerNormalization and ReduceMean divide by their number, LRN
sees the nearest neighbours that remain, GroupNormalization is decomposed alike.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compress_ops.model import Model
from compress_ops.prune.channels import Grouping, Kept, cut, find_groups, prepare
from compress_ops.prune.channels.axes import live
from compress_ops.runtime import open_session

Feeds = dict[str, np.ndarray]


def prove(
    model: Model, feeds: Feeds, ratio: float = 0.5, *, heads: bool = False, seed: int = 0
) -> tuple[float, Grouping]:
    """Cut a random share of every group; the largest difference relative to the output's largest value."""
    prepare(model)
    grouping = find_groups(model, heads=heads)
    units = some_units(grouping, ratio, seed)
    expected = run(zeroed(grouping, units), feeds)
    cut(grouping, units)
    model.drop_unused()
    model.check()
    return difference(expected, run(model, feeds)), grouping


def some_units(grouping: Grouping, ratio: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(g.units, min(len(g) - 1, round(ratio * len(g))), replace=False) for g in grouping.groups]
    return np.concatenate([np.zeros(0, np.int64), *chosen])


def run(model: Model, feeds: Feeds) -> list[np.ndarray]:
    with model.exported() as path:
        return list(open_session(path, optimize=False).run(feeds).values())


def difference(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    for left, right in zip(expected, found, strict=True):
        assert left.shape == right.shape
        assert np.isfinite(left).all()
    return max(
        float(np.abs(left.astype(np.float64) - right).max() / max(np.abs(left).max(), 1e-30)) if left.size else 0.0
        for left, right in zip(expected, found, strict=True)
    )


def zeroed(grouping: Grouping, units: np.ndarray) -> Model:
    """The original (a copy) with the cut channels zeroed."""
    kept = Kept(grouping.trace, units)
    original = grouping.trace.model
    twin = Model(ir.from_proto(ir.to_proto(original.ir)), original.path)
    originals = {(v.name, i): v for i, g in enumerate(original.ir.graphs()) for v in g.initializers.values()}
    for i, graph in enumerate(twin.ir.graphs()):
        for weight in graph.initializers.values():
            if (source := originals.get((weight.name, i))) is not None and source in grouping.trace.weights:
                _zero(kept, source, weight)
    for mine, other in zip(original.nodes(), list(twin.nodes()), strict=True):
        _mask(twin, kept, mine, other)
    return twin


def _zero(kept: Kept, source: ir.Value, weight: ir.Value) -> None:
    array = weight.const_value.numpy()
    if array.dtype.kind != "f":
        return
    divides = any((n.op_type, i) in (("BatchNormalization", 4), ("Div", 1)) for n, i in weight.uses())
    array = array.copy()
    for axis, labels in enumerate(kept.trace.weights[source]):
        if axis == 1 and source in kept.trace.grouped:
            rows = kept.of(kept.trace.grouped[source])
            for part, row in zip(np.split(array, len(rows)), rows, strict=True):
                part[:, ~row] = 0
        elif live(labels):
            np.moveaxis(array, axis, 0)[~kept.of(labels)] = 1 if divides else 0
    weight.const_value = ir.Tensor(array, name=weight.name)


def _mask(twin: Model, kept: Kept, mine: ir.Node, other: ir.Node) -> None:
    layout = kept.trace.layouts.get(mine.inputs[0]) if mine.inputs and mine.inputs[0] is not None else None
    masks = {a: kept.of(labels) for a, labels in enumerate(layout or []) if live(labels)}
    masks = {a: mask for a, mask in masks.items() if not mask.all()}
    if not masks or mine.op_type not in REPLACEMENTS:
        return
    write = Write(twin, other)
    shape = np.ones([1] * len(layout))
    for axis, mask in masks.items():
        shape = shape * mask.reshape([-1 if a == axis else 1 for a in range(len(layout))])
    REPLACEMENTS[mine.op_type](write, other, shape.astype(np.float32), masks)


class Write:
    def __init__(self, model: Model, node: ir.Node) -> None:
        self.model, self.node = model, node

    def __call__(self, op_type: str, *inputs: object, **attributes: object) -> ir.Value:
        values = [i if isinstance(i, ir.Value) else self.constant(np.asarray(i)) for i in inputs]
        made = ir.node(op_type, values, attributes, name=self.model.fresh("masked"))
        made.outputs[0].name = made.name
        self.node.graph.insert_before(self.node, made)
        return made.outputs[0]

    def constant(self, array: np.ndarray) -> ir.Value:
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        return self.model.add_weight("mask", ir.Tensor(array), self.node.graph)

    def replace(self, value: ir.Value) -> None:
        self.node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)

    def sum(self, value: ir.Value, axes: list[int], keepdims: int = 1) -> ir.Value:
        if self.model.opset >= 13:
            return self("ReduceSum", value, np.array(axes, np.int64), keepdims=keepdims)
        return self("ReduceSum", value, axes=axes, keepdims=keepdims)

    def normalize(self, value: ir.Value, mask: np.ndarray, axes: list[int], count: object, epsilon: float) -> ir.Value:
        count = count if isinstance(count, ir.Value) else np.float32(count)
        mean = self("Div", self.sum(self("Mul", value, mask), axes), count)
        centred = self("Mul", self("Sub", value, mean), mask)
        variance = self("Div", self.sum(self("Mul", centred, centred), axes), count)
        return self("Div", centred, self("Sqrt", self("Add", variance, np.float32(epsilon))))


def _layer_norm(write: Write, node: ir.Node, mask: np.ndarray, masks: dict) -> None:
    rank = mask.ndim
    axis = node.attributes["axis"].value if "axis" in node.attributes else -1
    axes = list(range(axis % rank, rank))
    assert axes == [rank - 1], "only the last axis is proven"
    epsilon = node.attributes["epsilon"].value if "epsilon" in node.attributes else 1e-5
    if rank - 1 not in masks:
        return
    result = write("Mul", write.normalize(node.inputs[0], mask, axes, mask.sum(), epsilon), node.inputs[1])
    write.replace(write("Add", result, node.inputs[2]) if len(node.inputs) > 2 else result)


def _reduce_mean(write: Write, node: ir.Node, mask: np.ndarray, masks: dict) -> None:
    rank = mask.ndim
    axes = node.attributes["axes"].value if "axes" in node.attributes else node.inputs[1].const_value.numpy().tolist()
    axes = [a % rank for a in axes]
    keep = node.attributes["keepdims"].value if "keepdims" in node.attributes else 1
    share = np.prod([masks[a].mean() for a in axes if a in masks])
    masked = write("Mul", node.inputs[0], mask)
    mean = write(
        "ReduceMean",
        masked,
        *([] if "axes" in node.attributes else [node.inputs[1]]),
        **({"axes": axes} if "axes" in node.attributes else {}),
        keepdims=keep,
    )
    write.replace(write("Div", mean, np.float32(share)))


def _lrn(write: Write, node: ir.Node, mask: np.ndarray, masks: dict) -> None:
    kept = np.flatnonzero(masks[1])
    back = np.zeros(len(masks[1]), np.int64)
    back[kept] = np.arange(len(kept))
    attributes = {name: a.value for name, a in node.attributes.items()}
    inner = write("LRN", write("Gather", node.inputs[0], kept, axis=1), **attributes)
    write.replace(write("Mul", write("Gather", inner, back, axis=1), mask))


def _group_norm(write: Write, node: ir.Node, mask: np.ndarray, masks: dict) -> None:
    groups, channels = node.attributes["num_groups"].value, len(masks[1])
    epsilon = node.attributes["epsilon"].value if "epsilon" in node.attributes else 1e-5
    grid = write("Reshape", node.inputs[0], np.array([0, groups, channels // groups, -1]))
    size = write("Cast", write("Gather", write("Shape", grid), np.array(3)), to=1)
    inner = np.broadcast_to(mask, (1, channels, *mask.shape[2:])).reshape(1, groups, channels // groups, 1)
    count = write("Mul", size, np.float32(inner.sum() / groups))
    mean = write("Div", write.sum(write("Mul", grid, inner), [2, 3]), count)
    centred = write("Mul", write("Sub", grid, mean), inner)
    variance = write("Div", write.sum(write("Mul", centred, centred), [2, 3]), count)
    normal = write("Div", centred, write("Sqrt", write("Add", variance, np.float32(epsilon))))
    flat = write("Reshape", normal, write("Shape", node.inputs[0]))
    column = np.array([-1, *[1] * (mask.ndim - 2)])
    scale, bias = (write("Reshape", value, column) for value in node.inputs[1:3])
    write.replace(write("Add", write("Mul", flat, scale), bias))


def _instance_norm(write: Write, node: ir.Node, mask: np.ndarray, masks: dict) -> None:
    rank, axes = mask.ndim, list(range(2, mask.ndim))
    if not any(axis in masks for axis in axes):
        return
    epsilon = node.attributes["epsilon"].value if "epsilon" in node.attributes else 1e-5
    size = write("Cast", write("ReduceProd", write("Slice", write("Shape", node.inputs[0]), ints(2), ints(rank))), to=1)
    count = write("Mul", size, np.float32(np.prod([masks[a].mean() for a in axes if a in masks])))
    normal = write.normalize(node.inputs[0], mask, axes, count, epsilon)
    column = np.array([-1, *[1] * (rank - 2)])
    scale, bias = (write("Reshape", value, column) for value in node.inputs[1:3])
    write.replace(write("Add", write("Mul", normal, scale), bias))


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


REPLACEMENTS = {
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce_mean,
    "LRN": _lrn,
    "GroupNormalization": _group_norm,
}


def with_random_weights(model: Model, seed: int = 0) -> Model:
    """Fill weights that are one constant: He-scaled matrices and kernels, positive scales and variances."""
    prepare(model)
    rng = np.random.default_rng(seed)
    for weight in model.weights():
        tensor = weight.const_value
        if tensor.dtype == ir.DataType.FLOAT and tensor.size > 1 and np.ptp(array := tensor.numpy()) == 0:
            weight.const_value = ir.Tensor(_random(rng, weight, array.shape).astype(np.float32), name=weight.name)
    return model


def _random(rng: np.random.Generator, weight: ir.Value, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) >= 2:
        node, _ = next(iter(weight.uses()))
        inputs = shape[0] if node.op_type == "MatMul" else np.prod(shape[1:])
        return rng.normal(size=shape) * np.sqrt(2 / inputs)
    is_bias = any((n.op_type, i) in (("Conv", 2), ("Gemm", 2), ("BatchNormalization", 2)) for n, i in weight.uses())
    return rng.normal(size=shape) * 0.1 if is_bias else rng.uniform(0.5, 1.5, shape)


def strip_softmax(model: Model) -> None:
    """Let the logits be the output: a softmax or sigmoid far from zero saturates and would hide differences."""
    for position, output in enumerate(model.graph.outputs):
        value = output
        while (node := value.producer()) is not None and node.op_type in ("Softmax", "Sigmoid", "Identity"):
            value = node.inputs[0]
        value.type, value.shape = output.type, output.shape
        model.graph.outputs[position] = value
    model.drop_unused()


def parameters(model: Model) -> int:
    return sum(w.const_value.size for w in model.weights() if w.const_value.dtype.is_floating_point())
