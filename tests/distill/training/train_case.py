"""A training small enough to state in NumPy: y = (x w + b) / s, with terms fit = mean (y - t)^2, size = mean y^2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir

from compress_ops.distill.losses.objective import Objective
from compress_ops.model import Model, make_uniform

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
W, B = np.array([[0.5, -1.0], [0.25, 0.75], [-0.5, 1.5]]), np.array([0.1, -0.2])
FIT_ONLY: dict[str, Any] = {"weights": {"size": 0.0}, "scalars": {"temperature": 1.0}}
EPS = float(np.finfo(np.float32).eps)

_WEIGHTS = "float[3,2] w = {0.5,-1,0.25,0.75,-0.5,1.5}, float[2] b = {0.1,-0.2}"
_STUDENT = "y = Gemm(x, w, b)"
_LOSS = """
    z = Div(y, s) d = Sub(z, t) e = Mul(d, d) fit = ReduceMean<keepdims=0>(e)
    q = Mul(z, z) size = ReduceMean<keepdims=0>(q)
    wf = Mul(fit, weight_fit) ws = Mul(size, weight_size) loss = Add(wf, ws)
"""


def parsed(ports: str, outputs: str, weights: str, body: str) -> Model:
    text = f'<ir_version: 10, opset_import: ["": 18]> g ({ports}) => ({outputs}) <{weights}> {{ {body} }}'
    model = Model(ir.from_proto(onnx.parser.parse_model(text)))
    make_uniform(model)
    return model


def student() -> Model:
    return parsed("float[n,3] x", "float[n,2] y", _WEIGHTS, _STUDENT)


def objective(**changes: Any) -> Objective:
    model = parsed(
        "float[n,3] x, float[n,2] t, float s, float weight_fit, float weight_size",
        "float loss, float fit, float size",
        _WEIGHTS,
        _STUDENT + _LOSS,
    )
    given: dict[str, Any] = {
        "model": model,
        "loss": "loss",
        "terms": {"fit": "fit", "size": "size"},
        "weights": {"fit": "weight_fit", "size": "weight_size"},
        "parameters": ["b", "w"],
        "targets": ["t"],
        "settings": {"temperature": "s"},
    }
    return Objective(**{**given, **changes})


class Batches:
    """Batches of one fixed set of samples, shuffled in every epoch."""

    def __init__(self, samples: int = 12, size: int = 4, noise: float = 0.1) -> None:
        rng = np.random.default_rng(5)
        self.x = rng.standard_normal((samples, 3)).astype(np.float32)
        wanted = self.x @ np.array([[1, 2], [-1, 0.5], [0.3, -0.7]]) + [0.5, -0.5]
        self.t = (wanted + noise * rng.standard_normal(wanted.shape)).astype(np.float32)
        self.size = size

    def __call__(self, rng: np.random.Generator) -> list[Feeds]:
        return list(self.cut(rng.permutation(len(self.x))))

    def cut(self, order: Array) -> Iterator[Feeds]:
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            yield {"x": self.x[rows], "t": self.t[rows]}

    @property
    def whole(self) -> Feeds:
        return {"x": self.x, "t": self.t}


def gradients(w: Array, b: Array, feeds: Feeds, size: float = 0.0, scale: float = 1.0) -> tuple[Array, Array]:
    """d(fit + size * size term)/dw and /db, in float64."""
    x, t = (np.asarray(feeds[name], np.float64) for name in "xt")
    z = (x @ w + b) / scale
    dy = (2 * (z - t) + size * 2 * z) / z.size / scale
    return x.T @ dy, dy.sum(0)


def progress_into(told: list[str]) -> Callable[..., Iterable[Any]]:
    """Progress that writes down what it is told with every item."""

    def progress(items: Iterable[Any], label: Callable[[], str], total: int | None = None) -> Iterable[Any]:
        for item in items:
            told.append(label())
            yield item

    return progress
