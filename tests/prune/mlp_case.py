"""Three layers x[6] -> 32 -> 16 -> 3, of which two give channels that may go."""

from __future__ import annotations

import numpy as np

from compress_ops.model import Model
from tests.helpers import model_of, noise

MLP = """agraph (float[N,6] x) => (float[N,3] y) {
    a = Gemm(x, w1, b1)  r = Relu(a)  b = Gemm(r, w2)  y = Gemm(b, w3) }"""


def mlp(**changed: np.ndarray) -> Model:
    weights = {"w1": noise(6, 32), "b1": noise(32), "w2": noise(32, 16, seed=1), "w3": noise(16, 3, seed=2)}
    return model_of(MLP, **{**weights, **changed})
