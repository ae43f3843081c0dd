"""Exporters' stack traces and paths go where a run shrinks the model, and nothing else goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.pipeline import Job, run
from compress_ops.pipeline.lean import drop_leftovers
from tests.helpers import model_of, noise, proto, proto_of

MakeJob = Callable[..., Job]
TRACE = 'File "/home/me/train.py", line 12, in forward\n    y = self.layer(x)'
OLD_TRACE = (
    "/home/me/train.py(12): forward\n/usr/lib/python3/site-packages/torch/nn/modules/module.py(1488): _call_impl"
)


def exported() -> onnx.ModelProto:
    made = proto_of("g (float[N,64] x) => (float[N,32] y) { h = MatMul(x, w) y = Relu(h) }", w=noise(64, 32))
    made.doc_string, made.graph.doc_string = "what it is for", "train.py: line 3"
    made.metadata_props.add(key="licence", value="MIT")
    first, second = made.graph.node
    for key, text in {
        "pkg.torch.onnx.stack_trace": TRACE,
        "pkg.torch.onnx.name_scopes": "['', 'layer']",
        "namespace": ": Model/layer: Linear",
        "owner": "us",
        "origin": TRACE,
    }.items():
        first.metadata_props.add(key=key, value=text)
    first.doc_string, second.doc_string = OLD_TRACE, "rectifies"
    second.metadata_props.add(key="namespace", value="ours")
    made.graph.output[0].metadata_props.add(key="pkg.torch.export.kind", value="USER_OUTPUT")
    made.graph.output[0].metadata_props.add(key="unit", value="m")
    return made


def test_only_leftovers_go_and_their_bytes_are_counted() -> None:
    before, model = proto(model_of(exported())), model_of(exported())
    dropped = drop_leftovers(model)
    after = proto(model)
    assert before.ByteSize() - after.ByteSize() == pytest.approx(dropped, abs=10)  # lengths around what went
    first, second = after.graph.node
    assert {entry.key for entry in first.metadata_props} == {"owner"} and not first.doc_string
    assert second.doc_string == "rectifies" and [entry.value for entry in second.metadata_props] == ["ours"]
    assert [entry.key for entry in after.graph.output[0].metadata_props] == ["unit"]
    assert (after.doc_string, after.graph.doc_string) == ("what it is for", "train.py: line 3")
    assert [entry.key for entry in after.metadata_props] == ["licence"]
    assert b"/home/me" not in after.SerializeToString()


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("passes: [to_float16]", False),
        ("keep_metadata: true\npasses: [to_float16]", True),
        ("passes: [simplify]", True),
    ],
)
def test_a_run_that_shrinks_drops_them_unless_they_are_to_stay(
    job: MakeJob, tmp_path: Path, text: str, stays: bool
) -> None:
    onnx.save(exported(), tmp_path / "exported.onnx")
    report = run(job(text, model=tmp_path / "exported.onnx"))
    assert (b"/home/me" in (tmp_path / "out.onnx").read_bytes()) == stays
    assert any("--keep-metadata" in note for note in report.notes) != stays


def test_nodes_without_a_name_have_none_afterwards(job: MakeJob, tmp_path: Path) -> None:
    made = proto_of("g (float[N,64] x) => (float[N,32] y) { h = MatMul(x, w) y = Relu(h) }", w=noise(64, 32))
    onnx.save(made, tmp_path / "nameless.onnx")
    report = run(job("passes: [to_float16: {allow_unchanged: true, skip: ['*']}]", model=tmp_path / "nameless.onnx"))
    after = onnx.load(tmp_path / "out.onnx")
    assert [node.name for node in after.graph.node] == ["", ""]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(after.graph.initializer[0]), noise(64, 32))
    assert report.bytes_after - report.bytes_before < 250  # the signature
