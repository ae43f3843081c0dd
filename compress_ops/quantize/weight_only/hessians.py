"""H = X^T X of the inputs of weights, from calibration data, in bounded memory.

The product is computed inside the session, so only [inner, inner] numbers come out, whatever the number of samples. A
Conv sees patches: a Conv with the identity as its kernel lays them out, one patch a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...graph.edit import attribute
from ...graph.tap import constant, tapped
from ...model import Model
from ...passes import Context
from .sites import Site, Weight

if TYPE_CHECKING:
    import onnx_ir as ir

Array = Any  # a NumPy array; dtype and shape are in the docstrings
_BYTES = 2**28  # Hessians held at a time; more of them are gathered in several passes over the data
LARGEST_PATCH = 2048  # numbers in a Conv's patch up to which its Hessian is made


@dataclass(frozen=True)
class Source:
    """What a Hessian is made of: a value of the main graph and the length of its rows, or a Conv's patches."""

    value: ir.Value
    inner: int
    conv: ir.Node | None = None

    @property
    def key(self) -> Any:
        if self.conv is None:
            return self.value
        return (self.value, self.inner, str(sorted((k, str(a.value)) for k, a in self.conv.attributes.items())))


def sources_of(model: Model, weight: Weight) -> list[Source]:
    """What the Hessian of a weight sums over; nothing where no tap reaches its inputs, or where H is diagonal."""
    found = [_source(site, weight) for site in weight.sites if site.node.graph is model.graph]
    return [source for source in found if source is not None]


def _source(site: Site, weight: Weight) -> Source | None:
    value = site.node.inputs[0]
    if value is None or site.role == "table":
        return None  # a lookup's inputs are one-hot rows: H is diagonal, and GPTQ is rounding to nearest
    if site.role == "matrix":
        return Source(value, weight.inner)
    whole = site.node.op_type == "Conv" and attribute(site.node, "group", 1) == 1
    return Source(value, weight.inner, site.node) if whole and weight.inner <= LARGEST_PATCH else None


def in_groups(weights: Sequence[Weight], sources: Mapping[ir.Value, Sequence[Source]]) -> Iterator[list[Weight]]:
    """Weights in order, so many at a time that accumulators and a batch's products take at most 256 MB (or one)."""
    group: list[Weight] = []
    held: dict[Any, int] = {}
    for weight in weights:
        more = {source.key: 8 * source.inner**2 for source in sources[weight.value]}
        if group and sum({**held, **more}.values()) > _BYTES:
            yield group
            group, held = [], {}
        group.append(weight)
        held.update(more)
    if group:
        yield group


def gather(model: Model, ctx: Context, sources: Sequence[Source]) -> dict[Any, Array]:
    """float32 Hessians by the sources' keys, summed over all batches."""
    import numpy as np

    sources = list({source.key: source for source in sources}.values())
    if not sources:
        return {}
    sums = [np.zeros((source.inner, source.inner), np.float32) for source in sources]
    with tapped(model, ctx, [_product(source) for source in sources]) as session:
        for feeds in ctx.calibration_batches("quantize_weights: Hessians"):
            for total, product in zip(sums, session.run(feeds).values(), strict=True):
                total += product
    return {source.key: total for source, total in zip(sources, sums, strict=True)}


def _product(source: Source) -> ir.Node:
    import onnx_ir as ir

    value: Any = source.value
    if value.dtype != ir.DataType.FLOAT:  # unknown, or float16, in which the sums would overflow
        value = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}).outputs[0]
    rows = value if source.conv is None else _patches(value, source.inner, source.conv)
    flat = ir.node("Reshape", [rows, constant([-1, source.inner])]).outputs[0]
    return ir.node("Gemm", [flat, flat], {"transA": 1})


def _patches(value: ir.Value, inner: int, conv: ir.Node) -> ir.Value:
    """[batch, positions..., inner]: what each output position of the Conv sees."""
    import numpy as np
    import onnx_ir as ir

    kernel = conv.inputs[1]
    assert kernel is not None and kernel.shape is not None
    sizes = [int(size) for size in kernel.shape.numpy()]
    identity = np.eye(inner, dtype=np.float32).reshape(inner, *sizes[1:])
    attributes = {name: attribute.value for name, attribute in conv.attributes.items()}
    laid: Any = ir.node("Conv", [value, constant(identity)], attributes).outputs[0]
    channels_last = [0, *range(2, len(sizes)), 1]
    turned: ir.Node = ir.node("Transpose", [laid], {"perm": channels_last})
    return turned.outputs[0]
