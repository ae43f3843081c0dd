"""Losses as they are written, their NumPy statements in double precision, and central differences of those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.autodiff import build_gradients
from compress_ops.distill.losses import Kind, Nature, Target, Wanted, build_objective
from compress_ops.model import Model
from compress_ops.runtime import open_session
from tests.helpers import model_of

Array = np.ndarray[Any, Any]
STEP = 1e-5
ROUNDING = 1e-5  # a few hundred roundings of single precision, of numbers about 1
TRUNCATION = 1e-6  # STEP^2 f''' / 6 and rounding of double precision over STEP: far below ROUNDING
TEMPERATURE = 2.0
SHAPES = {"flat": (5, 4), "tokens": (3, 4, 6), "map": (2, 3, 4, 5)}


def softmax(x: Array, axis: int) -> Array:
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def mean(values: Array, weights: Array | None) -> float:
    if weights is None:
        return float(values.mean())
    spread = np.broadcast_to(weights.reshape(*weights.shape, *[1] * (values.ndim - weights.ndim)), values.shape)
    return float((values * spread).sum() / spread.sum())


def identity(rank: int, operator: str = "Identity(x)") -> Model:
    """y = x, of any sizes."""
    dims, results = (",".join(f"{letter}{axis}" for axis in range(rank)) for letter in "DE")
    return model_of(f"agraph (float[{dims}] x) => (float[{results}] y) {{\n y = {operator}\n}}")


class Written:
    """One loss of weight 1 behind y = x, ready to give its value and its gradient."""

    def __init__(self, name: str, shape: tuple[int, ...], theirs: tuple[int, ...] | None = None, **fields: Any) -> None:
        axis = fields.pop("axis", len(shape) - 1)
        nature = fields.pop("nature", Nature(Kind.SCORES, axis))
        model = fields.pop("model", None) or identity(len(shape))
        probabilities = fields.pop("probabilities", False)
        target = Target("y", shape, theirs or shape, nature, probabilities)
        inner = [Target("y", shape, theirs or shape, None, probabilities)] if name in ("hidden", "attention") else []
        wanted = Wanted({name: 1.0}, [], {"y": target}, inner, **fields)
        self.objective, self.inputs = build_objective(model, wanted, np.random.default_rng(0))
        built = build_gradients(
            self.objective.model,
            of=[self.objective.loss],
            parameters=self.objective.helpers,
            inputs=["x"],
            upstream=False,
            shapes={"x": shape},
        )
        self.gradient = built.gradients["x"]
        self.session = open_session(ir.to_proto(built.model.ir).SerializeToString())

    def __call__(self, x: Array, target: Array, mask: Array | None = None, **more: Array) -> tuple[float, Array]:
        objective = self.objective
        known = {port.name for port in self.session.inputs}
        names = [*self.inputs.outputs.values(), *self.inputs.pairs.values(), self.inputs.labels]
        feeds = {"x": x, **dict.fromkeys(filter(None, names), target), **more}
        feeds |= {name: np.float32(TEMPERATURE) for name in objective.settings.values()}
        feeds |= {name: np.float32(1) for name in objective.weights.values()}
        if mask is not None and self.inputs.mask:
            feeds[self.inputs.mask] = mask
        single = {n: a if a.dtype.kind == "i" else a.astype(np.float32) for n, a in feeds.items() if n in known}
        found = self.session.run({name: np.asarray(array) for name, array in single.items()})
        return float(found[objective.loss]), found[self.gradient]


def differences(stated: Callable[[Array], float], x: Array) -> Array:
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        ahead, behind = x.astype(np.float64), x.astype(np.float64)
        ahead[index] += STEP
        behind[index] -= STEP
        found[index] = (stated(ahead) - stated(behind)) / (2 * STEP)
    return found


def agree(written: Written, stated: Callable[[Array], float], x: Array, target: Array, mask: Array | None) -> None:
    value, gradient = written(x, target, mask)
    expected = stated(x.astype(np.float64))
    assert value == pytest.approx(expected, abs=ROUNDING, rel=ROUNDING)
    slopes = differences(stated, x)
    assert abs(slopes).max() > 1e-3  # there is something to compare
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=(ROUNDING + TRUNCATION) * max(1, abs(slopes).max()))
