"""separable_conv: a planted depthwise and 1x1 is found, others are fitted to what they give on the data."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.factorize import separable_conv
from compress_ops.factorize.schemes import Kernel
from compress_ops.factorize.separable import Separable
from compress_ops.graph import simplify
from compress_ops.model import load
from tests.helpers import (
    SAMPLES,
    Given,
    applied,
    calibrated,
    context,
    model_of,
    noise,
    op_types,
    outputs,
    proto_of,
)

CONV = "g (float[N,6,11,9] x) => (float[N,12,H,V] y) { y = Conv<%s>(x, w, b) }"
X = noise(4, 6, 11, 9, seed=9)
DEPTHWISE, POINTWISE = noise(6, 1, 3, 3, seed=1), noise(12, 6, 1, 1, seed=2)
PLANTED = POINTWISE * DEPTHWISE.swapaxes(0, 1)
BIAS = noise(12, seed=5)


def separated(source, data=(X,), **options):
    model = source if hasattr(source, "ir") else model_of(source)
    model.infer_shapes()
    return applied(separable_conv, model, calibrated(*({"x": batch} for batch in data)), **options)


@pytest.mark.parametrize("attributes", ["kernel_shape=[3,3]", "pads=[1,0,2,1], strides=[2,1]", "dilations=[2,1]"])
def test_a_planted_one_is_found_and_the_function_stays(attributes):
    source = proto_of(CONV % attributes, w=PLANTED, b=BIAS)
    model, change = separated(source, energy=0.9999)
    assert op_types(model) == {"Conv": 2}
    assert sorted(value.const_value.shape.numpy() for value in model.weights()) == [(6, 1, 3, 3), (12,), (12, 6, 1, 1)]
    assert change.notes["parameters_before"] == PLANTED.size and change.notes["parameters_after"] == 54 + 72
    exact = outputs(source, x=X)[0]
    assert np.abs(outputs(model, x=X)[0] - exact).max() <= 2e-3 * np.abs(exact).max()


def test_the_error_that_is_told_is_that_of_the_output_and_less_than_by_weights_alone():
    weight = noise(12, 6, 3, 3) * np.float32(0.4) + PLANTED
    source = proto_of(CONV % "pads=[1,1,1,1]", w=weight, b=np.zeros(12, np.float32))
    data = np.cumsum(np.cumsum(noise(16, 6, 11, 9, seed=3), axis=2), axis=3).astype(np.float32)  # smooth, as images
    model, change = separated(source, np.split(data, 4), energy=0.1)
    exact = outputs(source, x=data)[0]
    error = np.linalg.norm(outputs(model, x=data)[0] - exact) / np.linalg.norm(exact)
    assert error == pytest.approx(change.notes["worst_error"], rel=0.3)  # which is damped a little
    left, values, right = np.linalg.svd(weight.transpose(1, 0, 2, 3).reshape(6, 12, 9), full_matrices=False)
    plain = np.einsum("cn,ck->nck", left[:, :, 0] * values[:, :1], right[:, 0]).reshape(12, 6, 3, 3)
    by_weights = outputs(proto_of(CONV % "pads=[1,1,1,1]", w=plain, b=np.zeros(12, np.float32)), x=data)[0]
    assert error < 0.7 * np.linalg.norm(by_weights - exact) / np.linalg.norm(exact)


def test_where_all_directions_count_alike_the_fit_is_the_svd_of_each_channel():
    weight = noise(12, 6, 3, 3).astype(np.float64)
    values = np.linalg.svd(weight.transpose(1, 0, 2, 3).reshape(6, 12, 9), compute_uv=False)
    least = np.square(values[:, 1:]).sum() / np.square(values).sum()
    assert Separable(Kernel(weight, (1.0, 1.0), np.eye(54))).error ** 2 == pytest.approx(least, rel=1e-4)


DECLINED = [
    ("pads=[1,1,1,1]", noise(12, 6, 3, 3), [X], r"Conv: depthwise and 1x1 would keep \d\d\.\d% of its output's energy"),
    ("kernel_shape=[1,1]", noise(12, 6, 1, 1), [X], "Conv: depthwise and 1x1 would not save 10 %"),
    ("group=2", noise(12, 3, 3, 3), [X], "Conv: its channels are in groups"),
    ("kernel_shape=[3,3]", PLANTED, [X * 0], "Conv: it reads nothing but zeros"),
    ("kernel_shape=[3,3]", PLANTED, [X * np.float32(np.nan)], "Conv: it reads NaN or infinite values"),
]


@pytest.mark.parametrize(("attributes", "weight", "data", "reason"), DECLINED, ids=[case[3] for case in DECLINED])
def test_what_does_not_fit_is_declined_with_the_reason(attributes, weight, data, reason):
    model, change = separated(proto_of(CONV % attributes, w=weight, b=BIAS), data)
    assert not change.touched and op_types(model) == {"Conv": 1}
    (declined,) = change.declined
    with pytest.raises(ValueError, match=f"^{reason}$"):
        raise ValueError(declined.reason)


def test_a_channel_that_is_never_used_is_no_trouble():
    unused = X.copy()
    unused[:, 2] = 0
    source = proto_of(CONV % "kernel_shape=[3,3]", w=PLANTED, b=BIAS)
    model, change = separated(source, [unused])
    assert change.touched
    exact = outputs(source, x=unused)[0]
    assert np.abs(outputs(model, x=unused)[0] - exact).max() <= 0.02 * np.abs(exact).max()


def test_the_dearest_layer_of_digits_cnn_is_replaced_and_the_accuracy_stays():
    calibration, test = (np.load(SAMPLES / f"digits-{name}.npz") for name in ("calibration", "test"))
    model = load(SAMPLES / "digits-cnn.onnx")
    simplify(model, context())
    model.infer_shapes()
    before = model.stored_bytes()
    change = separable_conv(
        model, context(calibration=Given({"image": calibration["image"]})), only=["/4/body/body.2/*"]
    )
    model.check()
    assert len(change.touched) == 1 and model.stored_bytes() < 0.65 * before
    logits = outputs(model, image=test["image"])[0]
    assert (logits.argmax(axis=1) == test["label"]).mean() >= 0.98
