"""What a model is made of, without running it: weights, operators, precision, and the arithmetic of one inference.

FLOPs = 2 x multiply-accumulates, counted where shapes are known:
    Conv            |Y| x (C_in / groups) x |kernel|        ConvTranspose   |X| x (C_out / groups) x |kernel|
    Gemm, MatMul    |Y| x the length of the axis that is summed over
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.fit import size_faults
from ..data.sizes import named_sizes
from ..errors import UsageError, did_you_mean, raise_all
from ..files.interface import type_text
from ..files.stored_half import stored_bytes, stored_half
from ..lazy import ir
from ..model import Model, load
from ..runtime import Port
from .size import Size, measure_size


@dataclass(frozen=True)
class NodeFacts:
    """A node as patterns see it, the bytes of the weights that it reads, and its FLOPs where they are known."""

    name: str
    operator: str
    weight_bytes: int
    flops: int | None


@dataclass(frozen=True)
class WeightFacts:
    """The weights of one type: how many tensors, numbers and bytes."""

    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """All that is known of a model. ``flops`` sums what is known; ``uncounted`` is how many nodes it leaves out.

    ``assumed`` are the sizes that free dimensions were given, ``shapes`` those of whole inputs; ``free`` names the
    dimensions of inputs that stayed free, ``unsized`` holds the shapes of inputs in which some have no name.
    """

    path: Path
    files: list[Path]
    size: Size
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    inputs: list[str]
    outputs: list[str]
    parameters: int
    flops: int
    uncounted: int
    assumed: Mapping[str, int]
    shapes: Mapping[str, Sequence[int]]
    free: list[str]
    unsized: Mapping[str, str]
    operators: Mapping[str, int]
    precision: Mapping[str, WeightFacts]
    readers: Mapping[str, int]
    nodes: list[NodeFacts]


def inspect_model(
    path: Path, dims: Mapping[str, int] | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Inspection:
    """Look at a model.

    ``dims`` sizes its free dimensions by name, ``shapes`` whole inputs; else a free first axis (the batch) is 1.
    """
    model = load(path)
    ports = [[_port(model, value) for value in side] for side in (model.graph.inputs, model.graph.outputs)]
    assumed = _set_sizes(model, dims or {}, shapes or {})
    model.infer_shapes()
    nodes = [_facts(node) for node in model.nodes()]
    return Inspection(
        path=path,
        files=model.files,
        size=measure_size(path),
        opsets={domain or "ai.onnx": version for domain, version in sorted(model.ir.opset_imports.items())},
        ir_version=model.ir.ir_version or 0,
        producer=" ".join(filter(None, (model.ir.producer_name, model.ir.producer_version))),
        inputs=ports[0],
        outputs=ports[1],
        parameters=sum(_tensor(weight).size for weight in model.weights()),
        flops=sum(node.flops or 0 for node in nodes),
        uncounted=sum(node.flops is None for node in nodes),
        assumed=assumed,
        shapes=dict(shapes or {}),
        free=sorted(_free_names(model)),
        unsized=_unsized(model),
        operators=dict(Counter(node.operator for node in nodes).most_common()),
        precision=_precision(model),
        readers=_readers(model),
        nodes=nodes,
    )


def _port(model: Model, value: ir.Value) -> str:
    if (kind := model.types.get(value.name or "")) is not None:
        return f"{value.name}: {type_text(kind)}"
    default = " with a default" if value.name in model.defaults else ""
    shape = "unknown shape" if value.shape is None else f"[{', '.join(_dimension(size) for size in value.shape)}]"
    return f"{value.name}: {value.dtype.name.lower() if value.dtype else 'unknown type'} {shape}{default}"


def _dimension(size: int | ir.SymbolicDim) -> str:
    return str(size) if isinstance(size, int) else size.value or "?"


def _set_sizes(model: Model, dims: Mapping[str, int], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Give the free dimensions of the inputs their sizes; returns the sizes that were set, by name."""
    _check_names(model, dims)
    ports = [Port(value.name or "", "", _sizes(value)) for value in model.graph.inputs]
    raise_all(size_faults(ports, dims, {}, shapes))
    assumed = {**dims, **named_sizes(ports, shapes)}
    for value in model.graph.inputs:
        if (shape := shapes.get(value.name or "")) is not None:
            value.shape = ir.Shape(shape)
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value and (axis == 0 or size.value in dims):
                assumed.setdefault(size.value, 1)
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([_sized(size, axis, assumed) for axis, size in enumerate(value.shape)])
    for value in model.graph.outputs:
        value.shape = None
    return assumed


def _sizes(value: ir.Value) -> tuple[int | str | None, ...]:
    return tuple(size if isinstance(size, int) else size.value for size in value.shape or ())


def _unsized(model: Model) -> dict[str, str]:
    """Inputs with a dimension that has no name, or without a shape: ``1,3,N,N``, as --shape takes it."""
    return {
        value.name or "": ",".join(str(size or "N") for size in _sizes(value)) or "N,N"
        for value in model.graph.inputs
        if value.shape is None or None in _sizes(value)
    }


def _sized(size: int | ir.SymbolicDim, axis: int, sizes: Mapping[str, int]) -> int | ir.SymbolicDim:
    if isinstance(size, int):
        return size
    return sizes.get(size.value, size) if size.value else 1 if axis == 0 else size


def _check_names(model: Model, dims: Mapping[str, int]) -> None:
    free = _free_names(model)
    for name in dims:
        if name not in free:
            known = ", ".join(sorted(free)) or "none has a name"
            raise UsageError(f"no input has a dimension '{name}'{did_you_mean(name, free)}", hint=f"free ones: {known}")


def _free_names(model: Model) -> set[str]:
    sizes = [size for value in model.graph.inputs for size in value.shape or () if not isinstance(size, int)]
    return {size.value for size in sizes if size.value}


def _tensor(weight: ir.Value) -> ir.TensorProtocol:
    assert weight.const_value is not None
    return weight.const_value


def _precision(model: Model) -> dict[str, WeightFacts]:
    tensors: dict[str, list[ir.Value]] = defaultdict(list)
    for weight in model.weights():
        half = stored_half(weight)
        tensors[(half or _tensor(weight)).dtype.name.lower()].append(weight)
    facts = {
        name: WeightFacts(len(of), sum(_tensor(w).size for w in of), sum(map(stored_bytes, of)))
        for name, of in tensors.items()
    }
    return dict(sorted(facts.items(), key=lambda item: -item[1].bytes))


def _readers(model: Model) -> dict[str, int]:
    """Bytes of weights by the operators that read them; DequantizeLinear counts as what reads its output."""
    counts: Counter[str] = Counter()
    for weight in model.weights():
        readers = sorted(set(_operators_reading(weight)))
        counts[" and ".join(readers) or "none"] += stored_bytes(weight)
    return dict(counts.most_common())


def _operators_reading(value: ir.Value) -> Iterator[str]:
    for node, _ in value.uses():
        if node.op_type == "DequantizeLinear" and any(output.uses() for output in node.outputs):
            yield from _operators_reading(node.outputs[0])
        else:
            yield node.op_type


def _facts(node: ir.Node) -> NodeFacts:
    weights = {value for value in node.inputs if value is not None and value.const_value is not None}
    return NodeFacts(node.name or "", node.op_type, sum(map(stored_bytes, weights)), flops(node))


def flops(node: ir.Node) -> int | None:
    """FLOPs of a node: 0 for operators that are not counted, None where a shape is not known."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    values = [*node.inputs, *[None] * 4]
    x, weight, y = (_shape(value) for value in (values[0], values[_WEIGHT_AT.get(node.op_type, 1)], *node.outputs[:1]))
    if x is None or weight is None or y is None or len(x) < _LEAST_RANK.get(node.op_type, 1):
        return None
    return 2 * rule(node, x, weight, y)


Shape = tuple[int, ...]


def _shape(value: ir.Value | None) -> Shape | None:
    """The sizes of a value, where all are known; a wrong model may have negative ones."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    sizes = tuple(value.shape.numpy())
    return sizes if min(sizes, default=0) >= 0 else None


def _conv(node: ir.Node, x: Shape, weight: Shape, y: Shape) -> int:
    return math.prod(y) * math.prod(weight[1:])


def _conv_transpose(node: ir.Node, x: Shape, weight: Shape, y: Shape) -> int:
    return math.prod(x) * math.prod(weight[1:])


def _gemm(node: ir.Node, x: Shape, weight: Shape, y: Shape) -> int:
    transposed = node.attributes.get("transA")
    return math.prod(y) * x[0 if transposed is not None and transposed.as_int() else 1]


def _matmul(node: ir.Node, x: Shape, weight: Shape, y: Shape) -> int:
    return math.prod(y) * x[-1]


_RULES: dict[str, Callable[[ir.Node, Shape, Shape, Shape], int]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}
_WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3}
_LEAST_RANK = {"Gemm": 2}
