"""prune_weights with N:M and blocks: which weights go, by the rule stated over groups, for every operator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.prune.single_weights.layout import layout_of
from compress_ops.prune.single_weights.prune_weights import prune_weights
from tests.helpers import context, model_of, noise, outputs, saved_weights

# weight, the text that reads it, and (row, tap, input) of an index into it
OPERATORS = {
    "Conv": ((8, 16, 3, 2), "y = Conv(x, w)", "float[2,16,9,9]", lambda o, i, a, b: (o, (a, b), i)),
    "depthwise": ((16, 1, 8, 2), "y = Conv<group = 16>(x, w)", "float[2,16,9,9]", lambda o, i, a, b: (o, (a, b), i)),
    "1-D": ((8, 16, 3), "y = Conv(x, w)", "float[2,16,9]", lambda o, i, a: (o, a, i)),
    "ConvTranspose": ((16, 8, 2, 2), "y = ConvTranspose(x, w)", "float[2,16,4,4]", lambda i, o, a, b: (o, (a, b), i)),
    "grouped ConvTranspose": (
        (16, 4, 2, 2),
        "y = ConvTranspose<group = 2>(x, w)",
        "float[2,16,4,4]",
        lambda i, o, a, b: ((i // 8, o), (a, b), i % 8),
    ),
    "MatMul": ((16, 12), "y = MatMul(x, w)", "float[2,16]", lambda i, o: (o, 0, i)),
    "batched MatMul": ((3, 16, 4), "y = MatMul(x, w)", "float[3,2,16]", lambda b, i, o: ((b, o), 0, i)),
    "Gemm": ((16, 12), "y = Gemm(x, w)", "float[2,16]", lambda i, o: (o, 0, i)),
    "transposed Gemm": ((12, 16), "y = Gemm<transB = 1>(x, w)", "float[2,16]", lambda o, i: (o, 0, i)),
    "Gather": ((12, 16), "y = Gather(w, x)", "int64[2]", lambda o, i: (o, 0, i)),
}


def model(name, weight=None):
    shape, text, source, _ = OPERATORS[name]
    weight = noise(*shape) if weight is None else weight
    rank = {"Conv": 4, "depthwise": 4, "1-D": 3, "ConvTranspose": 4, "grouped ConvTranspose": 4, "batched MatMul": 3}
    sizes = ",".join("ABCD"[: rank.get(name, 2)])
    return model_of(f"g ({source} x) => (float[{sizes}] y) {{ {text} }}", w=weight)


def pruned(name, weight=None, **options):
    made = model(name, weight)
    change = prune_weights(made, context(), **options)
    return change, saved_weights(made)["w"]


def groups_of(name, size):
    """The indices of each group of ``size`` neighbouring inputs with the same row and tap, in order."""
    shape, *_, place = OPERATORS[name]
    by_group: dict[object, list[tuple[int, ...]]] = {}
    for index in sorted(itertools.product(*map(range, shape)), key=lambda index: place(*index)[2]):
        row, tap, number = place(*index)
        by_group.setdefault((row, tap, number // size), []).append(index)
    return by_group.values()


@pytest.mark.parametrize(("pattern", "kept", "size"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8)])
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "depthwise"])
def test_of_every_m_neighbours_the_n_largest_stay(name, pattern, kept, size):
    before = noise(*OPERATORS[name][0])
    change, after = pruned(name, pattern=pattern)
    for indices in groups_of(name, size):
        assert len(indices) == size
        largest = sorted(indices, key=lambda index: -abs(before[index]))[:kept]
        for index in indices:
            assert after[index] == (before[index] if index in largest else 0)
    assert change.notes == {"sparsity": 1 - kept / size, "weights": before.size}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_layout_is_undone_and_finds_each_number(name):
    shape, *_, place = OPERATORS[name]
    layout = layout_of(model(name).graph[0], shape)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    laid = layout.laid(numbers)
    np.testing.assert_array_equal(layout.stored(laid), numbers)
    keys = {place(*np.unravel_index(number, shape)): where for where, number in np.ndenumerate(laid)}
    assert len(keys) == numbers.size
    for axis in range(3):  # rows, taps and inputs are numbered in the order in which they are stored
        ranks = {key[axis]: where[axis] for key, where in keys.items()}
        assert [ranks[key] for key in sorted(ranks)] == list(range(len(ranks)))


def test_blocks_go_by_their_root_mean_square():
    before = noise(16, 12)
    _, after = pruned("MatMul", before, pattern="4x2", ratio=0.5)
    squares = {
        (row, start): np.square(before[start : start + 2, row : row + 4].astype(np.float64)).sum()
        for row in range(0, 12, 4)
        for start in range(0, 16, 2)
    }
    gone = sorted(squares, key=squares.__getitem__)[: len(squares) // 2]
    expected = before.copy()
    for row, start in gone:
        expected[start : start + 2, row : row + 4] = 0
    np.testing.assert_array_equal(after, expected)


def test_blocks_of_a_kernel_are_of_outputs_and_inputs_at_one_tap():
    before = noise(8, 16, 3, 3)
    _, after = pruned("Conv", before[..., :2], pattern="2x4", ratio=0.25)
    zero = (after == 0).reshape(4, 2, 4, 4, 3, 2)
    assert (zero.all(axis=(1, 3)) == zero.any(axis=(1, 3))).all() and zero.mean() == 0.25


def test_a_threshold_holds_for_the_root_mean_square_of_blocks():
    before = noise(16, 12)
    _, after = pruned("MatMul", before, pattern="1x4", threshold=1.0)
    small = np.sqrt(np.square(before.reshape(4, 4, 12), dtype=np.float64).mean(axis=1)) <= 1.0
    np.testing.assert_array_equal(after, np.where(small.repeat(4, axis=0), 0, before))


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_structure_and_scope_go_together(scope):
    change, after = pruned("transposed Gemm", pattern="1x4", ratio=0.5, scope=scope)
    assert change.notes["sparsity"] == 0.5
    assert ((after.reshape(12, 4, 4) == 0).all(axis=2) == (after.reshape(12, 4, 4) == 0).any(axis=2)).all()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", ["MatMul", "Conv"])
def test_scope_output_takes_the_share_of_every_output(name, ratio):
    before = noise(*OPERATORS[name][0])
    _, after = pruned(name, ratio=ratio, scope="output")
    rows = (before.T, after.T) if name == "MatMul" else (before.reshape(8, -1), after.reshape(8, -1))
    for old, new in zip(*rows, strict=True):
        count = min(round(ratio * old.size), old.size - 1)
        assert set(np.flatnonzero(new == 0)) == set(np.argsort(np.abs(old))[:count])


def test_an_output_whose_weights_are_all_alike_stays():
    before = noise(16, 12)
    before[:, 3] = 0.25
    _, after = pruned("MatMul", before, ratio=0.5, scope="output")
    assert (after[:, 3] == 0.25).all() and ((after == 0).sum(axis=0) == [8] * 3 + [0] + [8] * 8).all()


def test_ties_leave_exactly_n_of_m():
    _, after = pruned("MatMul", np.full((16, 12), 0.5, np.float32), pattern="2:4")
    assert (np.count_nonzero(after.reshape(4, 4, 12), axis=1) == 2).all()


def test_zeros_count_among_those_that_go():
    before = noise(16, 12)
    before[::2] = 0
    change, after = pruned("MatMul", before, pattern="2:4")
    np.testing.assert_array_equal(after, before)
    assert [d.reason for d in change.declined] == ["its lowest weights are zero already"]
    assert change.touched == {} and change.notes["sparsity"] == 0.5


def test_a_growing_ratio_adds_to_the_zeros_that_are_there():
    made = model("MatMul")
    zeros = []
    for ratio in (0.25, 0.5, 0.75):
        change = prune_weights(made, context(), ratio=ratio)
        assert change.notes["sparsity"] == ratio
        zeros.append(next(v for v in made.weights() if v.name == "w").const_value.numpy() == 0)
    assert all((earlier <= later).all() for earlier, later in itertools.pairwise(zeros))


@pytest.mark.parametrize(
    ("name", "pattern", "reason"),
    [
        ("depthwise", "2:4", "its 1 inputs are no multiple of 4"),
        ("MatMul", "8x1", "its 12 outputs are no multiple of 8"),
        ("Conv", "1:3", "its 16 inputs are no multiple of 3"),
    ],
)
def test_what_does_not_divide_is_declined(name, pattern, reason):
    before = noise(*OPERATORS[name][0])
    change, after = pruned(name, pattern=pattern, **({"ratio": 0.5} if "x" in pattern else {}))
    np.testing.assert_array_equal(after, before)
    assert [(d.name, d.reason) for d in change.declined] == [("w", reason)] and not change.touched


def test_readers_that_disagree_on_rows_protect_a_weight_from_structure():
    text = "g (float[2,16] x) => (float[2,16] y, float[2,16] z) { y = MatMul(x, w)  z = Gemm<transB = 1>(x, w) }"
    for options in ({"pattern": "2:4"}, {"ratio": 0.5, "scope": "output"}):
        change = prune_weights(model_of(text, w=noise(16, 16)), context(), **options)
        assert [d.reason for d in change.declined] == ["it is read by rows and by columns"]
    assert prune_weights(model_of(text, w=noise(16, 16)), context(), ratio=0.5).touched


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "2:4", "ratio": 0.5}, "implies the ratio"),
        ({"pattern": "2:4", "threshold": 0.5}, "implies the ratio"),
        ({"pattern": "4:4"}, "keeps all weights"),
        ({"pattern": "2/4"}, "is no pattern"),
        ({"pattern": "0:4"}, "is no pattern"),
        ({"pattern": "4x4"}, "one of ratio and threshold"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(PassError, match=message):
        prune_weights(model("MatMul"), context(), **options)


def test_half_precision():
    text = "g (float16[2,16] x) => (float16[2,12] y) { y = MatMul(x, w) }"
    before = noise(16, 12).astype(np.float16)
    made = model_of(text, w=before)
    prune_weights(made, context(), pattern="2:4")
    after = saved_weights(made)["w"]
    assert after.dtype == np.float16 and (np.count_nonzero(after.reshape(4, 4, 12), axis=1) == 2).all()


def test_the_function_is_that_of_the_zeroed_weights():
    made = model("Conv")
    _, after = pruned("Conv", pattern="2:4")
    prune_weights(made, context(), pattern="2:4")
    x = noise(2, 16, 9, 9, seed=3)
    np.testing.assert_array_equal(outputs(made, x=x), outputs(model("Conv", after), x=x))


QUANTIZED = """g (float[2,16] x) => (float[2,12] y) {
    w = DequantizeLinear(q, s)  h = MatMul(x, w)  y = Add(h, b) }"""


def test_quantized_weights_are_declined_with_advice():
    made = model_of(QUANTIZED, q=np.ones((16, 12), np.int8), s=np.float32(0.1), b=noise(12))
    change = prune_weights(made, context(), ratio=0.5)
    assert not change.touched
    assert [(d.name, d.reason) for d in change.declined] == [
        ("MatMul_h", "MatMul: its weight is quantized already; prune before quantizing")
    ]


@pytest.mark.parametrize(("pattern", "message"), [("4-8", "is no pattern"), ("4:2", "N is the smaller")])
def test_a_recipe_with_such_a_pattern_is_refused_with_advice(pattern, message):
    with pytest.raises(ValueError, match=message):
        prune_weights.options.model_validate({"pattern": pattern})
    assert prune_weights.options.model_validate({"pattern": "4:8"}).pattern == "4:8"
