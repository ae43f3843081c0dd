"""finetune_quantized on packed codes (ternary, binary, few bits in blocks): what is gained, what stays, what passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from compress_ops.distill.fine_tuning.packed_codes import find_packed, with_packed
from compress_ops.errors import PassError
from compress_ops.graph.packing import unpack
from compress_ops.model import Model
from compress_ops.passes import Pass
from compress_ops.prune import prune_weights
from compress_ops.quantize import binarize_weights, quantize_weights, ternarize_weights
from tests.distill.fine_tuning import tuning_case
from tests.distill.fine_tuning.tuning_case import error, slope, stored
from tests.distill.student_case import mlp
from tests.helpers import array_of, arrays_of, context, model_of, noise, outputs, proto, put

HIDDEN = 256
FACTOR = 2  # the least that five epochs gain here; 2.6 to 12 were measured
FORMS: dict[str, tuple[Pass, dict[str, Any]]] = {
    "ternary": (ternarize_weights, {}),
    "ternary, one scale": (ternarize_weights, {"per_channel": False}),
    "binary": (binarize_weights, {}),
    "2 bits": (quantize_weights, {"bits": 2, "block_size": 16, "storage": "decoded", "method": "rtn"}),
    "3 bits": (quantize_weights, {"bits": 3, "block_size": 16, "storage": "decoded", "method": "rtn"}),
}
LEVELS = {"ternary": 3, "ternary, one scale": 3, "binary": 2, "2 bits": 4, "3 bits": 8}
tuned = partial(tuning_case.tuned, epochs=5, learning_rate=0.002)


def packed(form: str, model: Model | None = None) -> tuple[Model, Model]:
    """A model whose weights are packed, and the float model that it was."""
    teacher = model or mlp(hidden=HIDDEN)
    model, (quantize, options) = teacher.copy(), FORMS[form]
    quantize(model, context(), **options)
    return model, teacher


@pytest.mark.parametrize("form", FORMS)
def test_logits_come_nearer_in_the_same_bytes(form: str) -> None:
    model, teacher = packed(form)
    before, far, old = proto(model), error(model, teacher), stored(model)
    names = [weight.name for weight in find_packed(model)]
    change = tuned(model, teacher)
    after, new = proto(model), stored(model)
    assert error(model, teacher) < far / FACTOR
    assert {*names, "b1", "b2"} <= set(change.touched) and not change.declined
    assert change.touched[names[0]].endswith("of the codes")
    assert list(after.graph.node) == list(before.graph.node)
    assert [(w.name, w.data_type, list(w.dims)) for w in old.values()] == [
        (w.name, w.data_type, list(w.dims)) for w in new.values()
    ]
    assert {name for name in old if old[name] != new[name]} <= {
        *change.touched,
        *(plane for weight in find_packed(model) for plane in weight.planes),
    }
    assert any(name.endswith("_scale") for name in change.touched)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("known", [False, True])
def test_the_graph_that_is_trained_computes_what_the_model_does(form: str, known: bool) -> None:
    """Whether training begins in the middle of steps or where the float weights lay."""
    model, teacher = packed(form)
    copy, found, x = model.copy(), find_packed(model), noise(20, 6, seed=3)
    assert [weight.levels for weight in found] == [LEVELS[form]] * len(found) and found
    with_packed(copy, found, teacher if known else None)
    copy.check()
    np.testing.assert_array_equal(outputs(copy, x=x)[0], outputs(model, x=x)[0])
    arrays = arrays_of(copy)
    for weight in found:
        numbers = arrays[weight.name]
        np.testing.assert_array_equal(weight.rounded(numbers), weight.numbers)
        in_the_middle = np.array_equal(numbers * 8, weight.numbers - weight.middle)
        assert in_the_middle != known


@pytest.mark.parametrize("form", FORMS)
def test_codes_are_what_the_graph_rounds_to_and_come_back(form: str) -> None:
    """Of numbers that also lie far outside of the range; the bytes are those that the decoding graph reads."""
    model, _ = packed(form)
    copy, found, x = model.copy(), find_packed(model), noise(20, 6, seed=3)
    with_packed(copy, found, None)
    for weight in found:
        numbers = noise(*arrays_of(copy)[weight.name].shape, seed=5)
        put(copy, weight.name, numbers)
        planes = weight.stored(weight.rounded(numbers))
        assert {array.dtype for array in planes.values()} == {np.dtype("uint8")}
        for name, array in planes.items():
            put(model, name, array)
    np.testing.assert_array_equal(outputs(copy, x=x)[0], outputs(model, x=x)[0])


def test_signs_are_what_the_bytes_hold() -> None:
    """Against the packing alone: the first bits of the first bytes are the signs of the float weight's channels."""
    model, teacher = packed("binary")
    first = find_packed(model)[0]
    floats = array_of(teacher, "w1")
    bits = unpack(array_of(model, first.name), 2, floats.size)
    np.testing.assert_array_equal(bits.reshape(HIDDEN, 6), floats.T >= 0)
    np.testing.assert_array_equal(first.numbers, bits)
    assert first.middle.min() == first.middle.max() == 0.5


def test_the_gradient_goes_straight_through_up_to_half_a_step_outside() -> None:
    """y = x w: dL/dv = s f / c dL/dw where v / c + m lies between -1/2 and n - 1/2, else 0."""
    model, _ = packed("ternary", model_of(WIDE, w=noise(64, 32)))
    copy, (first,) = model.copy(), find_packed(model)
    with_packed(copy, [first], None)
    numbers = noise(*first.numbers.shape, seed=5, scale=0.25)
    put(copy, first.name, numbers)
    x, dy = noise(7, 64, seed=3), noise(7, 32, seed=2)
    found = slope(copy, first.name, dy, {"x": x, first.name: numbers})
    scale = array_of(model, first.scale).reshape(32, 1)
    dw = (x.astype(np.float64).T @ dy).T  # rows are channels
    inside = np.abs(numbers.reshape(32, 64) * 8) < 1.5
    assert 0.1 < inside.mean() < 0.9
    expected = (dw * scale * 8 * inside).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())  # sums of 7 in single precision


WIDE = "agraph (float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }"


def test_pruned_weights_stay_zero() -> None:
    teacher = mlp(hidden=HIDDEN)
    prune_weights(teacher, context(), ratio=0.5)
    zeros = array_of(teacher, "w1") == 0
    model, _ = packed("ternary", teacher)
    change = tuned(model, teacher)
    first = find_packed(model)[0]
    signs = (first.numbers - first.middle).reshape(HIDDEN, 6).T
    assert first.name in change.touched and zeros.mean() > 0.3
    assert not signs[zeros].any() and signs[~zeros].any()


def test_only_the_weights_asked_for_change() -> None:
    model, teacher = packed("ternary")
    first, second = find_packed(model)
    change = tuned(model, teacher, train=[first.name])
    assert set(change.touched) == {first.name, first.scale}
    with pytest.raises(PassError, match="matches no weight that can be trained") as refused:
        tuned(model, teacher, train=["none*"])
    assert second.name in refused.value.hint


def test_convolutions() -> None:
    text = """agraph (float[N,3,6,6] x) => (float[N,5] y) {
        c = Conv<pads=[1,1,1,1]>(x, k) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, w) }"""
    teacher = model_of(text, k=noise(64, 3, 3, 3, scale=0.3), w=noise(64, 5))
    model, _ = packed("ternary", teacher)
    x = noise(120, 3, 6, 6, seed=4)
    far = error(model, teacher, x)
    change = tuned(model, teacher, x, epochs=4)
    assert {weight.name for weight in find_packed(model)} == {"k_signs", "w_signs"} <= set(change.touched)
    assert error(model, teacher, x) < far / FACTOR


def test_block_after_block() -> None:
    """Of white inputs the first layer's nearest codes are the best already; the second makes up for its errors."""
    model, teacher = packed("ternary")
    far = error(model, teacher)
    change = tuned(model, teacher, epochs=3, blocks="layer", loss=None)
    assert "w2_signs" in change.touched
    assert error(model, teacher) < far / FACTOR
