"""What an execution provider would run slower than float is refused, by name of the reason, unless it is forced."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

from compress_ops.errors import PassError, ProviderError
from compress_ops.quantize.few_bits import support
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.slower import refuse_slower
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.runtime import Provider, open_session
from tests.helpers import Given, context, model_of, noise, op_types, outputs, proto_of

X, W = noise(8, 40, seed=1), noise(40, 24, seed=2)
SOURCE = proto_of("g (float[N,40] x) => (float[N,24] y) { y = MatMul(x, w) }", w=W)


@pytest.fixture
def given(monkeypatch):
    """A model, and the context of a provider that is said to be there; sessions are the CPU's."""
    monkeypatch.setattr(
        "compress_ops.graph.tap.open_session", lambda model, providers, **settings: open_session(model, **settings)
    )

    def make(name):
        providers = (Provider(name), Provider("cpu"))
        return model_of(SOURCE), context(calibration=Given({"x": X}), providers=providers)

    return make


@pytest.mark.parametrize("name", ["cuda", "rocm", "coreml", "tensorrt", "qnn", "openvino"])
def test_dynamic_quantization_is_refused(given, name):
    with pytest.raises(PassError, match="dynamic quantization is slower than float on") as e:
        quantize_dynamic(*given(name))
    assert "allow_slower: true on the step forces it" in e.value.hint
    assert ("quantize_static" in e.value.hint) == (name in ("tensorrt", "qnn", "openvino"))
    model, ctx = given(name)
    assert quantize_dynamic(model, ctx, allow_slower=True).touched and op_types(model)["MatMulInteger"] == 1


def test_tables_of_rows_run_everywhere(given):
    _, ctx = given("cuda")
    table = proto_of("g (int64[N] x) => (float[N,40] y) { y = Gather(t, x) }", t=noise(64, 40))
    assert quantize_dynamic(model_of(table), ctx, operators=["Gather"]).touched


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("cuda", "qdq", "it computes in float between"),
        ("cuda", "qoperator", "no kernels for QLinearConv"),
        ("coreml", "qdq", "it has no integer kernels"),
        ("tensorrt", "qoperator", "no kernels for QLinearConv"),
    ],
)
def test_static_quantization_is_refused(given, name, form, reason):
    with pytest.raises(PassError, match=reason):
        quantize_static(*given(name), form=form, activation_type="int8")
    assert quantize_static(*given(name), form=form, activation_type="int8", allow_slower=True).touched


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"activation_type": "int8", "symmetric": False}])
def test_tensorrt_takes_zero_points_of_zero_alone(given, options):
    with pytest.raises(PassError, match="zero point of 0 alone") as caught:
        quantize_static(*given("tensorrt"), **options)
    assert "activation_type: int8" in caught.value.hint
    model, ctx = given("tensorrt")
    quantize_static(model, ctx, activation_type="int8")
    zeros = [value.const_value.numpy() for value in model.weights() if "zero_point" in value.name]
    assert zeros and all(zero.dtype == "int8" and not zero.any() for zero in zeros)


OTHERS = {*product(("cpu", "openvino", "dml", "somenpu"), ("dynamic", "qdq", "qoperator"))} - {("openvino", "dynamic")}


@pytest.mark.parametrize(("name", "form"), sorted(OTHERS))
def test_what_is_not_known_to_be_slower_is_not_refused(given, name, form):
    refuse_slower(given(name)[1], form, allowed=False)


def test_what_compiles_whole_graphs_is_calibrated_on_the_cpu():
    """Nothing of a session on the provider is wanted: it is not in this build, and the pass goes through."""
    model, ctx = model_of(SOURCE), context(calibration=Given({"x": X}), providers=(Provider("openvino"),))
    assert quantize_static(model, ctx).touched
    on_cpu = model_of(SOURCE)
    quantize_static(on_cpu, context(calibration=Given({"x": X})))
    (expected,), (found,) = outputs(on_cpu, x=X), outputs(model, x=X)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ProviderError, match="'cuda' is not in this onnxruntime build"):
        quantize_static(
            model_of(SOURCE), context(calibration=Given({"x": X}), providers=(Provider("cuda"),)), allow_slower=True
        )


def test_what_is_tried_has_several_outputs_as_weights_have(given, monkeypatch):
    """OpenVINO takes a weight of one output for a vector, and refused the form."""
    tried = []

    def look(path, providers, **settings):
        tried.append(onnx.load(path))
        return open_session(path)

    monkeypatch.setattr(support, "open_session", look)
    support.require_storage(given("dml")[1], "MatMulNBits", 4)
    (packed,) = (weight for weight in tried[0].graph.initializer if weight.data_type == onnx.TensorProto.UINT8)
    assert packed.dims[0] > 1


def test_bits_that_a_provider_cannot_run_are_refused_with_those_that_it_can(given, monkeypatch):
    """A provider without MatMulNBits: the one-node model of that form does not load."""

    def refuse(path, providers, **settings):
        if any(node.op_type == "MatMulNBits" for node in onnx.load(path).graph.node):
            raise PassError("no kernel for MatMulNBits")
        return open_session(path)

    monkeypatch.setattr(support, "open_session", refuse)
    with pytest.raises(PassError, match="storage MatMulNBits with 4 bits does not run on 'dml': no kernel") as caught:
        support.require_storage(given("dml")[1], "MatMulNBits", 4)
    assert caught.value.hint == "storage that runs here with 4 bits: qdq, decoded"
