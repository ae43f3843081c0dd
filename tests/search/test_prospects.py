"""What each pass could save: a pass that fails on the model is a line, and the others stand."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.search import prospects as module
from compress_ops.search.prospects import prospects
from tests.helpers import noise, proto_of

GOOD = "g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }"
BAD_TYPES = "g (int64[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }"  # that the two differ is onnxruntime's to find


def fails(*_, **__):
    raise IndexError("list index out of range")


@pytest.mark.parametrize(
    ("text", "told"),
    [(GOOD, "this is a bug in onnxpress: IndexError: list index out of range"), (BAD_TYPES, "onnxruntime refuses")],
)
def test_a_pass_that_crashes_is_a_line_and_the_others_stand(tmp_path, monkeypatch, text, told):
    onnx.save(proto_of(text, w=noise(64, 64)), tmp_path / "m.onnx")
    before = prospects(tmp_path / "m.onnx")
    broken = dataclasses.replace(PASSES["to_float16"], function=fails)
    monkeypatch.setattr(module, "PASSES", {**PASSES, "to_float16": broken})
    found = prospects(tmp_path / "m.onnx")
    lines = [line for line in found if isinstance(line, str) and line.startswith("to_float16 ")]
    assert len(lines) == 1 and lines[0].startswith(f"to_float16 was not tried: {told}")
    assert len(found) == len(before)
