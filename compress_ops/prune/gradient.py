"""How much a loss would change, to first order, if a unit were not there.

With w_i the weights that make unit i, its importance is the mean over batches of

    (sum over w_i of w dL/dw)^2                            (Molchanov et al. 2019, arXiv:1906.10771, equation 8)

Removing the unit sets w to 0, and -w dL/dw is the first term of what L does then. No labels are asked for: a loss that
compares the outputs with the model's own has no gradient where it starts, so L is what the outputs hold,

    L = sum over outputs of mean y^2 / 2,    dL/dy = y / |y's size|,

and a unit counts by how far it moves the outputs along themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..distill.autodiff import GradientModel, build_gradients, trainable
from ..errors import PassError
from ..model import Model
from ..passes import Context
from ..runtime import Feeds, Session, open_session
from .evidence import require_data, rows_of

if TYPE_CHECKING:
    import numpy as np

    from .channels import Group, Grouping

    Array: TypeAlias = np.ndarray[Any, Any]


def first_order(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group]) -> list[Array | None]:
    """For each group the importance of its units; None where no gradient reaches what makes them."""
    require_data(ctx, "gradient")
    made = {member.weight for group in groups for member in group.members if member.role == "makes"}
    loss, name = _with_loss(model)
    reached = set(trainable(loss, of=[name]))
    weights = {w.name or "": w.const_value.numpy() for w in made if w.const_value is not None and w.name in reached}
    totals: list[Array | None] = [None] * len(groups)
    if not weights:
        return totals
    sessions: dict[Any, tuple[GradientModel, Session]] = {}
    for feeds in ctx.calibration_batches("score: gradients"):
        shapes = tuple((given, array.shape) for given, array in feeds.items())
        if shapes not in sessions:
            sessions[shapes] = _opened(loss, name, list(weights), feeds, ctx)
        _add(totals, groups, weights, _gradients(*sessions[shapes], {**weights, **feeds}))
    return totals


def _with_loss(model: Model) -> tuple[Model, str]:
    """A copy with L behind its outputs, and L's name."""
    import onnx_ir as ir

    copy = model.copy()
    terms = []
    for value in copy.graph.outputs:
        if value.dtype is not None and value.dtype.is_floating_point():
            square = _append(copy, "Mul", [value, value], {})
            terms.append(_append(copy, "ReduceMean", [square], {"keepdims": 0}))
    if not terms:
        raise PassError("score 'gradient' needs an output of floating-point numbers", hint="take another score")
    half = copy.add_weight("half", ir.tensor([0.5], dtype=terms[0].dtype or ir.DataType.FLOAT))
    loss = _append(copy, "Mul", [_append(copy, "Sum", terms, {}), half], {})
    return copy, loss.name or ""


def _append(model: Model, op_type: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    import onnx_ir as ir

    node: ir.Node = ir.node(op_type, inputs, attributes, name=model.fresh(f"loss/{op_type}"))
    node.outputs[0].name = node.name
    node.outputs[0].type = inputs[0].type
    model.graph.append(node)
    return node.outputs[0]


def _opened(
    loss: Model, name: str, weights: Sequence[str], feeds: Feeds, ctx: Context
) -> tuple[GradientModel, Session]:
    shapes = {given: array.shape for given, array in feeds.items()}
    try:
        built = build_gradients(loss, of=[name], parameters=weights, upstream=False, shapes=shapes)
    except PassError as error:
        raise PassError(f"score 'gradient': {error.message}", hint="take another score") from error
    with built.model.exported() as path:
        return built, open_session(path, ctx.providers, threads=ctx.threads)


def _gradients(built: GradientModel, session: Session, feeds: Feeds) -> dict[str, Array]:
    asked = {port.name for port in session.inputs}
    found = session.run({name: array for name, array in feeds.items() if name in asked}, list(built.gradients.values()))
    return {weight: found[output] for weight, output in built.gradients.items()}


def _add(totals: list[Array | None], groups: Sequence[Group], weights: Feeds, gradients: dict[str, Array]) -> None:
    """Count in one batch."""
    import numpy as np

    products = {name: weights[name].astype(np.float64) * gradient for name, gradient in gradients.items()}
    for number, group in enumerate(groups):
        parts = [
            rows_of(member, products[member.weight.name]).sum(axis=(1, 2))
            for member in group.members
            if member.role == "makes" and member.weight.name in products
        ]
        if parts:
            before = totals[number]
            square = np.square(np.sum(parts, axis=0))
            totals[number] = square if before is None else before + square
