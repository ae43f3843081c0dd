"""H = X^T X of the inputs of weights, from calibration data, in bounded memory.

The product is computed inside the session, so only [inner, inner] numbers come out, whatever the number of samples. A
Conv sees patches: a Conv with the identity as its kernel lays them out, one patch a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...graph.tap import constant, tapped
from ...model import Model
from ...passes import Context

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


def in_groups(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Distinct sources, so many at a time that accumulators and a batch's products stay within 256 MB (or one)."""
    distinct = {source.key: source for source in sources}
    group: list[Source] = []
    room = _BYTES
    for source in distinct.values():
        size = 8 * source.inner**2
        if group and size > room:
            yield group
            group, room = [], _BYTES
        group.append(source)
        room -= size
    if group:
        yield group


def gather(model: Model, ctx: Context, sources: Sequence[Source]) -> dict[Any, Array]:
    """float32 Hessians by the sources' keys, summed over all batches."""
    import numpy as np

    sums = [np.zeros((source.inner, source.inner), np.float32) for source in sources]
    with tapped(model, ctx, [_product(source) for source in sources]) as session:
        for feeds in ctx.calibration_batches("quantize_weights: Hessians"):
            for total, product in zip(sums, session.run(feeds).values(), strict=True):
                total += product
    return {source.key: total for source, total in zip(sources, sums, strict=True)}


def _product(source: Source) -> ir.Node:
    import onnx_ir as ir

    rows = source.value if source.conv is None else _patches(source, source.conv)
    if source.value.dtype != ir.DataType.FLOAT:
        rows = ir.node("Cast", [rows], {"to": ir.DataType.FLOAT.value}).outputs[0]
    flat = ir.node("Reshape", [rows, constant([-1, source.inner])]).outputs[0]
    return ir.node("Gemm", [flat, flat], {"transA": 1})


def _patches(source: Source, conv: ir.Node) -> ir.Value:
    """[batch, positions..., inner]: what each output position of the Conv sees."""
    import numpy as np
    import onnx_ir as ir

    kernel = conv.inputs[1]
    assert kernel is not None and kernel.shape is not None
    sizes = [int(size) for size in kernel.shape.numpy()]
    identity = np.eye(source.inner, dtype=np.float32).reshape(source.inner, *sizes[1:])
    attributes = {name: attribute.value for name, attribute in conv.attributes.items()}
    laid: Any = ir.node("Conv", [source.value, constant(identity)], attributes).outputs[0]
    channels_last = [0, *range(2, len(sizes)), 1]
    turned: ir.Node = ir.node("Transpose", [laid], {"perm": channels_last})
    return turned.outputs[0]

