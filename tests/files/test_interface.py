"""What callers rely on comes through a load and a save: defaults of inputs, maps, metadata; and nothing is added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from compress_ops.files.interface import type_text
from compress_ops.model import Model, load
from compress_ops.runtime import open_session
from tests.helpers import model_of, noise, proto, proto_of

SCALED = "g (float[N,8] x, float temperature) => (float[N,4] y) { a = MatMul(x, w) y = Div(a, temperature) }"
MAPPED = """<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 1]> g (float[N,8] x) => (int64[N] label)
    { a = MatMul(x, w) p = Softmax(a) label = ArgMax<axis=1,keepdims=0>(p)
      probs = ai.onnx.ml.ZipMap<classlabels_int64s=[0,1,2]>(p) }"""
MAPS = helper.make_sequence_type_proto(
    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
)


def scaled(ir_version: int = 8) -> onnx.ModelProto:
    made = proto_of(SCALED, w=noise(8, 4), temperature=np.array(1, np.float32))
    made.ir_version = ir_version
    return made


def mapped() -> onnx.ModelProto:
    made = proto_of(MAPPED, w=noise(8, 3))
    made.graph.output.append(helper.make_value_info("probs", MAPS))
    return made


def run(made: onnx.ModelProto, **feeds: np.ndarray) -> list[object]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, feeds)


def saved(tmp_path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


# --- inputs with a default ---


@pytest.mark.parametrize("ir_version", [4, 8, 10])
def test_an_input_with_a_default_stays_one(ir_version: int) -> None:
    model = model_of(scaled(ir_version))
    assert [value.name for value in model.graph.inputs] == ["x", "temperature"]
    assert [weight.name for weight in model.weights()] == ["w"]  # for passes it is not constant
    after, x = proto(model), noise(2, 8)
    assert {tensor.name for tensor in after.graph.initializer} == {"w", "temperature"}
    for feeds in ({"x": x}, {"x": x, "temperature": np.array(2, np.float32)}):
        np.testing.assert_array_equal(run(after, **feeds)[0], run(scaled(ir_version), **feeds)[0])


def test_in_old_files_all_that_is_backed_is_a_weight() -> None:
    model = model_of(scaled(3))
    assert [value.name for value in model.graph.inputs] == ["x"] and not model.defaults
    assert {weight.name for weight in model.weights()} == {"w", "temperature"}


def test_a_default_can_be_dropped(tmp_path: Path) -> None:
    model = load(saved(tmp_path, scaled()), drop_default_inputs=True)
    assert [value.name for value in model.graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(proto(model), x=noise(2, 8))[0], run(scaled(), x=noise(2, 8))[0])


def test_saving_leaves_the_model_as_it_was() -> None:
    model = model_of(scaled())
    model.infer_shapes()
    first = proto(model)
    assert proto(model) == first
    assert [weight.name for weight in model.weights()] == ["w"]
    assert model.graph[0].outputs[0].shape is not None  # what was inferred stays in memory


def test_defaults_count_as_bytes() -> None:
    model = model_of(scaled())
    assert model.default_bytes() == 4
    assert model.weight_bytes() == 8 * 4 * 4 + 4


def test_a_session_tells_what_need_not_be_fed(tmp_path: Path) -> None:
    session = open_session(saved(tmp_path, scaled()))
    assert [port.name for port in session.inputs] == ["x"]
    assert [port.name for port in session.defaults] == ["temperature"]
    given = {"x": noise(1, 8), "temperature": np.array(2, np.float32), "other": noise(1)}
    assert set(session.taken(given)) == {"x", "temperature"}


# --- maps ---


def test_maps_are_carried() -> None:
    model, x = model_of(mapped()), noise(3, 8)
    model.infer_shapes()
    model.check()
    after = proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.output[1] == mapped().graph.output[1]
    assert run(after, x=x)[1] == run(mapped(), x=x)[1]


def test_a_map_between_nodes_does_not_stop_inference() -> None:
    made = mapped()
    made.graph.node[-1].output[0] = "inner"
    made.graph.node.append(helper.make_node("Identity", ["inner"], ["probs"]))
    model = model_of(made)
    model.infer_shapes()
    assert next(node for node in model.nodes() if node.op_type == "Softmax").outputs[0].shape[1] == 3
    assert {node.domain for node in model.nodes()} == {"", "ai.onnx.ml"}
    assert set(model.ir.opset_imports) == {"", "ai.onnx.ml"}
    assert proto(model).graph.output[1].type == MAPS


def test_a_map_may_be_an_input() -> None:
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    node = helper.make_node("DictVectorizer", ["m"], ["v"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    graph = helper.make_graph(
        [node], "g", [helper.make_value_info("m", kind)], [helper.make_tensor_value_info("v", 1, [1, 2])]
    )
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)])
    made.opset_import.append(helper.make_opsetid("", 17))
    model = model_of(made)
    model.infer_shapes()
    model.check()
    assert proto(model).graph.input[0].type == kind


def test_optional_types_are_carried() -> None:
    made = proto_of("g (float[N,8] x) => (float[N,8] z) { z = Neg(x) y = Optional(z) }")
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 8]))
    made.graph.output.append(helper.make_value_info("y", kind))
    model = model_of(made)
    model.infer_shapes()
    model.check()
    assert proto(model).graph.output[1].type.optional_type.elem_type.tensor_type.elem_type == TensorProto.FLOAT
    np.testing.assert_array_equal(run(proto(model), x=noise(2, 8))[1], -noise(2, 8))


def test_types_as_text() -> None:
    assert type_text(MAPS) == "seq(map(int64, float))"
    assert type_text(helper.make_optional_type_proto(MAPS)) == "optional(seq(map(int64, float)))"


# --- what is told of values ---


def told() -> onnx.ModelProto:
    made = proto_of("g (float[N,8] x) => (float[N,4] y) { h = MatMul(x, w) y = Relu(h) }", w=noise(8, 4))
    for value in (made.graph.input[0], made.graph.output[0]):
        value.doc_string = f"about {value.name}"
        value.type.denotation = "TENSOR"
        value.metadata_props.add(key="unit", value="m")
    return made


def test_what_is_told_of_ports_stays_when_their_nodes_are_replaced() -> None:
    model = model_of(told())
    with model.keeping_ports():
        old = model.graph.outputs[0]
        import onnx_ir as ir

        node = ir.node("Relu", [model.graph[0].outputs[0]], name="other")
        node.outputs[0].name, node.outputs[0].type = old.name, ir.TensorType(ir.DataType.FLOAT)
        model.graph.append(node)
        model.graph.outputs[0] = node.outputs[0]
        model.graph.remove(model.graph[1])
    after = proto(model)
    assert list(after.graph.output) == list(told().graph.output)
    assert list(after.graph.input) == list(told().graph.input)


def shapes_in(model: Model) -> list[str]:
    return [value.name for value in proto(model).graph.value_info]


def test_inferred_shapes_are_not_written() -> None:
    model = model_of(told())
    model.infer_shapes()
    assert shapes_in(model) == []


def test_shapes_that_the_file_tells_stay() -> None:
    made = told()
    made.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 4]))
    model = model_of(made)
    model.infer_shapes()
    assert shapes_in(model) == ["h"]
    assert shapes_in(model.copy()) == ["h"]
