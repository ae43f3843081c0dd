"""low_rank: a weight becomes a product of smaller ones: X W ~ (X A) B, and for a Conv two or three convolutions.

The best A B of rank r keeps the r largest singular values of W, or of R^T W where R R^T = X^T X of calibration data:
then |X W - X A B| is the least there is. See schemes.py for what a Conv can become.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..arrays import Array
from ..errors import PassError
from ..model import Model
from ..passes import ALL, NONE, Change, Context, Fraction, Need, Promise, Selection, register
from .layers import Layer, find_layers
from .products import with_roots
from .rewrite import rewrite
from .schemes import Cost, Kernel, Product, Scheme, schemes_of
from .timing import LayerClock, Timed, cheapest, distinct, most_speedup, named

Operator = Literal["MatMul", "Gemm", "Conv"]
OPERATORS: list[Operator] = ["MatMul", "Gemm", "Conv"]
_ENERGY = 0.999  # each layer's output off by 3 %; of 0.99, 10 % a layer, a small transformer lost 40 % of perplexity
_GRID = [1 - 10 ** (-exponent / 10) for exponent in range(1, 41)]  # energies that a ratio is looked for in
_ROUNDING = 1e-9  # so that full rank keeps an energy next to 1
_LEAST_GAIN = 0.1  # of parameters and of work: another node costs time that multiply-accumulates do not tell
_OVERHEAD = 300  # bytes that the other nodes take in the file, about
_TIMED = (0.9999, 0.999, 0.997, 0.99, 0.97, 0.9, 0.7)  # energies whose ranks are timed for a speedup
_TRIALS = 4  # of whole models made and timed for a speedup
_CLOSE = 0.98  # of the speedup asked for will do: timings are not known better
WITHOUT: dict[str, str] = {}


class LowRankOptions(Selection):
    """What low_rank takes."""

    energy: Annotated[
        Fraction | None,
        Field(description="Share of each layer's energy (squared singular values) to keep; 0.999 without a ratio."),
    ] = None
    ratio: Annotated[
        Fraction | None,
        Field(description="Share of the layers' parameters, all together, to end at or below: it sets the energy."),
    ] = None
    speedup: Annotated[
        float | None,
        Field(gt=1, description="How many times faster the model shall be, by the measured times of its layers."),
    ] = None
    ranks: Annotated[
        dict[str, str],
        Field(description='What layers become, by name, such as "tucker 8 12": what a speedup has come to.'),
    ] = WITHOUT
    operators: Annotated[list[Operator], Field(description="Operator types to factorize.")] = OPERATORS


@register("low_rank", promises=Promise.SHRINKS, needs={Need.SHAPES})
def low_rank(model: Model, ctx: Context, options: LowRankOptions) -> Change:
    """Replace weights by products of smaller ones (low rank), where that is smaller and less work.

    A matrix W [inputs, outputs] becomes A [inputs, rank] and B [rank, outputs] by its singular values. A Conv becomes
    the cheapest of: the same kernel with fewer outputs and 1x1; a column and a row; 1x1, a smaller core and 1x1
    (Tucker-2). With calibration data the error of the layer's output is minimized instead of that of the weight
    (SVD-LLM, arXiv:2403.07378), which keeps far more at the same rank. The default energy of 0.999 lets each layer's
    output be off by 3 % (root mean square); errors add up over layers. A ratio takes the largest energy, the same for
    all layers, that is small enough. A table that is tied to an output layer is factorized for both and stays stored
    once. Layers where that would not save 10 % of both parameters and multiply-accumulates are declined. A speedup is
    reached by measuring: each layer is timed as it is and at several ranks, those that are not faster are out, and of
    the rest the ranks are taken that lose the least energy. What it comes to is told as ``ranks``, with which nothing
    is timed.
    """
    if sum(target is not None for target in (options.energy, options.ratio, options.speedup)) > 1:
        raise PassError("give one of energy, ratio and speedup", hint="for example low_rank: {energy: 0.99}")
    change = Change()
    layers = list(find_layers(model, options.operators, options.only, options.skip, change))
    if options.speedup is not None or options.ranks:
        wanted = options.ranks or _ranks_for(model, ctx, layers, options.speedup or 1.0, change)
        plans = list(_named_plans(model, ctx, layers, wanted, change))
        change.chosen = {"ranks": wanted}
    else:
        kept = options.energy or (_ENERGY if options.ratio is None else _energy_for(model, ctx, layers, options.ratio))
        plans = list(_plans(model, ctx, layers, kept, change))
        change.notes["energy"] = round(kept, 6)
        change.chosen = {"energy": kept} if options.ratio is None else {}
    for plan in plans:
        change.touch(plan.layer.node.name, plan.told())
        rewrite(model, plan.layer, plan.scheme, plan.factors)
    model.drop_unused()
    change.notes |= _notes(plans)
    return change


@dataclass(frozen=True)
class _Plan:
    """What a layer becomes."""

    layer: Layer
    scheme: str
    ranks: tuple[int, ...]
    factors: tuple[Array, ...]
    parameters: int
    error: float  # root mean square, of the output (or the weight) relative to its size

    @classmethod
    def of(cls, layer: Layer, scheme: Scheme, level: int) -> _Plan:
        return cls(
            layer,
            scheme.name,
            scheme.ranks(level),
            tuple(factor.astype(layer.tensor.dtype.numpy()) for factor in scheme.factors(level)),
            scheme.cost(level).parameters,
            math.sqrt(scheme.lost(level)),
        )

    def told(self) -> str:
        ranks = " and ".join(map(str, self.ranks))
        size = f"{self.parameters} of {self.layer.tensor.size} parameters"
        return f"{self.scheme}, rank {ranks}: {size}, error {self.error:.2%}"


def _candidates(
    model: Model, ctx: Context, layers: Sequence[Layer], change: Change
) -> Iterator[tuple[Layer, list[Scheme]]]:
    """Each layer with the schemes there are for it, one after another: they are large."""
    for layer, root in with_roots(model, ctx, layers, change, "low_rank"):
        yield layer, _schemes(layer, root)


def _schemes(layer: Layer, root: Array | None) -> list[Scheme]:
    weight = layer.weight()
    return schemes_of(Kernel(weight, layer.reading(), root)) if layer.is_conv else [Product(weight, root)]


def _energy_for(model: Model, ctx: Context, layers: Sequence[Layer], ratio: float) -> float:
    """The largest energy of the grid with which all layers together keep at most this share of their parameters."""
    total, sizes = 0, np.zeros(len(_GRID), np.int64)
    for layer, schemes in _candidates(model, ctx, layers, Change()):
        total += layer.tensor.size
        for i, energy in enumerate(_GRID):
            best = _best(layer, schemes, energy)
            sizes[i] += best[0].cost(best[1]).parameters if best else layer.tensor.size
    fitting = [energy for energy, size in zip(_GRID, sizes, strict=True) if size <= ratio * total]
    if not fitting and total:
        raise PassError(
            f"a ratio of {ratio:g} cannot be reached: {int(sizes.min())} of {total} parameters stay at best",
            hint="give a larger ratio, or factorize fewer layers with only or skip",
        )
    return max(fitting, default=_ENERGY)


def _plans(model: Model, ctx: Context, layers: Sequence[Layer], energy: float, change: Change) -> Iterator[_Plan]:
    """One for each layer that gains; nothing is changed meanwhile, so that all see what the original reads."""
    for layer, schemes in _candidates(model, ctx, layers, change):
        best = _best(layer, schemes, energy)
        if best:
            yield _Plan.of(layer, *best)
        else:
            change.decline(layer.node.name, f"{layer.node.op_type}: {_why_not(schemes[0], energy)}")


def _ranks_for(model: Model, ctx: Context, layers: Sequence[Layer], speedup: float, change: Change) -> dict[str, str]:
    """Scheme and ranks by the name of each layer that is to change, so that the model is so many times faster.

    The layers' own times do not quite add up: the whole is made and timed, and if it is slower, more is aimed at.
    """
    clock = LayerClock(model, ctx, layers)
    timed = _timed(model, ctx, layers, clock, change)
    whole, aim, reached, chosen = clock.whole(), speedup, 0.0, dict[str, Timed]()
    for _ in range(_TRIALS):
        chosen = dict(zip(timed, cheapest(list(timed.values()), whole, aim), strict=True))
        reached = clock.speedup(_factorized(model, ctx, _ranks(chosen)))
        if reached >= _CLOSE * speedup:
            break
        aim = min(aim * speedup / reached, most_speedup(list(timed.values()), whole))
    for name, one in chosen.items():
        if not one.becomes:
            slower = len(timed[name]) == 1
            change.decline(name, "no rank that was timed is faster" if slower else "others save the time at less loss")
    change.notes["speedup"] = round(reached, 2)
    return _ranks(chosen)


def _ranks(chosen: dict[str, Timed]) -> dict[str, str]:
    return {name: one.becomes for name, one in chosen.items() if one.becomes}


def _timed(
    model: Model, ctx: Context, layers: Sequence[Layer], clock: LayerClock, change: Change
) -> dict[str, list[Timed]]:
    """What each layer could become, by its name."""
    timed: dict[str, list[Timed]] = {}
    for layer, schemes in _candidates(model, ctx, layers, change):
        choices = distinct(_best(layer, schemes, energy) for energy in _TIMED)
        if layer.node not in clock.shapes:
            change.decline(layer.node.name, f"{layer.node.op_type}: it stands in a branch, where it cannot be timed")
        elif layer.lookups:
            change.decline(
                layer.node.name, f"{layer.node.op_type}: its table is tied, and is not timed; ratio takes it"
            )
        elif not choices:
            change.decline(layer.node.name, f"{layer.node.op_type}: {_why_not(schemes[0], _TIMED[-1])}")
        else:
            timed[layer.node.name or "?"] = clock.times(layer, choices)
    return timed


def _factorized(model: Model, ctx: Context, ranks: dict[str, str]) -> Model:
    """A copy in which these layers have become what is said."""
    twin = model.copy()
    layers = list(find_layers(twin, OPERATORS, ALL, NONE, Change()))
    for plan in list(_named_plans(twin, ctx, layers, ranks, Change())):
        rewrite(twin, plan.layer, plan.scheme, plan.factors)
    twin.drop_unused()
    return twin


def _named_plans(
    model: Model, ctx: Context, layers: Sequence[Layer], ranks: dict[str, str], change: Change
) -> Iterator[_Plan]:
    """One for each layer that is named; a name that no layer has is a fault."""
    wanted = [layer for layer in layers if layer.node.name in ranks]
    missing = set(ranks) - {layer.node.name for layer in wanted}
    if missing:
        raise PassError(f"ranks: no layer that can be factorized is called '{min(missing)}'")
    for layer, schemes in _candidates(model, ctx, wanted, change):
        text = ranks[layer.node.name or ""]
        found = ((scheme, level) for scheme in schemes for level in _levels(scheme) if named(scheme, level) == text)
        choice = next(found, None)
        if choice is None:
            raise PassError(f"ranks: {layer.node.name} cannot become '{text}'", hint=_such_as(schemes))
        yield _Plan.of(layer, *choice)


def _such_as(schemes: Sequence[Scheme]) -> str:
    return f"such as {', '.join(named(scheme, max(1, scheme.levels // 4)) for scheme in schemes)}"


def _best(layer: Layer, schemes: Sequence[Scheme], energy: float) -> tuple[Scheme, int] | None:
    """The scheme and level that keep the energy with the least work; None where none saves enough.

    Work and energy grow with the level. What is too dear is never measured: the dearest level that still pays is
    looked at first, and lower ones only where that keeps the energy.
    """
    best, limit = None, _most(layer)
    for scheme in schemes:
        paying = bisect_left(_levels(scheme), True, key=lambda level: not scheme.cost(level).below(limit))
        if paying and 1 - scheme.lost(paying) >= energy * (1 - _ROUNDING):
            level = _least_level(scheme, energy, paying)
            best, limit = (scheme, level), Cost(limit.parameters, scheme.cost(level).operations)
    return best


def _most(layer: Layer) -> Cost:
    """What a replacement must stay below."""
    size = layer.tensor.size
    most = (1 - _LEAST_GAIN) * size
    return Cost(int(min(most, size - _OVERHEAD // layer.tensor.dtype.itemsize)), most)


def _levels(scheme: Scheme) -> range:
    return range(1, scheme.levels + 1)


def _least_level(scheme: Scheme, energy: float, highest: int) -> int:
    """The least level up to the highest that keeps the energy."""
    least = energy * (1 - _ROUNDING)
    return min(bisect_left(_levels(scheme)[:highest], least, key=lambda level: 1 - scheme.lost(level)) + 1, highest)


def _why_not(scheme: Scheme, energy: float) -> str:
    level = _least_level(scheme, energy, scheme.levels)
    return f"an energy of {energy:.4g} takes rank {level} of {scheme.levels}, which saves less than 10 %"


def _notes(plans: Sequence[_Plan]) -> dict[str, Any]:
    return {
        "parameters_before": sum(plan.layer.tensor.size for plan in plans),
        "parameters_after": sum(plan.parameters for plan in plans),
        "worst_error": round(max((plan.error for plan in plans), default=0.0), 4),
    }
