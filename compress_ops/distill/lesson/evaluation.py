"""Does the teacher help? The same student trained from fresh weights with labels alone, over several seeds.

Scores of n seeds have the interval m +- t s / sqrt(n): mean m, standard deviation s, t Student's 97.5 % quantile of
n - 1 degrees of freedom. Where the intervals with and without the teacher overlap, no gain was shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from ...errors import PassError
from ...lazy import ir
from ...measure.metrics.accuracy import evaluate
from ...measure.metrics.table import Metric, parse_metric
from ...model import Model
from ...passes import Context
from ...runtime import open_session

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MOST_SEEDS = len(_T) + 1
_NORMS = {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"}


@dataclass(frozen=True)
class Scores:
    """A metric over several seeds."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def half_width(self) -> float:
        n = len(self.values)
        return _T[n - 2] * stdev(self.values) / math.sqrt(n)

    def overlaps(self, other: Scores) -> bool:
        return abs(self.mean - other.mean) <= self.half_width + other.half_width

    def __str__(self) -> str:
        return f"{self.mean:.4g} +- {self.half_width:.2g}"


def metric_of(ctx: Context) -> Metric:
    """The first metric of the evaluation."""
    if ctx.evaluation is None or not ctx.metrics:
        hint = "give data.evaluation with labels and metrics"
        raise PassError("a baseline needs evaluation data and a metric", hint=hint)
    return parse_metric(ctx.metrics[0])


def score(model: Model, metric: Metric, ctx: Context) -> float:
    """The metric of a model on the evaluation data."""
    assert ctx.evaluation is not None
    with model.exported() as path:
        session = open_session(path, ctx.providers, threads=ctx.threads)
    found = evaluate({"model": session}, ctx.evaluation, [metric.name]).metrics[metric.name]
    value = found.models["model"].value
    return math.nan if value is None else value


def verdict(metric: Metric, taught: Scores, untaught: Scores) -> str:
    """What the teacher was good for, in words that claim no more than was seen."""
    told = f"{metric.name} {taught} with the teacher, {untaught} without, {len(taught.values)} seeds"
    if taught.overlaps(untaught):
        return f"no gain over training without the teacher ({told})"
    gain = metric.drop(untaught.mean, taught.mean) < 0
    return f"{'a gain over' if gain else 'worse than'} training without the teacher ({told})"


def start_anew(model: Model, names: Iterable[str], rng: np.random.Generator) -> None:
    """Fresh weights: normal with variance 2 / fan-in (He et al. 2015), scales of normalizations 1, biases 0."""
    for name in names:
        value = model.graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None
        shape, dtype = tuple(tensor.shape.numpy()), tensor.dtype.numpy()
        if len(shape) > 1:
            fresh = rng.normal(0, math.sqrt(2 / _fan_in(value, shape)), shape)
        else:
            scale = any(node.op_type in _NORMS and index == 1 for node, index in value.uses())
            fresh = np.full(shape, float(scale))
        value.const_value = ir.Tensor(fresh.astype(dtype), name=name)


def _fan_in(value: object, shape: tuple[int, ...]) -> int:
    """How many inputs one output adds up: [out, in, kernel...] of convolutions, [in, out] of matrices."""
    assert isinstance(value, ir.Value)
    for node, _ in value.uses():
        if node.op_type == "Conv" or (node.op_type == "Gemm" and "transB" in node.attributes):
            return max(math.prod(shape[1:]), 1)
        if node.op_type == "Gather":  # rows of a table are used as they are
            return max(2 * shape[-1], 1)
    return max(shape[-2], 1)
