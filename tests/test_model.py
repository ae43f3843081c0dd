"""Model: one form whatever the file looks like, names, sizes, and nothing lost on the way through."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_ops.errors import PassError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import Contract, load, make_uniform
from tests.helpers import context, model_of, noise, op_types, outputs, proto, proto_of, reloaded

WEIGHT = noise(8, 4)
X = noise(2, 8, seed=1)


def header(opset, ir_version=8):
    return f'<ir_version: {ir_version}, opset_import: ["": {opset}]>\n'


# --- one form ---


@pytest.mark.parametrize("opset", range(7, 24))
def test_every_opset_from_7_to_23_loads_and_keeps_its_function(opset):
    text = (
        header(opset, 3 if opset < 9 else 10) + "g (float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)  y = Relu(h) }"
    )
    model = model_of(text if opset >= 9 else text.replace("[N,8] x", "[N,8] x, float[8,4] w"), w=WEIGHT)
    assert model.opset == opset
    assert model.ir.ir_version >= 4
    np.testing.assert_array_equal(outputs(model, x=X)[0], np.maximum(outputs(model_of(LINEAR, w=WEIGHT), x=X)[0], 0))


LINEAR = "g (float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }"


def test_the_long_name_of_the_standard_domain_is_understood():
    model = model_of('<ir_version: 8, opset_import: ["ai.onnx": 15]> ' + LINEAR, w=WEIGHT)
    assert model.opset == 15


def test_a_constant_in_the_long_domain_becomes_a_weight():
    source = proto_of("g (float[2] x) => (float[2] y) { k = Constant <value_floats = [1.0, 2.0]> ()  y = Add(x, k) }")
    source.graph.node[0].domain = "ai.onnx"
    assert [value.name for value in model_of(source).weights()] == ["k"]


def test_initializers_listed_as_inputs_are_weights_not_inputs():
    model = model_of(header(8, 3) + "g (float[N,8] x, float[8,4] w) => (float[N,4] y) { y = MatMul(x, w) }", w=WEIGHT)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [value.name for value in model.weights()] == ["w"]


CONSTANTS = {
    "value = float[2] {1.5, 2.0}": np.array([1.5, 2.0], np.float32),
    "value = bfloat16[1] {1}": None,
    "value_float = 2.5": np.array(2.5, np.float32),
    "value_floats = [2.5, 1.0]": np.array([2.5, 1.0], np.float32),
    "value_int = 3": np.array(3, np.int64),
    "value_ints = [3, -1]": np.array([3, -1], np.int64),
    'value_string = "ab"': np.array(b"ab", object),
    'value_strings = ["ab", "c"]': np.array([b"ab", b"c"], object),
}


@pytest.mark.parametrize("attribute", CONSTANTS)
def test_constant_nodes_become_weights_of_the_same_name(attribute):
    model = model_of(f"g (int64[1] x) => (int64[M] y) {{ k = Constant <{attribute}> ()  y = Shape(k) }}")
    (weight,) = model.weights()
    assert weight.name == "k" and not op_types(model)["Constant"]
    if CONSTANTS[attribute] is not None:
        found = weight.const_value.numpy()
        assert found.shape == CONSTANTS[attribute].shape
        assert found.dtype == CONSTANTS[attribute].dtype or found.dtype.kind == "S"
        assert found.tolist() == CONSTANTS[attribute].tolist()


def test_a_constant_that_is_an_output_still_comes_out():
    model = model_of(
        "g (float[1] x) => (float[2] k, float[1] y) { k = Constant <value_floats = [1.0, 2.0]> () y=Neg(x) }"
    )
    assert outputs(reloaded(model), x=np.ones(1, np.float32))[0].tolist() == [1.0, 2.0]


BRANCH = """g (bool c, float[N,8] x) => (float[N,4] y) {
    y = If (c) <then_branch = t () => (float[N,4] a) <float[4] b = {1.0, 2.0, 3.0, 4.0}> {
                    h = MatMul(x, w)  a = Add(h, b) },
                else_branch = e () => (float[N,4] d) {
                    k = Constant <value_float = 2.0> ()  i = MatMul(x, w)  d = Mul(i, k) }> }"""
LOOP = """g (float[2] x) => (float[2] y) <int64 n = {3}, bool c = {1}> {
    y = Loop (n, c, x) <body = b (int64 i, bool ci, float[2] s) => (bool co, float[2] t)
        { co = Identity(ci)  k = Constant <value_floats = [1.0, 10.0]> ()  t = Add(s, k) }> }"""


def test_weights_and_nodes_of_branches_are_found():
    model = model_of(BRANCH, w=WEIGHT)
    assert {value.name for value in model.weights()} == {"w", "b", "k"}
    assert op_types(model) == {"If": 1, "MatMul": 2, "Add": 1, "Mul": 1}
    expected = X @ WEIGHT
    tolerance = 8 * np.finfo(np.float32).eps * np.abs(X).max() * np.abs(WEIGHT).sum()
    for c, function in ((True, expected + np.arange(1, 5)), (False, expected * 2)):
        np.testing.assert_allclose(outputs(model, c=np.array(c), x=X)[0], function, rtol=0, atol=2 * tolerance)


def test_weights_of_a_loop_are_found():
    model = model_of(LOOP)
    assert {value.name for value in model.weights()} == {"n", "c", "k"}
    assert outputs(model, x=np.zeros(2, np.float32))[0].tolist() == [3.0, 30.0]


def test_functions_survive():
    text = """<ir_version: 10, opset_import: ["": 17, "local": 1]>
        g (float[N] x) => (float[N] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["": 17]> 
        twice (a) => (b) { k = Constant <value_float = 2.0> ()  b = Mul(a, k) }"""
    assert outputs(reloaded(model_of(text)), x=np.ones(3, np.float32))[0].tolist() == [2.0] * 3


def test_every_node_has_a_name_of_its_own():
    model = model_of(BRANCH, w=WEIGHT)
    names = [node.name for node in model.nodes()]
    assert all(names) and len(set(names)) == len(names)


def test_given_names_are_kept():
    source = proto_of("g (float[2] x) => (float[2] z) { y = Neg(x)  z = Neg(y) }")
    source.graph.node[1].name = "mine"
    assert [node.name for node in model_of(source).nodes()] == ["Neg_y", "mine"]


# --- nothing lost ---


def test_metadata_and_doc_strings_survive():
    source = proto_of(LINEAR, w=WEIGHT)
    source.producer_name, source.producer_version, source.model_version, source.doc_string = "p", "1.2", 7, "model doc"
    source.domain, source.graph.doc_string = "org.example", "graph doc"
    source.metadata_props.add(key="classes", value="a,b")
    source.graph.node[0].doc_string = "node doc"
    source.graph.input[0].doc_string = "input doc"
    after = proto(model_of(source))
    for field in ("producer_name", "producer_version", "model_version", "doc_string", "domain", "metadata_props"):
        assert getattr(after, field) == getattr(source, field)
    assert after.graph.doc_string == "graph doc" and after.graph.name == "g"
    assert after.graph.node[0].doc_string == "node doc" and after.graph.input[0].doc_string == "input doc"


def test_quantization_annotations_and_value_infos_survive():
    source = proto_of("g (float[N,8] x) => (float[N,4] y) <float[N,4] h> { h = MatMul(x, w)  y = Neg(h) }", w=WEIGHT)
    annotation = source.graph.quantization_annotation.add(tensor_name="h")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    after = proto(model_of(source)).graph
    assert "h" in [info.name for info in after.value_info]
    assert after.quantization_annotation == source.graph.quantization_annotation


UNUSUAL = {
    "bfloat16": (onnx.TensorProto.BFLOAT16, noise(3, 5).astype(ml_dtypes.bfloat16).tobytes()),
    "float16": (onnx.TensorProto.FLOAT16, noise(3, 5).astype(np.float16).tobytes()),
    "float8e4m3fn": (onnx.TensorProto.FLOAT8E4M3FN, bytes(range(15))),
    "float8e5m2fnuz": (onnx.TensorProto.FLOAT8E5M2FNUZ, bytes(range(15))),
    "int4": (onnx.TensorProto.INT4, bytes(range(8))),  # 15 elements: 8 bytes
    "uint4": (onnx.TensorProto.UINT4, bytes(range(8))),
    "complex64": (onnx.TensorProto.COMPLEX64, noise(3, 10).tobytes()),
    "bool": (onnx.TensorProto.BOOL, bytes([0, 1, 1] * 5)),
}


def unusual_model(data_type, raw):
    tensor = onnx.TensorProto(name="w", data_type=data_type, dims=[3, 5], raw_data=raw)
    source = proto_of('<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (int64[2] y) { y = Shape(w) }')
    source.graph.initializer.append(tensor)
    return source


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(("data_type", "raw"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_types_survive_bit_for_bit(tmp_path, monkeypatch, data_type, raw, external):
    monkeypatch.setattr("compress_ops.files.models.EXTERNAL_TENSOR", 1)
    model = model_of(unusual_model(data_type, raw))
    model.external = external
    assert model.weight_bytes() == len(raw)
    for _ in range(2):  # the second time from what was saved
        model.save(tmp_path / "m.onnx")
        model = load(tmp_path / "m.onnx")
    (tensor,) = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert (tensor.data_type, list(tensor.dims), tensor.raw_data) == (data_type, [3, 5], raw)


TYPED = [
    onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.5, 2.5]),
    onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT16, [2], [1.5, 2.5]),
    onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [2], [1.5, 2.5]),
    onnx.helper.make_tensor("w", onnx.TensorProto.DOUBLE, [2], [1.5, 2.5]),
    onnx.helper.make_tensor("w", onnx.TensorProto.INT8, [2], [-3, 4]),
    onnx.helper.make_tensor("w", onnx.TensorProto.INT4, [3], [-3, 4, 7]),
    onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT8E4M3FN, [2], [1.5, 2.5]),
    onnx.helper.make_tensor("w", onnx.TensorProto.UINT64, [2], [2**63, 4]),
    onnx.helper.make_tensor("w", onnx.TensorProto.BOOL, [2], [True, False]),
    onnx.helper.make_tensor("w", onnx.TensorProto.COMPLEX128, [2], [1 + 2j, 3 - 4j]),
    onnx.helper.make_tensor("w", onnx.TensorProto.STRING, [2], ["a\u00fc".encode(), b""]),
    onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [0, 3], []),
    onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [], [4.0]),
]


@pytest.mark.parametrize("tensor", TYPED, ids=lambda t: f"{onnx.TensorProto.DataType.Name(t.data_type)}{list(t.dims)}")
def test_tensors_stored_number_by_number_survive(tensor):
    source = proto_of('<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (int64[R] y) { y = Shape(w) }')
    source.graph.initializer.append(tensor)
    (after,) = proto(model_of(source)).graph.initializer
    expected = onnx.numpy_helper.to_array(tensor)
    assert list(after.dims) == list(tensor.dims) and after.data_type == tensor.data_type
    assert onnx.numpy_helper.to_array(after).tolist() == expected.tolist()


# --- sizes ---


@pytest.mark.parametrize("size", [8, 250, 256, 300])
def test_external_weights_of_every_size_pass_the_check(tmp_path, size):
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2,{size}] x) => (float[2,{size}] y) {{ y = Mul(x, w) }}"""
    path = tmp_path / "m.onnx"
    onnx.save(proto_of(text, w=noise(size)), path, save_as_external_data=True, location="w", size_threshold=0)
    model = load(path)
    model.check()
    model.infer_shapes()
    x = noise(2, size, seed=1)
    np.testing.assert_array_equal(outputs(model, x=x)[0], x * noise(size))


def test_weight_bytes_count_what_is_stored():
    model = model_of(BRANCH, w=WEIGHT)
    assert model.weight_bytes() == WEIGHT.nbytes + 4 * 4 + 4
    assert model.generated_bytes() == 0
    assert model.stored_bytes() > model.weight_bytes()


GENERATED = {
    "float[1] {2.0}": 4,
    "int8[1] {2}": 1,
    "int64[1] {2}": 8,
    "": 4,
}


@pytest.mark.parametrize("value", GENERATED)
def test_generated_constants_count_as_if_stored(value):
    attribute = f"<value = {value}>" if value else ""
    kind = value.partition("[")[0] or "float"
    text = f"g (float[1] x) => ({kind}[6,5] y) <int64[2] s = {{6, 5}}> {{ y = ConstantOfShape {attribute} (s) }}"
    model = model_of(text)
    assert model.generated_bytes() == 30 * GENERATED[value]
    assert model.weight_bytes() == 16 + 30 * GENERATED[value]


def test_a_constant_of_a_computed_shape_is_no_weight():
    model = model_of("g (float[N] x) => (float[N] y) { s = Shape(x)  y = ConstantOfShape(s) }")
    assert model.generated_bytes() == 0


# --- names ---


def test_fresh_names_are_those_of_nothing():
    model = model_of(BRANCH, w=WEIGHT)
    taken = {"x", "c", "y", "w", "b", "k", "h", "a", "i", "d", *(node.name for node in model.nodes())}
    for name in sorted(taken):
        assert model.fresh(name) not in taken
    assert model.fresh("new") == "new"
    assert model.fresh("new") == "new_1"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a", "a_1", "a_1_2", "a_2", "x"]), max_size=12))
def test_fresh_never_repeats(wishes):
    model = model_of("g (float[1] x) => (float[1] a) { a = Neg(x) }")
    given_out = [model.fresh(wish) for wish in wishes]
    assert len({*given_out, "x", "a", "Neg_a"}) == len(given_out) + 3


def test_make_uniform_learns_the_names_that_foreign_passes_gave():
    model = model_of("g (float[1] x) => (float[1] y) { y = Neg(x) }")
    model.fresh("anything")
    model.graph.register_initializer(ir.Value(name="later", const_value=ir.tensor(np.ones(3), name="later")))
    make_uniform(model)
    assert model.fresh("later") != "later"


def test_a_weight_can_be_added_to_a_branch():
    model = model_of(BRANCH, w=WEIGHT)
    branch = next(node for node in model.nodes() if node.op_type == "Add").graph
    value = model.add_weight("b", ir.tensor(np.zeros(4, np.float32)), branch)
    assert value.name != "b" and branch.initializers[value.name] is value
    assert value.shape == (4,) and value.dtype == ir.DataType.FLOAT


# --- edits ---


def test_drop_unused_takes_dead_nodes_and_weights_in_branches_too():
    text = """g (bool c, float[N,8] x) => (float[N,4] y) <float[3] dead = {1.0, 2.0, 3.0}> {
        z = Neg(dead)
        y = If (c) <then_branch = t () => (float[N,4] a) <float[1] gone = {1.0}> { q = Neg(gone)  a = MatMul(x, w) },
                    else_branch = e () => (float[N,4] d) { i = MatMul(x, w)  d = Neg(i) }> }"""
    model = model_of(text, w=WEIGHT)
    assert model.drop_unused() == 4  # two nodes, two weights
    assert {value.name for value in model.weights()} == {"w"}
    assert model.drop_unused() == 0
    np.testing.assert_array_equal(outputs(model, c=np.array(True), x=X)[0], outputs(model_of(LINEAR, w=WEIGHT), x=X)[0])


def test_drop_unused_keeps_weights_that_only_a_branch_reads_and_outputs():
    text = """g (bool c) => (float[2] y, float[2] k) <float[2] k = {1.0, 2.0}, float[2] m = {3.0, 4.0}> {
        y = If (c) <then_branch = t () => (float[2] a) { a = Neg(m) },
                    else_branch = e () => (float[2] b) { b = Abs(m) }> }"""
    model = model_of(text)
    assert model.drop_unused() == 0
    assert [o.tolist() for o in outputs(model, c=np.array(True))] == [[-3.0, -4.0], [1.0, 2.0]]


def test_unused_inputs_stay():
    model = model_of("g (float[2] x, int64[3] unused) => (float[2] y) { y = Neg(x) }")
    before = model.contract()
    model.drop_unused()
    assert model.contract() == before == Contract(("x: FLOAT", "unused: INT64"), ("y: FLOAT",))


def test_the_contract_notices_renaming_retyping_and_reordering():
    texts = (
        "g (float[2] x, float[2] z) => (float[2] y) { y = Add(x, z) }",
        "g (float[2] z, float[2] x) => (float[2] y) { y = Add(x, z) }",
        "g (double[2] x, double[2] z) => (double[2] y) { y = Add(x, z) }",
        "g (float[2] x, float[2] z) => (float[2] q) { q = Add(x, z) }",
        "g (float[2] x) => (float[2] y) { y = Add(x, x) }",
    )
    assert len({model_of(text).contract() for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "body",
    [
        "s = SequenceConstruct(x) y = SequenceAt(s, zero)",
        "s = SplitToSequence<axis=0>(x) y = ConcatFromSequence<axis=0>(s)",
        """q = If(c) <then_branch = a () => (u) { u = SequenceConstruct(x) },
                      else_branch = b () => (v) { v = SequenceConstruct(x, x) }>  y = SequenceAt(q, zero)""",
    ],
)
def test_a_model_with_sequences_still_loads_after_shape_inference(body: str):
    model = model_of(f"g (float[2,3] x, bool c) => (float[N,M] y) {{ {body} }}", zero=np.array(0))
    model.infer_shapes()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(outputs(model, x=x, c=np.array(True))[0], x)


def test_sizes_are_inferred_behind_group_normalization():
    body = "n = GroupNormalization<num_groups=2>(x, w, w) y = Relu(n)"
    text = f"g (float[N,4,5] x) => (float[A,B,C] y) {{ {body} }}"
    model = model_of(f'<ir_version: 10, opset_import: ["": 21]> {text}', w=np.ones(4, np.float32))
    model.graph.outputs[0].shape = None
    model.infer_shapes()
    assert [str(size) for size in model.graph.outputs[0].shape] == ["N", "4", "5"]
    assert model.graph[0].op_type == "GroupNormalization"


def test_declared_port_shapes_are_kept_through_shape_inference():
    model = model_of("g (float[N,8] x) => (float[K,L] y) { y = MatMul(x, w) }", w=WEIGHT)
    with model.keeping_ports():
        model.infer_shapes()
        model.graph.outputs[0].shape = ir.Shape([1, 2])
    assert str(model.graph.outputs[0].shape) == "[K,L]"


def test_infer_shapes_fills_in_inner_values_and_survives_unknown_operators():
    text = """<ir_version: 8, opset_import: ["": 17, "strange": 1]>
        g (float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)  i = strange.Op(h)  y = Neg(h) }"""
    model = model_of(text, w=WEIGHT)
    model.infer_shapes()
    assert next(node for node in model.nodes() if node.op_type == "MatMul").outputs[0].shape[1] == 4


def test_check_accepts_what_is_valid_and_names_what_is_not():
    model = model_of(BRANCH, w=WEIGHT)
    model.check()
    next(node for node in model.nodes() if node.op_type == "Add").attributes["axis"] = ir.AttrInt64("axis", 1)
    with pytest.raises(PassError, match=r"not valid ONNX.*axis"):
        model.check()


FOREIGN = {
    "in the standard domain": "n = SimplifiedLayerNormalization<axis = -1>(x, g) y = MatMul(n, w)",
    "of a later version": "n = LayerNormalization<axis = -1>(x, g, g) y = MatMul(n, w)",
    "in a domain of its own": "n = com.microsoft.FusedMatMul<transB = 1>(x, w) y = com.microsoft.Gelu(n)",
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
def test_check_takes_what_onnxruntime_loads_and_still_sees_what_it_does_not(body: str):
    header = '<ir_version: 8, opset_import: ["": 14, "com.microsoft": 1]>'
    text = f"{header} g (float[N,8] x) => (float[N,8] y) {{ {body} }}"
    model = model_of(text, g=np.ones(8, np.float32), w=np.ones((8, 8), np.float32))
    model.check()
    model.graph[0].attributes["new"] = ir.AttrInt64("new", 1)
    with pytest.raises(PassError, match="new"):
        model.check()
    del model.graph[0].attributes["new"]
    model.graph[1].replace_input_with(0, None)
    with pytest.raises(PassError, match="leaves out"):
        model.check()


def test_check_puts_nodes_in_order():
    model = model_of("g (float[2] x) => (float[2] z) { y = Neg(x)  z = Abs(y) }")
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    model.check()
    assert [node.op_type for node in model.graph] == ["Neg", "Abs"]


@pytest.mark.parametrize("length", [2, 2000], ids=["small", "large"])
def test_texts_are_weights_of_as_many_bytes_as_they_are_long(length, tmp_path):
    """What a tokenizer or a label table stores."""
    source = proto_of("g (int64[N] i) => (string[N] y) { y = Gather(t, i) }")
    source.graph.initializer.append(onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [length], [b"word"] * length))
    onnx.save(source, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    assert model.weight_bytes() == 4 * length
    model.infer_shapes()
    model.check()
    model.save(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx").graph.initializer[0].string_data[-1] == b"word"


def test_texts_that_are_folded_can_be_written(tmp_path):
    source = proto_of("g (float[N,4] x) => (float[N,4] y, string[2] names) { y = Relu(x) names = Identity(t) }")
    source.graph.initializer.append(onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [2], ["cat", "d\u00f6g"]))
    model = model_of(source)
    simplify(model, context())
    model.check()
    model.save(tmp_path / "out.onnx")
    _, names = outputs(onnx.load(tmp_path / "out.onnx"), x=np.ones((1, 4), np.float32))
    assert names.tolist() == ["cat", "d\u00f6g"]
