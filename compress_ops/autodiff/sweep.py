"""The engine: the reverse sweep over a graph, rule by rule, adding up what several readers of a value send back.

Where y broadcasts x, dx is dy summed over the axes along which x was repeated; rules leave that to ``_unbroadcast``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import PassError
from ..graph.edit import Constants, Writer
from ..graph.part import drop_unread, find
from ..lazy import ir
from ..model import Model
from .differentiable import prepare
from .reach import Reach, reach
from .rule import Rule
from .step import Shared, Step
from .table import rule_of

Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class GradientModel:
    """A graph that computes values and gradients in one run.

    Its inputs are those of the model that matter, every parameter, and the gradients fed in; its outputs are the
    differentiated and kept values and the gradients. ``upstream`` maps each differentiated value to the input that
    takes its gradient (empty where they count 1); ``gradients`` maps each wanted parameter or input to its output.
    """

    model: Model
    upstream: dict[str, str]
    gradients: dict[str, str]


def build_gradients(
    model: Model,
    *,
    of: Sequence[str],
    parameters: Sequence[str],
    inputs: Sequence[str] = (),
    upstream: bool = True,
    keep: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> GradientModel:
    """Extend a copy of the model by the gradients of ``parameters`` (weights) and ``inputs``.

    ``of`` names the values that are differentiated: with ``upstream`` each gets an input that takes dL/dvalue, without
    it L is their sum (a scalar loss that the graph computes). ``keep`` names further values to give out. ``shapes``
    binds the sizes of inputs; some rules ask for that. The model itself is left as it is.
    Raises PassError that names every node on the way that has no gradient, and every parameter without influence.
    """
    graph = prepare(model, of, parameters, inputs, keep, shapes or {})
    wanted = {name: find(graph, name) for name in (*parameters, *inputs)}
    targets = {name: find(graph, name) for name in of}
    way = reach(graph, wanted.values(), targets.values())
    sweep = _Sweep(graph, way)
    seeds = {name: sweep.seed(value, upstream) for name, value in targets.items() if value in way.values}
    sweep.run()
    gradients = sweep.finish(wanted)
    graph.graph.sort()
    return GradientModel(graph, {name: seed for name, seed in seeds.items() if upstream}, gradients)


class _Sweep:
    def __init__(self, model: Model, way: Reach) -> None:
        self.model, self.shared, self.way = model, Shared(Constants(model)), way
        self.pending: dict[ir.Value, list[ir.Value]] = {}

    def seed(self, value: ir.Value, upstream: bool) -> str:
        """dL/dvalue: an input of the graph, or ones."""
        if upstream:
            name = self.model.fresh(f"{value.name}/gradient")
            seed = ir.Value(name=name, shape=value.shape, type=self._type(value))
            self.model.graph.inputs.append(seed)
        else:
            node = value.producer()
            assert node is not None
            step = Step(node, (), self.shared)
            seed = step.add(step.zeros(value), step.number(1))
        self._send(value, seed)
        return seed.name or ""

    def run(self) -> None:
        for node in reversed(self.way.nodes):
            upstream = tuple(self._gathered(value) for value in node.outputs)
            rule = rule_of(node)
            if rule is not None and any(gradient is not None for gradient in upstream):
                self._visit(Step(node, upstream, self.shared), rule)

    def _visit(self, step: Step, rule: Rule) -> None:
        outputs = step.upstream if rule.outputs is None else step.upstream[: rule.outputs]
        if any(gradient is not None for gradient in step.upstream[len(outputs) :]):
            raise step.refusal(f"output {len(outputs)} is used, and only those before it are differentiated")
        first = next(gradient for gradient in outputs if gradient is not None)
        result = rule.function(step, first)
        entries = result if isinstance(result, Sequence) else (result,)
        for value, entry in zip(step.node.inputs, entries, strict=False):
            if value is not None and entry is not None and value in self.way.values:
                self._receive(step, rule, value, entry() if callable(entry) else entry)

    def _receive(self, step: Step, rule: Rule, value: ir.Value, gradient: ir.Value) -> None:
        if gradient.shape is not None:
            dims: Dims | None = step.dims(gradient)
        else:
            dims = step.dims(step.y) if rule.broadcasts else None
        self._send(value, gradient if dims is None else _unbroadcast(step, gradient, dims, value))

    def _send(self, value: ir.Value, gradient: ir.Value) -> None:
        self.pending.setdefault(value, []).append(gradient)

    def _gathered(self, value: ir.Value) -> ir.Value | None:
        """The sum of what has been sent to a value, by now all of it."""
        sent = self.pending.pop(value, [])
        if not sent:
            return None
        total = sent[0] if len(sent) == 1 else Writer(self.model, f"{value.name}/gradient").op("Sum", *sent)
        if total.shape is None:
            total.shape, total.type = value.shape, self._type(value)
        self.pending[value] = [total]
        return total

    @staticmethod
    def _type(value: ir.Value) -> ir.TensorType:
        floats = value.dtype is not None and value.dtype.is_floating_point()
        return ir.TensorType(value.dtype if floats and value.dtype is not None else ir.DataType.FLOAT)

    def finish(self, wanted: Mapping[str, ir.Value]) -> dict[str, str]:
        """The wanted gradients as outputs, and only what they need."""
        found = {name: self._gathered(value) for name, value in wanted.items()}
        _refuse_without_influence(name for name, gradient in found.items() if gradient is None)
        names = {}
        for name, gradient in found.items():
            assert gradient is not None
            output = Writer(self.model, f"{name}/gradient").op("Identity", gradient)
            output.name = names[name] = self.model.fresh(f"{name}/gradient")
            output.shape, output.type = wanted[name].shape, wanted[name].type
            self.model.graph.outputs.append(output)
        drop_unread(self.model)
        return names


def _refuse_without_influence(names: Iterable[str]) -> None:
    missing = ", ".join(f"'{name}'" for name in names)
    if missing:
        raise PassError(f"nothing that is differentiated depends on {missing}", hint="leave it out of what is trained")


def _unbroadcast(step: Step, gradient: ir.Value, dims: Dims, value: ir.Value) -> ir.Value:
    """Sum a gradient of the shape ``dims`` down to the shape of the value."""
    own = step.dims(value)
    extra = len(dims) - len(own)
    pairs = list(zip(dims[extra:], own, strict=True))
    if any(mine is None or (isinstance(mine, str) and mine != other) for other, mine in pairs):
        return _unbroadcast_at_run_time(step, gradient, extra, value)
    axes = [extra + i for i, (other, mine) in enumerate(pairs) if mine == 1 and other != 1]
    if not axes:
        return step.sum(gradient, range(extra), keepdims=0)
    summed = step.sum(gradient, [*range(extra), *axes])
    return step.op("Squeeze", summed, step.integers(range(extra))) if extra else summed


def _unbroadcast_at_run_time(step: Step, gradient: ir.Value, extra: int, value: ir.Value) -> ir.Value:
    """Which axes are 1 shows only then."""
    ones = step.op("Equal", step.sizes(value), step.integers([1]))
    axes = step.add(step.op("Reshape", step.op("NonZero", ones), step.integers([-1])), step.integers([extra]))
    everything = step.op("Concat", step.integers(range(extra)), axes, axis=0)
    return step.like(step.op("ReduceSum", gradient, everything, noop_with_empty_axes=1), value)
