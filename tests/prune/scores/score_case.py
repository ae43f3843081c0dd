"""What scores are tried on: a normalized convolution, a dense layer, and the least error without some of its rows."""

from __future__ import annotations

import numpy as np

from compress_ops.passes import Context
from tests.helpers import Given, context, noise

TEXT = """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
    a = Conv(x, w1, b1)  n = BatchNormalization(a, scale, shift, mean, variance)  r = Relu(n)  y = Conv(r, w2) }"""
WEIGHTS = {
    "w1": noise(6, 3, 1, 1), "b1": noise(6), "scale": noise(6, seed=2), "shift": noise(6), "mean": noise(6),
    "variance": np.abs(noise(6)) + 0.5, "w2": noise(2, 6, 1, 1, seed=3),
}  # fmt: skip  # fmt: skip
FEEDS = [{"x": noise(2, 3, 4, 4, seed=seed)} for seed in (8, 9)]

ROUNDING = 2e-3  # products are summed in float32; 1 % of damping bounds what the inverse makes of that
DAMPING = 0.01
DENSE = "agraph (float[N,5] x) => (float[N,3] y) { a = Gemm(x, w1) y = Gemm(a, w2) }"


def data(*feeds: np.ndarray) -> Context:
    return context(calibration=Given(*({"x": feed} for feed in feeds)))


def best_without(rows: np.ndarray, weights: np.ndarray, gone: list[int]) -> float:
    """min |X W - X W'|^2 + d |W - W'|^2 over all W' that are zero in the rows ``gone``, by least squares."""
    rows = rows.astype(np.float64)
    d = DAMPING * np.square(rows).sum(axis=0).mean()
    stacked = np.concatenate([rows, np.sqrt(d) * np.eye(rows.shape[1])])
    wanted = stacked @ weights
    kept = np.setdiff1d(np.arange(len(weights)), gone)
    solved = np.linalg.lstsq(stacked[:, kept], wanted, rcond=None)[0]
    return float(np.square(wanted - stacked[:, kept] @ solved).sum())
