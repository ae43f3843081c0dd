"""Where training of rounded weights begins: where the float weights lay, if rounding to nearest made the integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill.fine_tuning.fake_quantization import Codes, find_codes, with_floats
from compress_ops.distill.fine_tuning.float_weights import float_weights
from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.quantize import quantize_weights
from tests.helpers import Table, array_of, context, model_of, noise, outputs

LAYERS = """agraph (float[N,64] x) => (float[N,64] y) {
  a = MatMul(x, w1) b = Relu(a) y = Gemm<transB=1>(b, w2) }"""
X = noise(64, 64, seed=5)
EPS = float(np.finfo(np.float32).eps)


def before() -> Model:
    return model_of(LAYERS, w1=noise(64, 64, seed=1), w2=noise(64, 64, seed=2))


def quantized(method: str = "rtn") -> tuple[Model, list[Codes]]:
    model = before()
    quantize_weights(model, context(calibration=Table(X)), storage="qdq", method=method, clip=False)
    return model, find_codes(model, Change())


def test_the_weights_are_found_also_where_they_were_stored_transposed() -> None:
    _, codes = quantized()
    found, original = float_weights(codes, before()), before()
    assert [weight.name for weight in codes] == list(found) and len(found) == 2
    for weight, exact in zip(codes, (array_of(original, "w1"), array_of(original, "w2").T), strict=True):
        np.testing.assert_allclose(found[weight.name] * weight.scales(), exact, atol=4 * EPS * np.abs(exact).max())


def test_training_begins_there_and_with_the_same_integers() -> None:
    model, codes = quantized()
    exact = float_weights(codes, before())
    copy, middle = with_floats(model, codes, exact), with_floats(model, codes)
    np.testing.assert_array_equal(outputs(copy, x=X)[0], outputs(model, x=X)[0])
    for weight in codes:
        begun, centre = array_of(copy, weight.name), array_of(middle, weight.name)
        assert 0 < np.abs(begun - centre).max() <= np.abs(np.diff(np.unique(centre))).min() / 2
        np.testing.assert_array_equal(weight.rounded(begun, np.ones(1, np.float32)), weight.tensor.numpy())


def test_integers_that_were_chosen_otherwise_begin_in_the_middle() -> None:
    _, codes = quantized("gptq")
    assert not float_weights(codes, before())


@pytest.mark.parametrize("change", ["another weight", "another shape", "no such layer", "nothing known"])
def test_nothing_is_made_of_weights_that_do_not_fit(change: str) -> None:
    _, codes = quantized()
    original: Model | None = before()
    assert original is not None
    if change == "another weight":
        original = model_of(LAYERS, w1=noise(64, 64, seed=3), w2=noise(64, 64, seed=4))
    elif change == "another shape":
        original = model_of(LAYERS, w1=noise(64, 32, seed=3), w2=noise(64, 32, seed=4))
    elif change == "no such layer":
        for node in original.graph:
            node.name = f"{node.name}/other"
    assert not float_weights(codes, None if change == "nothing known" else original)


def test_what_turns_and_shapes_a_weight_for_its_layer_is_seen_through() -> None:
    """As behind blocks of a convolution's weight."""
    text = "agraph (float[N,8,9,9] x) => (float[N,16,7,7] y) { y = Conv(x, w) }"
    weight = noise(16, 8, 3, 3)
    model, original = model_of(text, w=weight), model_of(text, w=weight)
    quantize_weights(model, context(), storage="qdq", method="rtn", clip=False)
    (codes,) = find_codes(model, Change())
    assert isinstance(codes.node.outputs[0].uses()[0].node, ir.Node)
    found = float_weights([codes], original)[codes.name]
    np.testing.assert_allclose(found * codes.scales(), weight.reshape(16, -1).T, atol=4 * EPS * np.abs(weight).max())
