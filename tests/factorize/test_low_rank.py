"""low_rank against NumPy: the best approximation there is (Eckart and Young), by weights and by data."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import onnx
import pytest

from compress_ops.errors import PassError
from compress_ops.factorize import low_rank
from compress_ops.factorize.products import root_of
from compress_ops.factorize.schemes import Kernel, Narrow, Product, Spatial, Tucker
from compress_ops.graph import simplify
from compress_ops.model import load
from tests.helpers import (
    SAMPLES,
    Given,
    applied,
    context,
    model_of,
    noise,
    op_types,
    outputs,
    proto,
    proto_of,
    saved_weights,
)

X, W = noise(5, 40, seed=1), noise(40, 32)
MATMUL = "g (float[N,40] x) => (float[N,32] y) { y = MatMul(x, w) }"
GEMM = "g (float[N,40] x) => (float[N,32] y) { y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b) }"
CONV = "g (float[N,16,11,9] x) => (float[N,24,H,V] y) { y = Conv<%s>(x, w, b) }"


def planted(*shape, rank):
    """A matrix of exactly this rank, but for float rounding."""
    left, right = noise(shape[0], rank, seed=3), noise(rank, shape[1], seed=4)
    return (left @ right / np.sqrt(rank)).astype(np.float32)


def correlated(samples, inputs):
    """Data in which few directions carry most."""
    mixing = noise(inputs, inputs, seed=6) * (0.7 ** np.arange(inputs))[:, None]
    return (noise(samples, inputs, seed=5) @ mixing).astype(np.float32)


def factorized(source, data=None, /, **options):
    """The model after the pass, checked for a kept contract and a valid graph, and what the pass told."""
    model = source if hasattr(source, "ir") else model_of(source)
    model.infer_shapes()
    given = None if data is None else Given(*({"x": batch} for batch in data))
    return applied(low_rank, model, context(calibration=given), **options)


def tail(matrix, rank):
    """The share of squared singular values beyond a rank."""
    energies = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    return energies[rank:].sum() / energies.sum()


def close(found, expected, tolerance=2e-5):
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(40, 32), (20, 50), (7, 7)])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_product_is_as_close_as_eckart_and_young_allow(shape, rank):
    weight = noise(*shape).astype(np.float64)
    product = Product(weight)
    first, second = product.factors(rank)
    assert first.shape == (shape[0], rank) and second.shape == (rank, shape[1])
    measured = np.square(first @ second - weight).sum() / np.square(weight).sum()
    assert measured == pytest.approx(tail(weight, rank), rel=1e-9, abs=1e-12)
    assert product.lost(rank) == pytest.approx(measured, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1))


@pytest.mark.parametrize("shape", [(40, 32), (20, 50)])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_with_data_the_error_of_the_output_is_the_least_there_is(shape, rank):
    weight, data = noise(*shape).astype(np.float64), correlated(300, shape[0]).astype(np.float64)
    root = np.linalg.cholesky(data.T @ data)
    best, plain = Product(weight, root), Product(weight)
    exact = data @ weight

    def error(product):
        first, second = product.factors(rank)
        return np.square(data @ first @ second - exact).sum() / np.square(exact).sum()

    assert error(best) == pytest.approx(tail(exact, rank), rel=1e-6)
    assert error(best) == pytest.approx(best.lost(rank), rel=1e-6)
    assert error(best) < 0.7 * error(plain)


def test_damping_is_one_percent_of_the_mean_diagonal_and_all_zeros_have_no_root():
    data = noise(50, 8).astype(np.float64)
    product = data.T @ data
    root = root_of(product)
    np.testing.assert_allclose(root @ root.T, product / (np.trace(product) / 8) + 0.01 * np.eye(8), rtol=1e-9)
    assert root_of(np.zeros((8, 8))) is None


@pytest.mark.parametrize("scheme", [Narrow, Spatial, Tucker])
@pytest.mark.parametrize("whitened", [False, True])
def test_what_a_scheme_of_a_kernel_says_is_lost_is_lost(scheme, whitened):
    weight = noise(10, 6, 3, 3).astype(np.float64)
    data = noise(200, 54) * np.linspace(0.1, 2, 54) if whitened else np.eye(54)
    made = scheme(Kernel(weight, (1.0, 1.0), np.linalg.cholesky(data.T @ data) if whitened else None))
    for level in (1, 4, 8, made.levels):
        factors = [factor.astype(np.float32) for factor in made.factors(level)]
        assert made.cost(level).parameters == sum(factor.size for factor in factors)
        whole = composed(factors).reshape(10, -1)
        exact = data @ weight.reshape(10, -1).T
        measured = np.square(data @ whole.T - exact).sum() / np.square(exact).sum()
        assert made.lost(level) == pytest.approx(measured, rel=1e-3, abs=1e-9)
    assert made.lost(made.levels) == pytest.approx(0, abs=1e-9)


def composed(kernels):
    """The one kernel that convolutions after one another make (strides 1)."""
    whole = kernels[0]
    for kernel in kernels[1:]:
        height, width = (whole.shape[i] + kernel.shape[i] - 1 for i in (2, 3))
        result = np.zeros((kernel.shape[0], whole.shape[1], height, width))
        for i in range(kernel.shape[2]):
            for j in range(kernel.shape[3]):
                result[:, :, i : i + whole.shape[2], j : j + whole.shape[3]] += np.einsum(
                    "nr,rchw->nchw", kernel[:, :, i, j], whole
                )
        whole = result
    return whole


@pytest.mark.parametrize(("text", "extra"), [(MATMUL, {}), (GEMM, {"b": noise(32, seed=2)})])
def test_a_planted_rank_is_found_and_the_function_stays(text, extra):
    weight = planted(40, 32, rank=5)
    source = proto_of(text, w=weight.T if extra else weight, **extra)
    model, change = factorized(source, energy=0.99999)
    assert sorted(value.shape for name, value in saved_weights(model).items() if "factor" in name) == [(5, 32), (40, 5)]
    assert op_types(model) == ({"MatMul": 1, "Gemm": 1} if extra else {"MatMul": 2})
    close(outputs(model, x=X)[0], outputs(source, x=X)[0])
    assert change.notes["parameters_before"] == 1280 and change.notes["parameters_after"] == 5 * 72
    assert change.notes["worst_error"] < 1e-3
    assert change.chosen == {"energy": 0.99999}


def test_the_output_is_that_of_the_truncated_singular_values():
    model, change = factorized(proto_of(MATMUL, w=W), energy=0.8)
    left, values, right = np.linalg.svd(W.astype(np.float64), full_matrices=False)
    kept = np.cumsum(values**2) / np.sum(values**2)
    rank = int(np.argmax(kept >= 0.8)) + 1
    close(outputs(model, x=X)[0], X @ (left[:, :rank] * values[:rank]) @ right[:rank])
    assert f"rank {rank}:" in next(iter(change.touched.values()))
    assert change.notes["worst_error"] == pytest.approx(np.sqrt(1 - kept[rank - 1]), abs=1e-4)


def test_data_keeps_more_at_the_same_size_and_is_streamed():
    data = correlated(512, 40)
    exact = data @ W
    errors = {}
    for name, batches in (("plain", None), ("one", [data]), ("many", np.split(data, 16))):
        model, change = factorized(proto_of(MATMUL, w=W), batches, ratio=0.6)
        errors[name] = np.linalg.norm(outputs(model, x=data)[0] - exact) / np.linalg.norm(exact)
        assert change.notes["parameters_after"] <= 0.6 * W.size
    assert errors["one"] < 0.3 * errors["plain"]
    assert errors["many"] == pytest.approx(errors["one"], rel=1e-3)


def test_memory_does_not_grow_with_the_samples():
    """One batch is alive at a time, and what comes out of the session is [inputs, inputs] for each of them."""
    peaks = []
    for count in (4, 64):
        model = model_of(MATMUL, w=W)
        model.infer_shapes()
        data = Given(*({"x": batch} for batch in np.split(correlated(256 * count, 40), count)))
        tracemalloc.start()
        low_rank(model, context(calibration=data), energy=0.9)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert data.passes == 1 and data.served == count
    assert peaks[1] < peaks[0] + 100_000


def test_inputs_of_three_dimensions_and_float16_are_served():
    text = "g (float16[N,3,40] x) => (float16[N,3,32] y) { y = MatMul(x, w) }"
    weight, x = planted(40, 32, rank=4).astype(np.float16), noise(2, 3, 40).astype(np.float16)
    source = proto_of(text, w=weight)
    model, _ = factorized(source, [x], energy=0.999)
    assert {array.dtype for array in saved_weights(model).values()} == {np.dtype(np.float16)}
    close(outputs(model, x=x)[0], outputs(source, x=x)[0], 0.02)


ATTRIBUTES = [
    "kernel_shape=[3,3]",
    "pads=[1,0,2,1]",
    "strides=[2,1], pads=[1,1,1,1]",
    "dilations=[2,1], strides=[1,2]",
    'auto_pad="SAME_UPPER", strides=[2,2]',
]
PLANTED = {
    "narrow": lambda: planted(24, 144, rank=4).reshape(24, 16, 3, 3),
    "spatial": lambda: np.einsum("rci,nrj->ncij", noise(3, 16, 3, seed=7), noise(24, 3, 3, seed=8)),
    "tucker": lambda: np.einsum("nb,bahw,ac->nchw", noise(24, 5), noise(5, 3, 3, 3, seed=1), noise(3, 16, seed=2)),
}


@pytest.mark.parametrize("attributes", ATTRIBUTES)
@pytest.mark.parametrize("scheme", PLANTED)
def test_a_planted_kernel_is_found_in_its_form_and_the_function_stays(scheme, attributes):
    kernel = np.ascontiguousarray(PLANTED[scheme](), np.float32)
    x = noise(2, 16, 11, 9, seed=9)
    source = proto_of(CONV % attributes, w=kernel, b=noise(24, seed=5))
    model, change = factorized(source, energy=0.999999)
    assert next(iter(change.touched.values())).startswith(scheme)
    assert op_types(model) == {"Conv": 3 if scheme == "tucker" else 2}
    close(outputs(model, x=x)[0], outputs(source, x=x)[0])


@pytest.mark.parametrize("sizes", [(5,), (3, 3, 3)])
def test_kernels_of_one_and_three_axes(sizes):
    axes = ",".join(["12"] * len(sizes))
    free = ",".join("ABC"[: len(sizes)])
    text = f"g (float[N,16,{axes}] x) => (float[N,24,{free}] y) {{ y = Conv(x, w) }}"
    weight = planted(24, 16 * int(np.prod(sizes)), rank=3).reshape(24, 16, *sizes)
    x, source = noise(1, 16, *[12] * len(sizes)), proto_of(text, w=weight)
    for data in (None, [x]):
        model, _ = factorized(source, data, energy=0.99999)
        close(outputs(model, x=x)[0], outputs(source, x=x)[0], 1e-2 if data else 2e-5)


def test_a_kernel_that_would_run_on_many_more_positions_is_not_entered_by_1x1():
    """Strides 4: an entry 1x1 runs on 16 times as many positions as the core."""
    kernel = Kernel(np.ascontiguousarray(PLANTED["tucker"](), np.float64), (4.0, 4.0))
    core_only = Tucker(Kernel(kernel.weight, (1.0, 1.0)))
    assert Tucker(kernel).cost(6).parameters == core_only.cost(6).parameters
    entry = Tucker(kernel).ranks(6)[0] * 16
    assert Tucker(kernel).cost(6).operations == core_only.cost(6).operations + 15 * entry


def test_a_conv_with_data_is_as_close_as_its_outputs_allow():
    x = noise(8, 16, 11, 9) * (0.5 ** np.arange(16))[None, :, None, None].astype(np.float32)
    source = proto_of(CONV % "pads=[1,1,1,1]", w=noise(24, 16, 3, 3), b=noise(24, seed=5))
    exact = outputs(source, x=x)[0]
    found = {}
    for name, data in (("plain", None), ("data", np.split(x, 4))):
        model, change = factorized(source, data, ratio=0.5)
        found[name] = np.linalg.norm(outputs(model, x=x)[0] - exact) / np.linalg.norm(exact)
    assert found["data"] < 0.6 * found["plain"]
    assert found["data"] < 1.2 * change.notes["worst_error"]


def test_a_ratio_holds_for_all_layers_together_and_spares_those_that_need_their_rank():
    text = "g (float[N,40] x) => (float[N,32] y) { h = MatMul(x, u)  y = MatMul(h, v) }"
    source = proto_of(text, u=planted(40, 64, rank=4), v=noise(64, 32))
    model, change = factorized(source, ratio=0.7)
    assert [*change.touched] == ["MatMul_h"] and [one.name for one in change.declined] == ["MatMul_y"]
    assert sum(array.size for array in saved_weights(model).values()) <= 0.7 * (40 * 64 + 64 * 32)
    close(outputs(model, x=X)[0], outputs(source, x=X)[0])
    assert change.chosen == {}


def test_a_ratio_out_of_reach_is_told():
    with pytest.raises(PassError, match=r"a ratio of 0\.01 cannot be reached: \d+ of 1280 parameters stay at best"):
        factorized(proto_of(MATMUL, w=W), ratio=0.01)


@pytest.mark.parametrize("second", [{"ratio": 0.5}, {"speedup": 1.5}])
def test_two_targets_together_are_refused(second):
    with pytest.raises(PassError, match="give one of energy, ratio and speedup"):
        factorized(proto_of(MATMUL, w=W), energy=0.9, **second)


def test_without_either_the_energy_is_told():
    _, change = factorized(proto_of(MATMUL, w=planted(40, 32, rank=2)))
    assert change.chosen == {"energy": 0.999} and change.notes["energy"] == 0.999


def nan_weight():
    weight = W.copy()
    weight[3, 4] = np.nan
    return weight


DECLINED = [
    (MATMUL, {"w": W}, {"energy": 0.999}, r"an energy of 0.999 takes rank \d+ of 32, which saves less than 10 %"),
    (MATMUL, {"w": nan_weight()}, {}, "its weight has NaN or infinite values"),
    (MATMUL, {"w": np.zeros_like(W)}, {}, "its weight is zero throughout"),
    ("g (float[N,40] x) => (float[N,2] y) { y = MatMul(x, w) }", {"w": noise(40, 1) @ noise(1, 2)}, {}, "saves less"),
    (
        "g (float[2,5,40] x) => (float[2,5,32] y) { y = MatMul(x, w) }",
        {"w": noise(2, 40, 32)},
        {},
        "its weight has 3 dimensions, not 2",
    ),
    (
        "g (float[N,40] x) => (float[N,40] y) { h = MatMul(x, w)  y = MatMul(h, w) }",
        {"w": planted(40, 40, rank=2)},
        {},
        "others read its weight too",
    ),
    ("g (float[40,N] x) => (float[N,32] y) { y = Gemm<transA=1>(x, w) }", {"w": W}, {}, "its input is transposed"),
    ("g (float[N,40] x, float[40,32] w) => (float[N,32] y) { y = MatMul(x, w) }", {}, {}, "computed, not stored"),
    (
        "g (float[N,16,8,8] x) => (float[N,32,H,V] y) { y = Conv<group=4>(x, w) }",
        {"w": noise(32, 4, 3, 3)},
        {},
        "its channels are in groups",
    ),
]


@pytest.mark.parametrize(("text", "initializers", "options", "reason"), DECLINED, ids=[case[3] for case in DECLINED])
def test_what_cannot_gain_is_declined_with_the_reason(text, initializers, options, reason):
    source = proto_of(text, **initializers)
    model, change = factorized(source, **options)
    assert not change.touched
    assert change.declined
    for declined in change.declined:
        assert re.search(reason, declined.reason)
    assert len(proto(model).graph.node) == len(source.graph.node)


def test_what_reads_infinite_values_is_declined():
    bad = X.copy()
    bad[0, 0] = np.inf
    _, change = factorized(proto_of(MATMUL, w=planted(40, 32, rank=2)), [bad])
    assert [one.reason for one in change.declined] == ["MatMul: it reads NaN or infinite values"]


def test_what_reads_nothing_but_zeros_goes_by_its_weight():
    source = proto_of(MATMUL, w=planted(40, 32, rank=2))
    model, change = factorized(source, [np.zeros_like(X)])
    assert change.touched
    close(outputs(model, x=X)[0], outputs(source, x=X)[0], 0.2)


def test_layers_inside_branches_go_by_their_weights():
    text = """g (float[N,40] x, bool c) => (float[N,32] y) {
        y = If (c) <then_branch = t () => (float[N,32] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[N,32] b) { b = MatMul(x, v) }>
    }"""
    source = proto_of(text, w=planted(40, 32, rank=3), v=planted(40, 32, rank=2))
    model = model_of(source)
    model.infer_shapes()
    data = Given({"x": X, "c": np.array(True)})
    change = low_rank(model, context(calibration=data), energy=0.9999)
    assert len(change.touched) == 2
    for taken in (True, False):
        feeds = {"x": X, "c": np.array(taken)}
        close(outputs(model, **feeds)[0], outputs(source, **feeds)[0], 2e-2)


def test_only_skip_and_operators_choose():
    text = "g (float[N,40] x) => (float[N,32] y) { h = MatMul(x, u)  y = Gemm(h, v) }"
    source = proto_of(text, u=planted(40, 48, rank=3), v=planted(48, 32, rank=3))
    for options, expected in (
        ({"only": ["*_h"]}, ["MatMul_h"]),
        ({"skip": ["MatMul"]}, ["Gemm_y"]),
        ({"operators": ["Gemm"]}, ["Gemm_y"]),
    ):
        assert [*factorized(source, **options)[1].touched] == expected


def test_a_second_step_on_the_result_finds_nothing_more_of_the_same():
    model, _ = factorized(proto_of(MATMUL, w=planted(40, 32, rank=5)), energy=0.9999)
    assert not factorized(model, energy=0.9999)[1].touched


@pytest.mark.parametrize(
    ("name", "least", "options"), [("digits-mlp", 0.97, {"ratio": 0.5}), ("digits-cnn", 0.99, {"energy": 0.975})]
)
def test_half_of_the_digits_models_keeps_their_accuracy(name, least, options):
    calibration = np.load(SAMPLES / "digits-calibration.npz")["image"]
    test = np.load(SAMPLES / "digits-test.npz")
    model = load(SAMPLES / f"{name}.onnx")
    simplify(model, context())
    model.infer_shapes()
    before = model.stored_bytes()
    low_rank(model, context(calibration=Given({"image": calibration})), **options)
    model.check()
    assert model.stored_bytes() < 0.52 * before
    logits = outputs(model, image=test["image"])[0]
    assert (logits.argmax(axis=1) == test["label"]).mean() >= least


TIED = {
    "Transpose": """g (int64[N,S] ids) => (float[N,S,60] y) {
        rows = Gather(table, ids)  z = Tanh(rows)  t = Transpose<perm=[1,0]>(table)  y = MatMul(z, t) }""",
    "transB": """g (int64[N] ids) => (float[N,60] y) {
        rows = Gather(table, ids)  z = Tanh(rows)  y = Gemm<alpha=0.5, beta=2.0, transB=1>(z, table, b) }""",
    "two lookups": """g (int64[N,S] ids) => (float[N,S,60] y) {
        rows = Gather(table, ids)  first = Gather(table, zero)  z = Add(rows, first)
        t = Transpose(table)  y = MatMul(z, t) }""",
}
BIAS, ZERO, TABLE = noise(60, seed=7), np.array(0), planted(60, 24, rank=5)
IDS = np.array([[0, 7, -1], [59, 3, 3]])


def ids_of(text):
    return IDS[0] if "Gemm" in text else IDS


@pytest.mark.parametrize("text", TIED.values(), ids=TIED)
@pytest.mark.parametrize("with_data", [False, True])
def test_a_tied_table_becomes_two_factors_for_both_uses_each_stored_once(text, with_data):
    source, ids = proto_of(text, table=TABLE, b=BIAS, zero=ZERO), ids_of(text)
    model = model_of(source)
    model.infer_shapes()
    change = low_rank(model, context(calibration=Given({"ids": ids}) if with_data else None))
    onnx.checker.check_model(proto(model), full_check=True)
    (told,) = change.touched.values()
    assert told.startswith(f"product, rank 5: {5 * (60 + 24)} of {60 * 24} parameters")
    assert sorted(w.shape for w in saved_weights(model).values() if w.ndim == 2) == [(24, 5), (60, 5)]
    close(outputs(model, ids=ids)[0], outputs(source, ids=ids)[0])


def test_a_tied_table_weighs_what_is_looked_up_and_what_the_output_layer_reads_alike():
    """By the definition: |R^T (W - A B)| is the least there is, R R^T = X^T X / mean + 1."""
    table, ids = noise(60, 24), IDS
    model = model_of(proto_of(TIED["Transpose"], table=table))
    model.infer_shapes()
    low_rank(model, context(calibration=Given({"ids": ids})), ranks={"MatMul_y": "product 6"})
    narrow, rows = sorted((w for w in saved_weights(model).values()), key=len)
    read = np.tanh(table[ids]).reshape(-1, 24).astype(np.float64)
    product = read.T @ read
    root = np.linalg.cholesky(product / (np.trace(product) / 24) + np.eye(24))
    whitened = root.T @ table.T
    left = np.square(root.T @ (table.T - narrow @ rows.T)).sum() / np.square(whitened).sum()
    assert left == pytest.approx(tail(whitened, 6), rel=1e-5)


def test_a_tied_table_around_a_branch():
    text = """g (bool c, int64[N] ids) => (float[N,60] y) {
        rows = Gather(table, ids)
        y = If (c) <then_branch = p () => (float[N,60] u) { t = Transpose(table)  u = MatMul(rows, t) },
                    else_branch = q () => (float[N,60] v) { v = MatMul(rows, k) }> }"""
    source = proto_of(text, table=TABLE, k=noise(24, 60))
    model = model_of(source)
    model.infer_shapes()
    assert len(low_rank(model, context(), only=["MatMul_u"]).touched) == 1
    for c in (True, False):
        feeds = {"c": np.array(c), "ids": IDS[0]}
        close(outputs(model, **feeds)[0], outputs(source, **feeds)[0])


NEEDED = {
    "a lookup that is skipped": (
        TIED["Transpose"],
        {"skip": ["Gather_rows"]},
        "Gather_rows reads its table, and is skipped",
    ),
    "a sum over it": (
        TIED["transB"].replace("Tanh(rows)", "Add(rows, m)").replace("{\n", "{ m = ReduceSum<keepdims=0>(table)\n"),
        {},
        "others read its weight too",
    ),
    "columns that are looked up": (
        TIED["transB"].replace("Gather(", "Gather<axis=1>(").replace("Tanh(rows)", "MatMul(k, rows)"),
        {},
        "others read its weight too",
    ),
}


@pytest.mark.parametrize(("text", "options", "reason"), NEEDED.values(), ids=NEEDED)
def test_a_tied_table_that_something_else_needs_is_declined(text, options, reason):
    model = model_of(proto_of(text, table=TABLE, b=BIAS, k=noise(24, 60)))
    model.infer_shapes()
    change = low_rank(model, context(), **options)
    assert not change.touched and any(reason in declined.reason for declined in change.declined)
