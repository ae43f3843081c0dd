"""Losses and bytes of layers: errors that are put into small networks, against what they do to the outputs."""

from __future__ import annotations

import numpy as np

from compress_ops.model import Model, node_bytes
from compress_ops.runtime import CPU, Session, open_session
from compress_ops.search.costs.apart import Apart, apart, layers_of
from compress_ops.search.costs.observed import observe
from compress_ops.search.costs.tried import bytes_of_layers, losses_of_layers, shared_bytes
from tests.helpers import array_of, calibrated, model_of, noise, put

U, W = noise(6, 8), noise(8, 5, seed=1)
LINEAR = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) y = MatMul(z, w) }"
STEEP = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) s = Shrink(z) y = MatMul(s, w) }"
TIED = "g (float[n,8] x) => (float[n,8] y) { z = MatMul(x, u) r = Relu(z) y = MatMul(r, u) }"
MANY = [{"x": noise(3, 6, seed=seed + 10)} for seed in range(32)]


def session_of(model: Model) -> Session:
    with model.exported() as path:
        return open_session(path, CPU, threads=1)


def losses(model: Model, feeds: list[dict[str, np.ndarray]], **errors: np.ndarray) -> np.ndarray:
    """Those of the model when weights of it are off by some errors."""
    model.infer_shapes()
    alone = apart(model, layers_of(model))
    observed = observe(model, alone, calibrated(*feeds))
    for name, error in errors.items():
        put(alone.model, name, array_of(alone.model, name) + error)
    return losses_of_layers(session_of(alone.model), observed, alone)


def test_in_a_linear_network_losses_are_what_the_outputs_move() -> None:
    """|J e|^2 / |y|^2: a draw has a relative variance of 2 at most, so the mean of 32 x 3 samples is off by a seventh
    or less; four such, for samples weigh as their outputs do.
    """
    du, dw = 0.05 * noise(6, 8, seed=2), 0.02 * noise(8, 5, seed=3)
    moved = [[feed["x"] @ du @ W, feed["x"] @ U @ dw] for feed in MANY]
    exact = [feed["x"] @ U @ W for feed in MANY]
    energy = np.square(exact).sum()
    expected = [sum(np.square(each[i]).sum() for each in moved) / energy for i in (0, 1)]
    found = losses(model_of(LINEAR, u=U, w=W), MANY, u=du, w=dw)
    np.testing.assert_allclose(found, expected, rtol=4 * np.sqrt(2 / 96))


def test_a_layer_that_is_as_it_was_loses_nothing() -> None:
    found = losses(model_of(LINEAR, u=U, w=W), MANY[:2], w=noise(8, 5))
    assert found[0] < 1e-12 < found[1]


def test_errors_that_the_rest_does_not_see_count_for_nothing() -> None:
    """What is moved along a direction that w takes to 0."""
    unseen = np.linalg.svd(W.T)[2][-1].astype(np.float32)
    found = losses(model_of(LINEAR, u=U, w=W), MANY, u=np.outer(noise(6), unseen))
    assert found[0] < 1e-10


def test_without_slopes_losses_are_noise_over_signal_at_the_layer() -> None:
    du = 0.05 * noise(6, 8, seed=2)
    expected = np.mean([np.square(feed["x"] @ du).sum() / np.square(feed["x"] @ U).sum() for feed in MANY[:4]])
    found = losses(model_of(STEEP, u=U, w=W), MANY[:4], u=du)
    np.testing.assert_allclose(found, [expected, 0], rtol=1e-4, atol=1e-12)


def test_errors_of_tied_nodes_meet_at_the_outputs() -> None:
    """One weight read twice: what both errors do together, which may be more or less than what each does."""
    u, feeds = noise(8, 8), [{"x": noise(3, 8, seed=seed + 10)} for seed in range(32)]
    du = -0.05 * u
    expected = []
    for feed in feeds:
        z = feed["x"] @ u
        moved = np.where(z > 0, feed["x"] @ du, 0) @ u + np.maximum(z, 0) @ du
        expected.append(np.square(moved).sum() / np.square(np.maximum(z, 0) @ u).sum())
    np.testing.assert_allclose(expected, 0.01, rtol=1e-4)  # twice -5 %
    found = losses(model_of(TIED, u=u), feeds, u=du)
    np.testing.assert_allclose(found, [0.01], rtol=4 * np.sqrt(2 / 128))


def of(alone: Apart) -> list[int]:
    """Bytes of weights: what nodes take in the file is told with them."""
    made = {value.name: node for node in alone.model.graph for value in node.outputs}
    nodes = [sum(node_bytes(made[name]) for name in names) for names in alone.of]
    return (bytes_of_layers(alone.model, alone.of) - nodes).tolist()


def test_bytes_of_a_layer_are_all_that_is_stored_for_it() -> None:
    text = """g (float[n,6] x) => (float[n,5] y, float[n,8] b) {
      z = Gemm(x, u, bias) zz = Relu(z) wide = DequantizeLinear(codes, scale) y = MatMul(zz, wide) b = MatMul(zz, v)
    }"""
    stored = {"codes": np.ones((8, 5), np.int8), "scale": np.float32(2)}
    model = model_of(text, u=U, bias=noise(8), v=noise(8, 8), **stored)
    nodes = {node.outputs[0].name: node_bytes(node) for node in model.nodes()}
    seen = bytes_of_layers(model, [("z",), ("b",), ("y",), ("wide",)])
    leading = nodes["z"] + nodes["zz"]
    assert seen.tolist() == [
        4 * (6 * 8 + 8) + nodes["z"],
        4 * (6 * 8 + 8) + 4 * 8 * 8 + leading + nodes["b"],
        4 * (6 * 8 + 8) + 40 + 4 + leading + nodes["wide"] + nodes["y"],
        44 + nodes["wide"],
    ]


def test_weights_that_are_written_in_half_precision_count_as_written() -> None:
    text = "g (float[n,6] x) => (float[n,8] y) { wide = Cast<to=1>(half) y = MatMul(x, wide) }"
    model = model_of(text, half=U.astype(np.float16))
    assert of(apart(model, layers_of(model))) == [2 * 6 * 8]


def test_what_two_layers_share_counts_for_each_and_is_told() -> None:
    text = "g (float[n,6] x) => (float[n,8] y) { a = Gemm(x, u, bias) b = Gemm(x, v, bias) y = Add(a, b) }"
    model = model_of(text, u=U, v=noise(6, 8, seed=1), bias=noise(8))
    alone = apart(model, layers_of(model))
    assert of(alone) == [4 * (6 * 8 + 8)] * 2
    assert shared_bytes(alone.model, alone.of).tolist() == [4 * 8 / 2] * 2
