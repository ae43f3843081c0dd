"""learn_rounding: codes go up or down so that X (w - s q) is smallest; nothing else of the model changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

from compress_ops.errors import BrokenPromise
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.mend.correct_bias import correct_bias
from compress_ops.quantize.mend.descent import descend, errors
from compress_ops.quantize.mend.learn_rounding import learn_rounding
from tests.helpers import Given, context, model_of, noise, op_types, outputs, proto, saved_weights
from tests.quantize.mend.mend_case import error_of, made, rounded, source_of

MIXED = noise(40, 40, seed=11)[:12] @ noise(40, 40, seed=12)
X = noise(200, 12, seed=1) @ MIXED + noise(200, 40, seed=2, scale=0.3)  # inputs that move together
W, B = noise(40, 24, seed=3), noise(24, seed=4)
IMAGES = np.kron(noise(12, 6, 2, 2, seed=5), np.ones((4, 4), np.float32))  # neighbours are alike
K = noise(8, 6, 3, 3, seed=6)


def patches(images):
    """[rows, inner] of a 3 x 3 Conv, channels first."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * 9)


LAYERS = {
    "matmul": (source_of("y = MatMul(x, w)", w=W), X, X, W.T),
    "gemm": (source_of("y = Gemm(x, w, b)", w=W, b=B), X, X, W.T),
    "gemm transposed": (source_of("y = Gemm<transB=1>(x, w, b)", w=np.ascontiguousarray(W.T), b=B), X, X, W.T),
    "conv": (source_of("y = Conv(x, k)", IMAGES, "float[N,8,6,6] y", k=K), IMAGES, patches(IMAGES), K.reshape(8, -1)),
}
QUANTIZERS = {
    "static": quantize_static,
    "static, one scale": lambda model, ctx: quantize_static(model, ctx, per_channel=False),
    "static, unsigned": lambda model, ctx: quantize_static(model, ctx, weight_type="uint8"),
    "dynamic": quantize_dynamic,
    "dynamic, one scale": lambda model, ctx: quantize_dynamic(model, ctx, per_channel=False),
}


def quantized(source, *feeds, quantize=quantize_static, learn=True, **options):
    """Quantized, and with rounding learned: the model, and what learn_rounding told."""
    model, ctx = rounded(source, quantize, *feeds)
    if not learn:
        return model, None
    before = model.contract(), op_types(model), model.stored_bytes()
    change = learn_rounding(model, ctx, **options)
    assert (model.contract(), op_types(model), model.stored_bytes()) == before
    onnx.checker.check_model(proto(model), full_check=True)
    return model, change


def restored(model, shape):
    """The weight [rows, inner] that the codes stand for, and its scales; rows are told by their number."""
    found = saved_weights(model)
    name = next(n for n, a in found.items() if a.dtype in (np.int8, np.uint8) and a.size == np.prod(shape))
    base = name.removesuffix("_int8").removesuffix("_uint8")
    scale = next(found[n] for n in (f"{name}_scale", f"{base}_scale") if n in found).reshape(-1, 1)
    zero = found.get(f"{name}_zero_point", np.zeros(1, np.uint8)).astype(np.int16).reshape(-1, 1)
    codes = found[name]
    codes = codes.reshape(shape) if codes.shape[0] == shape[0] else codes.T
    return (codes - zero) * scale, np.broadcast_to(scale, (shape[0], 1))


def squared(rows, error):
    return float(np.square(rows.astype(np.float64) @ error.T).sum())


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize(("source", "x", "rows", "weight"), LAYERS.values(), ids=LAYERS)
def test_codes_go_up_or_down_and_outputs_come_closer(source, x, rows, weight, quantize):
    plain, _ = quantized(source, x, quantize=quantize, learn=False)
    model, change = quantized(source, x[:5], x[5:], quantize=quantize)
    (nearest, scale), (learned, same) = (restored(found, weight.shape) for found in (plain, model))
    np.testing.assert_array_equal(scale, same)
    assert (np.abs(nearest - weight) <= 0.501 * scale).all()
    assert (np.abs(learned - weight) < 1.001 * scale).all()
    before, after = squared(rows, nearest - weight), squared(rows, learned - weight)
    assert after < before / 2
    assert len(change.touched) == 1 and f"{1 - after / before:.0%} less" in next(iter(change.touched.values()))


def test_no_single_code_is_better_the_other_way():
    """The plain statement of where coordinate descent ends, for the damped error that it lessens."""
    model, _ = quantized(LAYERS["matmul"][0], X, sweeps=50)
    learned, scale = restored(model, (24, 40))
    hessian = (X.T @ X).astype(np.float64)
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(40)
    error = W.T - learned
    now = np.einsum("ri,ij,rj->r", error, hessian, error)
    for j in range(40):
        for step in (-1, 1):
            moved = error.copy()
            moved[:, j] += step * scale[:, 0]
            allowed = np.abs(moved[:, j]) < 0.999 * scale[:, 0]
            other = np.einsum("ri,ij,rj->r", moved, hessian, moved)
            assert (other >= now * (1 - 1e-4))[allowed].all()


def test_it_comes_near_the_best_there_is():
    """Against all 2^8 ways to round eight weights."""
    x, w = noise(60, 8, seed=7) @ noise(8, 8, seed=8), noise(8, 30, seed=9)
    model, _ = quantized(source_of("y = MatMul(x, w)", x, "float[N,30] y", w=w), x)
    learned, scale = restored(model, (30, 8))
    ratio, chosen = w.T / scale, np.array(list(product((0, 1), repeat=8)))
    every = (np.floor(ratio)[:, None] + chosen) * scale[:, None]
    best = np.square((every - w.T[:, None]) @ x.T.astype(np.float64)).sum(axis=2).min(axis=1)
    nearest = np.square((np.rint(ratio) * scale - w.T) @ x.T).sum(axis=1)
    found = np.square((learned - w.T) @ x.T).sum(axis=1)
    assert found.sum() - best.sum() < 0.3 * (nearest.sum() - best.sum())


def test_the_descent_is_the_rule_one_column_after_another():
    weight, hessian = noise(5, 300, seed=1), X.T @ X
    mixing = noise(600, 300, seed=2)
    hessian, scale = mixing.T @ mixing, np.full((5, 1), 0.02, np.float32)
    start = np.rint(weight / scale)
    bounds = start - 1, start + 1
    found, q = descend(weight, start, bounds, scale, hessian, 2), start.astype(np.float64)
    for _ in range(2):
        for j in range(300):
            slope = (weight - q * scale) @ hessian[:, j].astype(np.float64)
            q[:, j] = np.clip(np.rint(q[:, j] + slope / (hessian[j, j] * 0.02)), start[:, j] - 1, start[:, j] + 1)
    assert (found != q).mean() < 0.01  # float32 against float64, where two codes are nearly as good
    assert (errors(weight, found, scale, hessian) <= 1.001 * errors(weight, q, scale, hessian)).all()


def test_portable_weights_stay_portable():
    """No pair of codes that a processor without VNNI adds in 16 bits may exceed 128."""
    for name, along in (("matmul", 0), ("gemm transposed", 1)):
        source, x, _, _ = LAYERS[name]
        model, change = quantized(source, x, quantize=lambda m, c: quantize_static(m, c, portable=True))
        codes = next(a for a in saved_weights(model).values() if a.dtype == np.int8 and a.size == W.size).astype(int)
        turned = np.moveaxis(codes, along, 0)
        assert change.touched and np.abs(turned[1:] + turned[:-1]).max() <= 128


def test_outputs_through_onnxruntime():
    source, x = LAYERS["gemm"][:2]
    plain, _ = quantized(source, x, quantize=QUANTIZERS["dynamic, one scale"], learn=False)
    model, _ = quantized(source, x, quantize=QUANTIZERS["dynamic, one scale"])
    exact = outputs(source, x=x)[0].astype(np.float64)
    before, after = (np.square(outputs(found, x=x)[0] - exact).sum() for found in (plain, model))
    assert after < before


def test_one_weight_of_several_layers_is_rounded_for_all_of_them():
    source = source_of("h = MatMul(x, w)  n = Neg(x)  i = MatMul(n, w)  y = Add(h, i)", w=W)
    model, change = quantized(source, X, quantize=quantize_dynamic)
    assert set(change.touched) == {"MatMul_h", "MatMul_i"}
    assert len({array.tobytes() for array in saved_weights(model).values() if array.size == W.size}) == 1
    change = quantized(source, X, quantize=quantize_dynamic, only=["MatMul_h"])[1]
    assert not change.touched
    assert change.declined[0].reason == "MatMul: layers that are not selected read its codes too"


# --- what is declined ---


def declined(source, *feeds, quantize=quantize_dynamic):
    _, change = quantized(source, *feeds, quantize=quantize)
    assert not change.touched
    return [found.reason for found in change.declined]


def test_layers_whose_inputs_say_nothing_are_declined():
    assert declined(LAYERS["matmul"][0], np.zeros((4, 40), np.float32)) == [
        "MatMul: its inputs are all zero on the calibration data"
    ]
    broken = X.copy()
    broken[3, 4] = np.nan
    assert declined(LAYERS["matmul"][0], broken) == ["MatMul: its inputs are not finite on the calibration data"]


def test_inputs_that_do_not_move_together_leave_nothing_to_learn():
    assert declined(LAYERS["matmul"][0], np.eye(40, dtype=np.float32)) == [
        "MatMul: rounding to nearest is best already"
    ]


def test_grouped_convolutions_are_declined():
    source = source_of("y = Conv<group=6>(x, k)", IMAGES, "float[N,42,6,6] y", k=noise(42, 1, 3, 3))
    assert declined(source, IMAGES) == ["Conv: its outputs do not all read all of its inputs"]


def test_weights_in_blocks_are_declined():
    def four_bits(model, ctx):
        return quantize_weights(model, ctx, bits=4, method="rtn")

    reason = "MatMul: its weight is not stored in 8 bits with one scale, or one for each output"
    assert declined(LAYERS["matmul"][0], X, quantize=four_bits) == [reason]


def test_codes_of_another_weight_are_declined():
    model, ctx = model_of(LAYERS["matmul"][0]), context(calibration=Given({"x": X}))
    ctx.earlier = model_of(source_of("y = MatMul(x, w)", w=3 * W))
    quantize_dynamic(model, ctx)
    change = learn_rounding(model, ctx)
    assert not change.touched
    assert [d.reason for d in change.declined] == ["MatMul: its codes are no rounding of the weight before"]


def test_patterns_choose_layers():
    source = source_of("h = MatMul(x, w)  y = MatMul(h, v)", w=W, v=noise(24, 24))
    assert set(quantized(source, X, skip=["MatMul_h"])[1].touched) == {"MatMul_y"}


# --- on real models ---


@pytest.mark.parametrize(("name", "gain"), [("digits-cnn", 1.5), ("digits-mlp", 3)])
def test_real_models_come_closer_on_unseen_images(name, gain, tmp_path):
    steps = ["simplify", "quantize_static: {per_channel: false}"]
    plain = error_of(made(tmp_path / "plain.onnx", name, *steps), name)
    assert error_of(made(tmp_path / "learned.onnx", name, *steps, "learn_rounding"), name) * gain < plain


def test_a_second_step_finds_nothing_left(tmp_path):
    steps = ["simplify", "quantize_static", "learn_rounding: {sweeps: 50}", 'learn_rounding: {only: ["Relu"]}']
    with pytest.raises(BrokenPromise, match="step 4, learn_rounding changed nothing"):
        made(tmp_path / "o.onnx", "digits-mlp", *steps)


def test_correct_bias_goes_on_from_it():
    source, x = LAYERS["gemm"][:2]
    model, ctx = rounded(source, quantize_static, x)
    assert learn_rounding(model, ctx).touched and correct_bias(model, ctx).touched
