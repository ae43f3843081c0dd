"""low_rank by measured time: the choice against brute force, layers alone against the whole, replay without timing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.factorize import low_rank, timing
from compress_ops.factorize.layers import find_layers
from compress_ops.factorize.timing import LayerClock, Timed, alone, cheapest
from compress_ops.passes import ALL, Change
from tests.helpers import Given, context, model_of, noise, outputs, proto

TWO = "g (float[N,64] x) => (float[N,48] y) { h = MatMul(x, u) [head] y = Gemm<transB=1>(h, v, b) }"


def planted(rows, columns, rank, seed):
    return (noise(rows, rank, seed=seed) @ noise(rank, columns, seed=seed + 1) / np.sqrt(rank)).astype(np.float32)


def two_layers():
    """Both close to rank 4, the second not as close."""
    u = planted(64, 96, 4, 1) + noise(64, 96, seed=3, scale=0.02)
    v = planted(48, 96, 4, 5) + noise(48, 96, seed=7, scale=0.1)
    model = model_of(TWO, u=u, v=v, b=noise(48))
    model.infer_shapes()
    return model


@pytest.fixture
def scripted(monkeypatch):
    """Layers take 1 ms, their candidates what a function of name and rank says, the whole takes 4 ms."""

    def script(seconds, *speedups):
        def times(self, layer, choices):
            made = [Timed(seconds(layer.node.name, s.ranks(k)[0]), s.lost(k), timing.named(s, k)) for s, k in choices]
            return [Timed(1e-3, 0.0), *(one for one in made if one.seconds < 1e-3)]

        monkeypatch.setattr(LayerClock, "times", times)
        reached = iter(speedups or [99.0])
        monkeypatch.setattr(LayerClock, "whole", lambda self: 4e-3)
        monkeypatch.setattr(LayerClock, "speedup", lambda self, other: next(reached))

    return script


def test_the_choice_loses_at_most_one_layer_more_than_the_best_of_all():
    """Brute force over all choices: the gap of a Lagrangian to it is below the loss of any one layer (Everett 1963)."""
    rng, gaps = np.random.default_rng(0), []
    for _ in range(20):
        times, losses = rng.random((2, 4, 4))
        layers = [
            [Timed(1.0, 0.0), *(Timed(float(t), float(e), "product 1") for t, e in zip(*pair, strict=True))]
            for pair in zip(times, losses, strict=True)
        ]
        chosen = cheapest(layers, whole=5.0, speedup=1.2)
        wanted = 5.0 * (1 - 1 / 1.2) - 1e-12
        assert sum(1 - one.seconds for one in chosen) >= wanted
        able = [others for others in product(*layers) if sum(1 - one.seconds for one in others) >= wanted]
        best = min(sum(one.lost for one in others) for others in able)
        gaps.append(sum(one.lost for one in chosen) - best)
        assert -1e-12 <= gaps[-1] <= losses.max()
    assert np.median(gaps) < 0.01


def test_what_is_saved_too_much_goes_back_into_energy():
    """On the convex hull are only the layer as it is and the fastest candidate; the one above it is enough."""
    layer = [Timed(1.0, 0.0), Timed(0.6, 0.09, "product 8"), Timed(0.2, 0.1, "product 4")]
    assert [one.becomes for one in cheapest([layer], whole=2.0, speedup=1.2)] == ["product 8"]


def test_what_is_out_of_reach_is_told_with_what_is_not():
    layers = [[Timed(1.0, 0.0), Timed(0.5, 0.1, "product 1")], [Timed(1.0, 0.0)]]
    with pytest.raises(PassError, match=r"a speedup of 2 is out of reach: 1\.20 at best"):
        cheapest(layers, whole=3.0, speedup=2.0)


def test_the_layer_that_loses_less_goes_and_the_other_says_why(scripted):
    scripted(lambda name, rank: 0.2e-3)  # each saves 0.8 of 4 ms: 1.25 by one alone
    model = two_layers()
    change = low_rank(model, context(), speedup=1.25)
    assert [*change.touched] == ["MatMul_h"]
    assert [(one.name, one.reason) for one in change.declined] == [("head", "others save the time at less loss")]
    assert [*change.chosen["ranks"]] == ["MatMul_h"] and change.chosen["ranks"]["MatMul_h"].startswith("product ")


def test_a_whole_that_is_slower_than_its_layers_say_takes_more(scripted):
    scripted(lambda name, rank: 0.2e-3, 1.1, 1.3)
    change = low_rank(two_layers(), context(), speedup=1.25)
    assert [*change.touched] == ["MatMul_h", "head"]  # 1.25 by one alone, but the whole was 1.1 times faster
    assert change.notes["speedup"] == 1.3


def test_what_is_not_faster_is_not_made(scripted):
    scripted(lambda name, rank: 2e-3 if name == "head" else 0.1e-3)
    change = low_rank(two_layers(), context(), speedup=1.2)
    assert [(one.name, one.reason) for one in change.declined] == [("head", "no rank that was timed is faster")]


def test_a_layer_of_full_rank_says_what_it_would_take(scripted):
    scripted(lambda name, rank: 0.1e-3)
    model = model_of(TWO, u=planted(64, 96, 4, 1), v=np.eye(48, 96, dtype=np.float32), b=noise(48))
    model.infer_shapes()
    change = low_rank(model, context(), speedup=1.2)
    assert [one.reason for one in change.declined] == [
        "Gemm: an energy of 0.7 takes rank 34 of 48, which saves less than 10 %"
    ]


def test_a_tied_table_is_not_timed(scripted):
    scripted(lambda name, rank: 0.1e-3)
    text = """g (int64[N] ids) => (float[N,48] y) {
        rows = Gather(v, ids)  h = MatMul(rows, u)  y = Gemm<transB=1>(h, v) }"""
    model = model_of(text, u=planted(96, 96, 4, 1), v=planted(48, 96, 4, 5))
    model.infer_shapes()
    change = low_rank(model, context(), speedup=1.2)
    assert [*change.touched] == ["MatMul_h"]
    assert [one.reason for one in change.declined] == ["Gemm: its table is tied, and is not timed; ratio takes it"]


def test_nothing_faster_is_a_fault(scripted):
    scripted(lambda name, rank: 2e-3)
    with pytest.raises(PassError, match=r"a speedup of 1.2 is out of reach: 1\.00 at best"):
        low_rank(two_layers(), context(), speedup=1.2)


def test_the_ranks_that_came_out_make_the_same_bytes_and_nothing_is_timed(scripted, monkeypatch):
    scripted(lambda name, rank: 0.01e-3 * rank)
    data = Given({"x": noise(80, 64, seed=9)})
    first = two_layers()
    chosen = low_rank(first, context(calibration=data), speedup=1.5).chosen
    monkeypatch.setattr(timing, "compare_latency", lambda *_, **__: pytest.fail("timed again"))
    second = two_layers()
    change = low_rank(second, context(calibration=data), speedup=1.5, **chosen)
    assert change.chosen == chosen
    assert proto(first).SerializeToString() == proto(second).SerializeToString()


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ({"other": "product 4"}, "no layer that can be factorized is called 'other'"),
        ({"head": "product 4000"}, "head cannot become 'product 4000'"),
        ({"head": "tucker 3 4"}, "head cannot become 'tucker 3 4'"),
    ],
)
def test_ranks_that_there_are_not(ranks, told):
    with pytest.raises(PassError, match=told) as caught:
        low_rank(two_layers(), context(), ranks=ranks)
    assert "cannot become" not in told or "such as product 12" in caught.value.hint


LAYERS = {
    "MatMul": ("g (float[2,5,64] x) => (float[2,5,48] y) { y = MatMul(x, w) }", {"w": noise(64, 48)}),
    "Gemm": (
        "g (float[5,64] x) => (float[5,48] y) { y = Gemm<transB=1, alpha=0.5>(x, w, b) }",
        {"w": noise(48, 64), "b": noise(48, seed=1)},
    ),
    "Conv": (
        "g (float[2,8,9,7] x) => (float[2,12,H,V] y) { y = Conv<strides=[2,1], pads=[1,1,1,1]>(x, w, b) }",
        {"w": noise(12, 8, 3, 3), "b": noise(12, seed=1)},
    ),
}


def layer_of(text, weights):
    model = model_of(text, **weights)
    return model, next(find_layers(model, ["MatMul", "Gemm", "Conv"], ALL, [], Change()))


@pytest.mark.parametrize("operator", LAYERS)
def test_a_layer_alone_computes_what_it_does_in_its_model(operator):
    model, layer = layer_of(*LAYERS[operator])
    shape = tuple(model.graph.inputs[0].shape.numpy())
    x = noise(*shape, seed=2)
    single = alone(layer, shape, model.ir.opset_imports)
    np.testing.assert_allclose(outputs(single, x=x)[0], outputs(model, x=x)[0], rtol=1e-6)


def test_a_bias_that_is_computed_is_timed_as_zeros():
    text = """g (float[2,8,9,7] x, float[12] c) => (float[2,12,H,V] y) { d = Add(c, c) y = Conv(x, w, d) }"""
    model, layer = layer_of(text, {"w": noise(12, 8, 3, 3)})
    x = noise(2, 8, 9, 7)
    expected = outputs(model, x=x, c=np.zeros(12, np.float32))[0]
    np.testing.assert_array_equal(outputs(alone(layer, (2, 8, 9, 7), model.ir.opset_imports), x=x)[0], expected)


def test_layers_are_timed_on_the_shapes_of_the_feed():
    model = two_layers()
    layers = list(find_layers(model, ["MatMul", "Gemm"], ALL, [], Change()))
    clock = LayerClock(model, context(calibration=Given({"x": noise(3, 64)})), layers)
    assert [clock.shapes[layer.node] for layer in layers] == [(3, 64), (3, 96)]
    assert clock.whole() > 0
    assert [timed.becomes for timed in clock.times(layers[0], [])] == [""]


def test_a_large_matrix_of_low_rank_is_faster_for_real():
    """Rank 4 of 256: a 32nd of the arithmetic, so that no noise of a busy machine hides it."""
    model = model_of("g (float[64,256] x) => (float[64,256] y) { y = MatMul(x, w) }", w=planted(256, 256, 4, 1))
    model.infer_shapes()
    change = low_rank(model, context(), speedup=1.5)
    assert [*change.touched] == ["MatMul_y"]
    assert change.notes["parameters_after"] < 0.2 * 256 * 256


def test_layers_in_branches_cannot_be_timed(scripted):
    scripted(lambda name, rank: 0.1e-3)
    text = """g (float[N,64] x, bool c) => (float[N,96] y) {
        h = MatMul(x, u)
        y = If (c) <then_branch = t () => (float[N,96] a) { a = MatMul(h, w) },
                    else_branch = e () => (float[N,96] b) { b = Relu(h) }>
    }"""
    model = model_of(text, u=planted(64, 96, 4, 1), w=planted(96, 96, 4, 2))
    model.infer_shapes()
    change = low_rank(model, context(), speedup=1.2)
    assert [*change.touched] == ["MatMul_h"]
    assert any("it cannot be timed" in one.reason for one in change.declined)
