"""finetune_quantized: what it gains, that codes stay codes of the same graph, and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill.fine_tuning.fake_quantization import find_codes, with_floats
from compress_ops.distill.fine_tuning.learned_steps import with_weight_factors
from compress_ops.errors import PassError
from compress_ops.passes import Change
from compress_ops.quantize import quantize_weights
from tests.distill.fine_tuning.tuning_case import FORMS, HIDDEN, error, quantized, static, tuned
from tests.distill.student_case import mlp
from tests.helpers import array_of, context, model_of, noise, outputs, proto, put

FACTOR = 2  # the least that ten epochs gain here; 2.7 to 4 were measured


@pytest.mark.parametrize("form", FORMS)
def test_logits_come_nearer_in_the_same_graph(form: str) -> None:
    model, teacher = quantized(form)
    before, far = proto(model), error(model, teacher)
    change = tuned(model, teacher)
    after = proto(model)
    assert error(model, teacher) < far / FACTOR
    assert {"b1", "w2", "b2"} <= set(change.touched) and not change.declined
    assert list(after.graph.node) == list(before.graph.node)
    kinds = [[(w.name, w.data_type, list(w.dims)) for w in each.graph.initializer] for each in (before, after)]
    assert kinds[0] == kinds[1]
    fixed = [{w.name: w for w in each.graph.initializer if w.name in "sz"} for each in (before, after)]
    assert fixed[0] == fixed[1]
    del after.graph.initializer[:], before.graph.initializer[:]
    assert after == before


def test_the_graph_that_is_trained_computes_what_the_model_does() -> None:
    """At the start, and with steps of its own: onnxruntime on both graphs."""
    for form in FORMS:
        model, _ = quantized(form)
        codes = find_codes(model, Change())
        copy = with_floats(model, codes)
        assert list(with_weight_factors(copy, codes)) == ["s"]
        copy.check()
        x = noise(20, 6, seed=3)
        np.testing.assert_array_equal(outputs(copy, x=x)[0], outputs(model, x=x)[0], err_msg=form)


@pytest.mark.parametrize("form", FORMS)
def test_codes_are_what_onnxruntime_rounds_to(form: str) -> None:
    """Of weights that also lie far outside of the range."""
    model, _ = quantized(form)
    (codes,) = find_codes(model, Change())
    copy = with_floats(model, [codes])
    far = array_of(copy, "q") * noise(*array_of(copy, "q").shape) * 3
    put(copy, "q", far)
    found = codes.rounded(far, np.ones(1, np.float32))
    model.graph.initializers["q"].const_value = ir.Tensor(found, codes.tensor.dtype, name="q")
    x = noise(20, 6, seed=3)
    np.testing.assert_array_equal(outputs(copy, x=x)[0], outputs(model, x=x)[0])


def test_steps_are_learned() -> None:
    model, teacher = quantized("blocks")
    old, far = array_of(model, "s"), error(model, teacher)
    change = tuned(model, teacher, learn_scales=True)
    new = array_of(model, "s")
    assert new.dtype == old.dtype and new.shape == old.shape and (new > 0).all() and (new != old).any()
    assert change.touched["s"].startswith("steps changed by up to")
    assert error(model, teacher) < far / FACTOR


def test_activations_may_be_quantized_too() -> None:
    model, teacher = static(per_channel=False, portable=False)
    before, far = proto(model), error(model, teacher)
    change = tuned(model, teacher, learning_rate=5e-3, train=["w1*"])
    assert error(model, teacher) < far and set(change.touched) == {"w1_int8"} and not change.declined
    after = proto(model)
    assert [w for w in after.graph.initializer if w.name != "w1_int8"] == [
        w for w in before.graph.initializer if w.name != "w1_int8"
    ]


def test_a_model_that_was_the_same_on_every_cpu_says_when_it_no_longer_is() -> None:
    model, _ = quantized("8 bits")
    (codes,) = find_codes(model, Change())
    small = np.full(codes.tensor.shape.numpy(), 64, np.int8)
    grown = small.copy()
    grown[0, :2] = 65
    assert not codes.grew(small) and codes.grew(grown) and codes.grew(-grown)
    assert not codes.grew(np.where(grown == 65, -64, 64).astype(np.int8))


def test_only_what_is_asked_for_changes() -> None:
    model, teacher = quantized()
    assert set(tuned(model, teacher, train=["q"]).touched) == {"q"}
    model, teacher = quantized()
    assert set(tuned(model, teacher, train=["b*"]).touched) <= {"b1", "b2"}
    with pytest.raises(PassError, match="'conv' matches no weight") as refused:
        tuned(model, teacher, train=["conv"])
    assert "q, b1, w2, b2" in refused.value.hint


def test_it_is_never_left_worse() -> None:
    model, teacher = quantized()
    before = proto(model)
    change = tuned(model, teacher, learning_rate=30.0, epochs=2)
    assert not change.touched and "the weights stay as they were" in change.declined[0].reason
    assert proto(model) == before


def test_it_repeats_and_a_dry_run_changes_nothing() -> None:
    models = [quantized()[0] for _ in range(3)]
    for model in models[:2]:
        tuned(model, mlp(hidden=HIDDEN), epochs=3)
    assert proto(models[0]) == proto(models[1])
    before = proto(models[2])
    assert "q" in tuned(models[2], mlp(hidden=HIDDEN), dry_run=True).touched and proto(models[2]) == before


def test_without_a_teacher_it_says_so() -> None:
    with pytest.raises(PassError, match="there is no teacher") as refused:
        tuned(quantized()[0], None)
    assert "teacher: FILE.onnx" in refused.value.hint


def test_a_model_of_floats_is_refused() -> None:
    with pytest.raises(PassError, match="no integers behind DequantizeLinear, no packed codes") as refused:
        tuned(mlp(), mlp())
    assert all(each in refused.value.hint for each in ("quantize_static", "storage: qdq", "cluster_weights"))


def test_other_forms_are_refused_with_the_form_to_ask_for() -> None:
    floats = model_of("agraph (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=noise(64, 64))
    quantize_weights(floats, context(), method="rtn")
    with pytest.raises(PassError) as refused:
        tuned(floats, floats)
    assert "MatMulNBits has no gradient; quantize_weights: {storage: qdq}" in refused.value.hint
    operators, teacher = static(form="qoperator", per_channel=False)
    with pytest.raises(PassError) as refused:
        tuned(operators, teacher)
    assert "quantize_static: {form: qdq}" in refused.value.hint


def test_activations_of_16_bits_are_refused_before_opset_21() -> None:
    model, teacher = static(activation_type="uint16")
    with pytest.raises(PassError, match=r"com\.microsoft\.QuantizeLinear .* has no gradient") as refused:
        tuned(model, teacher)
    assert "upgrade_opset: {to: 21}" in refused.value.hint


def test_codes_of_several_readers_are_declined() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> agraph (float[N,6] x) => (float[N,6] y) {
      w = DequantizeLinear(q, s) v = DequantizeLinear(q, t) h = MatMul(x, w) y = MatMul(h, v) }"""
    model = model_of(text, q=noise(6, 6, scale=50).astype(np.int8), s=np.float32(0.02), t=np.float32(0.01))
    with pytest.raises(PassError) as refused:
        tuned(model, model)
    assert refused.value.hint == "q: several nodes read its codes"
