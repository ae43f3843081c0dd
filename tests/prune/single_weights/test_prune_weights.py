"""prune_weights: exactly the smallest magnitudes become zero, by the rule as plain NumPy states it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_ops.errors import PassError
from compress_ops.prune.single_weights.prune_weights import prune_weights
from tests.graphs import branches
from tests.helpers import context, model_of, noise, outputs, proto_of, saved_weights

CHAIN = "g (float[2,16] x) => (float[2,8] y) { h = MatMul(x, u)  i = Add(h, b)  y = MatMul(i, v) }"
U, V, B = noise(16, 12), noise(12, 8, seed=1, scale=5), noise(12, seed=2)


def chain(**changed):
    return model_of(CHAIN, **{"u": U, "v": V, "b": B, **changed})


def pruned(model, **options):
    change = prune_weights(model, context(), **options)
    return change, saved_weights(model)


def smallest_zeroed(weight, count):
    """The rule: the ``count`` entries of smallest magnitude become zero (no ties in random weights)."""
    result = weight.copy().reshape(-1)
    result[np.argsort(np.abs(result), kind="stable")[:count]] = 0
    return result.reshape(weight.shape)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 0.77, 0.99])
def test_a_ratio_holds_in_each_tensor(ratio):
    change, weights = pruned(chain(), ratio=ratio)
    for name, before in (("u", U), ("v", V)):
        np.testing.assert_array_equal(weights[name], smallest_zeroed(before, round(ratio * before.size)))
    np.testing.assert_array_equal(weights["b"], B)
    zeros = sum(int((weights[name] == 0).sum()) for name in "uv")
    assert change.notes == {"sparsity": round(zeros / (U.size + V.size), 4), "weights": U.size + V.size}
    assert set(change.touched) == {"u", "v"}


@pytest.mark.parametrize("threshold", [0.1, 1.0, 7.5])
def test_a_threshold_holds_for_all(threshold):
    _, weights = pruned(chain(), threshold=threshold)
    for name, before in (("u", U), ("v", V)):
        np.testing.assert_array_equal(weights[name], np.where(np.abs(before) <= np.float32(threshold), 0, before))


def test_the_threshold_itself_is_pruned_and_what_is_above_is_not():
    edge = np.full((16, 12), 0.5, np.float32)
    edge[0, 0], edge[0, 1] = np.nextafter(np.float32(0.5), np.float32(1)), -0.5
    _, weights = pruned(chain(u=edge), threshold=0.5)
    assert np.flatnonzero(weights["u"]).tolist() == [0]


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("normalize", [True, False])
def test_global_scope_ranks_all_weights_together(ratio, normalize):
    _, weights = pruned(chain(), ratio=ratio, scope="global", normalize=normalize)
    units = {n: np.linalg.norm(w.astype(np.float64)) if normalize else 1.0 for n, w in (("u", U), ("v", V))}
    scores = np.concatenate([np.abs(U.reshape(-1)) / units["u"], np.abs(V.reshape(-1)) / units["v"]])
    count = round(ratio * scores.size)
    zeroed = np.concatenate([weights["u"].reshape(-1), weights["v"].reshape(-1)]) == 0
    assert zeroed.sum() == count
    np.testing.assert_array_equal(np.flatnonzero(zeroed), np.sort(np.argsort(scores, kind="stable")[:count]))


def test_normalize_lets_small_tensors_keep_their_share():
    share = {}
    for normalize in (True, False):
        _, weights = pruned(chain(u=U / np.float32(1000)), ratio=0.5, scope="global", normalize=normalize)
        share[normalize] = (weights["u"] == 0).mean()
    assert share[False] == pytest.approx(0.5 * (U.size + V.size) / U.size)  # all of it falls in u
    assert share[True] == pytest.approx(0.5, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float32, np.float16]),
    scope=st.sampled_from(["tensor", "global"]),
)
def test_at_least_the_ratio_goes_and_nothing_larger_than_what_stays(ratio, seed, dtype, scope):
    before = {"u": noise(16, 12, seed=seed).astype(dtype), "v": noise(12, 8, seed=seed + 1).astype(dtype)}
    text = CHAIN if dtype == np.float32 else CHAIN.replace("float[", "float16[")
    model = model_of(text, **before, b=B.astype(dtype))
    _, weights = pruned(model, ratio=ratio, scope=scope, normalize=False)
    asked = round(ratio * before["u"].size) if scope == "tensor" else None
    for name, old in before.items():
        new = weights[name]
        assert new.dtype == dtype
        np.testing.assert_array_equal(new[new != 0], old[new != 0])  # what stays is as it was
        gone, kept = np.abs(old[new == 0]), np.abs(new[new != 0])
        assert gone.size == 0 or kept.size == 0 or gone.max() < kept.min()
    if asked is not None:
        assert (weights["u"] == 0).sum() >= asked
    else:
        zeros = sum(int((w == 0).sum()) for w in (weights["u"], weights["v"]))
        assert zeros >= round(ratio * (U.size + V.size))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_the_unit_does_not_lose_the_last_weight(dtype, normalize, seed):
    before = {"u": noise(16, 12, seed=seed, scale=1e-3).astype(dtype), "v": noise(12, 8, seed=seed + 99).astype(dtype)}
    model = model_of(CHAIN if dtype == np.float32 else CHAIN.replace("float[", "float16["), **before, b=B.astype(dtype))
    _, weights = pruned(model, ratio=0.5, scope="global", normalize=normalize)
    assert sum(int((weights[name] == 0).sum()) for name in "uv") >= (U.size + V.size) // 2


def test_the_function_is_that_of_the_zeroed_weights():
    model = chain()
    prune_weights(model, context(), ratio=0.5)
    x = noise(2, 16, seed=9)
    expected = outputs(proto_of(CHAIN, u=smallest_zeroed(U, U.size // 2), v=smallest_zeroed(V, V.size // 2), b=B), x=x)
    np.testing.assert_array_equal(outputs(model, x=x), expected)


@pytest.mark.parametrize("options", [{}, {"ratio": 0.5, "threshold": 0.1}], ids=["neither", "both"])
def test_one_of_ratio_and_threshold_is_asked_for(options):
    with pytest.raises(PassError, match="one of ratio and threshold"):
        prune_weights(chain(), context(), **options)


def test_ties_at_the_limit_all_go_and_are_told():
    """|w| has only two values: the rule |w| <= t takes all ties with it, and the report says how many."""
    weight = np.where(noise(16, 12) > 0, np.float32(1), np.float32(-1))
    weight[:, :3] *= 2
    change, weights = pruned(chain(u=weight), ratio=0.5, only=["MatMul_h"])
    np.testing.assert_array_equal(weights["u"], np.where(np.abs(weight) <= 1, 0, weight))
    assert change.notes["sparsity"] == 0.75


def test_a_tensor_of_one_magnitude_is_not_wiped_out():
    change, weights = pruned(chain(u=np.full_like(U, 0.5)), ratio=0.5)
    np.testing.assert_array_equal(weights["u"], np.full_like(U, 0.5))
    assert any(d.name == "u" and "magnitude" in d.reason for d in change.declined)


def test_a_second_run_finds_nothing_to_do():
    model = chain()
    prune_weights(model, context(), ratio=0.5)
    change = prune_weights(model, context(), ratio=0.5)
    assert change.touched == {} and {d.name for d in change.declined} == {"u", "v"}
    assert change.notes["sparsity"] == 0.5


def test_a_shared_weight_is_pruned_once_and_told_once():
    model = model_of("g (float[2,12] x) => (float[2,12] y) { h = MatMul(x, w)  y = MatMul(h, w) }", w=noise(12, 12))
    change, weights = pruned(model, ratio=0.5)
    np.testing.assert_array_equal(weights["w"], smallest_zeroed(noise(12, 12), 72))
    assert change.notes["weights"] == 144


def test_a_reader_that_is_left_out_protects_a_shared_weight():
    model = model_of("g (float[2,12] x) => (float[2,12] y) { h = MatMul(x, w)  y = MatMul(h, w) }", w=noise(12, 12))
    change, weights = pruned(model, ratio=0.5, skip=["MatMul_y"])
    np.testing.assert_array_equal(weights["w"], noise(12, 12))
    assert [(d.name, d.reason) for d in change.declined] == [("w", "the patterns leave out a node that reads it")]


def test_patterns_choose():
    assert set(pruned(chain(), ratio=0.5, only=["MatMul_y"])[0].touched) == {"v"}
    assert set(pruned(chain(), ratio=0.5, skip=["MatMul_y"])[0].touched) == {"u"}
    assert set(pruned(chain(), ratio=0.5, only=["Conv"])[0].touched) == set()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_left_alone(value):
    weight = np.where(U > 2, np.float32(value), U)
    change, weights = pruned(chain(u=weight), ratio=0.5)
    np.testing.assert_array_equal(weights["u"], weight)
    assert [d.reason for d in change.declined if d.name == "u"] == ["its weight has NaN or infinite values"]
    assert set(change.touched) == {"v"}


def test_small_tensors_and_other_types_are_left_alone_with_reasons():
    text = """g (double[2,16] x, float[2,3] z) => (double[2,8] y, float[2,3] q) {
        y = MatMul(x, d)  q = MatMul(z, s) }"""
    model = model_of(text, d=noise(16, 8).astype(np.float64), s=noise(3, 3))
    change, _ = pruned(model, ratio=0.5)
    assert {d.name: d.reason for d in change.declined} == {
        "d": "its weight is double, not float32 or float16",
        "s": "its 9 elements are too few to gain",
    }
    assert change.touched == {} and change.notes == {"sparsity": 0.0, "weights": 0}


def test_all_kinds_of_weights():
    text = """g (float[1,8,4,4] x, int64[2] i) => (float[1,8,4,4] y, float[2,9] e, float[1,10] f) {
        h = Conv(x, c, b)  y = ConvTranspose(h, t)  e = Gather(table, i)
        p = GlobalAveragePool(x)  q = Flatten(p)  f = Gemm(q, m, n) }"""
    weights = {"c": noise(8, 8, 1, 1), "t": noise(8, 8, 1, 1), "table": noise(20, 9), "m": noise(8, 10)}
    biases = {"b": noise(8), "n": noise(10)}
    change, after = pruned(model_of(text, **weights, **biases), ratio=0.5)
    assert set(change.touched) == set(weights)
    for name, before in weights.items():
        np.testing.assert_array_equal(after[name], smallest_zeroed(before, before.size // 2))
    for name, before in biases.items():
        np.testing.assert_array_equal(after[name], before)


def test_weights_of_branches_are_pruned():
    text = branches("float[2,16] x", "float[2,12]", "a = MatMul(x, u)", "m = MatMul(x, u)  o = Neg(m)")
    _, weights = pruned(model_of(text, u=U), ratio=0.5)
    np.testing.assert_array_equal(weights["u"], smallest_zeroed(U, U.size // 2))


def test_weights_are_changed_lazily_and_the_old_array_is_not_written_to():
    model = chain()
    old = {value.name: value.const_value.numpy() for value in model.weights()}
    copies = {name: array.copy() for name, array in old.items()}
    prune_weights(model, context(), ratio=0.5)
    for name, array in old.items():
        np.testing.assert_array_equal(array, copies[name])


def test_an_all_zero_weight_is_fine():
    change, weights = pruned(chain(u=np.zeros_like(U)), ratio=0.5, scope="global")
    assert not weights["u"].any() and np.isfinite(weights["v"]).all()
    assert change.notes["sparsity"] >= 0.5
