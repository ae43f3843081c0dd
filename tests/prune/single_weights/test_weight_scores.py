"""prune_weights by data: the rules of Wanda and SparseGPT in plain NumPy, as the papers state them."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.prune.single_weights.prune_weights import prune_weights
from tests.graphs import branches
from tests.helpers import Given, context, model_of, noise, outputs, saved_weights

MATMUL = "g (float[B, 48] x) => (float[B, 20] y) { y = MatMul(x, w) }"
CONV = "g (float[B,8,7,7] x) => (float[B,12,C,D] y) { y = Conv<pads = [1,1,1,1], strides = [2,1]>(x, w) }"
DEPTHWISE = "g (float[B,8,7,7] x) => (float[B,16,C,D] y) { y = Conv<group = 8>(x, w) }"
MIXING = noise(10, 48, seed=5)


def rows(count, seed=0):
    """Inputs that are correlated, and of unequal size."""
    return (noise(count, 10, seed=seed) @ MIXING + 0.5 * noise(count, 48, seed=seed + 50)) * np.linspace(
        0.1, 3, 48, dtype=np.float32
    )


def given(*arrays):
    return context(calibration=Given(*({"x": x} for x in arrays)))


def pruned(text, weight, data, **options):
    model = model_of(text, w=weight)
    change = prune_weights(model, data, **options)
    return change, saved_weights(model)["w"]


# --- activation


def test_activation_takes_the_lowest_products_of_every_output():
    weight, x = noise(48, 20), rows(90)
    _, found = pruned(MATMUL, weight, given(x[:50], x[50:]), score="activation", scope="output", ratio=0.5)
    scores = np.abs(weight) * np.linalg.norm(x.astype(np.float64), axis=0)[:, None]
    for output in range(20):
        assert set(np.flatnonzero(found[:, output] == 0)) == set(np.argsort(scores[:, output])[:24])
    np.testing.assert_array_equal(found[found != 0], weight[found != 0])


def norms_of_patches(x, kernel, strides, pad):
    """|patch[c, k]|_2 over all output positions, as [channels, kernel...]."""
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    found = np.zeros((x.shape[1], *kernel))
    counts = [(size - k) // s + 1 for size, k, s in zip(padded.shape[2:], kernel, strides, strict=True)]
    for a, b in np.ndindex(*kernel):
        seen = padded[:, :, a : a + strides[0] * counts[0] : strides[0], b : b + strides[1] * counts[1] : strides[1]]
        found[:, a, b] = np.sqrt(np.square(seen).sum(axis=(0, 2, 3)))
    return found


@pytest.mark.parametrize(
    ("text", "shape", "strides", "pad"),
    [(CONV, (12, 8, 3, 3), (2, 1), 1), (DEPTHWISE, (16, 1, 3, 3), (1, 1), 0)],
    ids=["plain", "depthwise"],
)
def test_activation_of_a_convolution_goes_by_patches(text, shape, strides, pad):
    weight, x = noise(*shape), noise(6, 8, 7, 7, seed=1) * np.geomspace(0.1, 10, 8, dtype=np.float32)[:, None, None]
    _, found = pruned(text, weight, given(x), score="activation", ratio=0.4)
    norms = norms_of_patches(x, (3, 3), strides, pad)
    scores = np.abs(weight) * (norms if shape[1] > 1 else norms.repeat(2, axis=0)[:, None])
    expected = weight.copy().reshape(-1)
    expected[np.argsort(scores.reshape(-1))[: round(0.4 * weight.size)]] = 0
    np.testing.assert_array_equal(found, expected.reshape(shape))


def test_activation_keeps_n_of_m_by_products():
    weight, x = noise(48, 20), rows(90)
    _, found = pruned(MATMUL, weight, given(x), score="activation", pattern="2:4")
    scores = (np.abs(weight) * np.linalg.norm(x.astype(np.float64), axis=0)[:, None]).reshape(12, 4, 20)
    kept = np.argsort(np.argsort(scores, axis=1), axis=1) >= 2
    np.testing.assert_array_equal(found, np.where(kept.reshape(48, 20), weight, 0))


def test_inputs_that_the_data_never_shows_go_first_the_smallest_weights_first():
    weight, x = noise(48, 20), rows(90)
    x[:, :10] = 0
    _, found = pruned(MATMUL, weight, given(x), score="activation", ratio=0.1)
    dead = np.abs(weight[:10]).reshape(-1)
    assert (found[10:] != 0).all()
    assert set(np.flatnonzero(found[:10] == 0)) == set(np.argsort(dead)[:96])


def test_a_weight_that_is_read_twice_is_scored_by_both_inputs():
    text = "g (float[B,16] x, float[B,16] z) => (float[B,16] y, float[B,16] q) { y = MatMul(x, w)  q = MatMul(z, w) }"
    weight, x, z = noise(16, 16), noise(40, 16, seed=1), noise(40, 16, seed=2) * np.arange(16, dtype=np.float32)
    model = model_of(text, w=weight)
    prune_weights(model, context(calibration=Given({"x": x, "z": z})), score="activation", ratio=0.5)
    norms = np.linalg.norm(np.concatenate([x, z]).astype(np.float64), axis=0)
    expected = weight.copy().reshape(-1)
    expected[np.argsort((np.abs(weight) * norms[:, None]).reshape(-1))[:128]] = 0
    np.testing.assert_array_equal(saved_weights(model)["w"], expected.reshape(16, 16))


# --- hessian


def sparse_gpt(weight, hessian, order, ratio, width=128):
    """Algorithm 1 of arXiv:2301.00774 on W [rows, inner]: columns in ``order``, a mask for each ``width`` of them."""
    w = weight[:, order].astype(np.float64)
    h = hessian[np.ix_(order, order)] + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    for start in range(0, w.shape[1], width):
        end = min(start + width, w.shape[1])
        costs = np.square(w[:, start:end] / np.diag(upper)[start:end])
        gone = costs <= np.sort(costs.reshape(-1))[round(ratio * costs.size) - 1]
        for j in range(start, end):
            new = np.where(gone[:, j - start], 0, w[:, j])
            error = (w[:, j] - new) / upper[j, j]
            w[:, j:] -= error[:, None] * upper[j, j:]
            w[:, j] = new
    result = np.empty_like(w)
    result[:, order] = w
    return result


@pytest.mark.parametrize(("inner", "ratio"), [(48, 0.5), (200, 0.3)])
def test_hessian_gives_the_numbers_of_the_paper(inner, ratio):
    x = noise(400, inner, seed=1) + noise(400, 1, seed=2)
    x *= np.linspace(0.5, 2, inner, dtype=np.float32)
    weight = noise(inner, 12)
    text = f"g (float[B, {inner}] x) => (float[B, 12] y) {{ y = MatMul(x, w) }}"
    _, found = pruned(text, weight, given(x[:150], x[150:]), score="hessian", ratio=ratio)
    hessian = x.T.astype(np.float64) @ x
    expected = sparse_gpt(weight.T, hessian, np.argsort(-np.diag(hessian)), ratio).T
    np.testing.assert_array_equal(found == 0, expected == 0)
    # float32 sums of up to ``inner`` addends, carried on over as many columns; the oracle works in double precision
    assert np.abs(found - expected).max() <= inner * np.finfo(np.float32).eps * np.abs(expected).max() * 10


@pytest.mark.parametrize(
    "options",
    [{"ratio": 0.5}, {"pattern": "2:4"}, {"pattern": "4x1", "ratio": 0.5}, {"ratio": 0.5, "scope": "output"}],
    ids=str,
)
def test_hessian_loses_least_of_the_output(options):
    weight, x = noise(48, 20), rows(400)
    errors = {}
    for score in ("magnitude", "activation", "hessian"):
        change, found = pruned(MATMUL, weight, given(x), score=score, **options)
        assert change.notes["sparsity"] == 0.5
        errors[score] = np.square(x @ (weight - found)).sum()
    assert errors["hessian"] < 0.5 * min(errors["magnitude"], errors["activation"])


def test_hessian_keeps_to_the_pattern():
    weight, x = noise(12, 8, 3, 3), noise(20, 8, 7, 7, seed=1) + 3 * noise(20, 1, 7, 7, seed=2)
    _, found = pruned(CONV, weight, given(x), score="hessian", pattern="2:4")
    assert (np.count_nonzero(found.reshape(12, 2, 4, 3, 3), axis=2) == 2).all()
    plain = outputs(model_of(CONV, w=weight), x=x)[0]
    magnitude = pruned(CONV, weight, given(x), pattern="2:4")[1]
    lost = [np.square(outputs(model_of(CONV, w=w), x=x)[0] - plain).sum() for w in (found, magnitude)]
    assert lost[0] < 0.5 * lost[1]


def test_hessian_leaves_zeros_and_counts_them():
    weight, x = noise(48, 20), rows(400)
    weight[np.abs(weight) < 0.5] = 0
    there = weight == 0
    change, found = pruned(MATMUL, weight, given(x), score="hessian", ratio=0.6)
    assert (found[there] == 0).all() and there.mean() < 0.5
    assert change.notes["sparsity"] == 0.6


def test_hessian_with_fewer_samples_than_inputs_stays_finite():
    _, found = pruned(MATMUL, noise(48, 20), given(rows(3)), score="hessian", ratio=0.5)
    assert np.isfinite(found).all() and (found == 0).mean() == 0.5


def test_all_see_the_model_as_it_came(monkeypatch):
    text = "g (float[B, 48] x) => (float[B, 20] y) { h = MatMul(x, u)  r = Relu(h)  y = MatMul(r, w) }"
    found = []
    for held in (2**28, 8):
        monkeypatch.setattr("compress_ops.graph.layer_inputs.HELD", held)
        model = model_of(text, u=noise(48, 48, seed=3), w=noise(48, 20))
        prune_weights(model, given(rows(200)), score="hessian", ratio=0.5)
        found.append(saved_weights(model)["w"])
    np.testing.assert_array_equal(*found)


# --- what cannot be scored


@pytest.mark.parametrize("score", ["activation", "hessian"])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_data_that_tells_nothing(score, value):
    weight = noise(48, 20)
    change, found = pruned(MATMUL, weight, given(np.full((5, 48), value, np.float32)), score=score, ratio=0.5)
    np.testing.assert_array_equal(found, weight)
    assert [d.reason for d in change.declined] == ["its inputs are all zero, or not finite, on the calibration data"]


REASONS = {
    "table": (
        "g (int64[B] x) => (float[B, 16] y) { y = Gather(w, x) }",
        (20, 16),
        "Gather does not multiply its input with it; score magnitude looks at the weight alone",
    ),
    "transA": (
        "g (float[16, B] x) => (float[B, 20] y) { y = Gemm<transA = 1>(x, w) }",
        (16, 20),
        "its input is transposed (transA)",
    ),
    "batched": (
        "g (float[3, B, 16] x) => (float[3, B, 8] y) { y = MatMul(x, w) }",
        (3, 16, 8),
        "its weight has 3 dimensions, not 2",
    ),
}


@pytest.mark.parametrize(("text", "shape", "reason"), REASONS.values(), ids=REASONS)
@pytest.mark.parametrize("score", ["activation", "hessian"])
def test_what_data_does_not_reach_is_declined(score, text, shape, reason):
    change = prune_weights(model_of(text, w=noise(*shape)), given(), score=score, ratio=0.5)
    assert [(d.name, d.reason) for d in change.declined] == [("w", reason)] and not change.touched


def test_branches_are_declined():
    text = branches("float[2,48] x", "float[2,20]", "a = MatMul(x, w)", "m = MatMul(x, w)  o = Neg(m)")
    change = prune_weights(model_of(text, w=noise(48, 20)), given(), score="hessian", ratio=0.5)
    assert [d.reason for d in change.declined] == ["it is inside a branch or loop, whose values cannot be looked at"]


def test_grouped_convolutions_have_no_hessian_here():
    change = prune_weights(model_of(DEPTHWISE, w=noise(16, 1, 3, 3)), given(), score="hessian", ratio=0.5)
    assert [d.reason for d in change.declined] == [
        "its channels are in groups, each with a Hessian of its own; score activation serves it"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "activation", "threshold": 0.1}, "a threshold is a magnitude"),
        ({"score": "hessian", "ratio": 0.5, "scope": "global"}, "layer by layer"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(PassError, match=message):
        prune_weights(model_of(MATMUL, w=noise(48, 20)), given(rows(4)), **options)


@pytest.mark.parametrize("score", ["activation", "hessian"])
def test_data_is_asked_for(score):
    with pytest.raises(PassError, match="needs calibration data"):
        prune_weights(model_of(MATMUL, w=noise(48, 20)), context(), score=score, ratio=0.5)


def test_half_precision_models():
    text = MATMUL.replace("float[", "float16[")
    x = rows(100).astype(np.float16)
    for score in ("activation", "hessian"):
        weight = noise(48, 20).astype(np.float16)
        change, found = pruned(text, weight, given(x), score=score, ratio=0.5)
        assert found.dtype == np.float16 and change.notes["sparsity"] == 0.5


def test_a_folded_model_serves_too():
    text = """g (float[B,8,7,7] x) => (float[B,12,5,5] y) {
        h = Conv(x, w)  y = BatchNormalization(h, s, b, m, v) }"""
    ones = np.ones(12, np.float32)
    model = model_of(text, w=noise(12, 8, 3, 3), s=2 * ones, b=ones, m=ones, v=ones)
    simplify(model, context())
    change = prune_weights(model, given(noise(4, 8, 7, 7)), score="hessian", pattern="2:4")
    assert change.notes["sparsity"] == 0.5


@pytest.mark.parametrize(("score", "needs"), [("magnitude", set()), ("activation", {"calibration data"})])
def test_data_is_asked_for_before_work_starts(score, needs):
    assert prune_weights.needs_with(prune_weights.options.model_validate({"score": score, "ratio": 0.5})) == needs
