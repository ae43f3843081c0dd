"""Small models of many kinds, which the fuzzer mutates: whole and valid, every one loads in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import SAMPLES, proto_of

_HEAD = '<ir_version: 8, opset_import: ["": OPSET, "com.microsoft": 1, "local": 1]>\n'


def _weights(shapes: Mapping[str, tuple[int, ...] | np.ndarray]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in shapes.items():
        made[name] = shape if isinstance(shape, np.ndarray) else rng.standard_normal(shape).astype(np.float32) * 0.2
    return made


def _model(text: str, opset: int = 17, functions: str = "", **shapes: tuple[int, ...] | np.ndarray) -> onnx.ModelProto:
    graph, weights = _HEAD.replace("OPSET", str(opset)) + text + functions, _weights(shapes)
    return proto_of(graph, **weights)


def _half(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: weight.astype(np.float16) for name, weight in _weights(shapes).items()}


def _int8(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)


def _mlp() -> onnx.ModelProto:
    text = """g (float[N,48] x) => (float[N,16] y) {
        a = Gemm<transB = 1>(x, w1, b1)  r = Relu(a)  m = MatMul(r, w2)  s = Add(m, b2)  y = Softmax(s) }"""
    return _model(text, w1=(64, 48), b1=(64,), w2=(64, 16), b2=(16,))


def _conv() -> onnx.ModelProto:
    text = """g (float[N,3,8,8] x) => (float[N,16] y) {
        c = Conv<pads = [1,1,1,1], kernel_shape = [3,3]>(x, w1)  n = BatchNormalization(c, s, o, o, s2)  r = Relu(n)
        d = Conv<group = 16, pads = [1,1,1,1]>(r, w2)  e = Conv(d, w3, b3)  q = Add(e, r)
        p = GlobalAveragePool(q)  f = Flatten(p)  y = Gemm(f, w4) }"""
    one = np.abs(_weights({"s": (16,)})["s"]) + 1
    convolutions = {"w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1), "b3": (16,)}
    return _model(text, **convolutions, s=(16,), o=(16,), s2=one, w4=(16, 16))


def _conv_transpose() -> onnx.ModelProto:
    text = """g (float[1,4,6,6] x) => (float[1,2,12,12] y) {
        c = ConvTranspose<strides = [2,2], kernel_shape = [2,2]>(x, w1, b1)  p = PRelu(c, s)
        u = Conv<pads = [1,1,1,1]>(p, w2)  y = Sigmoid(u) }"""
    return _model(text, w1=(4, 4, 2, 2), b1=(4,), s=(4, 1, 1), w2=(2, 4, 3, 3))


def _concat_split() -> onnx.ModelProto:
    text = """g (float[N,6,4,4] x) => (float[N,8,2,2] y, float[N,6,4,4] z) {
        a, b = Split<axis = 1>(x, sizes)  c = Concat<axis = 1>(b, a)  z = Conv(c, w1)
        m = MaxPool<kernel_shape = [2,2], strides = [2,2]>(z)  y = Conv(m, w2) }"""
    return _model(text, sizes=np.array([2, 4]), w1=(6, 6, 1, 1), w2=(8, 6, 1, 1))


def _attention() -> onnx.ModelProto:
    text = """g (float[N,T,16] x) => (float[N,T,16] y) {
        n = LayerNormalization(x, g1, b1)
        q0 = MatMul(n, wq) k0 = MatMul(n, wk) v0 = MatMul(n, wv)
        q1 = Reshape(q0, heads) k1 = Reshape(k0, heads) v1 = Reshape(v0, heads)
        q = Transpose<perm = [0,2,1,3]>(q1) k = Transpose<perm = [0,2,3,1]>(k1) v = Transpose<perm = [0,2,1,3]>(v1)
        s0 = MatMul(q, k) s1 = Div(s0, root) p = Softmax<axis = -1>(s1)
        o0 = MatMul(p, v) o1 = Transpose<perm = [0,2,1,3]>(o0) o2 = Reshape(o1, flat)
        o = MatMul(o2, wo) h = Add(x, o) f = MatMul(h, w1) e = Gelu(f) d = MatMul(e, w2) y = Add(h, d) }"""
    sizes = dict.fromkeys(("wq", "wk", "wv", "wo"), (16, 16)) | {
        "g1": (16,),
        "b1": (16,),
        "w1": (16, 32),
        "w2": (32, 16),
    }
    shapes = {"heads": np.array([0, 0, 4, 4]), "flat": np.array([0, 0, 16]), "root": np.array(2, np.float32)}
    return _model(text, 20, **sizes, **shapes)


def _embedding() -> onnx.ModelProto:
    text = """g (int64[N,T] ids) => (float[N,99] y) {
        e = Gather(table, ids)  m = ReduceMean<axes = [1], keepdims = 0>(e)  y = MatMul(m, tied) }"""
    table = _weights({"t": (99, 32)})["t"]
    return _model(text, table=table, tied=np.ascontiguousarray(table.T))


def _lstm() -> onnx.ModelProto:
    text = """g (float[T,N,6] x) => (float[T,2,N,5] y, float[1,N,5] h) {
        y, yh, yc = LSTM<hidden_size = 5, direction = "bidirectional">(x, w, r, b)
        t = Transpose<perm = [0,2,1,3]>(y)  f = Reshape(t, flat)  z, h = GRU<hidden_size = 5>(f, w2, r2) }"""
    return _model(text, w=(2, 20, 6), r=(2, 20, 5), b=(2, 40), w2=(1, 15, 10), r2=(1, 15, 5), flat=np.array([0, 0, 10]))


def _if() -> onnx.ModelProto:
    text = """g (bool c, float[N,32] x) => (float[N,32] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[N,32] p) { n = MatMul(a, w1)  p = Relu(n) },
                   else_branch = e () => (float[N,32] q) { n = MatMul(a, w2)  q = Neg(n) }>
        y = Add(b, x) }"""
    return _model(text, w=(32, 32), w1=(32, 32), w2=(32, 32))


def _loop() -> onnx.ModelProto:
    text = """g (float[2,8] x, int64 times) => (float[2,8] y, float[K,2,8] all) {
        y, all = Loop(times, go, x) <body = b (int64 i, bool c, float[2,8] h) => (bool d, float[2,8] o, float[2,8] s) {
            d = Identity(c)  m = MatMul(h, w)  o = Tanh(m)  s = Identity(o) }> }"""
    return _model(text, w=(8, 8), go=np.array(True))


def _scan() -> onnx.ModelProto:
    text = """g (float[T,4] x) => (float[4] y, float[T,4] all) {
        y, all = Scan<num_scan_inputs = 1, body = b (float[4] h, float[4] e) => (float[4] o, float[4] s) {
            m = MatMul(e, w)  o = Add(h, m)  s = Identity(o) }>(start, x) }"""
    return _model(text, w=(4, 4), start=np.zeros(4, np.float32))


def _qdq() -> onnx.ModelProto:
    text = """g (float[N,8] x) => (float[N,4] y) {
        q = QuantizeLinear(x, sx, zx)  d = DequantizeLinear(q, sx, zx)  v = DequantizeLinear<axis = 1>(w, sw, zw)
        m = MatMul(d, v)  p = QuantizeLinear(m, sx, zx)  y = DequantizeLinear(p, sx, zx) }"""
    scales = {"sx": np.array(0.05, np.float32), "zx": np.array(128, np.uint8), "zw": np.zeros(4, np.int8)}
    return _model(text, w=_int8(8, 4), sw=np.full(4, 0.01, np.float32), **scales)


def _integers() -> onnx.ModelProto:
    text = """g (float[N,8] x) => (float[N,4] y) {
        q, s, z = DynamicQuantizeLinear(x)  m = MatMulInteger(q, w, z)  f = Cast<to = 1>(m)  t = Mul(s, sw)
        y = Mul(f, t) }"""
    return _model(text, w=_int8(8, 4), sw=np.full(4, 0.01, np.float32))


def _float16() -> onnx.ModelProto:
    text = """g (float16[N,8] x) => (float16[N,4] y) {
        a = MatMul(x, w1)  r = Relu(a)  y = Gemm(r, w2, b) }"""
    return _model(text, **_half(w1=(8, 8), w2=(8, 4), b=(4,)))


def _float16_behind_casts() -> onnx.ModelProto:
    text = """g (float[N,32] x) => (float[N,32] y) {
        v = Cast<to = 1>(w1)  a = MatMul(x, v)  r = Relu(a)  u = Cast<to = 1>(w2)  y = MatMul(r, u) }"""
    return _model(text, **_half(w1=(32, 32), w2=(32, 32)))


def _functions() -> onnx.ModelProto:
    text = "g (float[N,32] x) => (float[N,32] y) { a = local.block<slope = 0.1>(x, w)  y = local.block(a, w) }\n"
    inner = """<domain: "local", opset_import: ["": 17, "local": 1]> block <slope: float = 0.2>(a, b) => (d) {
        m = local.times(a, b)  d = LeakyRelu<alpha: float = @slope>(m) }
    <domain: "local", opset_import: ["": 17]> times (a, b) => (c) { c = MatMul(a, b) }"""
    return _model(text, functions=inner, w=(32, 32))


def _foreign() -> onnx.ModelProto:
    text = """g (float[N,4,32] x) => (float[N,4,32] y) {
        n = SimplifiedLayerNormalization<axis = -1>(x, g1)  a = com.microsoft.FusedMatMul<transB = 1>(n, w1)
        r = com.microsoft.BiasGelu(a, b1)  s = com.microsoft.SkipLayerNormalization(r, x, g1, b1)
        y = MatMul(s, w2) }"""
    return _model(text, w1=(32, 32), w2=(32, 32), g1=(32,), b1=(32,))


def _blocks() -> onnx.ModelProto:
    text = """g (float[N,32] x) => (float[N,8] y) {
        y = com.microsoft.MatMulNBits<K = 32, N = 8, bits = 4, block_size = 16>(x, w, s) }"""
    return _model(text, w=np.arange(128, dtype=np.uint8).reshape(8, 2, 8), s=np.full((8, 2), 0.1, np.float32))


def _sequences() -> onnx.ModelProto:
    text = """g (float[N,8] x) => (seq(float[N,4]) y, float[N,8] z) {
        s = SplitToSequence<axis = 1>(x, four)  a = SequenceAt(s, zero)  b = SequenceAt(s, one)
        m = MatMul(a, w)  y = SequenceConstruct(m, b)  z = ConcatFromSequence<axis = 1>(s) }"""
    return _model(text, four=np.array(4), zero=np.array(0), one=np.array(1), w=(4, 4))


def _classifier() -> onnx.ModelProto:
    text = """g (float[N,4] x) => (float[N,3] p) { m = MatMul(x, w)  p = Softmax(m) }"""
    proto = _model(text, w=(4, 3))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    proto.graph.node.append(
        helper.make_node("ZipMap", ["p"], ["z"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"])
    )
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    proto.graph.output.append(helper.make_value_info("z", kind))
    return proto


def _shapes() -> onnx.ModelProto:
    text = """g (float[N,C,H] x) => (float[A,B] y) {
        s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, axis)  t = Concat<axis = 0>(u, minus)  r = Reshape(x, t)
        f = ConstantOfShape<value = float[1] {0.5}>(rows)  k = Slice(r, zeros, ends, axis1)
        m = MatMul(k, f)  y = Where(c, m, zero_f) }"""
    constants = {"zero": 0, "axis": [0], "minus": [-1], "rows": [4, 6], "zeros": [0], "ends": [4], "axis1": [1]}
    arrays = {name: np.array(value) for name, value in constants.items()}
    return _model(text, c=np.array(True), zero_f=np.array(0, np.float32), **arrays)


def _default_input() -> onnx.ModelProto:
    text = "g (float[N,8] x, float[8] scale) => (float[N,4] y) { a = Mul(x, scale)  y = MatMul(a, w) }"
    return _model(text, w=(8, 4), scale=np.ones(8, np.float32))


def _old() -> onnx.ModelProto:
    """Opset 9, IR version 3: weights are inputs too."""
    text = """g (float[1,2,8,8] x, float[4,2,3,3] w, float[4] b, float[100,6] v) => (float[1,6] y) {
        c = Conv(x, w, b)  u = Upsample<mode = "nearest">(c, s)
        p = AveragePool<kernel_shape = [2,2], strides = [2,2]>(u)
        q = AveragePool<kernel_shape = [2,2]>(p)  f = Reshape(q, flat)  y = MatMul(f, v) }"""
    weights = {"w": (4, 2, 3, 3), "b": (4,), "v": (100, 6), "s": np.array([1, 1, 2, 2], np.float32)}
    proto = _model(text, 9, flat=np.array([1, -1]), **weights)
    proto.ir_version = 4
    return proto


def _shared() -> onnx.ModelProto:
    text = """g (float[N,8] x) => (float[N,8] y, float[N,8] z) {
        a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, w)  d = MatMul(c, same)  y = Dropout(d)  e = MatMul(left, t)
        t = Transpose(d)  z = Transpose(e) }"""
    square = _weights({"w": (8, 8)})["w"]
    return _model(text, w=square, same=square.copy(), left=square.T.copy())


def _bfloat16() -> onnx.ModelProto:
    proto = _model("g (float[N,4] x) => (float[N,4] y) { v = Cast<to = 1>(w)  y = MatMul(x, v) }")
    values = (np.arange(16, dtype=np.uint32) * 2**20 + 0x3E000000 >> 16).astype(np.uint16)
    proto.graph.initializer.append(TensorProto(name="w", data_type=16, dims=[4, 4], raw_data=values.tobytes()))
    return proto


def _strings() -> onnx.ModelProto:
    text = """g (float[N,4] x) => (float[N,4] y, string[2] names) { y = MatMul(x, w)  names = Identity(labels) }"""
    proto = _model(text, w=(4, 4))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["cat", "dög"], dtype=object), "labels"))
    proto.metadata_props.add(key="author", value="somebody")
    return proto


def _sample(name: str) -> Callable[[], onnx.ModelProto]:
    return lambda: onnx.load(SAMPLES / name)


BASES: Mapping[str, Callable[[], onnx.ModelProto]] = {
    **{
        made.__name__.strip("_"): made for made in (_mlp, _conv, _conv_transpose, _concat_split, _attention, _embedding)
    },
    **{made.__name__.strip("_"): made for made in (_lstm, _if, _loop, _scan, _qdq, _integers, _float16, _functions)},
    **{made.__name__.strip("_"): made for made in (_float16_behind_casts, _foreign, _blocks, _sequences, _classifier)},
    **{made.__name__.strip("_"): made for made in (_shapes, _default_input, _old, _shared, _bfloat16, _strings)},
    "digits_mlp": _sample("digits-mlp.onnx"),
    "digits_cnn": _sample("digits-cnn.onnx"),
}


def feeds(proto: onnx.ModelProto, samples: int = 6) -> dict[str, np.ndarray]:
    """Data for a base model, stacked on axis 0; free sizes are small."""
    rng, made = np.random.default_rng(0), {}
    weights = {tensor.name for tensor in proto.graph.initializer}
    for port in (port for port in proto.graph.input if port.name not in weights):
        kind = port.type.tensor_type
        sizes = [dim.dim_value or 5 for dim in kind.shape.dim]
        shape = [samples, *sizes[1:]]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        made[port.name] = (rng.standard_normal(shape) * 2).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
    return made
