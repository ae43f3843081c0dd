"""Sensitivity of groups: each figure is that of a model in which prune_channels really cut that one group."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.prune import prune_channels, prune_heads
from compress_ops.prune.prune_one_layer import scan_groups
from tests.graphs import PROJECTED, SPLIT, attended, joined, turned
from tests.helpers import Given, context, model_of, noise, outputs, proto, sqnr_db
from tests.prune.channels.channel_proof import parameters

ROUNDING_DB = 0.02  # zeros that are added and a sum that lacks them differ by float32 rounding, far below the noise

RESIDUAL = """g (float[N,3,8,8] x) => (float[N,10] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)  n = BatchNormalization(a, s, o, m, v)  r = Relu(n)
    c = Conv<pads=[1,1,1,1]>(r, w2)  d = Add(r, c)  e = Conv<pads=[1,1,1,1], group=4>(d, w3)  f = Relu(e)
    p = GlobalAveragePool(f)  q = Flatten(p)  y = Gemm<transB=1>(q, w4, b4) }"""
RESIDUAL_WEIGHTS = {
    "w1": noise(16, 3, 3, 3), "b1": noise(16, seed=1), "s": 1 + noise(16, seed=2, scale=0.2), "o": noise(16, seed=3),
    "m": noise(16, seed=4), "v": np.abs(noise(16, seed=5)) + 0.5, "w2": noise(16, 16, 3, 3, seed=6, scale=0.2),
    "w3": noise(32, 4, 3, 3, seed=7, scale=0.3), "w4": noise(10, 32, seed=8), "b4": noise(10, seed=9),
}  # fmt: skip
NORMALIZED = """g (float[N,5,12] x) => (float[N,5,7] y) {
    h = MatMul(x, u)  n = LayerNormalization(h, s, o)  t = Mul(n, k)  z = Add(t, h)  y = MatMul(z, w) }"""
NORMALIZED_WEIGHTS = {
    "u": noise(12, 32), "s": 1 + noise(32, seed=1, scale=0.1), "o": noise(32, seed=2), "k": noise(32, seed=3),
    "w": noise(32, 7, seed=4),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "weights", "shape", "parts"),
    [(RESIDUAL, RESIDUAL_WEIGHTS, (3, 8, 8), 2), (NORMALIZED, NORMALIZED_WEIGHTS, (5, 12), 1)],
    ids=["zeroed", "a normalization over channels: really cut"],
)
def test_a_group_moves_the_outputs_as_cutting_it_alone_does(text, weights, shape, parts):
    model, x = model_of(text, **weights), noise(24, *shape, seed=20)
    data = Given({"x": x[:8]}, {"x": x[8:16]}, {"x": x[16:]})
    before = proto(model).SerializeToString()
    found = scan_groups(model, context(calibration=data), ratio=0.5)
    assert proto(model).SerializeToString() == before
    assert len(found.effects) == parts
    exact = outputs(model, x=x)[0]
    for effect in found.effects:
        cut = model_of(text, **weights)
        change = prune_channels(cut, context(), ratio=0.5, only=effect.part.nodes)
        assert change.touched
        cut_outputs = outputs(cut, x=x)[0]
        assert effect.sqnr_db == pytest.approx(sqnr_db(exact, cut_outputs), abs=ROUNDING_DB)
        assert effect.noise == pytest.approx(10 ** (-effect.sqnr_db / 10))
        assert effect.part.parameters == parameters(model) - parameters(cut)
        assert effect.part.saved == 4 * effect.part.parameters


def test_the_unpruned_outputs_are_computed_once_and_the_data_is_gone_through_once_for_all_zeroed_groups():
    data = Given({"x": noise(8, 3, 8, 8)}, {"x": noise(8, 3, 8, 8, seed=1)})
    scan_groups(model_of(RESIDUAL, **RESIDUAL_WEIGHTS), context(calibration=data))
    assert data.passes == 1


def test_the_share_decides_how_much_goes():
    data = Given({"x": noise(8, 3, 8, 8)})
    model = model_of(RESIDUAL, **RESIDUAL_WEIGHTS)
    small, large = (scan_groups(model, context(calibration=data), ratio=ratio).effects[-1] for ratio in (0.25, 0.75))
    assert small.part.what == "8 of 32 channels" and large.part.what == "24 of 32 channels"
    assert small.noise < large.noise


ATTENTION = f"g (float[N,6,16] x) => (float[N,6,16] y) {{ {PROJECTED} {SPLIT} {turned()} {attended()} {joined()} }}"
ATTENTION_WEIGHTS = {
    **{name: noise(16, 16, seed=i, scale=0.4) for i, name in enumerate(("wq", "wk", "wv", "wo"))},
    "split": np.array([0, 0, 4, 4]), "join": np.array([0, 0, 16]),
}  # fmt: skip


def test_heads_are_scanned_as_heads():
    x = noise(10, 6, 16, seed=9)
    model = model_of(ATTENTION, **ATTENTION_WEIGHTS)
    effect, *others = scan_groups(model, context(calibration=Given({"x": x})), ratio=0.5, heads=True).effects
    assert not others and effect.part.what == "2 of 4 heads"
    cut = model_of(ATTENTION, **ATTENTION_WEIGHTS)
    prune_heads(cut, context(), ratio=0.5)
    assert effect.sqnr_db == pytest.approx(sqnr_db(outputs(model, x=x)[0], outputs(cut, x=x)[0]), abs=ROUNDING_DB)


def test_nothing_to_cut_is_told_with_the_reasons():
    model = model_of("g (float[N,12] x) => (float[N,16] y) { y = MatMul(x, w) }", w=noise(12, 16))
    with pytest.raises(PassError, match=r"there is no group to cut: MatMul_y: they are the output 'y'"):
        scan_groups(model, context(calibration=Given({"x": noise(4, 12)})))


def test_weights_that_are_not_finite_are_declined_with_the_reason():
    weights = {**RESIDUAL_WEIGHTS, "w3": np.full((32, 4, 3, 3), np.nan, np.float32)}
    found = scan_groups(model_of(RESIDUAL, **weights), context(calibration=Given({"x": noise(4, 3, 8, 8)})))
    assert "NaN or infinite" in found.declined["Conv_e"]


def test_without_data():
    with pytest.raises(PassError, match="needs calibration data"):
        scan_groups(model_of(RESIDUAL, **RESIDUAL_WEIGHTS), context())
