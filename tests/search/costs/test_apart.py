"""What counts as a layer, and the model in which each stands alone, by what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.model import Model, load
from compress_ops.search.costs.apart import Layer, apart, layers_of
from tests.graphs import branches
from tests.helpers import SAMPLES, model_of, noise, outputs, proto

TIED = """g (int64[n] i, float[n,8] x) => (float[n,20] y) {
  [look] e = Gather(table, i) [mix] m = MatMul(e, w) s = Add(m, x)
  [turn] t = Transpose<perm=[1,0]>(table) [head] y = MatMul(s, t)
}"""
CHAIN = """g (float[n,8] x) => (float[n,4] y) {
  [a] p = MatMul(x, u) [b] q = MatMul(p, u) [c] r = Gemm(q, w, bias) [d] y = MatMul(r, w2)
}"""
RECURRENT = """g (float[t,n,4] x) => (float[1,n,6] last) {
  [lstm] all, last = LSTM<hidden_size=6>(x, w, r, bias)
}"""


def tied() -> Model:
    return model_of(TIED, table=noise(20, 8), w=noise(8, 8))


def chain() -> Model:
    return model_of(CHAIN, u=noise(8, 8), w=noise(8, 8), bias=noise(8), w2=noise(8, 4))


def names_of(model: Model) -> list[tuple[str, ...]]:
    return [layer.nodes for layer in layers_of(model)]


def test_nodes_that_share_a_weight_are_one_layer_also_through_a_transpose() -> None:
    assert layers_of(tied()) == [Layer(("look", "head"), "Gather", 160), Layer(("mix",), "MatMul", 64)]
    assert names_of(chain()) == [("a", "b"), ("c",), ("d",)]


def test_layers_that_a_third_ties_together_are_one() -> None:
    """An LSTM reads two weights; what reads one of them is its layer, whoever comes first."""
    gates, state = noise(1, 24, 6), noise(1, 24, 6)
    text = """g (float[t,n,6] x, int64[k] i) => (float[t,1,n,6] y, float[k,24,6] a, float[k,24,6] b) {
      [first] a = Gather(w, i) [second] b = Gather(r, i) [lstm] y = LSTM<hidden_size=6>(x, w, r)
    }"""
    (layer,) = layers_of(model_of(text, w=gates, r=state))
    assert sorted(layer.nodes) == ["first", "lstm", "second"]
    assert layer.parameters == gates.size + state.size


def test_nodes_of_branches_are_left_out() -> None:
    text = branches("float[n,8] x", "float[n,8]", "[inner] a = MatMul(x, w)", "o = Relu(x)")
    assert layers_of(model_of(text, w=noise(8, 8))) == []


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("[a] h = MatMul(x, w) [b] y = MatMul(h, v)", ["a", "b"]),
        ("[a] h = MatMul(x, w) [a] y = MatMul(h, v)", []),
        ("[a] h = MatMul(x, w) [a] r = Relu(h) [b] y = MatMul(r, v)", ["b"]),
        ("[Relu] h = MatMul(x, w) r = Relu(h) [b] y = MatMul(r, v)", ["b"]),
        ("[MatMul] h = MatMul(x, w) [b] y = MatMul(h, v)", ["b"]),
        ("[Relu] h = MatMul(x, w) [b] y = MatMul(h, v)", ["Relu", "b"]),
        ("[made] k = Mul(v, v) [a] h = MatMul(x, w) [b] y = MatMul(h, k)", ["a"]),
        ("[a] h = MatMul(x, x2) [b] y = MatMul(h, v)", ["b"]),
    ],
)
def test_nodes_that_no_pattern_could_tell_apart_or_without_weights_are_left_out(nodes: str, left: list[str]) -> None:
    text = f"g (float[8,8] x, float[8,8] x2) => (float[8,8] y) {{ {nodes} }}"
    assert [layer.name for layer in layers_of(model_of(text, w=noise(8, 8), v=noise(8, 8, seed=1)))] == left


def test_weights_in_other_types_make_no_layer() -> None:
    text = "g (double[n,8] x) => (double[n,8] y) { y = MatMul(x, w) }"
    assert layers_of(model_of(text, w=noise(8, 8).astype(np.float64))) == []


def whole(model: Model, names: set[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of the whole model, inner ones too, as onnxruntime computes them; inputs as they are fed."""
    shown, inner = proto(model), sorted(names - feeds.keys())
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    return {**feeds, **dict(zip(inner, outputs(shown, **feeds), strict=True))}


def check_apart(model: Model, feeds: dict[str, np.ndarray]) -> Model:
    """Layers apart give on what they read exactly what they give in the whole; none of them reads another."""
    model.infer_shapes()
    alone = apart(model, layers_of(model))
    values = whole(model, {*alone.inputs.values(), *alone.outputs.values()}, feeds)
    given = outputs(alone.model, **{name: values[of] for name, of in alone.inputs.items()})
    told = [value.name for value in alone.model.graph.outputs]
    assert told == list(alone.outputs) == [name for names in alone.of for name in names]
    for name, found in zip(told, given, strict=True):
        assert (found == values[alone.outputs[name]]).all()
    onnx.checker.check_model(proto(alone.model), full_check=True)
    return alone.model


FEEDS = {"i": np.array([3, 1, 19]), "x": noise(3, 8)}


@pytest.mark.parametrize(
    ("model", "feeds"),
    [
        (tied(), FEEDS),
        (chain(), {"x": noise(3, 8)}),
        (model_of(RECURRENT, w=noise(1, 24, 4), r=noise(1, 24, 6), bias=noise(1, 48)), {"x": noise(5, 2, 4)}),
    ],
    ids=["tied", "chain", "recurrent"],
)
def test_layers_apart_give_what_they_give_in_the_whole(model: Model, feeds: dict[str, np.ndarray]) -> None:
    check_apart(model, feeds)


@pytest.mark.parametrize("sample", ["digits-cnn", "digits-mlp"])
def test_so_do_those_of_a_sample(sample: str) -> None:
    check_apart(load(SAMPLES / f"{sample}.onnx"), {"image": noise(4, 1, 8, 8)})


def test_no_layer_reads_another_and_nothing_else_is_computed() -> None:
    """All that is left beside the layers is what is made of weights."""
    alone = check_apart(tied(), FEEDS)
    assert sorted(node.name or "" for node in alone.nodes()) == ["head", "look", "mix", "turn"]
    ports = {value.name for value in (*alone.graph.inputs, *alone.graph.initializers.values())}
    by_name = {node.name: node for node in alone.nodes()}
    assert all(value.name in ports for name in ("look", "mix", "turn") for value in by_name[name].inputs)
    assert by_name["head"].inputs[1] is by_name["turn"].outputs[0]


def test_what_two_layers_read_is_fed_once() -> None:
    text = "g (float[n,8] x) => (float[n,8] y) { a = MatMul(x, w) b = MatMul(x, v) y = Add(a, b) }"
    model = model_of(text, w=noise(8, 8), v=noise(8, 8, seed=1))
    assert list(apart(model, layers_of(model)).inputs.values()) == ["x"]


def test_an_output_that_nobody_reads_is_not_given() -> None:
    model = model_of(RECURRENT, w=noise(1, 24, 4), r=noise(1, 24, 6), bias=noise(1, 48))
    assert apart(model, layers_of(model)).of == [("last",)]


def test_the_model_itself_stays_as_it_is() -> None:
    model = tied()
    before = proto(model).SerializeToString()
    apart(model, layers_of(model))
    assert proto(model).SerializeToString() == before


def test_some_layers_alone_can_be_set_apart() -> None:
    model = chain()
    assert apart(model, layers_of(model)[1:2]).of == [("r",)]


def test_a_long_way_between_two_layers_is_no_trouble() -> None:
    way = " ".join(f"h{i + 1} = Relu(h{i})" for i in range(1500))
    text = f"g (float[n,8] x) => (float[n,8] y) {{ h0 = MatMul(x, w) {way} y = MatMul(h1500, v) }}"
    model = model_of(text, w=noise(8, 8), v=noise(8, 8, seed=1))
    assert list(apart(model, layers_of(model)).inputs.values()) == ["x", "h1500"]
