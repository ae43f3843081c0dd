"""The engine: what it builds and leaves out, what it refuses, and that the model stays as it was."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from compress_ops.autodiff import GradientModel, build_gradients, trainable
from compress_ops.autodiff.table import FLAT, operators
from compress_ops.errors import PassError
from compress_ops.model import Model, make_uniform
from compress_ops.runtime import open_session


def model(body: str, inputs: str = "float[2,3] x", opset: int = 18, weights: str = "") -> Model:
    text = f"""<ir_version: 10, opset_import: ["": {opset}]>
        g ({inputs}) => (float[m,n] y) <{weights}> {{ {body} }}"""
    made = Model(ir.from_proto(onnx.parser.parse_model(text.replace("<>", ""))))
    make_uniform(made)
    return made


WEIGHTS = "float[3,3] w1 = {1,2,3,4,5,6,7,8,9}, float[3,3] w2 = {1,0,0,0,1,0,0,0,1}"
TWO_LAYERS = "a = MatMul(x, w1) b = Relu(a) y = MatMul(b, w2)"


def behind(built: GradientModel) -> list[str]:
    """Operators of the nodes that were added."""
    return [node.op_type for node in built.model.graph if "/gradient/" in str(node.name)]


def run(built: GradientModel, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = open_session(ir.to_proto(built.model.ir).SerializeToString())
    return session.run({name: np.asarray(array, np.float32) for name, array in feeds.items()})


def test_nothing_is_computed_for_frozen_parts() -> None:
    two = model(TWO_LAYERS, weights=WEIGHTS)
    last = build_gradients(two, of=["y"], parameters=["w2"])
    both = build_gradients(two, of=["y"], parameters=["w1", "w2"])
    assert behind(last) == ["Gemm", "Identity"]
    assert behind(both).count("Gemm") == 3  # dw2, db, dw1; dx is not wanted
    assert behind(both).count("HardSigmoid") == 1
    assert "w1" in last.model.graph.initializers


def test_branches_beside_the_way_go() -> None:
    two = model("a = MatMul(x, w1) y = MatMul(a, w2) c = Exp(a) d = Exp(c)", weights=WEIGHTS)
    built = build_gradients(two, of=["y"], parameters=["w1"])
    assert "Exp" not in [node.op_type for node in built.model.graph]


def test_the_model_is_left_as_it_was() -> None:
    two = model(TWO_LAYERS, weights=WEIGHTS)
    before = ir.to_proto(two.ir).SerializeToString()
    build_gradients(two, of=["y"], parameters=["w1", "w2"], inputs=["x"], shapes={"x": (5, 3)})
    assert ir.to_proto(two.ir).SerializeToString() == before


def test_a_loss_in_the_graph_counts_one() -> None:
    loss = model("a = Mul(x, w) y = ReduceSum<keepdims=0>(a)", weights="float[3] w = {1,2,3}")
    built = build_gradients(loss, of=["y"], parameters=["w"], upstream=False)
    x = np.arange(6.0).reshape(2, 3)
    assert built.upstream == {}
    np.testing.assert_array_equal(run(built, x=x, w=[1, 2, 3])[built.gradients["w"]], x.sum(0))


def test_several_outputs_and_readers_add_up() -> None:
    tied = model("a = Mul(x, w) b = Mul(a, w) y = Add(a, b)", weights="float[3] w = {1,2,3}")
    built = build_gradients(tied, of=["y", "a"], parameters=["w"])
    x, w, one = np.ones((2, 3)), np.array([1, 2, 3]), np.ones((2, 3))
    found = run(built, x=x, w=w, **{built.upstream["y"]: one, built.upstream["a"]: 10 * one})
    np.testing.assert_array_equal(found[built.gradients["w"]], 2 * (1 + 2 * w + 10))


def test_inputs_can_be_wanted_too() -> None:
    two = model("y = Mul(x, x)")
    built = build_gradients(two, of=["y"], parameters=[], inputs=["x"])
    x = np.arange(6.0).reshape(2, 3)
    found = run(built, x=x, **{built.upstream["y"]: np.ones((2, 3))})
    np.testing.assert_array_equal(found[built.gradients["x"]], 2 * x)


def test_old_opsets_are_raised() -> None:
    old = model("a = Mul(x, w) y = ReduceSum<axes=[1],keepdims=1>(a)", opset=11, weights="float[3] w = {1,2,3}")
    built = build_gradients(old, of=["y"], parameters=["w"])
    assert built.model.opset >= 18
    assert old.opset == 11


def test_every_unsupported_node_is_named_at_once() -> None:
    bad = model(
        "a = MatMul(x, w1) b = STFT(a, k) c = Bernoulli(a) y = Add(b, c)",
        weights="float[3,3] w1 = {1,2,3,4,5,6,7,8,9}, int64 k = {1}",
    )
    with pytest.raises(PassError, match=r"no gradient is known for STFT '.*', Bernoulli '") as caught:
        build_gradients(bad, of=["y"], parameters=["w1"])
    assert "no weight lies behind" in caught.value.hint


def test_unsupported_nodes_beside_the_way_do_not_matter() -> None:
    good = model("a = Bernoulli(x) y = MatMul(a, w1)", weights="float[3,3] w1 = {1,2,3,4,5,6,7,8,9}")
    assert build_gradients(good, of=["y"], parameters=["w1"]).gradients


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["w3"], "'w3' cannot be trained: .*did you mean 'w2'"),
        (["k"], "'k' cannot be trained: it holds INT64"),
        (["unused"], "'unused' cannot be trained: what is asked for does not depend on a weight of that name"),
        (["compared"], "nothing that is differentiated depends on 'compared'"),
    ],
)
def test_parameters_without_gradient(parameters: list[str], message: str) -> None:
    weights = f"{WEIGHTS}, int64[2] k = {{3, 2}}, float[3] unused = {{1,2,3}}, float[3] compared = {{1,2,3}}"
    body = "q = Less(x, compared) a = Where(q, x, x) r = MatMul(a, w2) t = MatMul(r, w1) y = Reshape(t, k)"
    with pytest.raises(PassError, match=message):
        build_gradients(model(body, weights=weights), of=["y"], parameters=parameters)


def test_values_that_are_not_there() -> None:
    with pytest.raises(PassError, match="the model has no tensor 'yy'; did you mean 'y'"):
        build_gradients(model(TWO_LAYERS, weights=WEIGHTS), of=["yy"], parameters=["w1"])


def test_a_rule_that_needs_sizes_says_so_and_gets_them() -> None:
    padded = model("y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(x)", inputs="float[n,c,h,w] x")
    padded.graph.outputs[0].shape = None
    with pytest.raises(PassError, match=r"AveragePool '.*': the gradient needs the sizes of 'x'") as caught:
        build_gradients(padded, of=["y"], parameters=[], inputs=["x"])
    assert "shapes=" in caught.value.hint
    assert build_gradients(padded, of=["y"], parameters=[], inputs=["x"], shapes={"x": (1, 1, 4, 4)}).gradients


def test_dropout_in_training_mode_is_refused() -> None:
    random = model(
        "a = MatMul(x, w1) y = Dropout(a, r, t)",
        weights="float[3,3] w1 = {1,2,3,4,5,6,7,8,9}, float r = {0.5}, bool t = {1}",
    )
    with pytest.raises(PassError, match=r"Dropout '.*' has no gradient: it is in training mode"):
        build_gradients(random, of=["y"], parameters=["w1"])


def test_what_can_be_trained() -> None:
    """Not statistics, shapes, compared or single numbers."""
    layered = model(
        "a = MatMul(x, w1) b = BatchNormalization(a, s, b0, mean, var) q = Less(b, compared) c = Where(q, b, half)"
        "d = Mul(c, half) y = Reshape(d, k)",
        weights="float[3,3] w1 = {1,2,3,4,5,6,7,8,9}, float[3] s = {1,1,1}, float[3] b0 = {0,0,0}, "
        "float[3] mean = {0,0,0}, float[3] var = {1,1,1}, float[3] compared = {1,2,3}, float half = {0.5}, "
        "int64[2] k = {3, 2}",
    )
    assert trainable(layered) == ["w1", "s", "b0"]


def test_flat_operators_and_rules_do_not_overlap() -> None:
    assert not FLAT & set(operators())


def test_a_root_of_zero_has_gradient_zero() -> None:
    """The deviation of equal numbers: infinity times zero would spoil every weight before it."""
    body = """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Sqrt(v) y = Mul(e, w)"""
    rooted = model(body, weights="float[3] w = {1,2,3}, int64[1] last = {-1}")
    built = build_gradients(rooted, of=["y"], parameters=["w"], inputs=["x"])
    equal = np.array([[2.0, 2, 2], [1, 2, 3]])
    feeds = {"x": equal, "w": [1, 2, 3], built.upstream["y"]: np.ones((2, 3))}
    gradient = run(built, **feeds)[built.gradients["x"]]
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_allclose(gradient[1], 6 * (equal[1] - 2) / 3 / np.sqrt(2 / 3), rtol=1e-6)


def test_layer_normalization_in_half_precision() -> None:
    """Its mean and deviation are float32 there."""
    half = model(
        "a = Cast<to=10>(x) b = LayerNormalization(a, s) y = Cast<to=1>(b)", weights="float16[3] s = {1, 1, 1}"
    )
    built = build_gradients(half, of=["y"], parameters=["s"], inputs=["x"])
    x, up = np.array([[1, 2, 4], [0, 1, -1]], np.float32), np.ones((2, 3), np.float32)
    session = open_session(ir.to_proto(built.model.ir).SerializeToString())
    found = session.run({"x": x, "s": np.ones(3, np.float16), built.upstream["y"]: up})
    z = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    np.testing.assert_allclose(found[built.gradients["s"]], z.sum(0), atol=4e-3)  # 4 roundings of numbers below 2


def test_what_lies_behind_is_named() -> None:
    recurrent = model(
        "s = Unsqueeze(x, first) h, c = GRU<hidden_size=1>(s, w, r) q = Squeeze(c, first) y = Mul(q, last)",
        weights="int64[1] first = {0}, float[1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,3,1] r = {1,2,3}, "
        "float[2] last = {1, 2}",
    )
    with pytest.raises(PassError, match=r"no gradient is known for GRU '.*'") as caught:
        build_gradients(recurrent, of=["y"], parameters=["w", "r", "last"])
    assert 'train: ["last"]' in caught.value.hint
    with pytest.raises(PassError, match="no gradient") as caught:
        build_gradients(recurrent, of=["c"], parameters=["w", "r"])
    assert "no weight lies behind" in caught.value.hint


def test_frequencies_masks_and_grids_are_no_weights() -> None:
    encoded = model(
        "n = Cast<to=1>(k) f = Mul(n, wave) s = Sin(f) g = Mul(s, learned) b = Add(x, g) c = Add(b, mask)"
        "d = Mul(c, ones) e = Add(d, grid) p = MatMul(e, w1) q = Mul(p, siren) r = Cos(q) y = Add(r, q)",
        weights="int64[2,1] k = {0, 1}, float[3] wave = {1, 0.1, 0.01}, float[3] learned = {0.5,2,3}, "
        "float[3] mask = {0.5, 0, -3.4e38}, float[3] ones = {1,1,1}, float[3] grid = {0,1,2}, "
        "float[3,3] w1 = {1,2,3,4,5,6,7,8,9}, float[3] siren = {0.5,2,3}",
    )
    assert trainable(encoded) == ["learned", "ones", "w1", "siren"]
