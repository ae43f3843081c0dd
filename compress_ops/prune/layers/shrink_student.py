"""shrink_student: a smaller copy of a model, to be taught by the model that it came from.

Of n layers k = max(1, round(depth n)) stay, at even distances from the first to the last: those with the numbers
floor(i (n - 1) / (k - 1) + 1/2), i = 0 ... k - 1; the last where k = 1. Six of twelve are 0, 2, 4, 7, 9, 11, as in
DistilBERT (Sanh et al. 2019, arXiv:1910.01108). The last layer stays because it makes what the outputs are read from:
of a sentence encoder's six layers 0, 3, 5 began with a cosine of 0.69 to the whole one, 0, 2, 4 with 0.38. Then every
group of channels is cut to the same share, those of largest norm stay (``prune_channels``). What remains keeps the
teacher's weights, which is where its training starts.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...errors import PassError
from ...lazy import ir
from ...model import Model
from ...passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register
from ..prune_channels import prune_channels
from .drop_layers import candidates_of, of_equal_shape
from .residual import Block, bypass

Share = Annotated[float, Field(gt=0, le=1)]


@register("shrink_student", promises=Promise.SHRINKS, needs={Need.SHAPES})
def shrink_student(
    model: Model,
    ctx: Context,
    *,
    width: Annotated[
        Share | None,
        Field(description="Share of the channels that every layer keeps; null: all, or half where depth is 1."),
    ] = None,
    depth: Annotated[
        Share, Field(description="Share of the residual layers that stay, at even distances, the last among them.")
    ] = 1.0,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Make a narrower, shallower student of the model, which starts from its weights.

    No data is needed, and none is looked at to choose: ``distill`` behind it teaches the student what the model gave. A
    layer is a residual block, in transformers an attention block with the feed-forward block behind it. Where inferred
    shapes do not tell that a layer gives the shape that it takes, calibration data shows it; without that it stays.
    Patterns name the Add of a layer, and the nodes whose own output channels may be cut.
    """
    width = width or (1 if depth < 1 else 0.5)
    if width == depth == 1:
        raise PassError("width and depth are both 1: the student would be the teacher", hint="lower one of them")
    change = Change()
    model.keep_reference()
    if depth < 1:
        _shallower(model, ctx, depth, only, skip, change)
    if width < 1:
        _narrower(model, ctx, width, only, skip, change)
    return change


def _shallower(model: Model, ctx: Context, depth: float, only: list[str], skip: list[str], change: Change) -> None:
    layers = candidates_of(model, "layer", only, skip, change)
    layers = of_equal_shape(model, ctx, layers, change) if ctx.calibration else _of_known_shape(model, layers, change)
    if not layers:
        hint = "leave out depth; what was found is: " + "; ".join(f"{d.name}: {d.reason}" for d in change.declined[:3])
        raise PassError("no residual layer can be left out", hint=hint if change.declined else "leave out depth")
    stay = _evenly(len(layers), depth)
    for place, name in enumerate(layers):
        if place not in stay:
            block = candidates_of(model, "layer", only, skip, Change())[name]  # its input may be an earlier one's now
            bypass(model, block.entry, block.exit)
            change.touch(name, f"left out, {block.size} bytes")
    change.notes["layers"] = f"{len(layers)} -> {len(stay)}"


def _evenly(number: int, share: float) -> set[int]:
    """Which of a number of layers stay."""
    gaps = max(1, round(share * number)) - 1
    return {(2 * place * (number - 1) + gaps) // (2 * gaps) for place in range(gaps + 1)} if gaps else {number - 1}


def _of_known_shape(model: Model, layers: dict[str, Block], change: Change) -> dict[str, Block]:
    shapes = {value.name: value.shape for value in model.graph.inputs}
    shapes |= {value.name: value.shape for node in model.graph for value in node.outputs}
    kept = {}
    for name, block in layers.items():
        if _same(shapes[block.entry], shapes[block.exit]):
            kept[name] = block
        else:
            change.decline(name, "its shapes are not known without data: give calibration data")
    return kept


def _same(one: ir.Shape | None, other: ir.Shape | None) -> bool:
    """Free sizes count as equal to one another, whatever they are called."""
    if one is None or other is None or len(one) != len(other):
        return False
    return all(a == b or not (isinstance(a, int) or isinstance(b, int)) for a, b in zip(one, other, strict=True))


def _narrower(model: Model, ctx: Context, width: float, only: list[str], skip: list[str], change: Change) -> None:
    cut = prune_channels(model, ctx, ratio=1 - width, only=only, skip=skip)
    change.touched |= cut.touched
    change.declined += cut.declined
    change.notes |= cut.notes
