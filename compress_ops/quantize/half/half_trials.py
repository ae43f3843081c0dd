"""Half precision on trial: each operator by itself, and then all that were chosen together, on calibration data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import ModelError
from ...graph.tap import tapped
from ...lazy import ir
from ...measure.quality import decibels
from ...model import Model
from ...passes import Change, Context
from ...runtime import Arrays, open_session
from .half_types import Lowerable
from .lowering import Lowering

Nodes = Mapping["ir.Node", Lowerable]
_MOST_TRIALS = 64  # of the whole model; what is left then stays float32


def measured_quality(model: Model, ctx: Context, nodes: Nodes, half: ir.DataType) -> dict[ir.Node, float | None]:
    """SQNR of every node when it alone is lowered, over the calibration data.

    NaN where it overflows, None where onnxruntime takes no second one of it; the others are tried without it then.
    """
    if not nodes:
        return {}
    try:
        return dict(_measure(model, ctx, nodes, half))
    except ModelError:
        if len(nodes) == 1:
            return dict.fromkeys(nodes)
        halves = _halves([*nodes])
        parts = [measured_quality(model, ctx, {node: nodes[node] for node in part}, half) for part in halves]
        return parts[0] | parts[1]


def _measure(model: Model, ctx: Context, nodes: Nodes, half: ir.DataType) -> dict[ir.Node, float]:
    sums = np.zeros((len(nodes), 2))
    taps = [tap for node, parts in nodes.items() for tap in _trial(model, node, parts, half)]
    with tapped(model, ctx, taps) as session:
        for feeds in ctx.calibration_batches("to_float16: trial"):
            sums += np.array(list(session.run(feeds).values()), np.float64).reshape(-1, 2)
    return {
        node: round(decibels(float(signal), float(noise)), 2) if math.isfinite(signal + noise) else math.nan
        for node, (signal, noise) in zip(nodes, sums, strict=True)
    }


def _trial(model: Model, node: ir.Node, parts: Lowerable, half: ir.DataType) -> list[ir.Node]:
    """Taps: the square sum of a node's output, and that of its error when inputs and output are rounded.

    The operator itself runs in float32, as kernels that accumulate in float32 do. (Given half-precision inputs,
    onnxruntime's CPU provider would leave out casts that it thinks useless, and with them the rounding.)
    """

    def rounded(value: Any) -> Any:
        low = ir.node("Cast", [value], {"to": half.value}).outputs[0]
        return ir.node("Cast", [low], {"to": ir.DataType.FLOAT.value}).outputs[0]

    inputs = [rounded(value) if i in parts.inputs else value for i, value in enumerate(node.inputs)]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    twin: ir.Node = ir.node(node.op_type, inputs, attributes, domain=node.domain, num_outputs=len(node.outputs))
    for output, original in zip(twin.outputs, node.outputs, strict=True):
        output.name = model.fresh(f"{node.name}/trial") if original.name else ""
    index = parts.outputs[0]
    error = ir.node("Sub", [node.outputs[index], rounded(twin.outputs[index])]).outputs[0]
    return [ir.node("ReduceSumSquare", [value], {"keepdims": 0}) for value in (node.outputs[index], error)]


@dataclass
class WholeTrial:
    """The model with nodes lowered, against the model as it is, on the first batch of calibration data."""

    model: Model
    ctx: Context
    half: ir.DataType
    made: int = field(default=0, init=False)

    def settle(self, chosen: Nodes, followers: Nodes, change: Change) -> dict[ir.Node, Lowerable]:
        """Of the chosen nodes those with which the model runs and stays finite, found by halves; others are declined.

        Without data all of them.
        """
        if self._plain is None:
            return dict(chosen)
        kept: dict[ir.Node, Lowerable] = {}
        waiting = [[*chosen]] if chosen else []
        while waiting:
            part = waiting.pop()
            fault = self._fault({**kept, **{node: chosen[node] for node in part}}, followers, change)
            if not fault:
                kept.update((node, chosen[node]) for node in part)
            elif len(part) == 1 or self.made >= _MOST_TRIALS:
                for node in part:
                    change.decline(node.name, f"{node.op_type}: with it in {self.half.name.lower()}, {fault}")
            else:
                waiting += _halves(part)[::-1]
        return kept

    @cached_property
    def _plain(self) -> Arrays | None:
        return self._outputs(self.model) if self.ctx.calibration is not None else None

    def _fault(self, chosen: Nodes, followers: Nodes, change: Change) -> str:
        """What is wrong with the model with these nodes lowered; its outputs' SQNR goes into the report otherwise."""
        self.made += 1
        tried = self.model.copy()
        twins = dict(zip(self.model.nodes(), tried.nodes(), strict=True))
        low, following = ({twins[node]: parts for node, parts in nodes.items()} for nodes in (chosen, followers))
        Lowering(tried, self.half, low, following).apply()
        tried.drop_unused()
        try:
            return self._compare(self._outputs(tried), change)
        except ModelError as error:
            return error.message

    def _outputs(self, model: Model) -> Arrays | None:
        with model.exported() as path:
            session = open_session(path, self.ctx.providers, threads=self.ctx.threads)
            first = next(iter(self.ctx.calibration_batches("to_float16: check")), None)
            return None if first is None else session.run(first)

    def _compare(self, low: Arrays | None, change: Change) -> str:
        found: dict[str, float] = {}
        plain = {name: array for name, array in (self._plain or {}).items() if _is_float(array)}
        for name, array in plain.items():
            assert low is not None
            if np.isfinite(array).all() and not np.isfinite(low[name]).all():
                return f"output {name} is not finite any more on the calibration data"
            signal, error = array.astype(np.float64), array.astype(np.float64) - low[name]
            found[name] = round(decibels(float(np.square(signal).sum()), float(np.square(error).sum())), 2)
        change.notes["output_sqnr_db"] = found
        return ""


def _is_float(array: Any) -> bool:
    """Whether an output is a tensor of float32; sequences and maps are no arrays."""
    return getattr(array, "dtype", None) == "float32"


def _halves(nodes: list[ir.Node]) -> list[list[ir.Node]]:
    middle = len(nodes) // 2
    return [nodes[:middle], nodes[middle:]]
