"""keep_float: the layers whose quantization costs most go back to float, as few as reach the accuracy asked for.

Layers are ranked by what each adds to the noise (``noise.py``), which takes one pass. Where the first is not enough,
the worst are returned to float one at a time, and what that gives is measured at the model's outputs: with c the
closeness of the worst output (``measure/closeness/``), a layer is worth c(with it in float) - c(without). In that
order as many are returned as the limit needs, found by doubling and bisection, each time measured on all of the data
(greedy selection: ranks do not change meanwhile). Where as many of the noisiest as may return do not reach the limit,
none are tried. Noise is no judge of more than one: on a detector the 14th layer by noise mends 58 % of what is lost,
and the first 12 together 35 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from ...errors import PassError
from ...measure.budget import parse_drop
from ...measure.latency import ModelLatency
from ...model import Model
from ...passes import Change, Context, Need, Promise, Selection, register
from .counterparts import Counterpart, unquantized_of
from .float_trials import Limit, Trial
from .noise import noise_added
from .restore import Restorer, quantized_layers

_TRIED = 16  # layers that are returned one at a time to see what that gives; the others follow in order of noise
_SECONDS = 1.0  # to time the model


def _readable(value: str | float) -> str | float:
    parse_drop(value)
    return value


def _needs(options: object) -> set[Need]:
    """Layers that are named need no data."""
    return {Need.CALIBRATION} if getattr(options, "layers", None) is None else set()


class KeepFloatOptions(Selection):
    """What keep_float takes."""

    max_drop: Annotated[
        Annotated[str | float, AfterValidator(_readable)] | None,
        Field(
            description="How much worse the first metric may get: a share of the float model's (2%) or a difference "
            "(0.02). Absent: 1%, the usual tolerance for int8, where the recipe has metrics and min_cosine is not "
            "given."
        ),
    ] = None
    min_cosine: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Least closeness of each output to the float model's on calibration data: the cosine, and "
            "stricter where that is blind. Absent: 0.995, what onnxpress quantize asks for, where neither max_drop nor "
            "a metric is given.",
        ),
    ] = None
    most: Annotated[
        int | None,
        Field(
            ge=1,
            description="Layers that may return at most; where the limit needs more, none do. Absent: all may, since "
            "the accuracy is what was asked for.",
        ),
    ] = None
    layers: Annotated[
        list[str] | None,
        Field(
            description="Names of the layers to return. Absent: chosen by measuring; the resolved recipe names them, "
            "so that a replay measures nothing."
        ),
    ] = None


@register("keep_float", promises=Promise.IMPROVES, needs={Need.UNQUANTIZED}, asks=_needs)
def keep_float(model: Model, ctx: Context, options: KeepFloatOptions) -> Change:
    """Return quantized layers to float, worst first, until the accuracy holds; what that costs in speed is told.

    Put it behind the steps that quantize, and learn_rounding and correct_bias behind it. The model before these steps
    is what is compared with, and where the float weights come from. Where the worst layer by noise over signal is not
    enough, the worst are returned one at a time to measure what each gives at the outputs; in that order as few are
    returned as the limit needs. That takes a session of onnxruntime for each of them, at most 16. Where the limit
    holds already, nothing changes: a fault, unless allow_unchanged. Products of stored weights in QDQ, dynamic and
    QOperator form are known.
    """
    original, change = unquantized_of(ctx, "keep_float"), Change()
    found = quantized_layers(model, original, options.only, options.skip, change)
    if options.layers is None:
        limit = Limit.of(ctx, options.max_drop, options.min_cosine)
        with original.exported() as path:
            names, told = _chosen(Trial(original, path, model, ctx, limit), found, options.most, change)
    else:
        names, told = _named(found, options.layers), {}
    change.chosen["layers"] = names
    by_name = {layer.name: layer for layer in found}
    for name in names:
        change.touch(name, f"{by_name[name].exact.op_type} in float{told.get(name, '')}")
    Restorer(model).restore([by_name[name] for name in names])
    return change


def _named(found: Sequence[Counterpart], layers: Sequence[str]) -> list[str]:
    unknown = sorted({*layers} - {layer.name for layer in found})
    if unknown:
        hint = "layers that are: " + (", ".join(layer.name for layer in found[:10]) or "none")
        raise PassError(f"'{unknown[0]}' is no quantized layer of this model", hint=hint)
    return list(dict.fromkeys(layers))


def _chosen(
    trial: Trial, found: Sequence[Counterpart], most: int | None, change: Change
) -> tuple[list[str], dict[str, str]]:
    """Names of the layers to return, in order, and what some give, as text; what all of them cost is noted."""
    noise = noise_added(trial.original, trial.model, trial.ctx, [layer.exact for layer in found])
    noisy = sorted(noise, key=noise.__getitem__, reverse=True)
    if trial.ctx.dry_run:
        return noisy[:1], dict.fromkeys(noisy, ", or others or more, as measured in a run")
    unmet = trial.unmet([])
    if not unmet:
        change.decline("all layers", "the limit holds without any of them in float")
        return [], {}
    allowed, told = min(most or len(noisy), len(noisy)), dict[str, str]()
    names = _first(trial, noisy, 1)  # fewer there are not
    if not names and not trial.unmet(noisy[:allowed]):
        order, told = _ranked(trial, noisy)
        names = _first(trial, order, allowed) or noisy[:allowed]
    if not names:
        which = "all layers" if allowed == len(noisy) else f"{allowed} layers"
        change.decline(which, f"in float they do not reach the limit either ({unmet} with none of them)")
        return [], {}
    change.notes["time"] = _told(trial.time([], names, _SECONDS))
    return names, told


def _first(trial: Trial, order: Sequence[str], most: int) -> list[str]:
    """As few of the first as the limit needs; none where ``most`` do not reach it."""
    return list(order[: _fewest(lambda n: not trial.unmet(order[:n]), most) or 0])


def _ranked(trial: Trial, order: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """All layers, those first that give most; and of the worst by noise what they give, as text.

    Those that were not tried stand before those that give nothing.
    """
    before = trial.closeness([])
    tried = trial.ctx.progress(order[:_TRIED], "keep_float: layers")
    alone = {name: trial.closeness([name]) - before for name in tried}
    ranks = sorted(alone, key=alone.__getitem__, reverse=True)
    helping = [name for name in ranks if alone[name] > 0]
    told = {name: f", which alone mends {gain / (1 - before):.0%} of 1 - closeness" for name, gain in alone.items()}
    return [*helping, *order[_TRIED:], *ranks[len(helping) :]], told if before < 1 else {}


def _fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """The smallest n from 1 on that holds, by doubling and bisection; None where ``most`` does not."""
    fails, tried = 0, min(1, most)
    while not holds(tried):
        fails, tried = tried, min(2 * tried, most)
        if fails == tried:
            return None
    while tried - fails > 1:
        middle = (fails + tried) // 2
        fails, tried = (fails, middle) if holds(middle) else (middle, tried)
    return tried


def _told(latency: ModelLatency | str) -> str:
    """How much longer the model takes with the layers in float."""
    if isinstance(latency, str):
        return latency
    low, high = latency.ratio_interval.low, latency.ratio_interval.high
    return f"{latency.ratio:.2f}x [{low:.2f}, {high:.2f}]"
