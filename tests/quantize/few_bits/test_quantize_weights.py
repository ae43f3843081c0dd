"""quantize_weights against plain NumPy, onnxruntime's own quantizer, and what onnxruntime computes from the result."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.data import Dataset
from compress_ops.errors import PassError
from compress_ops.graph import layer_inputs
from compress_ops.graph.clean.simplify import simplify
from compress_ops.quantize.few_bits import support
from compress_ops.quantize.few_bits.gptq import compensated_codes
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.numbers.blocks import Blocked, BlockFormat, Grid, rounded_codes, signal_to_noise
from compress_ops.quantize.numbers.rounding import half_quadratic, nearest
from compress_ops.runtime import open_session
from tests.helpers import Given, applied, context, model_of, noise, op_types, outputs, proto, proto_of, reloaded

EPS = np.finfo(np.float32).eps
MATMUL = "g (float[B, 96] x) => (float[B, 40] y) { y = MatMul(x, w) }"
GATHER = "g (int64[B, S] ids) => (float[B, S, D] y) { y = Gather(table, ids) }"
CONV = "g (float[B, 8, 9, 9] x) => (float[B, 24, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }"
CONV_WEIGHTS = {"w": noise(24, 8, 3, 3), "b": noise(24, seed=1)}
TIED = """g (int64[B, S] ids) => (float[B, S, 50] y) {
    rows = Gather(table, ids)  turned = Transpose<perm = [1, 0]>(table)  y = MatMul(rows, turned) }"""
TIED_GEMM = "g (int64[B] ids) => (float[B, 50] y) { rows = Gather(table, ids)  y = Gemm<transB = 1>(rows, table) }"


def quantized(source, /, calibration: Dataset | None = None, **options):
    """The model after the pass, checked for a kept contract and a valid graph, and what the pass told."""
    model, change = applied(quantize_weights, source, context(calibration=calibration), **options)
    model.check()
    return model, change


def rounded(weight: np.ndarray, bits: int, size: int, symmetric: bool = False) -> np.ndarray:
    """The rule in plain NumPy, block by block: round to nearest over the block's whole range."""
    rows, inner = weight.shape
    result = np.zeros_like(weight)
    for row in range(rows):
        for start in range(0, inner, size):
            block = weight[row, start : start + size]
            result[row, start : start + size] = rounded_block(block, bits, symmetric)
    return result


def rounded_block(block: np.ndarray, bits: int, symmetric: bool) -> np.ndarray:
    top, middle = 2**bits - 1, 2 ** (bits - 1)
    low, high = np.float32(min(block.min(), 0)), np.float32(max(block.max(), 0))
    if symmetric:
        extreme = high if high > -low else low
        scale, zero = -extreme / np.float32(middle), middle
    else:
        scale = (high - low) / np.float32(top)
        zero = np.clip(np.rint(-low / scale), 0, top)
    return (np.clip(np.rint(block / scale) + zero, 0, top) - zero) * scale


def product_bound(x: np.ndarray, weight: np.ndarray, roundings: int) -> float:
    """Largest float32 rounding error of x @ weight with so many roundings of each term."""
    return float((np.abs(x) @ np.abs(weight)).max() * (x.shape[-1] + roundings) * EPS)


def assert_close_codes(found: np.ndarray, expected: np.ndarray, step: np.ndarray) -> None:
    """Equal but for a few ties that another order of float32 operations rounds the other way."""
    differences = np.abs(found - expected)
    assert differences.max() <= step.max() * 1.001
    assert (differences > step.min() * 0.5).mean() < 0.002


# The numbers


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("inner", "size"), [(96, 32), (100, 32), (20, 64)])
def test_blocks_follow_the_plain_rule(bits, symmetric, inner, size):
    weight, form = noise(6, inner), BlockFormat(bits, size, symmetric)
    grid = nearest(weight, form, clip=False)
    codes = rounded_codes(weight, form, grid)
    values = form.values(codes.reshape(6, -1, size), grid).reshape(6, -1)[:, :inner]
    assert_close_codes(values, rounded(weight, bits, size, symmetric), np.abs(grid.scale))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [16, 32, 128])
def test_same_numbers_as_onnxruntimes_own_quantizer(size, symmetric):
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    source = proto_of(MATMUL, w=noise(96, 40))
    config = DefaultWeightOnlyQuantConfig(block_size=size, is_symmetric=symmetric, accuracy_level=0)
    theirs = MatMulNBitsQuantizer(onnx.ModelProto.FromString(source.SerializeToString()), algo_config=config)
    theirs.process()
    x = noise(5, 96, seed=1)
    ours, _ = quantized(source, method="rtn", clip=False, block_size=size, symmetric=symmetric, accuracy_level=0)
    (expected,), (found,) = outputs(theirs.model.model, x=x), outputs(ours, x=x)
    (plain,) = outputs(source, x=x)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected - plain).max()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq", "decoded"])
@pytest.mark.parametrize("inner", [96, 100])
def test_matmul_computes_with_the_rounded_weight(storage, bits, inner):
    if storage == "qdq" and bits < 4:
        pytest.skip("DequantizeLinear has no such codes")
    weight, x = noise(inner, 40), noise(5, inner, seed=1)
    text = MATMUL.replace("96", str(inner))
    model, change = quantized(
        model_of(text, w=weight), bits=bits, storage=storage, method="rtn", clip=False, accuracy_level=0
    )
    size = 4 if storage == "qdq" and inner == 100 else 32
    expected = rounded(weight.T, bits, size).T
    (found,) = outputs(model, x=x)
    assert np.abs(found - x @ expected).max() <= product_bound(x, expected, 4)
    assert change.touched == {"MatMul_y": f"{bits} bits in blocks of {size} by rtn"}


def test_accuracy_level_4_rounds_activations_to_int8():
    weight, x = noise(96, 40), noise(5, 96, seed=1)
    model, _ = quantized(model_of(MATMUL, w=weight), method="rtn", clip=False)
    expected = rounded(weight.T, 4, 32).T
    (found,) = outputs(model, x=x)
    half_step = np.abs(x).reshape(5, 3, 32).max(axis=2) / 127 / 2
    bound = half_step @ np.abs(expected).reshape(3, 32, 40).sum(axis=1)
    error = np.abs(found - x @ expected)
    assert (error <= bound * 1.01 + product_bound(x, expected, 4)).all()
    assert error.max() > product_bound(x, expected, 4)


@pytest.mark.parametrize("form", ["Gemm(x, w)", "Gemm(x, w, b)", "Gemm<transB = 1>(x, w, b)"])
@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq", "decoded"])
def test_gemm(form, storage):
    weight, bias, x = noise(96, 40), noise(40, seed=2), noise(5, 96, seed=1)
    stored = weight.T.copy() if "transB" in form else weight
    model, _ = quantized(
        model_of(MATMUL.replace("MatMul(x, w)", form), w=stored, b=bias),
        method="rtn",
        clip=False,
        storage=storage,
        accuracy_level=0,
    )
    expected = rounded(weight.T, 4, 32).T
    (found,) = outputs(model, x=x)
    plain = x @ expected + (bias if ", b" in form else 0)
    assert np.abs(found - plain).max() <= product_bound(x, expected, 6)


@pytest.mark.parametrize("size", [32, 64], ids=["32 of 96", "64, which do not divide 96"])
def test_onnxruntime_fuses_qdq_into_matmulnbits(size, tmp_path):
    model, _ = quantized(model_of(MATMUL, w=noise(96, 40)), storage="qdq", block_size=size)
    assert op_types(model) == {"DequantizeLinear": 1, "MatMul": 1}
    assert run_types(model, tmp_path) == ["MatMulNBits"]


@pytest.mark.parametrize("source", [MATMUL, CONV, TIED], ids=["matrix", "kernel", "tied"])
def test_blocks_of_qdq_are_equal_run_along_axis_0_and_are_powers_of_two(source):
    """What readers other than onnxruntime need: OpenVINO gives wrong numbers for others."""
    weights = {MATMUL: {"w": noise(96, 40)}, CONV: CONV_WEIGHTS, TIED: {"table": noise(50, 80)}}[source]
    model, _ = quantized(model_of(source, **weights), storage="qdq", block_size=64)
    (node,) = [node for node in model.nodes() if node.op_type == "DequantizeLinear"]
    codes, scale = (value.const_value.shape.numpy() for value in node.inputs[:2])
    size = node.attributes["block_size"].as_int()
    assert node.attributes["axis"].as_int() == 0 and size * scale[0] == codes[0]
    assert size == {MATMUL: 32, CONV: 8, TIED: 16}[source]


def test_a_kernel_of_few_numbers_is_one_block():
    text = CONV.replace("B, 8, 9, 9", "B, 3, 9, 9").replace("24, H", "240, H")
    kernel, bias, x = noise(240, 3, 3, 3), noise(240, seed=1), noise(1, 3, 9, 9, seed=2)
    model, change = quantized(model_of(text, w=kernel, b=bias), storage="qdq", method="rtn", clip=False)
    assert change.touched == {"Conv_y": "4 bits in blocks of 27 by rtn"}
    weight = rounded(kernel.reshape(240, 27), 4, 27).reshape(kernel.shape)
    bound = 40 * EPS * np.abs(x).max() * np.abs(weight).sum(axis=(1, 2, 3)).max()
    assert np.abs(outputs(model, x=x)[0] - outputs(proto_of(text, w=weight, b=bias), x=x)[0]).max() <= bound


def test_rows_that_fall_into_no_equal_blocks_are_declined():
    _, change = quantized(model_of(MATMUL.replace("96", "97"), w=noise(97, 40)), storage="qdq")
    assert not change.touched and change.declined[0].reason.endswith(" in equal blocks of 1")


def run_types(model, tmp_path) -> list[str]:
    """Operators of the graph that onnxruntime really runs."""
    with model.exported() as path:
        open_session(path, optimized_to=tmp_path / "optimized.onnx")
    return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


# Embeddings


@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq", "decoded"])
@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("inner", [64, 100, 37, 20])
def test_embeddings(storage, bits, inner):
    if storage == "qdq" and bits == 3:
        pytest.skip("DequantizeLinear has no such codes")
    table, ids = noise(50, inner), np.array([[0, 7, 49], [-1, -50, 3]])
    model, _ = quantized(model_of(GATHER, table=table), bits=bits, storage=storage, method="rtn", clip=False)
    expected = rounded(table, bits, 32)[ids]
    (found,) = outputs(model, ids=ids)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 4 * EPS * np.abs(expected).max() * 2**bits
    assert ("GatherBlockQuantized" in op_types(model)) == (storage == "MatMulNBits")


def test_symmetric_embeddings_without_zero_points():
    table, ids = noise(50, 64), np.arange(50)[None]
    for storage in ("MatMulNBits", "decoded"):
        model, _ = quantized(model_of(GATHER, table=table), symmetric=True, method="rtn", clip=False, storage=storage)
        (found,) = outputs(model, ids=ids)
        assert np.abs(found[0] - rounded(table, 4, 32, symmetric=True)).max() <= 8 * EPS * np.abs(table).max()


@pytest.mark.parametrize("source", [TIED, TIED_GEMM], ids=["Transpose", "transB"])
@pytest.mark.parametrize("inner", [64, 40])
@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("storage", ["MatMulNBits", "decoded", "qdq"])
def test_tied_embeddings_stay_one_tensor(storage, bits, inner, source):
    if storage == "qdq" and bits == 3:
        pytest.skip("DequantizeLinear has no such codes")
    table, ids = noise(50, inner), np.array([[0, 7, 49]])
    if source is TIED_GEMM:
        ids = ids[0]
    model, change = quantized(
        model_of(source, table=table), bits=bits, storage=storage, method="rtn", clip=False, accuracy_level=0
    )
    expected = rounded(table, bits, 8 if storage == "qdq" and inner == 40 else 32)
    (found,) = outputs(model, ids=ids)
    assert np.abs(found - expected[ids] @ expected.T).max() <= product_bound(expected[ids.ravel()], expected.T, 8)
    assert len(change.touched) == 2
    codes = sum(value.const_value.nbytes for value in model.weights() if "_int" in value.name)
    assert codes <= 50 * -(-inner // 32) * 32 * bits // 8


# Convolutions


@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq"])
@pytest.mark.parametrize("bits", [4, 8])
def test_convolution(storage, bits):
    x = noise(2, 8, 9, 9, seed=2)
    model, _ = quantized(model_of(CONV, **CONV_WEIGHTS), bits=bits, storage=storage, method="rtn", clip=False)
    weight = rounded(CONV_WEIGHTS["w"].reshape(24, 72), bits, 8 if storage == "qdq" else 32).reshape(24, 8, 3, 3)
    (expected,) = outputs(proto_of(CONV, w=weight, b=CONV_WEIGHTS["b"]), x=x)
    (found,) = outputs(model, x=x)
    assert np.abs(found - expected).max() <= 80 * EPS * np.abs(x).max() * np.abs(weight).sum(axis=(1, 2, 3)).max()


def test_convolutions_are_unpacked_at_load(tmp_path):
    model, _ = quantized(model_of(CONV, **CONV_WEIGHTS), bits=4)
    assert "Conv" in run_types(model, tmp_path)
    assert not {"Gather", "Mul", "DequantizeLinear"} & set(run_types(model, tmp_path))
    assert model.stored_bytes() < model_of(CONV, **CONV_WEIGHTS).stored_bytes()


def test_depthwise_and_transposed_convolutions():
    text = """g (float[B, 64, 9, 9] x) => (float[B, 16, H, W] y) {
        z = Conv<group = 64>(x, depthwise)  y = ConvTranspose(z, turned) }"""
    weights, x = {"depthwise": noise(64, 1, 3, 3), "turned": noise(64, 16, 2, 2)}, noise(1, 64, 9, 9)
    model, change = quantized(model_of(text, **weights), bits=8, method="rtn", clip=False)
    rounded_weights = {n: rounded(w.reshape(64, -1), 8, 32).reshape(w.shape) for n, w in weights.items()}
    (expected,), (found,) = outputs(proto_of(text, **rounded_weights), x=x), outputs(model, x=x)
    assert len(change.touched) == 2
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


# Rounding methods


def loss(weight, codes, grid, form, hessian):
    error = weight - form.values(codes.reshape(len(weight), -1, form.size), grid).reshape(weight.shape)
    return float(np.einsum("ri,ij,rj->", error, hessian, error))


def frantar(weight, hessian, form, grid, damping, order):
    """GPTQ as published: column by column, with the upper Cholesky factor of the inverse Hessian."""
    weight = weight[:, order].astype(np.float64)
    hessian = hessian[np.ix_(order, order)].astype(np.float64)
    hessian[np.diag_indices_from(hessian)] += damping * np.diag(hessian).mean()
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    codes = np.zeros(weight.shape, np.uint8)
    for i, column in enumerate(order):
        scale, zero = grid.scale[:, column // form.size], form.zero(grid)[:, column // form.size]
        codes[:, i] = np.clip(np.rint(weight[:, i] / scale) + zero, 0, form.top)
        error = (weight[:, i] - (codes[:, i] - zero) * scale) / factor[i, i]
        weight[:, i:] -= np.outer(error, factor[i, i:])
    return codes[:, np.argsort(order)]


@pytest.mark.parametrize("active_first", [True, False])
def test_gptq_is_the_published_algorithm(active_first):
    weight, inputs = noise(20, 160), noise(400, 20, seed=1) @ noise(20, 160, seed=2) + noise(400, 160, seed=3)
    hessian, form = inputs.T @ inputs, BlockFormat(4, 32, False)
    grid = nearest(weight, form, clip=False)
    order = np.argsort(np.diag(hessian), kind="stable")[::-1] if active_first else np.arange(160)
    found = compensated_codes(weight, hessian, form, grid, 0.01, active_first)
    expected = frantar(weight, hessian, form, grid, 0.01, order)
    assert (found != expected).mean() < 0.02  # a tie that float32 rounds the other way shifts what follows
    assert loss(weight, found, grid, form, hessian) == pytest.approx(
        loss(weight, expected, grid, form, hessian), rel=0.02
    )
    assert loss(weight, found, grid, form, hessian) < 0.3 * loss(
        weight, rounded_codes(weight, form, grid), grid, form, hessian
    )


def test_gptq_with_a_hessian_that_is_not_definite_takes_more_damping():
    weight, form = noise(4, 32), BlockFormat(4, 16, False)
    hessian = -np.eye(32, dtype=np.float32)
    hessian[0, 0] = 33.0
    grid = nearest(weight, form, clip=False)
    assert compensated_codes(weight, hessian, form, grid, 0.01, True).shape == (4, 32)


def test_clipping_and_hqq_never_lose_to_plain_rounding_by_their_own_measure():
    weight, form = np.random.default_rng(0).standard_t(3, (8, 128)).astype(np.float32), BlockFormat(3, 32, False)
    plain, clipped, fitted = nearest(weight, form, False), nearest(weight, form, True), half_quadratic(weight, form)

    def norm(grid: Grid, power: float) -> float:
        codes = rounded_codes(weight, form, grid).reshape(8, -1, 32)
        return float((np.abs(form.blocked(weight) - form.values(codes, grid)) ** power).sum())

    assert norm(clipped, 2) < 0.95 * norm(plain, 2)
    assert norm(fitted, 0.7) < norm(clipped, 0.7) < norm(plain, 0.7)


@pytest.mark.parametrize("symmetric", [False, True])
def test_hqq_keeps_zero_points_whole_and_scales_of_one_sign(symmetric):
    weight, form = noise(8, 128), BlockFormat(4, 32, symmetric)
    grid = half_quadratic(weight, form)
    assert (grid.zero is None) == symmetric
    assert np.isfinite(grid.scale).all()
    assert (grid.scale != 0).all()


def calibration(seed: int, count: int = 3) -> Given:
    mixing = noise(10, 96, seed=seed)  # inputs go together in ten directions, which is what GPTQ can make use of
    return Given(*({"x": noise(64, 10, seed=seed + i) @ mixing + noise(64, 96, seed=100 + i)} for i in range(count)))


def test_gptq_through_the_pass_lessens_the_output_error():
    weight, data = noise(96, 40), calibration(7)
    x = np.concatenate([feeds["x"] for feeds in data.feeds])
    errors = {}
    for method in ("rtn", "hqq", "gptq"):
        model, change = quantized(model_of(MATMUL, w=weight), data, method=method, accuracy_level=0)
        errors[method] = np.square(outputs(model, x=x)[0] - x @ weight).mean()
        assert change.chosen == {"method": method}
    assert errors["gptq"] < 0.4 * min(errors["rtn"], errors["hqq"])


def test_method_follows_from_the_data():
    assert quantized(model_of(MATMUL, w=noise(96, 40)))[1].chosen == {"method": "hqq"}
    assert quantized(model_of(MATMUL, w=noise(96, 40)), calibration(1))[1].chosen == {"method": "gptq"}


def test_hessians_are_the_same_in_any_grouping(monkeypatch):
    text = "g (float[B, 96] x) => (float[B, 40] y) { h = MatMul(x, v) r = Relu(h) y = MatMul(r, w) }"
    weights, data = {"v": noise(96, 64), "w": noise(64, 40, seed=1)}, calibration(7)
    whole, _ = quantized(model_of(text, **weights), data)
    monkeypatch.setattr(layer_inputs, "HELD", 8)
    grouped, _ = quantized(model_of(text, **weights), data)
    assert proto(whole).SerializeToString() == proto(grouped).SerializeToString()


def test_gptq_of_a_convolution_sees_patches():
    x = noise(16, 8, 9, 9, seed=3) + noise(16, 1, 9, 9, seed=4) * 3  # channels go together
    plain = outputs(proto_of(CONV, **CONV_WEIGHTS), x=x)[0]
    errors = {}
    for method in ("rtn", "gptq"):
        model, change = quantized(model_of(CONV, **CONV_WEIGHTS), Given({"x": x}), method=method)
        errors[method] = np.square(outputs(model, x=x)[0] - plain).mean()
    assert errors["gptq"] < 0.6 * errors["rtn"]
    assert list(change.touched.values()) == ["4 bits in blocks of 32 by gptq"]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_data_that_does_not_exercise_a_weight_falls_back_to_hqq(value):
    data = Given({"x": np.full((4, 96), value, np.float32)})
    model, change = quantized(model_of(MATMUL, w=noise(96, 40)), data, method="gptq")
    assert op_types(model) == {"MatMulNBits": 1}
    (told,) = change.touched.values()
    assert told.endswith("by hqq (its inputs are zero or not finite on the calibration data)")


# The report


def test_sqnr_of_the_worst_tensors():
    weight = noise(96, 40)
    _, change = quantized(model_of(MATMUL, w=weight), method="rtn", clip=False)
    error = weight - rounded(weight.T, 4, 32).T
    expected = 10 * np.log10(np.square(weight).sum() / np.square(error).sum())
    assert change.notes["sqnr_db"] == {"w": pytest.approx(expected, abs=0.01)}


def test_sqnr_of_a_weight_that_is_kept_exactly_is_infinite():
    form, grid = BlockFormat(4, 16, True), Grid(np.ones((1, 1), np.float32), None)
    codes = np.arange(16, dtype=np.uint8)[None]
    assert signal_to_noise(codes - np.float32(8), Blocked(form, 1, 16, grid, lambda: codes, "")) == np.inf


# Bad input


@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq", "decoded"])
@pytest.mark.parametrize("method", ["rtn", "hqq"])
@pytest.mark.parametrize("value", [0.0, 1e-41, 0.3, -0.3, 3e38])
def test_constant_weights(value, method, storage):
    weight = np.full((96, 40), value, np.float32)
    model, _ = quantized(model_of(MATMUL, w=weight), method=method, storage=storage, accuracy_level=0)
    (found,) = outputs(model, x=np.eye(96, dtype=np.float32))
    expected = 0 if abs(value) < np.finfo(np.float32).tiny else value
    assert np.abs(found - expected).max() <= abs(expected) * 1e-6


def test_gptq_of_an_all_zero_weight():
    model, _ = quantized(model_of(MATMUL, w=np.zeros((96, 40), np.float32)), calibration(1), accuracy_level=0)
    assert not outputs(model, x=noise(3, 96))[0].any()


def test_an_outlier_coarsens_its_own_block_only():
    weight = noise(96, 40)
    weight[5, 7] = 1e6
    model, _ = quantized(model_of(MATMUL, w=weight), method="rtn", clip=False, accuracy_level=0)
    (found,) = outputs(model, x=np.eye(96, dtype=np.float32))
    error = np.abs(found - weight)
    error[:32, 7] = 0
    assert error.max() <= 0.5 * (weight.max(initial=0, where=weight < 1e5) - weight.min()) / 15 * 1.01


def test_a_weight_that_something_else_needs_is_declined():
    text = "g (float[B, 96] x) => (float[B, 40] y) { n = ReduceSum<keepdims = 0>(w) p = MatMul(x, w) y = Add(p, n) }"
    _, change = quantized(model_of(text, w=noise(96, 40)))
    assert [d.reason for d in change.declined] == [
        "MatMul: ReduceSum ReduceSum_n reads its weight too and needs it as it is"
    ]


def test_a_weight_read_by_rows_and_by_columns_is_declined():
    text = """g (float[B, 64] x) => (float[B, 64] y) { h = Gemm<transB = 1>(x, w) y = MatMul(h, w) }"""
    _, change = quantized(model_of(text, w=noise(64, 64)))
    assert len(change.declined) == 2
    assert all("by rows and by columns" in declined.reason for declined in change.declined)


def test_what_patterns_leave_out_protects_a_shared_weight():
    _, change = quantized(model_of(TIED, table=noise(50, 64)), skip=["MatMul"])
    assert [declined.name for declined in change.declined] == ["Gather_rows"]
    assert not change.touched


@pytest.mark.parametrize("storage", ["MatMulNBits", "qdq"])
def test_a_model_that_is_quantized_already_is_declined_and_left_as_it_is(storage):
    model, _ = quantized(model_of(MATMUL, w=noise(96, 40)), storage=storage)
    before = proto(model).SerializeToString()
    _, change = quantized(reloaded(model))
    assert not change.touched
    assert [declined.reason.split(": ")[1] for declined in change.declined] == ["its weight is quantized already"]
    assert proto(model).SerializeToString() == before


def test_small_weights_are_not_worth_it():
    text = "g (float[B, 4] x) => (float[B, 4] y) { y = MatMul(x, w) }"
    _, change = quantized(model_of(text, w=noise(4, 4)))
    assert change.declined[0].reason.startswith("MatMul: its weight of 64 bytes would take")


def test_a_tiny_part_of_a_big_model_is_left_alone():
    text = (
        "g (float[B, 1024] x, int64[B] k) => (float[B, 1024] y) { h = MatMul(x, w) t = Gather(kinds, k) y = Add(h, t) }"
    )
    _, change = quantized(model_of(text, w=noise(1024, 1024), kinds=noise(1, 1024)), method="rtn")
    assert list(change.touched) == ["MatMul_h"]
    assert change.declined[0].reason == "Gather: its weight of 4096 bytes is below 0.1 % of the model's"


def test_qdq_raises_the_opset():
    source = proto_of('<ir_version: 7, opset_import: ["": 13]>\n' + MATMUL, w=noise(96, 40))
    model, _ = quantized(source, storage="qdq")
    assert model.opset == 21


@pytest.mark.parametrize("bits", [2, 3])
def test_a_storage_without_such_codes_names_those_with(bits):
    with pytest.raises(PassError, match=f"storage qdq with {bits} bits does not run on 'cpu'") as caught:
        quantized(model_of(MATMUL, w=noise(96, 40)), bits=bits, storage="qdq")
    assert caught.value.hint == f"storage that runs here with {bits} bits: MatMulNBits, decoded"


def test_a_provider_that_refuses_the_kernel_is_told_apart_before_any_work(monkeypatch):
    def refuse(path, providers):
        raise PassError("no kernel for MatMulNBits")

    monkeypatch.setattr(support, "open_session", refuse)
    with pytest.raises(PassError, match="no kernel for MatMulNBits") as caught:
        quantized(model_of(MATMUL, w=noise(96, 40)))
    assert caught.value.hint == "storage that runs here with 4 bits: decoded"


def test_gptq_without_data():
    with pytest.raises(PassError, match="method gptq needs calibration data"):
        quantized(model_of(MATMUL, w=noise(96, 40)), method="gptq")


# Other shapes of models


@pytest.mark.parametrize("storage", ["MatMulNBits", "decoded"])
def test_weights_of_subgraphs(storage):
    text = """g (bool c, float[B, 96] x) => (float[B, 40] y) {
        y = If(c) <
            then_branch = yes () => (float[B, 40] p) { p = MatMul(x, w) },
            else_branch = no () => (float[B, 40] q) { n = Neg(x) q = MatMul(n, w) }
        >
    }"""
    weight, x = noise(96, 40), noise(3, 96, seed=1)
    model, change = quantized(
        model_of(text, w=weight), calibration(1), method="rtn", clip=False, storage=storage, accuracy_level=0
    )
    expected = x @ rounded(weight.T, 4, 32).T
    assert len(change.touched) == 2
    for condition, sign in ((True, 1), (False, -1)):
        (found,) = outputs(model, c=np.array(condition), x=x)
        assert np.abs(found - sign * expected).max() <= product_bound(x, weight, 8)


@pytest.mark.parametrize("storage", ["MatMulNBits", "decoded"])
def test_float16_models_keep_their_type(storage):
    text = MATMUL.replace("float[", "float16[")
    weight, x = noise(96, 40).astype(np.float16), noise(3, 96, seed=1).astype(np.float16)
    model, _ = quantized(model_of(text, w=weight), Given({"x": x}), storage=storage, accuracy_level=0)
    (found,), (plain,) = outputs(model, x=x), outputs(proto_of(text, w=weight), x=x)
    assert found.dtype == np.float16
    assert np.abs(found - plain).max() < 0.2 * np.abs(plain).max()


def test_codes_are_made_when_the_model_is_saved():
    import onnx_ir as ir

    model, _ = quantized(model_of(MATMUL, w=noise(96, 40)), method="rtn")
    codes = next(value for value in model.weights() if value.name == "w_int4")
    assert isinstance(codes.const_value, ir.LazyTensor)
    assert codes.const_value.nbytes == 96 * 40 // 2


def test_simplify_afterwards_does_not_undo_it():
    for storage in ("MatMulNBits", "qdq"):
        model, _ = quantized(model_of(MATMUL, w=noise(96, 40)), storage=storage)
        before = model.stored_bytes()
        simplify(model, context())
        assert model.stored_bytes() <= before, storage
