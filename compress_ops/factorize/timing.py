"""Ranks by measured time: which layer becomes what, so that the model is so many times faster and loses least.

Each layer and what could stand for it are timed side by side in sessions of their own, on the shape that it reads in
the model. With t(l, c) the time and e(l, c) the energy lost by candidate c of layer l (the layer as it is loses 0),
    minimize  sum_l e(l, c_l)   so that   sum_l t(l, c_l) <= sum_l t(l, as it is) - T (1 - 1 / speedup)
T being the time of the whole model. For a price p of a second each layer takes the candidate with the least e + p t;
the lowest price that saves enough is looked for (Shoham and Gersho 1988: all choices on the convex hull are met so),
and what it saves too much goes back, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import PassError
from ..graph.tap import tapped
from ..graph.trial_feeds import feed_for
from ..lazy import ir
from ..measure.latency import compare_latency
from ..model import Model
from ..passes import Context
from ..runtime import Session, open_session
from .layers import Layer
from .rewrite import rewrite
from .schemes import Scheme

_SECONDS = 0.4  # for all candidates of a layer, if the fewest timings take less
_WHOLE_SECONDS = 0.5
_FEWEST_PAIRS = 20
_PRICES = 60  # halvings of the interval that the price is looked for in
_AS_IT_IS = "as it is"
_IR_VERSION = 8


@dataclass(frozen=True)
class Timed:
    """What a layer could become, such as "tucker 8 12" (empty: it stays); seconds, and the share of energy lost.

    Schemes themselves are large, and not kept.
    """

    seconds: float
    lost: float
    becomes: str = ""


class LayerClock:
    """Times layers on the shapes that they read when the model runs on one feed."""

    def __init__(self, model: Model, ctx: Context, layers: Sequence[Layer]) -> None:
        self._model, self._ctx = model, ctx
        with model.exported() as path:
            self._model_session = open_session(path, ctx.providers, threads=ctx.threads)
        self.feed = feed_for(self._model_session, ctx)
        self._before = self._time_whole()
        self.shapes = self._shapes([layer for layer in layers if layer.node.graph is model.graph])

    def whole(self) -> float:
        """Seconds of the whole model: the mean of its time before the layers were timed and now."""
        return (self._before + self._time_whole()) / 2

    def speedup(self, other: Model) -> float:
        """How many times faster another model is than the whole one, both timed in turn."""
        with other.exported() as path:
            session = open_session(path, self._ctx.providers, threads=self._ctx.threads)
        sessions = {"whole": self._model_session, "other": session}
        timed = compare_latency(sessions, self.feed, seconds=_WHOLE_SECONDS, min_pairs=_FEWEST_PAIRS)
        return timed.models["other"].speedup

    def _time_whole(self) -> float:
        sessions = {"whole": self._model_session}
        timed = compare_latency(sessions, self.feed, seconds=_WHOLE_SECONDS, min_pairs=_FEWEST_PAIRS)
        return timed.models["whole"].median_seconds

    def _shapes(self, layers: Sequence[Layer]) -> dict[ir.Node, tuple[int, ...]]:
        if not layers:
            return {}
        with tapped(self._model, self._ctx, [ir.node("Shape", [layer.node.inputs[0]]) for layer in layers]) as session:
            found = session.run(self.feed).values()
        return {layer.node: tuple(shape.tolist()) for layer, shape in zip(layers, found, strict=True)}

    def times(self, layer: Layer, choices: Sequence[tuple[Scheme, int]]) -> list[Timed]:
        """The layer as it is, then those choices that are faster for sure."""
        alone = {_AS_IT_IS: self._session(layer, None)}
        alone |= {str(i): self._session(layer, choice) for i, choice in enumerate(choices)}
        x = _noise(self.shapes[layer.node], layer.tensor.dtype.numpy())
        found = compare_latency(alone, {"x": x}, seconds=_SECONDS, min_pairs=_FEWEST_PAIRS).models
        seconds = found[_AS_IT_IS].median_seconds
        faster = [
            Timed(seconds * found[str(i)].ratio, scheme.lost(level), named(scheme, level))
            for i, (scheme, level) in enumerate(choices)
            if found[str(i)].ratio_interval.high < 1
        ]
        return [Timed(seconds, 0.0), *faster]

    def _session(self, layer: Layer, choice: tuple[Scheme, int] | None) -> Session:
        model = alone(layer, self.shapes[layer.node], self._model.ir.opset_imports)
        if choice is not None:
            scheme, level = choice
            rewrite(model, Layer(next(model.nodes()), layer.tensor), scheme.name, scheme.factors(level))
            model.drop_unused()
        with model.exported() as path:
            return open_session(path, self._ctx.providers, threads=self._ctx.threads)


def _noise(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def alone(layer: Layer, shape: tuple[int, ...], opsets: Mapping[str, int]) -> Model:
    """A model of this one layer, which reads ``x`` of this shape."""
    x = ir.Value(name="x", type=ir.TensorType(layer.tensor.dtype), shape=ir.Shape(shape))
    stored = [_stored(layer, value) for value in layer.node.inputs[1:]]
    node = ir.Node("", layer.node.op_type, [x, *stored], list(layer.node.attributes.values()), name="layer")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(layer.tensor.dtype)
    weights = [value for value in stored if value is not None]
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=weights, opset_imports=dict(opsets), name="layer")
    return Model(ir.Model(graph, ir_version=_IR_VERSION))


def _stored(layer: Layer, value: ir.Value | None) -> ir.Value | None:
    """A weight or bias once more; a bias that is computed is timed as zeros."""
    if value is None:
        return None
    outputs = layer.tensor.shape.numpy()[0] if layer.is_conv else 1
    tensor = value.const_value or ir.Tensor(np.zeros(outputs, layer.tensor.dtype.numpy()), name=value.name)
    return ir.Value(
        name=value.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )


def cheapest(layers: Sequence[Sequence[Timed]], whole: float, speedup: float) -> list[Timed]:
    """What each layer becomes; raises PassError where all of it together is not fast enough."""
    wanted = whole * (1 - 1 / speedup)
    best = most_speedup(layers, whole)
    if best < speedup:
        raise PassError(
            f"a speedup of {speedup:g} is out of reach: {best:.2f} at best by the layers' own times",
            hint="give a lower speedup, or name an energy and see what it saves",
        )
    low, high = 0.0, _highest_price(layers)
    for _ in range(_PRICES):
        price = (low + high) / 2
        low, high = (low, price) if _saved(layers, _at(layers, price)) >= wanted else (price, high)
    return _relaxed(layers, _at(layers, high), wanted)


def most_speedup(layers: Sequence[Sequence[Timed]], whole: float) -> float:
    """What there is if every layer takes its fastest candidate."""
    saved = _saved(layers, [min(timed, key=lambda one: one.seconds) for timed in layers])
    return whole / (whole - saved) if saved < whole else float("inf")


def _relaxed(layers: Sequence[Sequence[Timed]], chosen: list[Timed], wanted: float) -> list[Timed]:
    """What is saved beyond the wanted goes back into energy, first where most is lost."""
    chosen = list(chosen)
    for i in sorted(range(len(layers)), key=lambda i: -chosen[i].lost):
        slowest = chosen[i].seconds + _saved(layers, chosen) - wanted
        able = [one for one in layers[i] if one.seconds <= slowest]
        chosen[i] = min(able, key=lambda one: one.lost, default=chosen[i])
    return chosen


def _saved(layers: Sequence[Sequence[Timed]], chosen: Sequence[Timed]) -> float:
    return sum(timed[0].seconds - one.seconds for timed, one in zip(layers, chosen, strict=True))


def _at(layers: Sequence[Sequence[Timed]], price: float) -> list[Timed]:
    return [min(timed, key=lambda one: one.lost + price * one.seconds) for timed in layers]


def _highest_price(layers: Sequence[Sequence[Timed]]) -> float:
    """One at which every layer takes its fastest candidate."""
    return max((price for timed in layers for price in _prices(timed)), default=0.0) * 2


def _prices(timed: Sequence[Timed]) -> Iterator[float]:
    """Energy lost for each second saved, between any candidate and the fastest."""
    fastest: Timed = min(timed, key=lambda one: one.seconds)
    for one in timed:
        if one.seconds > fastest.seconds:
            yield max(fastest.lost - one.lost, 0.0) / (one.seconds - fastest.seconds)


def named(scheme: Scheme, level: int) -> str:
    """Scheme and ranks, such as "tucker 8 12"."""
    return " ".join([scheme.name, *map(str, scheme.ranks(level))])


def distinct(choices: Iterable[tuple[Scheme, int] | None]) -> list[tuple[Scheme, int]]:
    """Each scheme and level once."""
    return list({(scheme.name, level): (scheme, level) for scheme, level in filter(None, choices)}.values())
