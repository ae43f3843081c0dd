"""Sensitivity of layers against NumPy's own rounding of one layer at a time."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.quantize.quantize_one_layer import scan_layers
from tests.helpers import Given, context, model_of, noise, outputs, proto, sqnr_db

ROUNDING_DB = 0.1  # x / scale rounds another way than in float64 for a few numbers of thousands
U, V = noise(40, 64, scale=0.2), noise(64, 24, seed=1)
MLP = "g (float[N,40] x) => (float[N,24] y) { h = MatMul(x, u) [head] y = Gemm<transB=1>(h, v) }"


def coded(x: np.ndarray) -> np.ndarray:
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


def rounded(weight: np.ndarray) -> np.ndarray:
    scale = np.abs(weight).max(axis=0) / 127
    return np.rint(weight / scale) * scale


def in_blocks(weight: np.ndarray, bits: int) -> np.ndarray:
    """Blocks of 32 numbers that one output sums over, from their extremes and zero."""
    top, back = 2**bits - 1, np.empty(weight.shape)
    for column in range(weight.shape[1]):
        for start in range(0, weight.shape[0], 32):
            block = weight[start : start + 32, column].astype(np.float64)
            low, high = min(block.min(), 0), max(block.max(), 0)
            scale = (high - low) / top
            zero = np.rint(-low / scale)
            back[start : start + 32, column] = (np.clip(np.rint(block / scale) + zero, 0, top) - zero) * scale
    return back


@pytest.mark.parametrize("bits", [None, 4, 2])
def test_each_layer_alone_is_what_numpy_rounds(bits):
    model, x = model_of(MLP, u=U, v=V.T.copy()), noise(60, 40, seed=2)
    before = proto(model).SerializeToString()
    data = Given({"x": x[:30]}, {"x": x[30:]})
    found = {e.part.name: e for e in scan_layers(model, context(calibration=data), bits=bits).effects}
    assert proto(model).SerializeToString() == before
    wide = [a.astype(np.float64) for a in (x, U, V)]
    exact = wide[0] @ wide[1] @ wide[2]
    if bits is None:
        expected = coded(wide[0]) @ rounded(wide[1]) @ wide[2], coded(wide[0] @ wide[1]) @ rounded(wide[2])
    else:
        expected = wide[0] @ in_blocks(U, bits) @ wide[2], wide[0] @ wide[1] @ in_blocks(V, bits)
    for name, one in zip(("MatMul_h", "head"), expected, strict=True):
        assert found[name].sqnr_db == pytest.approx(sqnr_db(exact, one), abs=ROUNDING_DB)


def test_a_convolution_and_what_is_saved():
    text = "g (float[N,4,6,6] x) => (float[N,8,4,4] y) { y = Conv(x, w) }"
    weight, x = noise(8, 4, 3, 3), noise(6, 4, 6, 6, seed=3)
    model = model_of(text, w=weight)
    (effect,) = scan_layers(model, context(calibration=Given({"x": x}))).effects
    rows = rounded(weight.reshape(8, -1).T.astype(np.float64)).T.reshape(weight.shape)
    expected = outputs(model_of(text, w=rows.astype(np.float32)), x=coded(x).astype(np.float32))[0]
    assert effect.sqnr_db == pytest.approx(sqnr_db(outputs(model, x=x)[0], expected), abs=ROUNDING_DB)
    assert effect.part.parameters == 288
    assert effect.part.saved == 288 * 4 - 288 - 8 * 4  # codes of one byte, and a scale for each output


def test_the_data_is_gone_through_once_for_ranges_and_once_for_all_layers():
    data = Given({"x": noise(8, 40)}, {"x": noise(8, 40, seed=1)})
    scan_layers(model_of(MLP, u=U, v=V.T.copy()), context(calibration=data))
    assert data.passes == 2


def test_what_reads_no_finite_numbers_is_declined():
    text = "g (float[N,40] x) => (float[N,24] y, float[N,64] z) { l = Log(x) z = MatMul(l, u)  h = MatMul(x, u2) "
    text += "y = Gemm<transB=1>(h, v) }"
    model, x = model_of(text, u=U, u2=U, v=V.T.copy()), np.abs(noise(5, 40))
    x[0, 0] = 0
    found = scan_layers(model, context(calibration=Given({"x": x})))
    assert "not finite" in found.declined["MatMul_z"]
    assert [effect.part.name for effect in found.effects] == ["MatMul_h", "Gemm_y"]


def test_nothing_to_quantize_is_told_with_the_reasons():
    model = model_of("g (float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }", w=noise(4, 2))
    with pytest.raises(PassError, match=r"there is no layer to quantize: MatMul_y: .* too small to gain"):
        scan_layers(model, context(calibration=Given({"x": noise(3, 4)})))
