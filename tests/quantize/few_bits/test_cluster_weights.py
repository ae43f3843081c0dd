"""cluster_weights against exact k-means, scikit-learn's, and what onnxruntime computes from the stored codes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compress_ops.model import load
from compress_ops.quantize.few_bits.cluster_weights import cluster_weights
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.numbers import clustering
from compress_ops.quantize.numbers.clustering import assign, centroids
from compress_ops.runtime import open_session
from tests.helpers import SAMPLES, applied, context, model_of, noise, op_types, outputs, proto, proto_of

EPS = np.finfo(np.float32).eps
MATMUL = "g (float[B, 96] x) => (float[B, 40] y) { y = MatMul(x, w) }"


def clustered(source, /, **options):
    return applied(cluster_weights, source, **options)


def squared_error(rows: np.ndarray, values: np.ndarray) -> float:
    """With every number at its nearest value, by comparison with all of them."""
    return float(np.square(rows[..., None] - values[:, None, :]).min(axis=-1).sum())


def best_error(numbers: np.ndarray, clusters: int) -> float:
    """The exact optimum of k-means for few numbers, over all ways to cut the sorted list."""
    numbers = np.sort(numbers.astype(np.float64))
    count = len(numbers)
    cost = np.full((count + 1, count + 1), 0.0)
    for i in range(count):
        for j in range(i + 1, count + 1):
            cost[i, j] = np.square(numbers[i:j] - numbers[i:j].mean()).sum()
    best = cost[0].copy()
    for _ in range(clusters - 1):
        best = np.array([min(best[i] + cost[i, j] for i in range(j + 1)) for j in range(count + 1)])
    return float(best[count])


@pytest.mark.parametrize("clusters", [2, 3, 5, 16])
@pytest.mark.parametrize("seed", range(4))
def test_k_means_is_exact_on_few_numbers(clusters, seed):
    numbers = np.random.default_rng(seed).standard_t(2, (1, 120)).astype(np.float32)
    found = squared_error(numbers.astype(np.float64), centroids(numbers, clusters))
    assert found == pytest.approx(best_error(numbers[0], clusters), rel=1e-6)


def test_several_modes_and_outliers_do_not_trap_it():
    chance = np.random.default_rng(0)
    modes = np.concatenate([chance.normal(at, 0.01, 3000) for at in (-5, -1, 0, 0.2, 4)])
    numbers = np.append(modes, [1000.0, -800.0]).astype(np.float32)[None]
    assert squared_error(numbers, centroids(numbers, 7)) == pytest.approx(np.square(0.01) * 15000, rel=0.05)


@pytest.mark.parametrize("clusters", [4, 16, 64])
def test_no_worse_than_scikit_learn(clusters):
    cluster = pytest.importorskip("sklearn.cluster")
    numbers = noise(1, 3000)
    theirs = cluster.KMeans(clusters, n_init=5, random_state=0).fit(numbers.T)
    assert squared_error(numbers, centroids(numbers, clusters)) <= theirs.inertia_ * 1.002


def test_rows_are_clustered_each_for_itself():
    rows = noise(6, 500) * np.logspace(-3, 3, 6, dtype=np.float32)[:, None]
    together = centroids(rows, 8)
    for row, values in zip(rows, together, strict=True):
        alone = centroids(row[None], 8)
        assert squared_error(row[None], values[None]) <= squared_error(row[None], alone) * 1.05


def test_long_rows_are_binned_with_hardly_a_loss(monkeypatch):
    numbers = noise(1, 20000)
    exact = squared_error(numbers, centroids(numbers, 16))
    monkeypatch.setattr(clustering, "_CHUNK", 1000)
    assert squared_error(numbers, centroids(numbers, 16)) == pytest.approx(exact, rel=1e-3)


def test_assignment_is_to_the_nearest_value():
    rows = noise(5, 300)
    values = np.sort(noise(5, 7, seed=1), axis=1)
    expected = np.abs(rows[..., None] - values[:, None, :]).argmin(axis=-1)
    assert np.array_equal(assign(rows, values), expected)
    assert np.array_equal(assign(rows[:1], values[:1]), expected[:1])


def test_few_distinct_numbers_are_kept_exactly():
    numbers = np.random.default_rng(0).choice(np.float32([-1.5, 0, 0.25, 7]), (1, 1000))
    assert centroids(numbers, 16).tolist() == [[-1.5, 0, 0.25, 7]]


@pytest.mark.parametrize(("zeros", "kept"), [(0.5, True), (0.01, False)])
def test_zeros_of_a_pruned_weight_stay_zero(zeros, kept):
    numbers = noise(4, 1000)
    numbers[np.random.default_rng(0).random(numbers.shape) < zeros] = 0
    assert (centroids(numbers, 8) == 0).any(axis=1).all() == kept


@pytest.mark.parametrize("scope", ["tensor", "channel"])
@pytest.mark.parametrize("clusters", [2, 5, 8, 16, 20, 256])
@pytest.mark.parametrize("form", ["MatMul(x, w)", "Gemm<transB = 1>(x, w, b)"])
def test_onnxruntime_computes_with_the_decoded_weight(form, clusters, scope):
    weight, bias, x = noise(96, 400), noise(400, seed=2), noise(5, 96, seed=1)
    stored = weight.T.copy() if "transB" in form else weight
    text = MATMUL.replace("MatMul(x, w)", form).replace("40", "400")
    model, change = clustered(model_of(text, w=stored, b=bias), clusters=clusters, scope=scope)
    if clusters == 256 and scope == "channel":
        assert change.declined[0].reason.startswith("its 153600 bytes would take")
        return
    rows = weight.T if scope == "channel" else weight.reshape(1, -1)
    values = centroids(rows, clusters).astype(np.float32)
    decoded = np.take_along_axis(values, assign(rows, values).astype(int), axis=1)
    decoded = decoded.T if scope == "channel" else decoded.reshape(96, 400)
    (found,) = outputs(model, x=x)
    expected = x @ decoded + (bias if "b)" in form else 0)
    assert np.abs(found - expected).max() <= 100 * EPS * np.abs(x).sum(axis=1).max() * np.abs(weight).max()


def test_the_file_shrinks_and_the_run_is_that_of_the_float_model(tmp_path):
    model, change = clustered(model_of(MATMUL, w=noise(96, 40)))
    assert model.stored_bytes() < model_of(MATMUL, w=noise(96, 40)).stored_bytes() / 2
    with model.exported() as path:
        open_session(path, optimized_to=tmp_path / "optimized.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == ["MatMul"]
    assert change.touched == {"w": "3840 weights share 1 x 16 values"}


RECURRENT = """g (float[16, 1, 32] x, float[1, 8, 9, 9] image) => (float[16, 1, 1, 64] y, float[1, 64, 7, 7] c) {
    y, h = LSTM<hidden_size = 64>(x, w, r)  c = Conv(image, k) }"""


@pytest.mark.parametrize("scope", ["tensor", "channel"])
def test_convolutions_and_recurrent_layers(scope):
    weights = {"w": noise(1, 256, 32), "r": noise(1, 256, 64, seed=1), "k": noise(64, 8, 3, 3, seed=2)}
    model, change = clustered(model_of(RECURRENT, **weights), clusters=8, scope=scope)
    assert set(change.touched) == {"w", "r", "k"}
    decoded = {name: decoded_of(weights[name], 1 if name in "wr" else 0, scope, 8) for name in weights}
    feeds = {"x": noise(16, 1, 32), "image": noise(1, 8, 9, 9)}
    plain = outputs(proto_of(RECURRENT, **decoded), **feeds)
    for found, expected in zip(outputs(model, **feeds), plain, strict=True):
        assert np.abs(found - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1)


def decoded_of(weight: np.ndarray, axis: int, scope: str, clusters: int) -> np.ndarray:
    channels = 1 if scope == "tensor" else weight.shape[axis]
    rows = (weight if scope == "tensor" else np.moveaxis(weight, axis, 0)).reshape(channels, -1)
    values = centroids(rows, clusters).astype(np.float32)
    decoded = np.take_along_axis(values, assign(rows, values).astype(int), axis=1)
    if scope == "tensor":
        return decoded.reshape(weight.shape)
    turned = np.moveaxis(weight, axis, 0).shape
    return np.moveaxis(decoded.reshape(turned), 0, axis)


def test_tied_embeddings_stay_tied():
    text = """g (int64[B, S] ids) => (float[B, S, 50] y) {
        rows = Gather(table, ids) turned = Transpose<perm = [1, 0]>(table) y = MatMul(rows, turned)
    }"""
    table, ids = noise(50, 64), np.array([[0, 7, 49]])
    model, change = clustered(model_of(text, table=table))
    decoded = decoded_of(table, 0, "tensor", 16)
    assert np.abs(outputs(model, ids=ids)[0] - decoded[ids] @ decoded.T).max() < 1e-4
    assert list(change.touched) == ["table"]


def test_codes_are_made_when_the_model_is_saved():
    model, _ = clustered(model_of(MATMUL, w=noise(96, 40)))
    codes = next(value for value in model.weights() if value.name == "w_codes")
    assert isinstance(codes.const_value, ir.LazyTensor)
    assert codes.const_value.nbytes == 96 * 40 // 2


def test_sqnr_of_the_worst_tensors():
    weight = noise(96, 40)
    _, change = clustered(model_of(MATMUL, w=weight))
    error = weight - decoded_of(weight, 1, "tensor", 16)
    expected = 10 * np.log10(np.square(weight).sum() / np.square(error).sum())
    assert change.notes["sqnr_db"] == {"w": pytest.approx(expected, abs=0.01)}


# Bad input


@pytest.mark.parametrize("value", [0.0, 1e-41, -0.3, 3e38])
def test_constant_weights_are_kept_exactly(value):
    weight = np.full((96, 40), value, np.float32)
    model, _ = clustered(model_of(MATMUL, w=weight))
    assert np.array_equal(outputs(model, x=np.eye(96, dtype=np.float32))[0], weight)


def test_an_outlier_gets_a_value_of_its_own():
    weight = noise(96, 40)
    weight[5, 7] = 1e6
    model, _ = clustered(model_of(MATMUL, w=weight))
    error = np.abs(outputs(model, x=np.eye(96, dtype=np.float32))[0] - weight)
    assert np.sqrt(np.square(error).mean()) < 0.15  # sixteen values for normal numbers: 0.10


def test_quantized_and_small_weights_are_declined():
    model = model_of(MATMUL, w=noise(96, 40))
    quantize_dynamic(model, context())
    assert not clustered(model)[1].touched
    _, change = clustered(model_of("g (float[B, 4] x) => (float[B, 4] y) { y = MatMul(x, w) }", w=noise(4, 4)))
    assert change.declined[0].reason.startswith("its 64 bytes would take")


def test_what_patterns_leave_out_protects_a_shared_weight():
    text = "g (float[B, 64] x) => (float[B, 64] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    _, change = clustered(model_of(text, w=noise(64, 64)), skip=["MatMul_y"])
    assert change.declined[0].reason == "MatMul: the patterns leave out MatMul_y, which reads its weight too"


def test_an_old_opset_is_raised():
    model, _ = clustered(proto_of('<ir_version: 7, opset_import: ["": 9]>\n' + MATMUL, w=noise(96, 40)))
    assert model.opset == 11


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp"])
def test_16_values_keep_the_digits(name):
    data = np.load(SAMPLES / "digits-test.npz")
    model = load(SAMPLES / f"{name}.onnx")
    (before,) = outputs(model, image=data["image"])
    cluster_weights(model, context())
    (after,) = outputs(model, image=data["image"])
    accuracy = [(logits.argmax(axis=1) == data["label"]).mean() for logits in (before, after)]
    assert accuracy[1] >= accuracy[0] - 0.005
    assert len(proto(model).SerializeToString()) <= (SAMPLES / f"{name}.onnx").stat().st_size / 6
    assert op_types(model)["Gather"] >= 3
