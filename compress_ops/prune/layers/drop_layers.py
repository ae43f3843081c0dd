"""drop_layers: whole residual blocks go, those that the outputs miss least.

A block gives x + f(x), or g(x + f(x)) with a normalization g that has made x too; without it x goes on as it is. In
deep networks neighbouring blocks change x little, and some can be left out (Huang et al. 2016, arXiv:1603.09382; Men et
al. 2024, arXiv:2403.03853; Gromov et al. 2024, arXiv:2403.17887).

With y the original's outputs and z those without the block, over all of the data,

    outputs   sum |z - y|^2 / sum |y - mean y|^2, summed over the outputs
    block     1 - <x, y> / (|x| |y|) of the block's own input and output

The second takes one pass over the data for all blocks together, the first one for each block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...errors import PassError
from ...graph.tap import tapped
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context, Fraction, Need, Promise, Selection, ShareOf, register, selected
from ...runtime import Session, open_session
from .residual import Block, bypass, find_blocks

Unit = Literal["block", "layer"]
ScoredBy = Literal["outputs", "block"]
_HELD = 2**30  # bytes of models that are open at a time


class DropLayersOptions(Selection):
    """What drop_layers takes."""

    ratio: Annotated[
        Fraction | None, Field(description="Share of blocks to drop; a quarter where count is not given either.")
    ] = None
    count: Annotated[int | None, Field(ge=1, description="How many blocks to drop, instead of a share.")] = None
    unit: Annotated[
        Unit,
        Field(description="A layer is an attention block with the blocks that follow it up to the next attention."),
    ] = "block"
    score: Annotated[
        ScoredBy, Field(description="What decides: the error of the model's outputs, or how much the block changes.")
    ] = "outputs"
    rescore: Annotated[
        bool, Field(description="Score those that remain anew after each that went; else all are judged once.")
    ] = True


@register("drop_layers", promises=Promise.SHRINKS, needs={Need.CALIBRATION, Need.SHAPES}, share_of=ShareOf.LEFT)
def drop_layers(model: Model, ctx: Context, options: DropLayersOptions) -> Change:
    """Leave out the residual blocks that the model's outputs miss least.

    Blocks are found from the graph: an Add of a value and of what was made from it, with the normalization behind it
    where there is one; in transformers attention and feed-forward layers, in residual networks the blocks whose
    shortcut is the input itself. Blocks that change the shape, or whose inside is read elsewhere, are declined.
    Patterns name the Add of a block. One block goes at a time, and the others are judged anew. ``refit`` behind it lets
    the layers that remain make up for those that went.
    """
    if options.count is not None and options.ratio is not None:
        raise PassError("count and ratio are both given", hint="give one of them")
    change = Change()
    candidates = candidates_of(model, options.unit, options.only, options.skip, change)
    candidates = of_equal_shape(model, ctx, candidates, change)
    share = max(1, round((options.ratio or 0.25) * len(candidates)))
    wanted = min(share if options.count is None else options.count, len(candidates))
    model.keep_reference()
    scores: dict[str, float] = {}
    for number in range(wanted):
        if options.rescore or not number:
            scores = _SCORES[options.score](model, ctx, candidates)
        name = min(scores, key=scores.__getitem__)
        block = candidates[name]
        change.touch(name, f"left out, {block.size} bytes; {_TOLD[options.score]} {scores.pop(name):.2%}")
        bypass(model, block.entry, block.exit)
        left = candidates_of(model, options.unit, options.only, options.skip, Change())
        candidates = {name: block for name, block in left.items() if name in scores}
        scores = {name: scores[name] for name in candidates}
        if not candidates:
            break
    change.notes = {"blocks": f"{len(change.touched)} of {len(change.touched) + len(candidates)} left out"}
    return change


def candidates_of(model: Model, unit: Unit, only: list[str], skip: list[str], change: Change) -> dict[str, Block]:
    """What may go, by name."""
    found, declined = find_blocks(model)
    for name, reason in declined.items():
        change.decline(name, reason)
    nodes = {node.name: node for node in model.graph}
    units = [[block] for block in found.values()] if unit == "block" else list(_layers(list(found.values())))
    joined = [_joined(blocks) for blocks in units if all(selected(nodes[b.name], only, skip) for b in blocks)]
    return {block.name: block for block in joined}


def _layers(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks in a row, each beginning where the one before ends, split before each attention."""
    layers: list[list[Block]] = []
    for block in blocks:
        goes_on = bool(layers) and layers[-1][-1].exit == block.entry and not block.attention
        if goes_on and layers[-1][0].attention:
            layers[-1].append(block)
        else:
            layers.append([block])
    return layers


def _joined(blocks: Sequence[Block]) -> Block:
    first, last = blocks[0], blocks[-1]
    return Block(first.name, first.entry, last.exit, sum(block.size for block in blocks), first.attention)


def of_equal_shape(model: Model, ctx: Context, blocks: dict[str, Block], change: Change) -> dict[str, Block]:
    """Those whose input and output have one shape, seen on the first batch."""
    if not blocks:
        return blocks
    ends = _ends(model, blocks)
    taps = [ir.node("Shape", [value]) for pair in ends for value in pair]
    with tapped(model, ctx, taps) as session:
        feeds = next(iter(ctx.calibration_batches("drop_layers: shapes")), None)
        if feeds is None:
            raise PassError("the calibration data has no batches", hint="give at least one sample")
        shapes = [shape.tolist() for shape in session.run(feeds).values()]
    kept = {}
    for (name, block), before, after in zip(blocks.items(), shapes[::2], shapes[1::2], strict=True):
        if before == after:
            kept[name] = block
        else:
            change.decline(name, f"its result is {after} where {before} goes in")
    return kept


def _ends(model: Model, blocks: dict[str, Block]) -> list[tuple[ir.Value, ir.Value]]:
    values = {value.name: value for value in model.graph.inputs}
    values |= {value.name: value for node in model.graph for value in node.outputs}
    return [(values[block.entry], values[block.exit]) for block in blocks.values()]


def _by_block(model: Model, ctx: Context, blocks: dict[str, Block]) -> dict[str, float]:
    products = [pair for x, y in _ends(model, blocks) for pair in ((x, y), (x, x), (y, y))]
    sums = [ir.node("ReduceSum", [ir.node("Mul", pair).outputs[0]], {"keepdims": 0}) for pair in products]
    totals = np.zeros(len(sums))
    with tapped(model, ctx, sums) as session:
        for feeds in ctx.calibration_batches("drop_layers: blocks"):
            totals += np.array(list(session.run(feeds).values()), np.float64)
    both, before, after = totals.reshape(-1, 3).T
    return dict(zip(blocks, (1 - both / np.maximum(np.sqrt(before * after), 1e-300)).tolist(), strict=True))


def _by_outputs(model: Model, ctx: Context, blocks: dict[str, Block]) -> dict[str, float]:
    names = list(blocks)
    scores: dict[str, float] = {}
    at_a_time = max(1, _HELD // max(model.weight_bytes(), 1))
    for start in range(0, len(names), at_a_time):
        part = names[start : start + at_a_time]
        errors = _errors(model, ctx, [blocks[name] for name in part])
        scores.update(zip(part, errors, strict=True))
    return scores


@dataclass
class _Spread:
    """Sums of an output of the model: numbers, their squares, and how many."""

    energy: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, array: Array) -> None:
        self.energy, self.total = self.energy + float((array * array).sum()), self.total + float(array.sum())
        self.count += array.size

    def variance(self) -> float:
        return max(self.energy - self.total**2 / max(self.count, 1), 1e-12 * self.energy, 1e-300)


def _errors(model: Model, ctx: Context, blocks: Sequence[Block]) -> list[float]:
    """The error of the outputs without each of some blocks, in one pass over the data."""
    errors = np.zeros((len(blocks), len(model.graph.outputs)))
    spreads = [_Spread() for _ in model.graph.outputs]
    with ExitStack() as stack:
        whole = _opened(stack, model.reference or model, ctx)
        without = [_opened(stack, _without(model, block), ctx) for block in blocks]
        for feeds in ctx.calibration_batches("drop_layers: outputs"):
            expected = [array.astype(np.float64) for array in whole.run(feeds).values()]
            for spread, array in zip(spreads, expected, strict=True):
                spread.add(array)
            for error, session in zip(errors, without, strict=True):
                error += [
                    np.square(found - array).sum()
                    for found, array in zip(session.run(feeds).values(), expected, strict=True)
                ]
    if not np.isfinite([spread.energy for spread in spreads]).all():
        raise PassError("the model's outputs have NaN or infinite values on the calibration data")
    relative = errors / [spread.variance() for spread in spreads]
    return np.where(np.isfinite(relative), relative, np.inf).sum(axis=1).tolist()


def _without(model: Model, block: Block) -> Model:
    trial = model.copy()
    bypass(trial, block.entry, block.exit)
    return trial


def _opened(stack: ExitStack, model: Model, ctx: Context) -> Session:
    path = stack.enter_context(model.exported())
    return open_session(path, ctx.providers, threads=ctx.threads)


_SCORES: dict[ScoredBy, Callable[[Model, Context, dict[str, Block]], dict[str, float]]] = {
    "outputs": _by_outputs,
    "block": _by_block,
}
_TOLD: dict[ScoredBy, str] = {"outputs": "error of the outputs", "block": "angle to its input (1 - cosine)"}
