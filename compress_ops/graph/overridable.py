"""One session for many versions of a model: some weights are inputs too, and what is fed stands in for what is stored.

An initializer that is listed as a graph input as well is a default: onnxruntime computes with it unless the caller
feeds another array. It costs little: 1.0 to 1.2 times the time of the same model with fixed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

from ..errors import PassError
from ..lazy import ir
from ..measure.closeness.fidelity import Fidelity, compare_fidelity
from ..model import Model
from ..passes import Context
from ..runtime import Arrays, Feeds, Session, for_inner_values, open_session


class _Altered(Session):
    """A session with other values for some of its weights, made anew for each run: they are not all held at once."""

    def __init__(self, session: Session, others: Callable[[], Arrays], ticks: Iterator[int]) -> None:
        super().__init__(session.raw, session.source)
        self._others, self._ticks = others, ticks

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Arrays:
        next(self._ticks)
        return super().run({**feeds, **self._others()}, outputs)


def altered(
    session: Session, versions: Mapping[str, Callable[[], Arrays]], ctx: Context, label: str
) -> dict[str, Session]:
    """The session once more for each version, which tells what is fed instead of stored weights; runs are shown."""
    ticks = iter(ctx.progress(count(), label))
    return {name: _Altered(session, others, ticks) for name, others in versions.items()}


@contextmanager
def overridable(model: Model, ctx: Context, weights: Iterable[ir.Value]) -> Iterator[Session]:
    """A session whose callers may feed these weights of the main graph; the model is as it was afterwards."""
    inputs = list(model.graph.inputs)
    model.graph.inputs.extend(dict.fromkeys(weights))
    try:
        with model.exported() as path:
            yield open_session(path, for_inner_values(ctx.providers), threads=ctx.threads)
    finally:
        model.graph.inputs[:] = inputs


def compared(ctx: Context, session: Session, others: Mapping[str, Session]) -> Fidelity:
    """How close other sessions come to this one on the calibration data."""
    if ctx.calibration is None:
        raise PassError("a sensitivity scan needs calibration data", hint="give --data")
    models, data = {"as it is": session, **others}, ctx.calibration
    return compare_fidelity(models, data.batches(), progress=ctx.progress, total=data.batch_count())
