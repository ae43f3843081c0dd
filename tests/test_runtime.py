"""Sessions: the provider that was asked for or an error, options passed on, ports described."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest

from compress_ops import runtime
from compress_ops.errors import ModelError, ProviderError
from compress_ops.model import load
from compress_ops.runtime import CPU, Port, Provider, check_providers, for_inner_values, open_session, short_name
from tests.helpers import noise, proto_of

MODEL = proto_of("g (float[N,8] x) => (float[N,4] y, float[N,4] z) { y = MatMul(x, w)  z = Neg(y) }", w=noise(8, 4))
RAW = MODEL.SerializeToString()
X = noise(3, 8, seed=1)


class FakeSession:
    """Stands for an onnxruntime session that runs where ``actual`` says, whatever was asked for."""

    actual = ("CPUExecutionProvider",)
    seen: ClassVar[dict] = {}

    def __init__(self, model, options, **keywords):
        FakeSession.seen = {"model": model, "options": options, **keywords}

    def get_inputs(self):
        return []

    get_outputs = get_overridable_initializers = get_inputs

    def get_providers(self):
        return list(self.actual)


@pytest.fixture
def cuda_wheel(monkeypatch):
    """An onnxruntime that lists CUDA, as the GPU wheel does on a machine without a GPU."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(FakeSession, "actual", ("CPUExecutionProvider",))


def test_a_silent_fallback_is_an_error(cuda_wheel):
    with pytest.raises(ProviderError, match="fell back from 'cuda' to 'cpu'"):
        open_session(RAW, [Provider("cuda"), Provider("cpu")])


def test_the_provider_that_was_asked_for_is_fine(cuda_wheel, monkeypatch):
    monkeypatch.setattr(FakeSession, "actual", ("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert open_session(RAW, [Provider("cuda"), Provider("cpu")]).provider == "cuda"


def test_providers_and_their_options_are_passed_on_in_order(cuda_wheel, monkeypatch):
    monkeypatch.setattr(FakeSession, "actual", ("CUDAExecutionProvider",))
    open_session(RAW, [Provider("cuda", {"device_id": 0}), Provider("cpu")], disabled_optimizers=["Fusing"])
    assert FakeSession.seen["providers"] == [("CUDAExecutionProvider", {"device_id": 0}), ("CPUExecutionProvider", {})]
    assert FakeSession.seen["disabled_optimizers"] == ["Fusing"]
    assert FakeSession.seen["enable_fallback"] == 0


@pytest.mark.parametrize(
    ("given", "passed"),
    [({}, {"num_of_threads": "3"}), ({"num_of_threads": "2", "device_type": "CPU"}, None)],
    ids=["as the session", "as its options say"],
)
def test_openvino_gets_the_threads_that_it_does_not_take_from_the_session(cuda_wheel, monkeypatch, given, passed):
    name = "OpenVINOExecutionProvider"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    monkeypatch.setattr(FakeSession, "actual", (name,))
    open_session(RAW, [Provider("openvino", given), Provider("cpu")], threads=3)
    assert FakeSession.seen["providers"] == [(name, passed or given), ("CPUExecutionProvider", {})]


@pytest.mark.parametrize(("name", "where"), [("cpu", "cpu"), ("cuda", "cuda"), ("openvino", "cpu")])
def test_inner_values_are_looked_at_on_the_cpu_where_whole_graphs_are_compiled(name, where):
    assert for_inner_values([Provider(name), Provider("cpu")])[0].name == where


@pytest.mark.parametrize(("first", "calls"), [("cuda", 1), ("cpu", 0)])
def test_cuda_libraries_are_preloaded_for_cuda_alone(cuda_wheel, monkeypatch, first, calls):
    made = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: made.append(1), raising=False)
    monkeypatch.setattr(FakeSession, "actual", (f"{first.upper()}ExecutionProvider",))
    open_session(RAW, [Provider(first)])
    assert len(made) == calls


def test_an_unknown_provider_is_refused_with_those_that_are_there():
    with pytest.raises(ProviderError, match=r"unknown execution provider 'cudda'; did you mean 'cuda'") as caught:
        open_session(RAW, [Provider("cudda")])
    for name in onnxruntime.get_available_providers():
        assert short_name(name) in caught.value.hint


def test_a_provider_that_this_build_lacks_is_refused_with_those_that_are_there(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="'cuda' is not in this onnxruntime build") as caught:
        check_providers([Provider("cpu"), Provider("cuda")])
    mend = 'pip uninstall onnxruntime, then pip install "onnxpress[gpu]": the two share one module name'
    assert caught.value.hint == f"available here: cpu; {mend}"
    for name, mend in (
        ("openvino", "pip uninstall onnxruntime, then pip install onnxruntime-openvino: the two share one module name"),
        ("dml", "another build of onnxruntime has it"),
    ):
        with pytest.raises(ProviderError) as caught:
            check_providers([Provider(name)])
        assert caught.value.hint == f"available here: cpu; {mend}"


def test_a_gpu_is_called_cuda():
    with pytest.raises(ProviderError, match=r"unknown execution provider 'gpu'; did you mean 'cuda'\?"):
        check_providers([Provider("gpu")])


def test_no_provider_at_all_is_refused():
    with pytest.raises(ProviderError):
        open_session(RAW, [])


@pytest.mark.parametrize("name", onnxruntime.get_all_providers())
def test_every_provider_that_onnxruntime_names_is_known(name, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name])
    assert check_providers([Provider(short_name(name))]) == [(name, {})]


def test_a_missing_onnxruntime_is_one_clear_error(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProviderError, match="onnxruntime cannot be imported") as caught:
        open_session(RAW)
    assert 'pip install "onnxpress[cpu]"' in caught.value.hint


def test_outputs_come_by_name_all_or_those_asked_for():
    session = open_session(RAW)
    found = session.run({"x": X})
    assert list(found) == ["y", "z"]
    np.testing.assert_array_equal(found["z"], -found["y"])
    assert list(session.run({"x": X}, ["z"])) == ["z"]


def test_a_path_is_told_in_errors_and_bytes_as_memory(tmp_path):
    onnx.save(MODEL, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx does not run: .*x"):
        open_session(tmp_path / "m.onnx").run({"x": X[0]})
    with pytest.raises(ModelError, match="the model in memory does not run"):
        open_session(RAW).run({"wrong": X})


def test_a_model_that_was_exported_for_onnxruntime_is_not_told_by_its_temporary_path(tmp_path):
    onnx.save(MODEL, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    with model.exported() as path, pytest.raises(ModelError, match=r"^the model does not run: ") as caught:
        open_session(path).run({"x": X[0]})
    assert ".onnxpress" not in str(caught.value)


def test_a_result_before_it_is_in_place_is_told_by_its_name(tmp_path):
    onnx.save(MODEL, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    with model.staged(tmp_path / "out.onnx") as staged, pytest.raises(ModelError, match=r"out\.onnx does not run: "):
        open_session(staged.path).run({"x": X[0]})


def test_a_model_that_onnxruntime_refuses_is_told_with_its_reason(tmp_path):
    unknown = proto_of(
        '<ir_version: 8, opset_import: ["": 17, "odd": 1]> g (float[N] x) => (float[N] y) { y=odd.Op(x) }'
    )
    with pytest.raises(ModelError, match=r"onnxruntime refuses the model in memory: .*odd"):
        open_session(unknown.SerializeToString())
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        open_session(tmp_path / "absent.onnx")


PORTS = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N,3,?,8] a, float16[1] b, double c, bool[2] d, int64[batch] e, string[1] f, uint8[1] h, int32[2,2] i,
       bfloat16[1] j) => (float[N,3,?,8] z) { z = Neg(a) }"""


def test_ports_tell_numpy_types_and_shapes():
    session = open_session(proto_of(PORTS).SerializeToString())
    assert session.inputs == (
        Port("a", "float32", ("N", 3, None, 8)),
        Port("b", "float16", (1,)),
        Port("c", "float64", ()),
        Port("d", "bool", (2,)),
        Port("e", "int64", ("batch",)),
        Port("f", "string", (1,)),
        Port("h", "uint8", (1,)),
        Port("i", "int32", (2, 2)),
        Port("j", "bfloat16", (1,)),
    )
    assert session.outputs == (Port("z", "float32", ("N", 3, None, 8)),)


def test_threads_and_optimization_are_passed_on(cuda_wheel):
    open_session(RAW, threads=3, optimize=False)
    options = FakeSession.seen["options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    open_session(RAW)
    options = FakeSession.seen["options"]
    assert options.intra_op_num_threads == 1
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_the_optimized_graph_and_the_profile_are_written(tmp_path):
    text = "g (float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)  y = Add(h, b) }"
    raw = proto_of(text, w=noise(8, 4), b=noise(4)).SerializeToString()
    session = open_session(raw, optimized_to=tmp_path / "o.onnx", profile_to=tmp_path / "p")
    session.run({"x": X})
    assert [node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node] != ["MatMul", "Add"]
    events = json.loads(Path(session.raw.end_profiling()).read_text())
    assert any(event.get("cat") == "Node" for event in events)


def test_cpu_is_the_default():
    assert [provider.name for provider in CPU] == ["cpu"]
    assert open_session(RAW).provider == "cpu"
    assert runtime.short_name("TensorrtExecutionProvider") == "tensorrt"
