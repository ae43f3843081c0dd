"""smooth: move what is hard to quantize from activations into weights, without changing the function.

X W = (X diag(s)^-1) (diag(s) W) for any positive s, one factor per input channel j. SmoothQuant (Xiao et al. 2023,
arXiv:2211.10438) takes s_j = max|X_j|^alpha / max|W_j|^(1 - alpha). The division goes into the normalization before
where nothing else reads it, else into a Mul of its own; operators that read the same X share one s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...errors import PassError
from ...graph.edit import Editor, constant_of
from ...graph.layers import reasons
from ...graph.layers.scaling import scale_weight
from ...graph.layers.view import view_of_weight
from ...graph.layers.weights import Site
from ...graph.tap import constant, reduced, tapped
from ...lazy import ir
from ...model import Model
from ...passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register, selected
from ..int8.eligible import why_not
from ..numbers.formats import Asymmetric, Symmetric

Operator = Literal["MatMul", "Gemm"]
OPERATORS: list[Operator] = ["MatMul", "Gemm"]
ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ROWS = 256  # rows of each activation that alpha is searched on
_LEAST_GAIN = 0.1  # of the squared error: below that a Mul of its own is not worth its time


@register("smooth", promises=Promise.IMPROVES, needs={Need.CALIBRATION})
def smooth(
    model: Model,
    ctx: Context,
    *,
    operators: Annotated[
        list[Operator], Field(description="Operator types to smooth. Both that multiply by a matrix, by default.")
    ] = OPERATORS,
    alpha: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="How much moves into the weights. Absent: searched for each activation, since the best "
            "differs between them.",
        ),
    ] = None,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Even out activations before int8 quantization, by scaling channels of activations down and weights up.

    SmoothQuant; the function stays the same to float rounding. Without ``alpha``, each activation takes the one of
    0.4 to 0.9 with the least squared error of its operators' outputs, both sides quantized to 8 bits, on sampled rows
    of the calibration data; where that gains less than 10 % over no smoothing, the activation is left alone, as are
    activations that were not finite. Use it right before quantize_dynamic or quantize_static.
    """
    change = Change()
    groups = [*_groups(model, operators, only, skip, change)]
    samples = _sample(model, ctx, groups)
    chosen: list[float] = []
    for group, sample in ctx.progress(list(zip(groups, samples, strict=True)), "smooth"):
        best = _best_alpha(group, sample, ALPHAS if alpha is None else (alpha,), always=alpha is not None)
        if isinstance(best, str):
            change.decline(group.value.name, best)
            continue
        chosen.append(best)
        factors = _factors(sample.largest, group.largest_weights(), best)
        for node in group.nodes:
            scale_weight(node, inputs=factors)
            change.touch(node.name, f"alpha {best}")
        if not _into_normalization(group, factors):
            _by_multiplication(model, group, factors)
    change.notes = _notes(chosen)
    return change


def _notes(alphas: Sequence[float]) -> dict[str, Any]:
    if not alphas:
        return {}
    low, high = min(alphas), max(alphas)
    return {"activations": len(alphas), "alpha": f"{low}" if low == high else f"{low} to {high}"}


@dataclass(frozen=True)
class _Group:
    """Operators that read one activation, with their weights as [input channels, output channels]."""

    value: ir.Value
    nodes: list[ir.Node]

    def weights(self) -> list[Array]:
        stored = [(view_of_weight(node), constant_of(node.inputs[1])) for node in self.nodes]
        return [view.matrix(tensor.numpy()).T for view, tensor in stored if tensor is not None]

    def largest_weights(self) -> Array:
        """max |W_j| over the outputs of all operators, for each input channel j."""
        return np.max([np.abs(weight).max(axis=1) for weight in self.weights()], axis=0)


@dataclass(frozen=True)
class _Sample:
    """max |X_j| over all data for each channel, NaN where X had NaN anywhere, and some rows of X."""

    largest: Array
    rows: Array


def _groups(
    model: Model, operators: Sequence[str], only: list[str], skip: list[str], change: Change
) -> Iterator[_Group]:
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in model.nodes():
        if node.op_type in operators and selected(node, only, skip):
            site = Site(node, 1, node.inputs[1])
            seen = (reasons.outside_branches(model.graph), reasons.of_axes(2), reasons.alone)
            if reason := why_not(node):
                change.decline(node.name, reason)
            elif reason := reasons.why_not(site, seen):
                change.decline(node.name, f"{node.op_type}: {reason}")
            elif node.inputs[0] is not None:
                found.setdefault(node.inputs[0], []).append(node)
    yield from (_Group(value, nodes) for value, nodes in found.items())


def _sample(model: Model, ctx: Context, groups: Sequence[_Group]) -> list[_Sample]:
    """One pass over the data; of each batch the session gives channel maxima and a few rows only."""
    if not groups:
        return []
    largest: list[Any] = [0.0] * len(groups)
    rows: list[list[Array]] = [[] for _ in groups]
    with tapped(model, ctx, [tap for group in groups for tap in _taps(model, group)]) as session:
        for feeds in ctx.calibration_batches("smooth: channel maxima"):
            seen = list(session.run(feeds).values())
            for i, (maxima, total, batch) in enumerate(zip(seen[::3], seen[1::3], seen[2::3], strict=True)):
                largest[i] = np.maximum(largest[i], np.where(np.isnan(total), np.nan, maxima))  # this keeps NaN
                rows[i].append(batch)
    if not rows[0]:
        raise PassError("the calibration data has no batches", hint="give at least one sample")
    return [_Sample(top, _thin(np.concatenate(batches))) for top, batches in zip(largest, rows, strict=True)]


def _thin(rows: Array) -> Array:
    step = max(1, -(-rows.shape[0] // _ROWS))
    return rows[::step]


def _taps(model: Model, group: _Group) -> list[ir.Node]:
    """max |X_j| over all rows, a sum that shows NaN (the maximum does not), and every 16th row, of X as a matrix."""
    channels = group.weights()[0].shape[0]
    flat = ir.node("Reshape", [group.value, constant(np.array([-1, channels], np.int64))])
    size = ir.node("Abs", [flat.outputs[0]])
    maxima = reduced(model, "ReduceMax", size.outputs[0], [0])
    total = ir.node("ReduceL1", [flat.outputs[0]], {"keepdims": 0})
    start, end, step = (constant(np.array([i], np.int64)) for i in (0, np.iinfo(np.int64).max, 16))
    some = ir.node("Slice", [flat.outputs[0], start, end, constant(np.array([0], np.int64)), step])
    return [maxima, total, some]


def _best_alpha(group: _Group, sample: _Sample, alphas: Sequence[float], *, always: bool) -> float | str:
    """The alpha with the least error, or why the activation is left alone."""
    if not sample.rows.size:
        return "the activation is empty throughout the calibration data"
    if not np.isfinite(sample.largest).all():
        return "the activation is not finite on the calibration data"
    weights, tops = group.weights(), group.largest_weights()
    errors = {alpha: _error(sample.rows, weights, _factors(sample.largest, tops, alpha)) for alpha in alphas}
    best = min(errors, key=errors.__getitem__)
    plain = _error(sample.rows, weights, np.ones_like(tops))
    gains = always or errors[best] < (1 - _LEAST_GAIN) * plain
    return best if gains else "no alpha gains 10 % of the quantization error"


def _factors(activations: Array, weights: Array, alpha: float) -> Array:
    """s_j, float32; 1 where the channel is never used or has no weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = activations**alpha / weights ** (1 - alpha)
    usable = np.isfinite(factors) & (activations > 0) & (weights > 0)
    return np.where(usable, np.clip(factors, 1e-5, 1e5), 1.0).astype(np.float32)


def _error(rows: Array, weights: Sequence[Array], factors: Array) -> float:
    """Sum of squared errors of X W over the operators, with X / s and s W quantized to 8 bits."""
    scaled = rows / factors
    form, limits = Asymmetric.of(float(scaled.min()), float(scaled.max()), "uint8"), Symmetric()
    codes = np.clip(np.rint(scaled / form.scale) + form.zero_point, 0, 255) - form.zero_point
    total = 0.0
    for weight in weights:
        heavier = weight * factors[:, None]
        scale = limits.scale(heavier, (0,))
        product = (codes * form.scale) @ (limits.codes(heavier, scale) * scale)
        total += float(np.square(product - rows @ weight).sum())
    return total


def _into_normalization(group: _Group, factors: Array) -> bool:
    """Divide scale and bias of the LayerNormalization that makes X, where only the group reads X and them."""
    node = group.value.producer()
    readers = {user for user, _ in group.value.uses()}
    if node is None or node.op_type != "LayerNormalization" or readers != set(group.nodes):
        return False
    affine = [value for value in node.inputs[1:3] if value is not None]
    if any(constant_of(value) is None or len(value.uses()) > 1 for value in affine) or group.value.is_graph_output():
        return False
    for value in affine:
        assert value.const_value is not None
        value.const_value = ir.Tensor(value.const_value.numpy() / factors, name=value.name)
    return True


def _by_multiplication(model: Model, group: _Group, factors: Array) -> None:
    inverse = model.add_weight(f"{group.value.name}_smooth", ir.Tensor(1 / factors))
    edit = Editor(model, group.nodes[0], group.value.name)
    (smoothed,) = edit.ops("Mul", group.value, inverse, outputs=1, label="smooth")
    smoothed.name = model.fresh(f"{group.value.name}_smoothed")
    for reader in group.nodes:
        reader.replace_input_with(0, smoothed)
