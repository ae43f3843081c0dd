"""Which layers add most quantization noise: the growth of noise over signal from a layer's input to its output.

With r = sum (a - b)^2 / sum a^2 of a value's float form a and quantized form b on the same data, a layer that reads x
and gives y adds r(y) - r(x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph.tap import tapped
from ..model import Model, load
from ..passes import Context, Promise
from ..recipe import Step
from .job import Prepared
from .steps import apply_steps, context_of

if TYPE_CHECKING:
    import onnx_ir as ir

_BATCHES = 2


def noisiest(prepared: Prepared, passes: Sequence[Step], layers: Sequence[str]) -> list[str]:
    """The names of layers, those that add most noise first; layers whose values cannot be seen are left out."""
    preparing = [step for step in passes if step.operation.promises is Promise.PREPARES]
    models = [_applied(prepared, steps) for steps in (preparing, list(passes))]
    ends = _ends(models[0], layers)
    values = sorted({name for pair in ends.values() for name in pair} & _common(models))
    ratios = _noise_ratios(models, values, context_of(prepared)) if values else {}
    added = {layer: ratios.get(y, 0.0) - ratios.get(x, 0.0) for layer, (x, y) in ends.items() if y in ratios}
    return sorted(added, key=added.__getitem__, reverse=True)


def _applied(prepared: Prepared, passes: Sequence[Step]) -> Model:
    job = prepared.job
    loaded = replace(job.loaded, recipe=job.recipe.model_copy(update={"passes": list(passes)}))
    model = load(job.model)
    list(apply_steps(replace(prepared, job=replace(job, loaded=loaded), model=model)))
    return model


def _ends(model: Model, layers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Names of the data input and of the output of each layer."""
    wanted = set(layers)
    return {
        node.name or "": (_data_input(node), node.outputs[0].name or "")
        for node in model.graph
        if node.name in wanted and node.outputs
    }


def _data_input(node: ir.Node) -> str:
    stored = (value for value in node.inputs if value is not None and value.const_value is None)
    value = next(stored, None)
    return (value.name or "") if value is not None else ""


def _common(models: Sequence[Model]) -> set[str]:
    """Values that all models compute under the same name."""
    names = [{value.name or "" for node in model.graph for value in node.outputs} for model in models]
    return set.intersection(*names)


def _noise_ratios(models: Sequence[Model], values: Sequence[str], context: Context) -> dict[str, float]:
    sums = np.zeros((len(values), 2))
    with (
        tapped(models[0], context, _taps(models[0], values)) as exact,
        tapped(models[1], context, _taps(models[1], values)) as rounded,
    ):
        for _, feeds in zip(range(_BATCHES), context.calibration_batches("choosing: noise by layer"), strict=False):
            pairs = zip(exact.run(feeds).values(), rounded.run(feeds).values(), strict=True)
            sums += [_energies(a, b) for a, b in pairs]
    return {name: float(noise / signal) for name, (noise, signal) in zip(values, sums, strict=True) if signal > 0}


def _energies(exact: np.ndarray[Any, Any], rounded: np.ndarray[Any, Any]) -> tuple[float, float]:
    difference = exact.astype(np.float64) - rounded
    return float(np.square(difference).sum()), float(np.square(exact, dtype=np.float64).sum())


def _taps(model: Model, values: Sequence[str]) -> list[ir.Node]:
    import onnx_ir as ir

    named = {value.name: value for node in model.graph for value in node.outputs}
    return [ir.node("Identity", [named[name]]) for name in values]
