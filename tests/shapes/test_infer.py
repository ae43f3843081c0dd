"""Types and shapes of inner values: behind operators that ONNX does not know, and where names say little."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from compress_ops import shapes
from compress_ops.shapes.foreign_operators import infer_foreign
from compress_ops.shapes.outline import outline
from tests.helpers import model_of, noise, outputs, proto, proto_of

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "ai.onnx.ml": 1]>\n'


def inferred(text: str, **weights: np.ndarray) -> dict[str, str]:
    """What is known of the values of a model, as text by name."""
    model = model_of(HEADER + text if not text.startswith("<") else text, **weights)
    model.infer_shapes()
    return {value.name: f"{value.type}{value.shape}" for node in model.nodes() for value in node.outputs}


BEHIND = {
    "Scaler, which has no inference anywhere": (
        """g (float[N, 64] x) => (float[N, 10] y) {
        q = ai.onnx.ml.Scaler<offset=[0.5], scale=[2.0]>(x) y = MatMul(q, W) }""",
        {"W": noise(64, 10)},
        {"q": "FLOAT", "y": "FLOAT"},
        {"q": "[N,64]"},
    ),
    "two of them in a row, with ONNX's operators between": (
        """g (float[N, M] x) => (float[N, M] y) { q = ai.onnx.ml.Scaler<offset=[0.5], scale=[2.0]>(x) t = Transpose(q)
        r = ai.onnx.ml.Normalizer(t) y = Transpose(r) }""",
        {},
        {"r": "FLOAT"},
        {"q": "[N,M]", "t": "[M,N]", "r": "[M,N]"},
    ),
    "operators of onnxruntime's own domain": (
        """g (float[N, 8, 64] x) => (float[N, 8, 32] y) { a = com.microsoft.Gelu(x)
        b = com.microsoft.FusedMatMul<transB=1>(a, W) y = Relu(b) }""",
        {"W": noise(32, 64)},
        {"a": "FLOAT", "b": "FLOAT"},
        {"a": "[N,8,64]", "b": "[N,8,32]"},
    ),
    "operators that onnxruntime keeps in the standard domain": (
        "g (float[N, 8, 64] x) => (float[N, 8, 64] y) { n = SimplifiedLayerNormalization(x, g) y = Relu(n) }",
        {"g": np.ones(64, np.float32)},
        {"n": "FLOAT"},
        {"n": "[N,8,64]"},
    ),
    "codes of onnxruntime's own QuantizeLinear": (
        """g (float[N, 8] x) => (float[N, 8] y) { q = com.microsoft.QuantizeLinear(x, s, z)
        y = com.microsoft.DequantizeLinear(q, s, z) }""",
        {"s": np.float32(0.1), "z": np.uint16(32768)},
        {"q": "UINT16"},
        {"q": "[N,8]"},
    ),
}


@pytest.mark.parametrize(("text", "weights", "kinds", "sizes"), BEHIND.values(), ids=BEHIND)
def test_types_and_shapes_behind_foreign_operators(text, weights, kinds, sizes):
    found = inferred(text, **weights)
    for name, kind in kinds.items():
        assert found[name].startswith(kind), found
    for name, size in sizes.items():
        assert found[name].endswith(size), found


def test_inside_branches_too():
    text = """g (bool c, float[N, 8] x) => (float[N, 8] y) { y = If(c) <
        then_branch = t () => (float[N, 8] p) {
            a = com.microsoft.Gelu(x) s = ai.onnx.ml.Scaler<offset=[0.5], scale=[2.0]>(a) p = Relu(s) },
        else_branch = e () => (float[N, 8] q) { q = Relu(x) }> }"""
    found = inferred(text)
    assert found["a"] == found["s"] == found["p"] == "FLOAT[N,8]"


def test_behind_what_depends_on_the_numbers_sizes_stay_unknown():
    """All elements of random numbers differ and all zeros are alike: the number of unique ones is no size."""
    found = inferred("g (float[8] x) => (float[u] y) { n, i, c = com.microsoft.Unique(x) y = Relu(n) }")
    assert "8" not in found["n"]


def test_a_size_that_is_another_plus_a_number_is_not_named_after_a_third():
    text = """g (float[A, 4] a, float[B, 4] b) => (float[C, D] y) {
        d = com.microsoft.CDist<metric = "euclidean">(a, b) y = Relu(d) }"""
    assert inferred(text)["d"] == "FLOAT[A,B]"


def test_names_that_branches_share_are_told_apart():
    text = """g (bool c, float[N, 8] x) => (float[N, 8] y) { y = If(c) <
        then_branch = t () => (float[N, 8] p) { same = Shape(x) p = Expand(x, same) },
        else_branch = e () => (float[N, 8] q) { same = Relu(x) q = Relu(same) }> }"""
    model = model_of(text)
    model.infer_shapes()
    kinds = [str(v.type) for node in model.nodes() for v in node.outputs if v.name == "same"]
    assert kinds == ["INT64", "FLOAT"]


EMBEDDING_BAG = """g (int64[n] rows, int64[b] offsets) => (float[bags, 10] y) {
    s0 = SequenceEmpty() size = Shape(rows) bounds = Concat<axis = 0>(offsets, size)
    starts = Slice(bounds, zeros, last, zeros) ends = Slice(bounds, ones, most, zeros)
    count = Shape(starts) times = Squeeze(count) embedded = Gather(table, rows)
    bags = Loop(times, yes, s0) <body = one (int64 i, bool go, carried) => (bool on, grown) {
        first = Gather(starts, i) end = Gather(ends, i) from = Unsqueeze(first, zeros) to = Unsqueeze(end, zeros)
        bag = Slice(embedded, from, to, zeros) mean = ReduceMean<axes = [0], keepdims = 1>(bag)
        grown = SequenceInsert(carried, mean) on = Identity(go) }>
    joined = ConcatFromSequence<axis = 0>(bags) h = MatMul(joined, w) y = Relu(h) }"""


def test_an_embedding_bag_still_loads_after_shape_inference():
    """The sequence that the loop carries has no declared type; onnx-ir would make a tensor of it."""
    constants = {
        "zeros": np.int64([0]),
        "ones": np.int64([1]),
        "last": np.int64([-1]),
        "most": np.int64([2**62]),
        "yes": np.array(True),
    }
    model = model_of(EMBEDDING_BAG, table=noise(50, 32), w=noise(32, 10), **constants)
    feeds = {"rows": np.arange(12), "offsets": np.int64([0, 3, 7])}
    (before,) = outputs(model, **feeds)
    model.infer_shapes()
    (after,) = outputs(model, **feeds)
    assert before.shape == (3, 10) and np.array_equal(before, after)
    kinds = {value.name: str(value.type) for graph in model.ir.graphs() for value in graph.inputs}
    assert kinds["carried"] == "Sequence(Tensor(FLOAT))"


def test_onnxruntime_is_not_asked_without_foreign_operators(monkeypatch):
    from compress_ops.shapes import foreign_operators as foreign

    monkeypatch.setattr(foreign, "ports_as_read", lambda raw: pytest.fail("asked"))
    inferred("g (float[N, 4] x, int64[K] s) => (float[a, b] y) { r = Reshape(x, s) y = Relu(r) }")
    with pytest.raises(pytest.fail.Exception):
        inferred("g (float[N, 4] x) => (float[N, 4] y) { r = com.microsoft.Gelu(x) y = Relu(r) }")


def test_what_neither_knows_stays_unknown():
    model = model_of(
        '<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[4] x) => (float[4] y) { a = own.f(x) y = Relu(a) }'
    )
    model.infer_shapes()
    assert not infer_foreign(model.ir)
    assert next(model.nodes()).outputs[0].type is None


def test_maps_do_not_stand_in_the_way():
    text = """g (float[N, 3] x) => (int64[N] label, p) { q = ai.onnx.ml.Scaler<offset = [0.5], scale = [2.0]>(x)
        label, s = ai.onnx.ml.LinearClassifier<coefficients = [1.0, 0.0, 0.0], classlabels_ints = [0, 1]>(q)
        p = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1]>(s) }"""
    made = proto_of(HEADER + text)
    value = onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, onnx.helper.make_tensor_type_proto(1, None))
    made.graph.output[1].type.CopyFrom(onnx.helper.make_sequence_type_proto(value))
    model = model_of(made)
    model.infer_shapes()
    known = {v.name: f"{v.type}{v.shape}" for node in model.nodes() for v in node.outputs}
    assert known["q"] == "FLOAT[N,3]"


def test_the_outline_holds_no_weights_and_leaves_the_model_as_it_was():
    weights = {"w": noise(64, 64), "v": noise(64, 64, seed=1)}
    model = model_of("g (float[N, 64] x) => (float[N, 64] y) { h = MatMul(x, w) y = MatMul(h, v) }", **weights)
    tensors = [value.const_value for value in model.weights()]
    made = outline(model.ir)
    assert made.ByteSize() < 1000 and {value.name for value in made.graph.input} == {"x", "w", "v"}
    assert all(value.const_value is tensor for value, tensor in zip(model.weights(), tensors, strict=True))


def test_a_weight_that_cannot_be_read_is_not_asked_for():
    model = model_of("g (float[N, 64] x) => (float[N, 64] y) { y = MatMul(x, w) }", w=noise(64, 64))
    for value in model.weights():
        value.const_value = ir.LazyTensor(lambda: pytest.fail("read"), dtype=value.dtype, shape=value.shape, name="w")
    shapes.infer(model.ir)
    model.check()


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_what_onnxruntime_optimized_is_typed_throughout(level, tmp_path):
    """A layer norm and a GELU written out: onnxruntime saves its own operators for them."""
    text = """<ir_version: 8, opset_import: ["": 14]> g (float[N, 8, 64] x) => (float[N, 8, 32] y) {
        u = ReduceMean<axes = [-1]>(x) s = Sub(x, u) q = Pow(s, two) v = ReduceMean<axes = [-1]>(q) e = Add(v, eps)
        d = Sqrt(e) n = Div(s, d) k = Mul(n, g1) l = Add(k, g1) a = MatMul(l, W) ab = Add(a, b)
        r = Div(ab, root) f = Erf(r) p = Add(f, one) m = Mul(ab, p) h = Mul(m, half) y = MatMul(h, V) }"""
    numbers = {"two": 2, "eps": 1e-5, "root": 2**0.5, "one": 1, "half": 0.5}
    weights = {name: np.float32(number) for name, number in numbers.items()}
    plain = proto_of(text, **weights, g1=noise(64), W=noise(64, 64), V=noise(64, 32), b=noise(64))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "saved.onnx"), 4
    onnxruntime.InferenceSession(plain.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = model_of(onnx.load(tmp_path / "saved.onnx"))
    model.infer_shapes()
    model.check()
    assert all(value.type is not None and value.shape is not None for node in model.nodes() for value in node.outputs)
    x = noise(2, 8, 64)
    assert np.allclose(outputs(proto(model), x=x)[0], outputs(plain, x=x)[0], rtol=1e-4, atol=1e-4)
