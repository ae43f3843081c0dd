"""What layers read and give on calibration data, and how strongly the model's outputs follow each of them.

With y the model's float outputs, each divided by its norm, and z what a layer gives: for random signs v, the slope
g = d(v.y)/dz is one backward pass for all layers at once. An error e of the layer moves the outputs by J e, and over
the draws of v

    E (g.e)^2 = |J e|^2,

the noise over signal that the error causes at the outputs, to first order (``autodiff/probe.py``). Where no gradient is
known on the way there are no slopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...autodiff import GradientModel, build_gradients, drawn_signs
from ...autodiff.reach import depending
from ...data import Dataset
from ...data.base import Batch
from ...errors import ModelError, OnnxpressError
from ...graph.edit import Writer
from ...graph.part import find
from ...lazy import ir
from ...measure.feeds import Measure, NoFeed, latency_feed
from ...model import Model
from ...passes import Context
from ...runtime import Arrays, Session, for_inner_values, open_session
from .apart import Apart

_MEMORY = 2**29  # bytes of what is kept: reads, outputs and slopes
_SAMPLES = 16  # whose slopes are found
_VECTORS = 4  # that a layer reads for each number in one, where data has as many: low ranks are found by these
_PROBES = 3  # draws of v for each run


@dataclass(frozen=True)
class Seen:
    """One run: what layers ``read`` and ``give``, by the names in the model of layers apart, and their slopes.

    ``energies`` are |y|^2 of each float output.
    """

    read: Arrays
    give: Arrays
    slopes: Sequence[Arrays]
    size: int
    energies: Sequence[float] = ()


@dataclass
class Observed(Dataset):
    """Batches of what the layers read: calibration data for the model of layers apart; ``timed``: of the timed feed."""

    timed: Arrays = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    name: str = "what the layers read"

    def __len__(self) -> int:
        return sum(one.size for one in self.seen)

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        yield from (Batch(one.read, None, one.size) for one in self.seen[:limit])

    def batch_count(self, limit: int | None = None) -> int:
        return len(self.seen[:limit])

    def digest(self) -> str:
        return ""


def observe(model: Model, layers: Apart, ctx: Context) -> Observed:
    """Run the model on a few calibration samples, as many as say enough and memory allows; on one batch at least.

    Samples go one by one where the model takes them so: each then has slopes of its own, which tell more.
    """
    slopes = _Slopes(model, layers, ctx)
    wanted = dict.fromkeys([*layers.inputs.values(), *layers.outputs.values(), *slopes.of])
    inner = _session_of(_showing(model, wanted), ctx)
    found, kept = Observed(_timed(inner, layers, ctx)), 0
    for feeds, size, values in _runs(inner, ctx):
        read = {name: values[of] for name, of in layers.inputs.items()}
        give = {name: values[of] for name, of in layers.outputs.items()}
        told = slopes.at(feeds, values) if len(found) < _SAMPLES else ()
        energies = [float(np.square(values[name], dtype=np.float64).sum()) for name in slopes.of]
        seen = Seen(read, give, told, size, energies)
        found.seen.append(seen)
        kept += sum(array.nbytes for arrays in (read, give, *seen.slopes) for array in arrays.values())
        if kept > _MEMORY or _says_enough(found):
            break
    return found


def _runs(inner: Session, ctx: Context) -> Iterator[tuple[Arrays, int, Arrays]]:
    """Feeds, how many samples they are, and what the session gives for them."""
    assert ctx.calibration is not None
    for batch in ctx.calibration.watched(ctx.progress, "looking at layers"):
        for feeds in _one_by_one(batch):
            try:
                values = inner.run(inner.taken(feeds))
            except ModelError:  # the model takes whole batches only
                break
            yield feeds, 1, values
        else:
            continue
        yield batch.feeds, batch.size, inner.run(inner.taken(batch.feeds))


def _one_by_one(batch: Batch) -> Iterator[Arrays]:
    """The samples of a batch; the batch itself where that is not what its first axis holds."""
    if any(array.ndim == 0 or len(array) != batch.size for array in batch.feeds.values()):
        yield batch.feeds
        return
    for row in range(batch.size):
        yield {name: array[row : row + 1] for name, array in batch.feeds.items()}


def _says_enough(observed: Observed) -> bool:
    read = {name: array for name, array in observed.seen[0].read.items() if array.dtype.kind == "f"}
    width = {name: max(array.shape[1:], default=1) for name, array in read.items()}
    numbers = {name: sum(seen.read[name].size for seen in observed.seen) for name in read}
    return len(observed) >= _SAMPLES and all(numbers[name] >= _VECTORS * width[name] ** 2 for name in read)


def _timed(inner: Session, layers: Apart, ctx: Context) -> Arrays:
    """What the layers read when the model is fed what is timed."""
    feed = latency_feed({"model": inner}, ctx.calibration, ctx.measure or Measure(), 0)
    values = inner.run(inner.taken(feed)) if not isinstance(feed, NoFeed) else {}
    return {name: values[of] for name, of in layers.inputs.items() if of in values}


def _session_of(model: Model, ctx: Context) -> Session:
    with model.exported() as path:
        return open_session(path, for_inner_values(ctx.providers), threads=ctx.threads)


def _showing(model: Model, values: Mapping[str, None]) -> Model:
    """A copy whose outputs are some of its values."""
    copy = model.copy()
    copy.graph.outputs[:] = [find(copy, name) for name in values]
    copy.drop_unused()
    return copy


class _Slopes:
    """Sessions that compute slopes, one for each set of shapes; nothing where a gradient is missing on the way."""

    def __init__(self, model: Model, layers: Apart, ctx: Context) -> None:
        self.ctx, self.rng = ctx, np.random.default_rng(0)
        floats = (value.name or "" for value in model.graph.outputs if _is_float(value))
        self.of = [name for name in floats if name not in model.types]  # maps and sequences hold tensors
        self.probed, self.probes = _with_probes(model, self.of, layers.outputs.values())
        self.sessions: dict[object, tuple[GradientModel, Session] | None] = {}

    def at(self, feeds: Arrays, values: Arrays) -> list[Arrays]:
        """Of each probe the slope at every layer's outputs, by their names; [their shapes]."""
        fed = {**feeds, **{probe: np.zeros_like(values[name]) for name, probe in self.probes.items()}}
        shapes = {name: array.shape for name, array in fed.items()}
        key = tuple(shapes.items())
        if key not in self.sessions:
            self.sessions[key] = self._built(shapes)
        found = self.sessions[key]
        return [] if found is None else [*self._drawn(*found, fed, values)]

    def _built(self, shapes: Mapping[str, Sequence[int]]) -> tuple[GradientModel, Session] | None:
        if not self.probes:
            return None
        try:
            built = build_gradients(
                self.probed, of=self.of, parameters=[], inputs=[*self.probes.values()], shapes=shapes
            )
            return built, _session_of(built.model, self.ctx)
        except OnnxpressError:
            return None

    def _drawn(self, built: GradientModel, session: Session, fed: Arrays, values: Arrays) -> Iterator[Arrays]:
        for _ in range(_PROBES):
            signs = drawn_signs(values, built, self.rng)
            found = session.run({**session.taken(fed), **signs}, [*built.gradients.values()])
            yield {name: found[built.gradients[probe]] for name, probe in self.probes.items()}


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _with_probes(model: Model, of: Sequence[str], names: Iterable[str]) -> tuple[Model, dict[str, str]]:
    """A copy in which an input is added to each of the values; by name of the value the name of the input."""
    copy, probes = model.copy(), {}
    reached = depending(copy, [find(copy, name) for name in of])
    for name in names:
        value = find(copy, name)
        if value in reached and _is_float(value):
            probes[name] = _add_probe(copy, value)
    return copy, probes


def _add_probe(model: Model, value: ir.Value) -> str:
    name, node = value.name or "", value.producer()
    assert node is not None
    probe = ir.Value(name=model.fresh(f"{name}/probe"), type=value.type, shape=value.shape)
    model.graph.inputs.append(probe)
    readers, outputs = list(value.uses()), [i for i, one in enumerate(model.graph.outputs) if one is value]
    added = Writer(model, f"{name}/probed", lambda made: model.graph.insert_after(node, made)).op("Add", value, probe)
    added.type, added.shape = value.type, value.shape
    for reader, index in readers:
        reader.replace_input_with(index, added)
    for index in outputs:
        model.graph.outputs[index] = added
        value.name, added.name = model.fresh(f"{name}/plain"), name
    return probe.name or ""
