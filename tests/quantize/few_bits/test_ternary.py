"""ternarize_weights and binarize_weights against their formulas in plain NumPy, and against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.quantize.few_bits.ternary import binarize_weights, ternarize_weights
from compress_ops.runtime import open_session
from tests.helpers import applied, context, model_of, noise, outputs, sqnr_db

MATMUL = "g (float[B, 96] x) => (float[B, 40] y) { y = MatMul(x, w) }"
EYE = np.eye(96, dtype=np.float32)


def decoded(operation, weight, **options):
    """The decoded weight as onnxruntime reads it, and what the pass told."""
    model, change = applied(operation, model_of(MATMUL, w=weight), **options)
    return outputs(model, x=EYE)[0], change, model


def ternary(column: np.ndarray, threshold: float) -> np.ndarray:
    """Li & Liu: d = threshold * mean|w|, a = mean of |w| above d."""
    kept = np.abs(column) > threshold * np.abs(column).mean()
    scale = np.abs(column[kept]).mean() if kept.any() else 0
    return np.where(kept, np.sign(column) * scale, 0)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 3.9])
def test_ternary_weights_of_the_paper(threshold):
    weight = noise(96, 40)
    found, _, _ = decoded(ternarize_weights, weight, threshold=threshold)
    expected = np.stack([ternary(column, threshold) for column in weight.T], axis=1)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(weight).max()


def test_the_default_threshold_is_the_best_of_all():
    weight = np.random.default_rng(0).standard_t(4, (96, 40)).astype(np.float32)
    found, _, _ = decoded(ternarize_weights, weight)
    for i, column in enumerate(weight.T):
        candidates = [ternary(column, share) for share in np.abs(column) / np.abs(column).mean() * 0.999999]
        best = min(np.square(column - candidate).sum() for candidate in candidates)
        assert np.square(column - found[:, i]).sum() <= best * (1 + 1e-5)


def test_binary_weights_are_signs_times_the_mean():
    weight = noise(96, 40)
    found, change, _ = decoded(binarize_weights, weight)
    expected = np.where(weight < 0, -1, 1) * np.abs(weight).mean(axis=0)
    assert np.abs(found - expected).max() < 1e-6
    assert change.touched == {"w": "3840 signs and 40 scales"}


@pytest.mark.parametrize("operation", [ternarize_weights, binarize_weights])
def test_one_scale_for_the_whole_weight(operation):
    found, _, _ = decoded(operation, noise(96, 40), per_channel=False)
    assert len(np.unique(np.abs(found))) <= 2


@pytest.mark.parametrize(("operation", "bits"), [(ternarize_weights, 1.6), (binarize_weights, 1)])
def test_what_is_stored_and_what_runs(operation, bits, tmp_path):
    _, _, model = decoded(operation, noise(96, 40))
    signs = next(value.const_value for value in model.weights() if value.name == "w_signs")
    assert signs.nbytes == 96 * 40 * bits / 8
    with model.exported() as path:
        open_session(path, optimized_to=tmp_path / "optimized.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == ["MatMul"]


@pytest.mark.parametrize("operation", [ternarize_weights, binarize_weights])
def test_convolutions_have_a_scale_for_each_output_channel(operation):
    text = """g (float[1, 8, 9, 9] x) => (float[1, 16, H, W] y) {
        h = Conv(x, v)  y = ConvTranspose(h, w) }"""
    weights = {"v": noise(32, 8, 3, 3), "w": noise(32, 16, 3, 3, seed=1)}
    model = model_of(text, **weights)
    operation(model, context(), threshold=0.7) if operation is ternarize_weights else operation(model, context())
    x, axes = noise(1, 8, 9, 9), {"v": 0, "w": 1}
    for name, weight in weights.items():
        rows = np.moveaxis(weight, axes[name], 0)
        decoded = np.stack(
            [
                ternary(row, 0.7) if operation is ternarize_weights else np.where(row < 0, -1, 1) * np.abs(row).mean()
                for row in rows
            ]
        )
        weights[name] = np.moveaxis(decoded, 0, axes[name]).astype(np.float32)
    (found,), (expected,) = outputs(model, x=x), outputs(model_of(text, **weights), x=x)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("operation", [ternarize_weights, binarize_weights])
@pytest.mark.parametrize("value", [0.0, 1e-30, -0.3, 3e38])
def test_constant_weights_are_kept(operation, value):
    found, _, _ = decoded(operation, np.full((96, 40), value, np.float32))
    assert np.abs(found - np.float32(value)).max() <= abs(value) * 1e-6


def test_a_zero_channel_stays_zero():
    weight = noise(96, 40)
    weight[:, 3] = 0
    for operation in (ternarize_weights, binarize_weights):
        assert not decoded(operation, weight)[0][:, 3].any()


def test_sqnr_and_the_share_of_zeros_are_told():
    weight = noise(96, 40)
    found, change, _ = decoded(ternarize_weights, weight)
    expected = sqnr_db(weight, found)
    assert change.notes["sqnr_db"] == {"w": pytest.approx(expected, abs=0.01)}
    assert change.touched == {"w": f"3840 signs and 40 scales, {(found == 0).mean():.0%} of them zero"}
