"""refit: what pruning left of each layer is solved anew, so that it gives what the original layer gave.

For a layer y = x W + b whose input is now x' and of whose outputs some remain, the best W is that of a linear least
squares problem, which a few sums over the data solve: no labels, no gradients, no training. Channels that were cut are
made up for as far as those that remain tell about them (He, Zhang, Sun 2017, arXiv:1707.06168). See
``equations`` for the maths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...errors import PassError
from ...graph.tap import tapped
from ...lazy import ir
from ...measure.closeness.padding import kept_positions
from ...model import Model
from ...passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register
from .equation_rows import Misfit, pieces
from .equations import Equations, best_ridge
from .solvable import Layer, find_layers, sweeps

Sums: TypeAlias = tuple[Equations, Equations]  # of the rows to fit, and of those held out
_HELD = 2**29  # bytes of sums held at a time; more layers of one depth take several passes over the data
_HOLD_OUT = 4  # of so many batches one is held out to find the ridge
_USUAL = 1e-2  # the ridge where there are too few batches to hold one out: the best or nearly so on the sample models
_EXACT = 1e-9  # of the outputs' variance: what rounding of single precision leaves


@register("refit", promises=Promise.IMPROVES, needs={Need.CALIBRATION})
def refit(
    model: Model,
    ctx: Context,
    *,
    ridge: Annotated[
        float | None,
        Field(gt=0, description="Pull to the present weights, in mean squares of the inputs; null: found per layer."),
    ] = None,
    positions: Annotated[
        int, Field(ge=1, description="Places of each sample (pixels, tokens) that a layer is fitted on, at most.")
    ] = 256,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Solve the weights that pruning left, layer by layer, to reproduce the outputs of the original layers.

    Ridge regression on calibration data, without labels, for Conv, ConvTranspose, Gemm and MatMul (attention
    projections too) with their biases. The ridge of a layer is the one that serves every fourth batch, held out, best;
    a layer that none serves stays. Where a shortcut is added, the layer makes up for what the shortcut lost. Layers are
    solved in graph order, so that each sees the inputs that it will get. Sums over rows are kept, not rows: memory does
    not grow with the data. Both models, as far as is needed, run over the data once for each depth of layers. Tokens
    that an input masks as padding do not count in a matrix. Weights that are zero stay zero; names and shapes stay. Put
    it behind the pruning step: the original is the model as it was before that.
    """
    change = Change()
    original = model.reference
    if original is None:
        hint = "put refit behind prune_channels, prune_heads or prune_weights, in the same recipe: "
        raise PassError("nothing was pruned yet", hint=f"{hint}passes: [{{prune_channels: {{ratio: 0.5}}}}, refit]")
    layers = _matched(find_layers(model, only, skip, change), original, change)
    if ctx.dry_run:
        for layer in layers:
            change.touch(layer.name, "to be solved on the data")
        return change
    passes = 0
    for sweep in sweeps(model, layers, _HELD):
        passes += 1
        label = f"refit: layers of depth {passes}"
        for layer, sums in _gathered(_Run(model, original, ctx, positions, change), sweep, label):
            _settle(model, layer, sums, ridge, change)
    change.notes = {"layers": len(change.touched), "passes over the data": passes}
    model.drop_unused()
    return change


def _matched(layers: Sequence[Layer], original: Model, change: Change) -> list[Layer]:
    known = set(_values(original))
    found = [layer for layer in layers if layer.total.name in known]
    for layer in layers:
        if layer.total.name not in known:
            change.decline(layer.name, f"the original has no value '{layer.total.name}' to reproduce")
    return found


def _values(model: Model) -> dict[str | None, ir.Value]:
    """Values of the main graph by name."""
    return {value.name: value for node in model.graph for value in node.outputs}


@dataclass(frozen=True)
class _Run:
    """What one call of the pass works with."""

    model: Model
    original: Model
    ctx: Context
    positions: int
    change: Change


@dataclass(frozen=True)
class _Batch:
    """What one batch gives inside the model, and where in its sequences is no padding."""

    seen: dict[ir.Value, Array]
    kept: Array | None


def _gathered(run: _Run, layers: Sequence[Layer], label: str) -> list[tuple[Layer, Sums]]:
    """The equations of layers that do not depend on one another, from one pass of both models over the data."""
    sums = {layer: (_empty(layer), _empty(layer)) for layer in layers}
    read = list(dict.fromkeys(value for layer in layers for value in (layer.source, layer.shortcut) if value))
    known = _values(run.original)
    wanted = [known[layer.total.name] for layer in layers]
    with _looking(run.model, run.ctx, read) as inner, _looking(run.original, run.ctx, wanted) as outer:
        for number, feeds in enumerate(run.ctx.calibration_batches(label)):
            batch = _Batch(dict(zip(read, inner.run(feeds).values(), strict=True)), kept_positions(feeds))
            for layer, target in zip(layers, outer.run(feeds).values(), strict=True):
                if layer in sums and not _add(run, sums[layer][_part(number)], layer, batch, target):
                    del sums[layer]
    return list(sums.items())


def _part(number: int) -> int:
    """1 for a batch that is held out, else 0."""
    return int(number % _HOLD_OUT == _HOLD_OUT - 1)


def _empty(layer: Layer) -> Equations:
    return Equations(layer.groups, layer.inner, layer.outputs // layer.groups, bias=layer.adder is not None)


def _add(run: _Run, sums: Equations, layer: Layer, batch: _Batch, target: Array) -> bool:
    """Count in one batch; False where the original's value does not fit the layer."""
    for axis, indices in run.model.kept.get(layer.total.name or "", {}).items():
        target = target.take(indices, axis)
    try:
        if layer.shortcut is not None:
            target = _difference(target, batch.seen[layer.shortcut])
        for x, y in pieces(layer, batch.seen[layer.source], target, run.ctx.rng, run.positions, batch.kept):
            sums.add(x, y)
    except Misfit as reason:
        run.change.decline(layer.name, str(reason))
        return False
    return True


def _difference(total: Array, shortcut: Array) -> Array:
    try:
        difference: Array = total - shortcut
    except ValueError:
        raise Misfit(f"the original gives {list(total.shape)} where {list(shortcut.shape)} is added") from None
    return difference


def _looking(model: Model, ctx: Context, values: Sequence[ir.Value]) -> Any:
    """A session that gives these values, of as much of the model as they need."""
    part = model.copy()
    known = {value.name: value for value in part.graph.inputs} | _values(part)
    found = [known[value.name] for value in values]
    part.graph.outputs[:] = [value for value in found if not value.is_graph_input()] or part.graph.outputs[:1]
    part.drop_unused()
    return tapped(part, ctx, [ir.node("Identity", [value]) for value in found])


def _settle(model: Model, layer: Layer, sums: Sums, ridge: float | None, change: Change) -> None:
    """Solve one layer, write it back, and tell what became of its error; or say why it stays."""
    fitted, held_out = sums
    weights = layer.matrices()
    if fitted.bias:
        weights = np.concatenate([weights, layer.bias_row()], axis=1)
    reason = _why_not(fitted, held_out, weights)
    if ridge is None and not reason:
        ridge = best_ridge(fitted, held_out, weights) if held_out.rows else _USUAL
    if reason or ridge is None:
        change.decline(layer.name, reason or "no weights do better on the batches held out")
        return
    fitted.include(held_out)
    solved = fitted.solve(weights, ridge)
    layer.write(model, solved[:, : layer.inner], solved[:, layer.inner :] if fitted.bias else None)
    told = f"error {fitted.error(weights):.2%} -> {fitted.error(solved):.2%} of the outputs' variance, ridge {ridge:g}"
    change.touch(layer.name, told)


def _why_not(fitted: Equations, held_out: Equations, weights: Array) -> str:
    seen: list[Any] = [fitted.energy, held_out.energy, fitted.squares, held_out.squares]
    if not fitted.rows or not all(np.isfinite(numbers).all() for numbers in seen):
        return "there is no data, or NaN or infinite values reach it"
    return "it gives what the original gives already" if fitted.error(weights) < _EXACT else ""
