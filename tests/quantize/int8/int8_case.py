"""Layers and networks that are quantized to int8, and how near the float model they must stay."""

from __future__ import annotations

import numpy as np

from compress_ops.quantize.int8.static import quantize_static
from tests.helpers import applied, calibrated, noise, outputs, proto_of

X = noise(16, 40, seed=1)
W = noise(40, 24)
MATMUL = "g (float[N,40] x) => (float[N,24] y) { y = MatMul(x, w) }"
IMAGES = noise(4, 6, 7, 7, seed=2) + np.float32(0.3)
CONV = "g (float[N,6,7,7] x) => (float[N,8,?,?] y) { y = Conv<pads=[1,1,1,1]>(x, w, c) }"
CONV_WEIGHTS = {"w": noise(8, 6, 3, 3), "c": noise(8, seed=3)}


def quantized(source, *feeds, dry_run=False, **options):
    """The model after the pass, checked for a kept contract and a valid graph, and what the pass told."""
    return applied(quantize_static, source, calibrated(*feeds, dry_run=dry_run), **options)


def nearly(model, source, steps, /, **feeds):
    """The result is that of the float model to ``steps`` 1/255ths of each output's range."""
    for expected, found in zip(outputs(source, **feeds), outputs(model, **feeds), strict=True):
        span = max(expected.max(), 0) - min(expected.min(), 0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=steps * span / 255)


def largest_pair(weight):
    """Of each column: the largest sum of two neighbours of one sign."""
    positive, negative = np.maximum(weight, 0), np.maximum(-weight, 0)
    return np.maximum(positive[1:] + positive[:-1], negative[1:] + negative[:-1]).max(axis=0)


def network(body, y="float[N,?,?,?] y", **changed):
    given = {
        "u": noise(8, 6, 3, 3, scale=0.2),
        "v": noise(8, 8, 3, 3, seed=1, scale=0.2),
        "w": noise(30, 8, 1, 1, seed=2, scale=0.4),
        "f": noise(8, 30, seed=3),
        "b": noise(8, seed=4, scale=0.2),
    } | changed
    used = {name: array for name, array in given.items() if f" {name})" in body or f" {name}," in body}
    return proto_of(f"g (float[N,6,7,7] x) => ({y}) {{ {body} }}", **used)


NETWORKS = {
    "conv, relu": (
        network("a = Conv<pads=[1,1,1,1]>(x, u, b)  r = Relu(a)  y = Conv<pads=[1,1,1,1]>(r, v, b)"),
        {"QuantizeLinear": 1, "QLinearConv": 2, "DequantizeLinear": 1},
    ),
    "conv, clip": (
        network("a = Conv(x, u, b)  r = Clip(a, lo, hi)  y = Conv(r, v)", lo=np.float32(0), hi=np.float32(1)),
        {"QuantizeLinear": 1, "QLinearConv": 2, "DequantizeLinear": 1},
    ),
    "residual": (
        network(
            "a = Conv<pads=[1,1,1,1]>(x, u)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v)  s = Add(c, r)"
            "  t = Relu(s)  y = Conv(t, w)"
        ),
        {"QuantizeLinear": 1, "QLinearConv": 3, "QLinearAdd": 1, "DequantizeLinear": 1},
    ),
    "pools": (
        network("a = Conv(x, u)  m = MaxPool<kernel_shape=[2,2]>(a)  c = Conv(m, w)  y = Neg(c)"),
        {"QuantizeLinear": 1, "QLinearConv": 2, "MaxPool": 1, "DequantizeLinear": 1, "Neg": 1},
    ),
    "to the classifier": (
        network(
            "a = Conv(x, u)  r = Relu(a)  p = GlobalAveragePool(r)  q = Flatten(p)  y = Gemm(q, f)", "float[N,30] y"
        ),
        {"QuantizeLinear": 1, "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    ),
    "concat": (
        network("a = Conv(x, u)  c = Conv(x, u, b)  k = Concat<axis=1>(a, c)  y = Conv(k, z)", z=noise(16, 16, 1, 1)),
        {"QuantizeLinear": 1, "QLinearConv": 3, "QLinearConcat": 1, "DequantizeLinear": 1},
    ),
    "gate": (
        network("a = Conv(x, u)  c = Conv(x, u, b)  k = Mul(a, c)  y = Conv(k, w)"),
        {"QuantizeLinear": 1, "QLinearConv": 3, "QLinearMul": 1, "DequantizeLinear": 1},
    ),
    "transpose and reshape": (
        network("a = Conv(x, u)  t = Transpose<perm=[0,2,3,1]>(a)  y = MatMul(t, f)", "float[N,5,5,30] y"),
        {"QuantizeLinear": 1, "QLinearConv": 1, "Transpose": 1, "MatMulIntegerToFloat": 1},
    ),
}
