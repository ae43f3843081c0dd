"""The gate: what is broken is refused with one error that names it; what onnxruntime loads passes."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from compress_ops.errors import ModelError
from compress_ops.model import load
from tests.helpers import noise, outputs, proto_of

FULL = "g (float[2] x) => (float[2] y) { y = Relu(x) }"
IF = """g (bool c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = t () => (float[2] a) { THEN }, else_branch = e () => (float[2] b) { b = Relu(x) }> MORE
}"""
CALL = '<ir_version: 8, opset_import: ["": 17, "l": 1]> g (float[2] x) => (float[2] y) { y = l.f(x) } '
FUNCTION = '<domain: "l", opset_import: ["": 17, "l": 1]> '


def branch(then: str, more: str = "") -> str:
    return IF.replace("THEN", then).replace("MORE", more)


def save(folder, proto):
    path = folder / "m.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def onnxruntime_loads(path) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception:
        return False
    return True


# --- graphs as text ---

REFUSED = {
    "g (float[2] x) => (float[2] y) { y = Add(x, q) }": r"node 'y' \(Add\) reads 'q', which nothing gives",
    "g (float[2] x) => (float[2] y) { y = Add(x, a) a = Neg(y) }": "wait for one another in a circle: .*Add.*Neg",
    "g (float[2] x) => (float[2] y) { y = Neg(x) y = Relu(x) }": "two values of 'g' are called 'y'",
    "g (float[2] x) => (float[2] y) { x = Neg(x) y = Relu(x) }": "two values of 'g' are called 'x'",
    "g (float[2] x) => (float[2] y) <float[2] y = {1, 2}> { y = Relu(x) }": "two values of 'g' are called 'y'",
    "g (float[2] x, float[2] x) => (float[2] y) { y = Relu(x) }": "two inputs are called 'x'",
    "g (float[2] x) => (float[2] z) { y = Relu(x) }": "nothing in 'g' gives its output 'z'",
    'g (float[2] x) => (float[2] y) { y = Add(x, "") }': "leaves out one of its inputs that must be there",
    "g (float[2] x) => (float[2] y) { y = Relu(x, x) }": "has 2 inputs where its operator takes 1",
    "g (float[2] x) => (float[2] y) { y = Relu() }": "has 0 inputs where its operator takes 1",
    "g (float[2] x) => (float[2] y) { y = Concat<axis = 0>() }": "has 0 inputs where its operator takes 1 or more",
    "g (float[2] x) => (float[2] y) { y, z = Relu(x) }": "has 2 outputs where its operator takes 1",
    "g (float[2] x) => (float[2] y) { y = Relu<foo = 1>(x) }": "has an attribute 'foo', which its operator does not",
    "g (float[2] x) => (float[2] y) { y = Softmax<axis = 0.5>(x) }": "has an attribute 'axis' of the wrong type",
    "g (float[2] x) => (float[2] y) { y = Cast(x) }": "lacks the attribute 'to'",
    "g (float[2] x) => (float[2] y) { y = Rleu(x) }": "an operator that neither ONNX .* nor onnxruntime knows",
    "g (float[2] x) => (float[2] y) { y = GroupNormalization<num_groups = 1>(x, x, x) }": "neither ONNX .version 17",
    "g (float[2] x) => (float[2] y) { y = com.microsoft.Gleu(x) }": "an operator that neither ONNX .* nor onnxruntime",
    "g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu(x, x) }": "has 2 inputs where its operator takes 1",
    '<ir_version: 8, opset_import: ["my": 1]> ' + FULL: "standard operator set, which is not imported",
    '<ir_version: 8, opset_import: ["": 999]> ' + FULL: "imports version 999 of operator set 'ai.onnx'",
    '<ir_version: 8, opset_import: ["": 0]> ' + FULL: "imports version 0 of operator set 'ai.onnx'",
    branch("a = Add(x, q)"): r"node 'a' \(Add\) reads 'q', which nothing gives",
    branch("a = Neg(q)", "q = Abs(y)"): "wait for one another in a circle: .*If.*Abs",
    branch("a = Neg(x) a = Relu(x)"): "two values of 't' are called 'a'",
    branch("b = Neg(x)"): "nothing in 't' gives its output 'a'",
    branch("a = Softmax<axis = 0.5>(x)"): "has an attribute 'axis' of the wrong type",
    CALL + FUNCTION + "f (a) => (b) { b = l.f(a) }": "functions call one another in a circle: f",
    CALL + FUNCTION + "f (a) => (b) { b = l.g(a) }" + FUNCTION + "g (a) => (b) { b = l.f(a) }": "in a circle: .*f",
    CALL + FUNCTION + "f (a) => (b) { b = Neg(a) }" + FUNCTION + "f (a) => (b) { b = Abs(a) }": "have the same name",
    CALL + FUNCTION + "f (a) => (b) { b = Neg(c) }": "reads 'c', which nothing gives",
    CALL + FUNCTION + "f (a) => (b) { c = Neg(a) }": "nothing in 'f' gives its output 'b'",
    CALL + FUNCTION + "f (a) => (b) { b = Neg(a, a) }": "has 2 inputs where its operator takes 1",
    CALL
    + FUNCTION
    + "f (a) => (b) { b = Nge(a) }": "an operator that ONNX .version 17. lacks, which no function may hold",
    CALL
    + FUNCTION
    + "f () => (b) { b = Constant<value_float = 1.0>() }": "has more inputs or outputs than its function",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_broken_graph_is_refused_by_name_and_onnxruntime_agrees(tmp_path, text):
    path = save(tmp_path, proto_of(text))
    with pytest.raises(ModelError, match=rf"m\.onnx is damaged or not valid ONNX: .*{REFUSED[text]}"):
        load(path)
    assert not onnxruntime_loads(path) or "not imported" in REFUSED[text]


PASSES = [
    "g (float[2] x) => (float[2] y) { y = Relu(a) a = Neg(x) }",  # not sorted, but can be
    "g (float[2] x) => (float[2] x) { y = Relu(x) }",
    "g (float[2] x) => (float[2] y) { y = SimplifiedLayerNormalization<axis = -1>(x, x) }",
    '<ir_version: 8, opset_import: ["": 14]> g (float[2] x) => (float[2] y) { y = LayerNormalization(x, x, x) }',
    "g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu(x) }",  # its operator set is not imported
    '<ir_version: 8, opset_import: ["ai.onnx": 17, "other": 0]> g (float[2] x) => (float[2] y) { y = ai.onnx.Neg(x) }',
    branch("a = Neg(q)", "q = Abs(x)"),
    branch("y = Neg(x) a = Neg(y)"),  # the name of what the If gives
    branch("b = Neg(x) a = Neg(b)"),  # the name of a value of the other branch
    """g (float[2] x, int64 n, bool c) => (float[2] y) {
        y = Loop (n, c, x) <body = b (int64 i, bool c, float[2] x) => (bool d, float[2] z) {
            d = Identity(c) z = Neg(x)
        }>
    }""",
    CALL + FUNCTION + "f (a, left_out) => (b) { b = l.g(a) }" + FUNCTION + "g (a) => (b) { b = Neg(a) }",
    '<ir_version: 8, opset_import: ["": 17, "my": 3]> g (float[2] x) => (float[2] y) { y = my.Own<k = 1>(x) }',
]


@pytest.mark.parametrize("text", PASSES)
def test_what_onnxruntime_loads_passes(tmp_path, text):
    path = save(tmp_path, proto_of(text))
    assert load(path).graph.outputs
    assert onnxruntime_loads(path) or "my.Own" in text  # of an operator that needs a library, nothing is known


def test_a_function_of_an_operator_that_crashes_onnxruntime_is_refused(tmp_path):
    """onnxruntime 1.32 ends with a segmentation fault where a function holds a standard operator of its own."""
    path = save(tmp_path, proto_of(CALL + FUNCTION + "f (a) => (b) { b = SimplifiedLayerNormalization(a, a) }"))
    with pytest.raises(ModelError, match="which no function may hold"):
        load(path)


# --- what text cannot say ---


def twice_as_output(proto):
    proto.graph.output.append(proto.graph.output[0])


def without_outputs(proto):
    del proto.graph.output[:]


def two_weights_of_a_name(proto):
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.zeros(2), "w") for _ in range(2))


def a_weight_without_a_name(proto):
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2), ""))


def an_input_without_a_type(proto):
    proto.graph.input[0].ClearField("type")


def elements_of_no_type(proto):
    proto.graph.input[0].type.tensor_type.elem_type = 99


def a_huge_input(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**60


def an_input_of_many_axes(proto):
    for _ in range(300):
        proto.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1)


def a_huge_empty_weight(proto):
    proto.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[0, 2**62, 2**62], raw_data=b""))


def an_inner_value_of_no_type(proto):
    proto.graph.value_info.append(helper.make_tensor_value_info("z", 77, [2]))


def an_attribute_twice(proto):
    proto.graph.node[0].attribute.extend(helper.make_attribute("axis", 0) for _ in range(2))


def an_attribute_of_two_types(proto):
    proto.graph.node[0].attribute.append(helper.make_attribute("axis", 0))
    proto.graph.node[0].attribute[0].f = 1.0


def an_attribute_without_a_type(proto):
    proto.graph.node[0].attribute.append(helper.make_attribute("axis", 0))
    proto.graph.node[0].attribute[0].ClearField("type")


def two_versions_of_a_set(proto):
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 12))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (twice_as_output, "two outputs are called 'y'"),
        (without_outputs, "gives no outputs"),
        (two_weights_of_a_name, "two initializers are called 'w'"),
        (a_weight_without_a_name, "an input or initializer of 'g' has no name"),
        (an_input_without_a_type, "input 'x' has no type"),
        (elements_of_no_type, "'x' is declared with an unknown type of elements, 99"),
        (an_inner_value_of_no_type, "'z' is declared with an unknown type of elements, 77"),
        (a_huge_input, "'x' is declared with a shape that no memory holds, 1152921504606846976"),
        (an_input_of_many_axes, r"'x' is declared with a shape that no memory holds, .*\(301 axes\)"),
        (a_huge_empty_weight, "'w' has a shape that no memory holds"),
        (an_attribute_twice, r"node 'y' \(Relu\) has an attribute twice"),
        (an_attribute_of_two_types, "'axis' whose value is not of its type"),
        (an_attribute_without_a_type, "'axis' whose value is not of its type"),
        (two_versions_of_a_set, "imports operator set 'ai.onnx' in two versions"),
    ],
)
def test_damage_is_refused_by_name(tmp_path, damage, told):
    proto = proto_of(FULL)
    damage(proto)
    with pytest.raises(ModelError, match=told):
        load(save(tmp_path, proto))


def test_names_that_are_no_text_are_refused(tmp_path):
    raw = proto_of("g (float[2] xname) => (float[2] y) { y = Relu(xname) }").SerializeToString()
    with pytest.raises(ModelError, match=r"b'xn\\xffme' is not UTF-8 text"):
        load(save(tmp_path, raw.replace(b"xname", b"xn\xffme")))


def test_a_negative_size_is_one_that_is_not_known(tmp_path):
    proto = proto_of(FULL)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model = load(save(tmp_path, proto))
    assert not isinstance(model.graph.inputs[0].shape[0], int)
    assert outputs(model, x=noise(2))[0].shape == (2,)


def test_functions_that_double_without_bound_are_refused(tmp_path):
    """26 functions of two calls each: 2^26 nodes once they are written out."""
    inner = [FUNCTION + f"f{n} (a) => (b) {{ c = l.f{n + 1}(a) b = l.f{n + 1}(c) }}" for n in range(26)]
    text = CALL.replace("l.f", "l.f0") + "".join(inner) + FUNCTION + "f26 (a) => (b) { b = Neg(a) }"
    with pytest.raises(ModelError, match="written out, are more than 1000000 nodes"):
        load(save(tmp_path, proto_of(text)))


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("a\0b", "no name that a file can have"),
        ("n" * 300, "no name that a file can"),
        ("loop", "no name|exist|outside"),
    ],
)
def test_impossible_names_of_external_data_are_refused(tmp_path, location, told):
    (tmp_path / "loop").symlink_to("loop")
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    proto = proto_of("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    proto.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match=told):
        load(save(tmp_path, proto))


def test_external_data_without_a_place_is_refused(tmp_path):
    proto = proto_of("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    proto.graph.initializer.add(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    with pytest.raises(ModelError, match="external data of 'w' in ''"):
        load(save(tmp_path, proto))


def test_a_long_chain_is_checked_in_time_that_grows_with_its_length(tmp_path):
    """What grows with the square of the length would take 100 times as long for 10 times the nodes, not about 10."""

    def seconds(length: int) -> float:
        nodes = [helper.make_node("Neg", [f"v{n}"], [f"v{n + 1}"]) for n in range(length)]
        ports = [helper.make_tensor_value_info(name, 1, [2]) for name in ("v0", f"v{length}")]
        graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
        path = save(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
        started = time.process_time()
        load(path)
        return time.process_time() - started

    seconds(10)
    assert seconds(10_000) < 40 * max(seconds(1_000), 0.01)
