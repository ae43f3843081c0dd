"""A step in the wrong place says which step it needs, or in front of which it belongs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Change, Context
from tests.helpers import Given, context, model_of, noise

NET = "agraph (float[N,64] x) => (float[N,8] y) { h = Gemm(x, w1, b1) r = Relu(h) y = Gemm(r, w2, b2) }"
QDQ = """agraph (float[N,64] x) => (float[N,8] y) {
    w1 = DequantizeLinear(q, s) h = Gemm(x, w1, b1) r = Relu(h) y = Gemm(r, w2, b2) }"""


def net() -> Model:
    return model_of(NET, w1=noise(64, 64), b1=noise(64), w2=noise(64, 8), b2=noise(8))


def quantized() -> Model:
    codes = np.random.default_rng(0).integers(-99, 99, (64, 64)).astype(np.int8)
    weights = {"q": codes, "s": np.array(0.01, np.float32), "b1": noise(64), "w2": noise(64, 8), "b2": noise(8)}
    return model_of(QDQ, **weights)


def ready(**more: Any) -> Context:
    data = Given(*({"x": noise(16, 64, seed=seed)} for seed in range(8)))
    return context(calibration=data, training=data, **more)


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "finetune_quantized": ({}, "- quantize_weights: {storage: qdq}"),
    "correct_bias": ({}, "passes: [quantize_static, correct_bias]"),
    "learn_rounding": ({}, "passes: [quantize_static, learn_rounding]"),
    "keep_float": ({"min_cosine": 0.9}, "passes: [quantize_static, keep_float]"),
    "refit": ({}, "passes: [{prune_channels: {ratio: 0.5}}, refit]"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_step_that_mends_names_the_one_it_mends(name: str) -> None:
    options, told = ERRORS[name]
    with pytest.raises(PassError) as refused:
        PASSES[name](net(), ready(), **options)
    assert told in refused.value.hint


def reasons(change: Change) -> str:
    return " ".join(held.reason for held in change.declined)


def test_what_has_no_zeros_is_to_be_pruned_first() -> None:
    assert "put prune_weights: {ratio: 0.7} in front" in reasons(PASSES["pack_sparse"](net(), ready()))


@pytest.mark.parametrize(
    ("name", "told"), [("low_rank", "factorize in front of the step"), ("equalize", "equalize in front of the step")]
)
def test_what_is_quantized_is_to_be_changed_before(name: str, told: str) -> None:
    assert f"its weight is quantized already; {told} that quantizes" in reasons(PASSES[name](quantized(), ready()))


def test_a_student_that_is_its_teacher_is_to_be_changed_first() -> None:
    change = PASSES["distill"](net(), ready(earlier=net()), epochs=1)
    assert not change.touched
    assert "such as prune_channels: {ratio: 0.5}, or name another teacher: FILE.onnx" in reasons(change)


def test_integers_are_trained_behind_and_floats_in_front() -> None:
    codes = model_of(
        "agraph (float[N,64] x) => (float[N,64] y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }",
        q=np.ones((64, 64), np.int8),
        s=np.array(0.01, np.float32),
    )
    with pytest.raises(PassError, match="no float weight") as refused:
        PASSES["distill"](codes, ready(earlier=codes.copy()))
    assert "finetune_quantized trains integers" in refused.value.hint
    with pytest.raises(PassError) as refused:
        PASSES["sparsify"](quantized(), ready(earlier=quantized()), ratio=0.5, train=["b*"])
    assert "in front of the step that quantizes" in refused.value.hint


def test_a_form_without_a_gradient_names_the_form_that_has_one() -> None:
    teacher = net()
    student = teacher.copy()
    first, second = (node.name for node in student.graph if node.op_type == "Gemm")
    PASSES["quantize_weights"](student, ready(), only=[second], method="rtn", bits=4)
    PASSES["cluster_weights"](student, ready(), only=[first])
    with pytest.raises(PassError, match="no gradient is known for MatMulNBits") as refused:
        PASSES["finetune_quantized"](student, ready(earlier=teacher))
    assert "quantize_weights: {storage: qdq}" in refused.value.hint
