"""Quantized models with some of their layers in float, measured against the float model: is it enough, and how fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...errors import PassError
from ...measure.budget import parse_drop
from ...measure.closeness.fidelity import compare_fidelity
from ...measure.comparison import Comparison, compare_models
from ...measure.feeds import Measure
from ...measure.latency import ModelLatency
from ...measure.remembering import Remembering
from ...model import Model
from ...passes import ALL, NONE, Change, Context
from ...runtime import Session, open_session
from .restore import Restorer, quantized_layers

MAX_DROP = "1%"
MIN_COSINE = 0.995
_BATCHES = 2  # of calibration data, where layers are only ranked
_FLOAT, _TRIED = "float", "tried"


@dataclass(frozen=True)
class Limit:
    """What the result is held to: the drop of the first metric, the closeness of every output, or both."""

    max_drop: str | float | None
    min_cosine: float | None

    @classmethod
    def of(cls, ctx: Context, max_drop: str | float | None, min_cosine: float | None) -> Limit:
        measurable = ctx.evaluation is not None and bool(ctx.metrics)
        if max_drop is not None and not measurable:
            hint = "give data.evaluation with labels and metrics, or min_cosine instead"
            raise PassError("max_drop needs evaluation data and a metric", hint=hint)
        if max_drop is None and min_cosine is None:
            return cls(MAX_DROP, None) if measurable else cls(None, MIN_COSINE)
        return cls(max_drop, min_cosine)

    def unmet(self, found: Comparison) -> str:
        """What is wrong with a measured model, empty where the limit holds."""
        return self._drop(found) or self._distance(found)

    def _drop(self, found: Comparison) -> str:
        if self.max_drop is None or isinstance(found.accuracy, str):
            return ""
        limit, (metric, scores) = parse_drop(self.max_drop), next(iter(found.accuracy.metrics.items()))
        drop = scores.models[_TRIED].drop
        amount = None if drop is None else drop.relative if limit.relative else drop.absolute
        if amount is not None and amount <= limit.amount:
            return ""
        text = "is not defined" if amount is None else f"{amount:.2%}" if limit.relative else f"{amount:.4g}"
        return f"the drop of {metric} is {text}, above {limit.text}"

    def _distance(self, found: Comparison) -> str:
        if self.min_cosine is None or isinstance(found.fidelity, str):
            return ""
        closeness, why = found.fidelity.closeness(_TRIED)
        if closeness is None or closeness >= self.min_cosine:
            return ""
        return f"the closeness is {closeness:.5f} ({why}), below {self.min_cosine}"


@dataclass(frozen=True)
class Trial:
    """The quantized model with some of its layers in float, against the float model, which lies at ``path``."""

    original: Model
    path: Path
    model: Model
    ctx: Context
    limit: Limit

    @contextmanager
    def with_float(self, names: Sequence[str]) -> Iterator[Path]:
        """The model, written with these layers in float."""
        tried = self.model.copy()
        layers = {layer.name: layer for layer in quantized_layers(tried, self.original, ALL, NONE, Change())}
        Restorer(tried).restore([layers[name] for name in names])
        with tried.exported() as path:
            yield path

    @cached_property
    def reference(self) -> Session:
        """The float model, which computes nothing twice."""
        return Remembering(open_session(self.path, self.ctx.providers, threads=self.ctx.threads))

    def unmet(self, names: Sequence[str]) -> str:
        """Why the limit does not hold with these layers in float, measured on all of the data; empty where it does."""
        ctx, limit = self.ctx, self.limit
        parts = {"accuracy" if limit.max_drop is not None else "", "fidelity" if limit.min_cosine is not None else ""}
        with self.with_float(names) as path:
            found = compare_models(
                {_FLOAT: self.path, _TRIED: path},
                providers=ctx.providers,
                threads=ctx.threads,
                evaluation=ctx.evaluation,
                metrics=ctx.metrics[:1],
                fidelity_data=ctx.calibration,
                parts=parts,  # type: ignore[arg-type]
                opened={_FLOAT: self.reference},
                figures=False,
            )
        return limit.unmet(found)

    def closeness(self, names: Sequence[str]) -> float:
        """Of the worst output to the float model's, on a few batches; 1 where no output can be compared."""
        assert self.ctx.calibration is not None
        batches = self.ctx.calibration.batches(limit=_BATCHES)
        with self.with_float(names) as path:
            tried = open_session(path, self.ctx.providers, threads=self.ctx.threads)
            sessions = {_FLOAT: self.reference, _TRIED: tried}
            found, _ = compare_fidelity(sessions, batches, figures=False).closeness(_TRIED)
        return 1.0 if found is None else found

    def time(self, fewer: Sequence[str], more: Sequence[str], seconds: float) -> ModelLatency | str:
        """How long the model takes with more layers in float, against fewer; both in turn."""
        settings = (self.ctx.measure or Measure()).but(seconds=seconds)
        with self.with_float(fewer) as before, self.with_float(more) as after:
            found = compare_models(
                {_FLOAT: before, _TRIED: after},
                providers=self.ctx.providers,
                threads=self.ctx.threads,
                settings=settings,
                fidelity_data=self.ctx.calibration,
                parts={"latency"},
            ).latency
        return found if isinstance(found, str) else found.models[_TRIED]
