"""Shares of groups by error: the errors against least squares, and what is chosen by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Need
from compress_ops.prune import prune_channels, refit
from compress_ops.prune.channels import find_groups, prepare
from compress_ops.prune.scores.output_error import added_errors
from tests.helpers import model_of, noise, outputs
from tests.prune.scores.score_case import DENSE, ROUNDING, best_without, data

TWO = """agraph (float[N,12] x) => (float[N,3] y) {
    a = Gemm(x, w1)  b = Relu(a)  c = Gemm(b, w2)  d = Relu(c)  y = Gemm(d, w3) }"""
X = noise(400, 12, seed=9)
ALIKE = 4  # of the 16 units of the first layer no more are different


def two() -> Model:
    w1 = np.tile(noise(12, ALIKE), 16 // ALIKE) * np.linspace(0.5, 1.5, 16, dtype=np.float32)
    return model_of(TWO, w1=w1, w2=noise(16, 16, seed=1), w3=noise(16, 3, seed=2))


def pruned(**options: Any) -> tuple[Model, list[int]]:
    """The model with its cut, and the widths of the two layers."""
    model, ctx = two(), data(X)
    prune_channels(model, ctx, score="activation_weight", round_to=1, **options)
    widths = [int(model.graph.initializers[name].shape[1]) for name in ("w1", "w2")]
    refit(model, ctx)
    return model, widths


def test_what_each_unit_adds_sums_up_to_the_least_error_without_all_of_them() -> None:
    w1, w2, x = noise(5, 8), noise(8, 3, seed=1), noise(29, 5, seed=2)
    model, order = model_of(DENSE, w1=w1, w2=w2), np.array([5, 0, 7, 2, 1, 6, 3, 4])
    prepare(model)
    grouping = find_groups(model)
    (added,) = added_errors(model, data(x), grouping, grouping.groups, [order])
    rows = x @ w1
    energy = np.square(rows @ w2).sum()
    expected = [best_without(rows, w2, order[: k + 1].tolist()) / energy for k in range(8)]
    assert added is not None and np.allclose(np.cumsum(added), expected, rtol=ROUNDING)


def test_nothing_is_said_of_groups_whose_readers_are_not_all_looked_at() -> None:
    text = """agraph (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)  b = Conv<group=2>(a, w2)  c = Conv(a, w3)  s = Concat<axis=1>(b, c)  y = Conv(s, w4) }"""
    weights = {"w1": noise(8, 2, 1, 1), "w2": noise(8, 4, 1, 1), "w3": noise(6, 8, 1, 1), "w4": noise(2, 14, 1, 1)}
    model = model_of(text, **weights)
    prepare(model)
    grouping = find_groups(model)
    orders = [np.arange(len(group)) for group in grouping.groups]
    found = added_errors(model, data(noise(3, 2, 4, 4)), grouping, grouping.groups, orders)
    known = {group.name: errors is not None for group, errors in zip(grouping.groups, found, strict=True)}
    assert known == {"Conv_a": False, "Conv_b": True, "Conv_c": True}


def test_more_goes_where_channels_can_stand_for_one_another() -> None:
    equal, widths = pruned(ratio=0.5)
    assert widths == [8, 8]
    model, widths = pruned(ratio=0.5, scope="least_error")
    assert 4 <= widths[0] < 8 < widths[1]  # no group loses more than 75 %, however alike its channels are
    saved = [sum(w.const_value.size for w in each.weights()) for each in (equal, model)]
    assert saved[1] <= saved[0]
    (truth,) = outputs(two(), x=X)
    errors = [np.square(outputs(each, x=X)[0] - truth).sum() for each in (equal, model)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(("by", "gone"), [("parameters", 0.6), ("flops", 0.4)])
def test_a_stated_share_is_reached_and_not_much_more(by: str, gone: float) -> None:
    (w1, w2), whole = pruned(ratio=gone, by=by, scope="least_error")[1], 12 * 16 + 16 * 16 + 16 * 3
    left = 12 * w1 + w1 * w2 + w2 * 3
    assert 1 - gone - 28 / whole < left / whole <= 1 - gone  # 28: what one unit holds at most


def test_what_it_asks_for_and_does_not_go_with() -> None:
    asked = prune_channels.options.model_validate({"scope": "least_error"})
    assert Need.CALIBRATION in prune_channels.needs_with(asked)
    for options, told in (
        ({"by": "latency"}, "looks at errors, not at time"),
        ({"ratios": {"*": 0.3}}, "ratios say what scope least_error would find"),
    ):
        with pytest.raises(PassError, match=told):
            pruned(ratio=0.5, scope="least_error", **options)
    with pytest.raises(PassError, match=r"90% of the parameters cannot go: at most"):
        pruned(ratio=0.9, by="parameters", scope="least_error", minimum=10)
