"""Number formats against their formulas in plain NumPy, and against what onnxruntime's operators compute."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress_ops.graph.layers.reasons import is_finite
from compress_ops.quantize.numbers.formats import AS_STORED, Asymmetric, Layout, Symmetric, as_half, lazy_codes
from tests.helpers import noise, outputs, proto_of

FLOATS = arrays(np.float32, (6, 5), elements=st.floats(-1e6, 1e6, width=32))


@settings(max_examples=60, deadline=None)
@given(weight=FLOATS, bits=st.sampled_from([7, 8]), axes=st.sampled_from([None, (0,), (1,)]))
def test_symmetric_codes_are_within_half_a_step_and_inside_the_range(weight, bits, axes):
    form = Symmetric(bits)
    scale = form.scale(weight, axes)
    codes = form.codes(weight, scale)
    assert codes.dtype == np.int8 and np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1 == form.limit
    error = np.abs(weight.astype(np.float64) - scale.astype(np.float64) * codes)
    vanishing = np.abs(weight).max(axis=axes, keepdims=True) < form.limit * np.finfo(np.float32).tiny
    assert (error <= np.where(vanishing, np.abs(weight), scale * (0.5 + 1e-4))).all()  # 127.5 roundings of float32


@pytest.mark.parametrize(("axes", "shape"), [(None, (1, 1)), ((0,), (1, 5)), ((1,), (6, 1)), ((-2,), (1, 5))])
def test_symmetric_scales_are_the_largest_magnitude_over_the_limit(axes, shape):
    weight = noise(6, 5)
    scale = Symmetric().scale(weight, axes)
    assert scale.shape == shape and scale.dtype == np.float32
    np.testing.assert_array_equal(scale, np.abs(weight).max(axis=axes, keepdims=True) / np.float32(127))


def test_the_largest_magnitude_gets_the_last_code_on_either_side():
    weight = np.array([[1.0, -3.0], [0.5, 2.0]], np.float32)
    assert Symmetric().codes(weight, Symmetric().scale(weight, (1,)))[:, 1].tolist() == [-127, 127]
    assert Symmetric(7).codes(weight, Symmetric(7).scale(weight, (1,)))[:, 1].tolist() == [-63, 63]


def test_codes_round_half_to_even():
    assert Symmetric().codes(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32), np.float32(1)).tolist() == [
        0,
        2,
        2,
        0,
        -2,
    ]


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-39])
def test_slices_of_nothing_but_zeros_and_denormals_become_zeros(value):
    weight = np.array([[value, -value], [1.0, 2.0]], np.float32)
    scale = Symmetric().scale(weight, (1,))
    assert np.isfinite(scale).all() and (scale > 0).all()
    assert Symmetric().codes(weight, scale)[0].tolist() == [0, 0]


def test_float16_weights_have_float32_scales():
    weight = noise(4, 3).astype(np.float16)
    assert Symmetric().scale(weight, None).dtype == np.float32


def test_symmetric_codes_are_those_of_onnx_quantizelinear():
    weight = noise(16, 8)
    scale = Symmetric().scale(weight, (0,)).reshape(-1)
    text = "g (float[16,8] x) => (int8[16,8] y) { y = QuantizeLinear<axis=1>(x, s, z) }"
    (expected,) = outputs(proto_of(text, s=scale, z=np.zeros(8, np.int8)), x=weight)
    np.testing.assert_array_equal(Symmetric().codes(weight, scale), expected)


@settings(max_examples=100, deadline=None)
@given(a=st.floats(-(2.0**99), 2.0**99, width=32), b=st.floats(-(2.0**99), 2.0**99, width=32))
def test_asymmetric_uint8_covers_the_interval_and_zero_exactly(a, b):
    low, high = min(a, b), max(a, b)
    form = Asymmetric.of(low, high, "uint8")
    assert form.scale.dtype == np.float32 and form.scale > 0 and np.isfinite(form.scale)
    assert form.zero_point.dtype == np.uint8
    low, high, scale, zero = min(low, 0.0), max(high, 0.0), float(form.scale), int(form.zero_point)
    if high - low >= 255 * float(np.finfo(np.float32).tiny):
        step = scale * (1 + 1e-5)  # scale is rounded to float32
        assert (0 - zero) * scale <= low + step / 2 and (255 - zero) * scale >= high - step / 2


@pytest.mark.parametrize(
    ("low", "high", "kind", "scale", "zero"),
    [
        (0.0, 2.55, "uint8", 0.01, 0),
        (-2.55, 0.0, "uint8", 0.01, 255),
        (-1.0, 1.55, "uint8", 0.01, 100),
        (1.0, 2.55, "uint8", 0.01, 0),
        (-2.55, -1.0, "uint8", 0.01, 255),
        (0.0, 0.0, "uint8", 1.0, 0),
        (5e-46, 1e-44, "uint8", 1.0, 0),
        (-1.27, 0.5, "int8", 0.01, 0),
        (0.5, 1.27, "int8", 0.01, 0),
        (0.0, 0.0, "int8", 1.0, 0),
    ],
)
def test_asymmetric_worked_examples(low, high, kind, scale, zero):
    form = Asymmetric.of(low, high, kind)
    assert form.scale == np.float32(scale) and form.zero_point == zero
    assert form.zero_point.dtype == np.dtype(kind)


def test_half_scales_are_never_smaller_and_fall_back_where_half_is_too_coarse():
    scale = np.abs(noise(1000, scale=0.1)) + np.float32(1e-3)
    half = as_half(scale)
    assert half.dtype == np.float16 and (half.astype(np.float32) >= scale).all()
    assert (half.astype(np.float32) <= scale * (1 + 2.0**-10)).all()  # at most one step of float16
    for odd in (1e-6, 7e4):
        assert as_half(np.array([odd, 1], np.float32)).dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite(bad):
    weight = noise(3, 3)
    assert is_finite(weight) and is_finite(np.zeros((0, 3), np.float32))
    weight[1, 1] = bad
    assert not is_finite(weight)


def test_lazy_codes_and_layouts():
    weight = noise(4, 6)
    source = ir.Tensor(weight)
    for layout, turned in ((AS_STORED, weight), (Layout(transposed=True), weight.T)):
        scale = Symmetric().scale(turned, (0,))
        lazy = lazy_codes(source, scale, Symmetric(), layout)
        assert lazy.dtype == ir.DataType.INT8 and lazy.shape == ir.Shape(turned.shape)
        np.testing.assert_array_equal(lazy.numpy(), Symmetric().codes(turned, scale))
