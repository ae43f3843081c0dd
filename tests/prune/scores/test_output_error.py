"""The hessian score against what it stands for: the least error without a unit, found by least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.model import Model
from compress_ops.prune.channels import find_groups, prepare
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.scores.output_error import removal_costs
from tests.helpers import model_of, noise, outputs

from .score_case import DENSE, ROUNDING, best_without, data

IMAGE = """agraph (float[N,2,6,6] x) => (float[N,3,4,4] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)  y = Conv(a, w2) }"""
FLAT = """agraph (float[N,2,3,2] x) => (float[N,3] y) {
    a = Conv(x, w1)  f = Flatten(a)  y = Gemm<transB=1>(f, w2) }"""


def costs(model: Model, feeds: list[np.ndarray]) -> np.ndarray:
    prepare(model)
    grouping = find_groups(model)
    found = removal_costs(model, data(*feeds), grouping, grouping.groups)
    assert len(found) == 1 and found[0] is not None
    return found[0]


def test_of_a_dense_layer() -> None:
    w1, w2, feeds = noise(5, 8), noise(8, 3, seed=1), [noise(20, 5, seed=2), noise(9, 5, seed=3)]
    rows = np.concatenate(feeds) @ w1
    expected = [best_without(rows, w2, [k]) for k in range(8)]
    assert np.allclose(costs(model_of(DENSE, w1=w1, w2=w2), feeds), expected, rtol=ROUNDING)


def test_of_a_convolution_all_places_of_the_kernel_go() -> None:
    w1, w2, x = noise(8, 2, 1, 1), noise(3, 8, 3, 3, seed=1), noise(4, 2, 6, 6, seed=2)
    model = model_of(IMAGE, w1=w1, w2=w2)
    a = np.pad(np.einsum("nihw,oi->nohw", x, w1[:, :, 0, 0]), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(a, (3, 3), (2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 72)
    expected = [best_without(rows, w2.reshape(3, 72).T, list(range(9 * k, 9 * k + 9))) for k in range(8)]
    assert np.allclose(costs(model, [x]), expected, rtol=ROUNDING)


def test_of_flattened_channels_a_block_goes() -> None:
    w1, w2, x = noise(4, 2, 1, 1), noise(3, 24, seed=1), noise(40, 2, 3, 2, seed=2)
    rows = np.einsum("nihw,oi->nohw", x, w1[:, :, 0, 0]).reshape(40, 24)
    expected = [best_without(rows, w2.T, list(range(6 * k, 6 * k + 6))) for k in range(4)]
    assert np.allclose(costs(model_of(FLAT, w1=w1, w2=w2), [x]), expected, rtol=ROUNDING)


def test_what_others_can_stand_for_goes_first() -> None:
    """Three channels say the same; no other score of single weights sees that the large ones are not needed."""
    w1 = noise(5, 8)
    w1[:, 5], w1[:, 6] = w1[:, 2], 2 * w1[:, 2]
    model = model_of(DENSE, w1=w1, w2=noise(8, 3, seed=1))
    feeds: Any = [noise(50, 5, seed=2)]
    assert set(np.argsort(costs(model, feeds))[:3]) & {2, 5, 6}
    change = prune_channels(model, data(*feeds), ratio=0.25, score="hessian", round_to=1)
    assert change.touched


def test_layers_that_it_cannot_look_at_are_told() -> None:
    text = """agraph (float[N,2,4,4] x) => (float[N,4,4,4] y) {
        a = Conv(x, w1)  g = Conv<group=2>(a, w2)  y = Conv(g, w3) }"""
    model = model_of(text, w1=noise(8, 2, 1, 1), w2=noise(8, 4, 1, 1), w3=noise(4, 8, 1, 1))
    change = prune_channels(model, data(noise(2, 2, 4, 4)), ratio=0.5, score="hessian", round_to=1)
    assert {"w2", "w3"} <= set(change.touched)
    assert ("Conv_a", "no layer that this score can look at has to do with these channels") in [
        (declined.name, declined.reason) for declined in change.declined
    ]


@pytest.mark.parametrize("fill", [0.0, np.nan], ids=["zeros", "nan"])
def test_data_that_tells_nothing(fill: float) -> None:
    model = model_of(DENSE, w1=noise(5, 8), w2=noise(8, 3, seed=1))
    change = prune_channels(model, data(np.full((3, 5), fill, np.float32)), ratio=0.5, score="hessian", round_to=1)
    if np.isnan(fill):
        assert not change.touched
        assert any("NaN" in declined.reason for declined in change.declined)
    else:
        assert np.isfinite(outputs(model, x=noise(2, 5))[0]).all()
