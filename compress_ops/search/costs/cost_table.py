"""The table of costs: of each layer in each form its bytes, its seconds, and the loss that it causes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from ...arrays import Array
from ...catalogue import PASSES
from ...errors import OnnxpressError
from ...model import Model
from ...passes import Context
from ...recipe import step_from
from ...runtime import for_inner_values, open_session
from .apart import Apart, Layer, apart
from .forms import FLOAT, Form
from .links import links_of
from .observed import Observed, observe
from .times import Times, Timetable
from .tried import bytes_of_layers, losses_of_layers, shared_bytes


@dataclass(frozen=True)
class Costs:
    """``forms``: what layers can become, the first being as they are. All arrays are [layers, forms].

    ``bytes`` with what the nodes of the form take, of which ``shared`` may stand for other layers, too; ``seconds`` of
    kernels and ``edges`` of conversions at the edges of a layer; ``loss``: noise over signal at the outputs, infinite
    where a layer cannot take the form. ``links`` tell which layers hand on to which (``links.py``), [layers, layers].
    """

    layers: Sequence[Layer]
    forms: Sequence[str]
    bytes: Array
    shared: Array
    seconds: Array
    edges: Array
    loss: Array
    links: Array


def measure_costs(
    model: Model,
    layers: Sequence[Layer],
    forms: Sequence[Form],
    ctx: Context,
    table: Timetable,
    until: float = math.inf,
) -> Costs:
    """Every form given to every layer that takes it, one pass over the layers for each form.

    Those that take longest are tried last, and not any more when it is ``until`` (``time.perf_counter``).
    """
    alone = apart(model, layers)
    observed = observe(model, alone, ctx)
    workshop = _Workshop(alone, observed, replace(ctx, calibration=observed), table)
    found = {}
    for form in ctx.progress(sorted(forms, key=lambda each: each.operation in _SLOW), "costs of forms"):
        found[form] = workshop.column(form) if perf_counter() < until else workshop.none()
    columns = [workshop.as_it_is(), *(found[form] for form in forms)]
    table.keep()
    named = [FLOAT, *(form.name for form in forms)]
    bytes_, shared, seconds, edges, loss = (np.stack(each, axis=1) for each in zip(*columns, strict=True))
    return Costs(layers, named, bytes_, shared, seconds, edges, loss, links_of(model, layers))


_SLOW = ("low_rank",)
_FAST = ("quantize_static", "quantize_dynamic")  # may be worth it where they are no smaller
_Column = tuple[Array, Array, Array, Array, Array]


@dataclass(frozen=True)
class _Workshop:
    alone: Apart
    observed: Observed
    ctx: Context
    table: Timetable

    def as_it_is(self) -> _Column:
        model, of = self.alone.model, self.alone.of
        times = self._times(model)
        return bytes_of_layers(model, of), shared_bytes(model, of), times.kernels, times.edges, np.zeros(len(of))

    def column(self, form: Form) -> _Column:
        """Bytes, those shared, seconds, seconds at edges, and losses of all layers in this form."""
        try:
            return self._given(form)
        except OnnxpressError:
            return self.none()

    def _given(self, form: Form) -> _Column:
        model, of = self.alone.model.copy(), self.alone.of
        before = bytes_of_layers(model, of)
        self._change(model, form)
        after = bytes_of_layers(model, of)
        changed = after != before
        if not changed.any():
            return self.none()
        losses, times = self._losses(model), self._times(model)
        fits = changed & np.isfinite(losses) & ((after < before) | (form.operation in _FAST))
        return after, shared_bytes(model, of), times.kernels, times.edges, np.where(fits, losses, np.inf)

    def _change(self, model: Model, form: Form) -> None:
        model.infer_shapes()
        step = step_from(PASSES[form.operation], dict(form.options))
        step.operation(model, self.ctx, **step.arguments())

    def _losses(self, model: Model) -> Array:
        with model.exported() as path:
            session = open_session(path, for_inner_values(self.ctx.providers), threads=self.ctx.threads)
        return losses_of_layers(session, self.observed, self.alone)

    def _times(self, model: Model) -> Times:
        return self.table.of(model, self.observed.timed, self.alone.of)

    def none(self) -> _Column:
        nothing = np.zeros(len(self.alone.of))
        return nothing.astype(np.int64), nothing, nothing, nothing, np.full(len(self.alone.of), np.inf)
