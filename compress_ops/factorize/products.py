"""X^T X of what layers read, from calibration data, in memory that does not grow with the number of samples.

The session computes the product of each batch, so [inner, inner] numbers come out. A Conv sees patches: a Conv with the
identity as its kernel lays them out, one a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..graph.tap import constant, tapped
from ..model import Model
from ..passes import Change, Context
from .layers import Layer

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    Array = np.ndarray[Any, Any]

_BYTES = 2**28  # of products held at a time; more of them take several passes over the data
LARGEST = 4096  # numbers of a row or patch up to which its product is made
_DAMPING = 0.01  # of the mean diagonal, as in GPTQ (arXiv:2210.17323): what the data never showed still counts a little


def with_roots(
    model: Model, ctx: Context, layers: Sequence[Layer], change: Change, label: str
) -> Iterator[tuple[Layer, Array | None]]:
    """Each layer with R, R R^T = X^T X; None where no data is given or reaches it. What reads NaN is declined."""
    import numpy as np

    for group in _in_groups(model, layers):
        products = _gather(model, ctx, group, label) if ctx.calibration is not None else {}
        for layer in ctx.progress(group, label):
            product = products.get(layer.node)
            if product is not None and not np.isfinite(product).all():
                change.decline(layer.node.name, f"{layer.node.op_type}: it reads NaN or infinite values")
            else:
                yield layer, root_of(product) if product is not None else None


def _in_groups(model: Model, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers in order, so many at a time that their products fit; those that read the same share one."""
    group: list[Layer] = []
    held: dict[Any, int] = {}
    for layer in layers:
        more = {_key(layer): 8 * layer.inner**2} if can_be_tapped(model, layer) else {}
        if group and sum({**held, **more}.values()) > _BYTES:
            yield group
            group, held = [], {}
        group.append(layer)
        held.update(more)
    if group:
        yield group


def can_be_tapped(model: Model, layer: Layer) -> bool:
    """Taps reach the main graph only, and very long rows would take too much memory."""
    return layer.node.graph is model.graph and layer.inner <= LARGEST


def _gather(model: Model, ctx: Context, layers: Sequence[Layer], label: str) -> dict[ir.Node, Array]:
    """X^T X by node, float64, summed over all batches."""
    import numpy as np

    sources = {_key(layer): layer for layer in layers if can_be_tapped(model, layer)}
    if not sources:
        return {}
    sums = {key: np.zeros((layer.inner, layer.inner)) for key, layer in sources.items()}
    with tapped(model, ctx, [_product(layer) for layer in sources.values()]) as session:
        for feeds in ctx.calibration_batches(f"{label}: what layers read"):
            for total, product in zip(sums.values(), session.run(feeds).values(), strict=True):
                total += product
    return {layer.node: sums[_key(layer)] for layer in layers if _key(layer) in sums}


def root_of(product: Array) -> Array | None:
    """R with R R^T = X^T X, scaled to a mean diagonal of 1 and damped; None where nothing but zeros was read."""
    import numpy as np

    mean = np.trace(product) / len(product)
    if mean == 0:
        return None
    root: Array = np.linalg.cholesky(product / mean + _DAMPING * np.eye(len(product)))
    return root


def _key(layer: Layer) -> Any:
    """Equal for layers that read the same rows."""
    attributes = sorted((name, str(a.value)) for name, a in layer.node.attributes.items()) if layer.is_conv else None
    return layer.node.inputs[0], layer.inner, str(attributes)


def _product(layer: Layer) -> ir.Node:
    import onnx_ir as ir

    value: Any = layer.node.inputs[0]
    if value.dtype != ir.DataType.FLOAT:  # unknown, or float16, in which the sums would overflow
        value = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}).outputs[0]
    rows = _patches(value, layer) if layer.is_conv else value
    flat = ir.node("Reshape", [rows, constant([-1, layer.inner])]).outputs[0]
    turned = ir.node("Transpose", [flat], {"perm": [1, 0]}).outputs[0]
    return ir.node("MatMul", [turned, flat])


def _patches(value: ir.Value, layer: Layer) -> ir.Value:
    """[batch, positions..., inner]: what each output position of the Conv sees."""
    import numpy as np
    import onnx_ir as ir

    sizes = layer.tensor.shape.numpy()
    identity = np.eye(layer.inner, dtype=np.float32).reshape(layer.inner, *sizes[1:])
    attributes = {name: attribute.value for name, attribute in layer.node.attributes.items()}
    laid: Any = ir.node("Conv", [value, constant(identity)], attributes).outputs[0]
    turned: ir.Node = ir.node("Transpose", [laid], {"perm": [0, *range(2, len(sizes)), 1]})
    return turned.outputs[0]
