"""Operators without a rule that ONNX defines by others: their definition is differentiated in their place."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from compress_ops.autodiff import build_gradients, operators
from compress_ops.errors import PassError
from compress_ops.model import Model, make_uniform
from tests.autodiff.gradient_case import Array, Case, whole


def normal(x: Array) -> Array:
    """Mean 0 and variance 1 over samples and positions."""
    return (x - x.mean((0, 2, 3), keepdims=True)) / (x.std((0, 2, 3), keepdims=True) + 1e-9)


QKV = {"q": (1, 2, 3, 4), "k": (1, 2, 2, 4), "v": (1, 2, 2, 3)}
CASES = [
    Case("y = Attention(q, k, v)", opset=23, **QKV),
    Case("y = Attention<is_causal=1,scale=0.3>(q, k, v)", opset=23, q=(1, 2, 3, 2), k=(1, 2, 3, 2), v=(1, 2, 3, 2)),
    Case("y = Attention(q, k, v, a)", opset=23, a=(3, 2), **QKV),
    Case("y = Attention(q, k, v)", opset=23, q=(1, 4, 3, 2), k=(1, 2, 3, 2), v=(1, 2, 3, 2)),  # heads share keys
    Case("y = Attention<q_num_heads=2,kv_num_heads=1>(q, k, v)", opset=23, q=(1, 2, 4), k=(1, 3, 2), v=(1, 3, 2)),
    Case("y = RotaryEmbedding(x, c, d)", opset=23, x=(1, 2, 3, 4), c=(1, 3, 2), d=(1, 3, 2)),
    Case("y = Shrink<lambd=0.5,bias=0.2>(x)", x=(3, 4)),
    Case("y = MeanVarianceNormalization(x)", opset=17, x=(2, 2, 2, 2), forward=normal),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_of_a_definition(case: Case) -> None:
    assert not case.operators & set(operators())
    case.check(free=False)


def model(body: str, opset: int = 18, inputs: str = "float[2,4] x") -> Model:
    text = f"""<ir_version: 10, opset_import: ["": {opset}]>
        g ({inputs}) => (float[m,n] y) <float[4] w = {{1, 2, 3, 4}}> {{ {body} }}"""
    made = Model(ir.from_proto(onnx.parser.parse_model(text)))
    make_uniform(made)
    return made


def test_the_model_keeps_its_operators() -> None:
    shrunk = model("a = Mul(x, w) y = Shrink(a)")
    build_gradients(shrunk, of=["y"], parameters=["w"])
    assert [node.op_type for node in shrunk.graph] == ["Mul", "Shrink"]


def test_what_rounds_is_not_taken_apart() -> None:
    """Its parts would pass for flat, and the weight for one without influence."""
    rounded = model("a = Mul(x, w) q, s, z = DynamicQuantizeLinear(a) y = DequantizeLinear(q, s, z)")
    with pytest.raises(PassError, match="no gradient is known for DynamicQuantizeLinear"):
        build_gradients(rounded, of=["y"], parameters=["w"])


def test_beside_the_way_nothing_is_taken_apart() -> None:
    beside = model("s = Shrink(x) a = Mul(s, w) y = Relu(a)")
    built = build_gradients(beside, of=["y"], parameters=["w"])
    assert "Shrink" in [node.op_type for node in built.model.graph]


def test_sizes_are_known_behind_group_normalization() -> None:
    """ONNX infers no shape for it: average pooling with padding asks for one."""
    body = """s = Identity(w) a = GroupNormalization<num_groups=2>(x, s, w)
              y = AveragePool<kernel_shape=[3],pads=[1,1]>(a)"""
    grouped = model(body, opset=21, inputs="float[n,4,l] x")
    grouped.graph.outputs[0].shape = None
    built = build_gradients(grouped, of=["y"], parameters=["w"], shapes={"x": (2, 4, 5)})
    found = built.model.graph.outputs[0].shape
    assert found is not None
    assert found.numpy() == (2, 4, 5)


def test_paddings_that_the_graph_generates_become_constants() -> None:
    """As the exporter of PyTorch writes F.pad: sizes behind it are known only then."""
    body = """z = ConstantOfShape<value=int64[1]{0}>(two) l = Concat<axis=0>(z, ends)
              a = Mul(x, w) p = Pad(a, l) y = Reshape(p, flat)"""
    text = f"""<ir_version: 10, opset_import: ["": 18]> g (float[n,4] x) => (float[m,k] y)
        <float[4] w = {{1,2,3,4}}, int64[1] two = {{2}}, int64[2] ends = {{0, 1}}, int64[2] flat = {{1, -1}}>
        {{ {body} }}"""
    padded = Model(ir.from_proto(onnx.parser.parse_model(text)))
    make_uniform(padded)
    built = build_gradients(padded, of=["y"], parameters=["w"], shapes={"x": (3, 4)})
    pad = next(node for node in built.model.graph if node.op_type == "Pad")
    assert pad.outputs[0].shape is not None
    assert pad.outputs[0].shape.numpy() == (3, 5)
    assert pad.inputs[1] is not None
    assert pad.inputs[1].const_value is not None
    np.testing.assert_array_equal(pad.inputs[1].const_value.numpy(), whole(0, 0, 0, 1))
