"""A model run in stages gives what it gives as a whole, whatever is kept between them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.graph import stages
from compress_ops.graph.stages import Stages
from compress_ops.lazy import ir
from compress_ops.quantize.int8.static import quantize_static
from tests.helpers import calibrated, model_of, noise, outputs, proto_of
from tests.quantize.mend.mend_case import rounded, source_of

X = noise(12, 40, seed=1)
CHAIN = source_of(
    "h = Gemm(x, a, b)  r = Relu(h)  i = Gemm(r, c, b)  j = Add(i, h)  k = Gemm(j, d, b)  y = Add(k, x)",
    w=noise(40, 40), a=noise(40, 40, seed=2), b=noise(40, seed=3), c=noise(40, 40, seed=4), d=noise(40, 40, seed=5),
)  # fmt: skip
BRANCHES = """g (float[N,40] x) => (float[N,40] y) {
    h = Sin(x)  u = Cos(h)  total = ReduceSum<keepdims=0>(u)  yes = Greater(total, zero)
    i = If(yes) <then_branch = t () => (float[N,40] p) { p = Add(h, u) },
                 else_branch = e () => (float[N,40] q) { q = Sub(h, u) }>
    y = Mul(i, u) }"""


def read_in_stages(model, ctx, order):
    """What each value of the model is on all batches, each in a stage of its own."""
    run, found = Stages(ctx, "stages"), {}
    for name in order:
        nodes = list(model.graph)
        behind = nodes[next(i for i, node in enumerate(nodes) if node.outputs[0].name == name) :]
        later = {value for node in behind for value in node.outputs}
        tap = lambda part, values, name=name: [ir.node("Identity", [values[name]])]  # noqa: E731
        found[name] = np.concatenate([seen for (seen,) in run.run(model, [name], tap, later)])
    return found


def as_a_whole(source, name, x):
    whole = onnx.ModelProto.FromString(source.SerializeToString())
    whole.graph.output[0].name = name
    return outputs(whole, x=x)[0]


@pytest.mark.parametrize("most", [2**28, 3000, 0], ids=["all is kept", "some is", "nothing is"])
def test_stages_give_what_the_whole_gives(most, monkeypatch):
    monkeypatch.setattr(stages, "MOST_KEPT", most)
    ctx = calibrated({"x": X[:8]}, {"x": X[8:]})
    for name, array in read_in_stages(model_of(CHAIN), ctx, "hrijky").items():
        np.testing.assert_allclose(array, as_a_whole(CHAIN, name, X), rtol=1e-5, atol=1e-4)
    assert ctx.calibration.passes == (1 if most else 6)  # x alone fits into 3000 bytes


def test_what_branches_read_is_kept():
    source = proto_of(BRANCHES, zero=np.float32(0))
    ctx = calibrated({"x": X[:8]}, {"x": X[8:]})
    found = read_in_stages(model_of(source), ctx, "huy")
    h = np.sin(X)
    mixed = np.concatenate([b + np.cos(b) if np.cos(b).sum() > 0 else b - np.cos(b) for b in (h[:8], h[8:])])
    np.testing.assert_allclose(found["y"], mixed * np.cos(h), rtol=1e-5, atol=1e-5)


def test_of_what_is_quantized_the_codes_are_kept():
    model, ctx = rounded(CHAIN, quantize_static, X)
    run, nodes = Stages(ctx, "stages"), list(model.graph)
    behind = nodes[next(i for i, node in enumerate(nodes) if node.outputs[0].name == "i") :]
    tap = lambda part, values: [ir.node("Identity", [values["h"]])]  # noqa: E731
    assert len([*run.run(model, ["h"], tap, {value for node in behind for value in node.outputs})]) == 1
    kept = {name: array.dtype for name, array in run.kept[0].items()}
    assert kept == {"x": np.float32, "h": np.float32, "r_quantized": np.uint8}  # Add reads x and h as they are
