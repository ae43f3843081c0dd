"""Costs: what they count, and that what they promise of a cut is what is counted once the cut is made."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Need
from compress_ops.prune.channels import cut, find_groups, prepare
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.units.costs import Cost, multiply_adds, parameters
from tests.helpers import Given, context, model_of, noise
from tests.prune.channels.channel_case import SEPARATE, arrays, ints
from tests.prune.channels.channel_proof import some_units
from tests.prune.units.recurrent_case import GATES, RECURRENT

CONVOLUTIONS = """agraph (float[N,4,9,9] x) => (float[N,2,10,10] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)  d = Conv<group=16, strides=[2,2]>(a, w2)  g = Conv<group=2>(d, w3)
    y = ConvTranspose<strides=[2,2], kernel_shape=[4,4]>(g, w4) }"""
KERNELS = {"w1": noise(16, 4, 3, 3), "w2": noise(16, 1, 3, 3), "w3": noise(8, 8, 1, 1), "w4": noise(8, 2, 4, 4)}
COUNTED = 16 * 4 * 9 * 81 + 16 * 9 * 16 + 8 * 8 * 16 + 8 * 2 * 16 * 16  # products: weights x places that they visit


def costs(model: Model, **feeds: np.ndarray) -> tuple[Cost, Cost]:
    grouping = find_groups(model)
    ctx = context(calibration=Given(feeds))
    return parameters(grouping, grouping.groups), multiply_adds(model, ctx, grouping, grouping.groups)


def uncut(cost: Cost) -> float:
    return cost.left([0] * cost.groups)


def test_convolutions() -> None:
    model = model_of(CONVOLUTIONS, **KERNELS)
    prepare(model)
    numbers, products = costs(model, x=noise(1, 4, 9, 9))
    assert uncut(numbers) == sum(array.size for array in KERNELS.values())
    assert uncut(products) == COUNTED


def test_recurrent_layers_and_einsum() -> None:
    model = model_of(RECURRENT, **GATES)
    prepare(model)
    _, products = costs(model, x=noise(5, 1, 6))
    assert uncut(products) == 5 * (32 * 6 + 32 * 8 + 8 * 10 + 10 * 3)


def test_attention_counts_products_of_computed_values() -> None:
    model = SEPARATE.model()
    prepare(model)
    _, products = costs(model, x=noise(1, 5, 6))
    projections, scores = 5 * (3 * 6 * 12 + 12 * 5), 2 * 3 * 5 * 5 * 4
    assert uncut(products) == projections + scores


@pytest.mark.parametrize(
    ("text", "weights", "shape"),
    [
        (CONVOLUTIONS, KERNELS, (1, 4, 9, 9)),
        (RECURRENT, GATES, (5, 1, 6)),
        (SEPARATE.text, arrays(SEPARATE.weights), (1, 5, 6)),
    ],
    ids=["convolutions", "recurrent", "attention"],
)
def test_what_is_promised_of_a_cut_is_what_is_counted_after_it(text: str, weights: dict, shape: tuple) -> None:
    model = model_of(text, **weights)
    prepare(model)
    before = costs(model, x=noise(*shape))
    grouping = find_groups(model)
    units = some_units(grouping, 0.4)
    removed = [int(np.isin(group.units, units).sum()) for group in grouping.groups]
    assert max(removed) > 0
    cut(grouping, units)
    model.drop_unused()
    prepare(model)
    after = costs(model, x=noise(*shape))
    for promised, counted in zip(before, after, strict=True):
        assert promised.left(removed) == pytest.approx(uncut(counted), rel=1e-12)


def test_a_share_of_the_multiply_adds_goes() -> None:
    model = model_of(CONVOLUTIONS, **KERNELS)
    change = prune_channels(model, context(), ratio=0.5, by="flops", round_to=1)
    prepare(model)
    _, products = costs(model, x=noise(1, 4, 9, 9))
    gone = 1 - uncut(products) / COUNTED
    assert 0.5 <= gone < 0.56  # one of the 16 channels that cost most is 6 %
    assert change.notes["multiply-adds gone"] == f"{gone:.1%}"
    assert set(change.chosen) == {"round_to"}  # counted again, it is the same


def test_more_than_can_go_is_refused() -> None:
    with pytest.raises(PassError, match=r"90% of the multiply-adds cannot go: at most .*%"):
        prune_channels(model_of(CONVOLUTIONS, **KERNELS), context(), ratio=0.9, by="flops", minimum=8)


def test_a_model_that_nothing_made_up_runs_on() -> None:
    text = """agraph (float[12] x, int64[2] shape) => (float[A,16] y) {
        r = Reshape(x, shape)  a = Gemm(r, w1)  y = Gemm(a, w2) }"""
    model = model_of(text, w1=noise(6, 32), w2=noise(32, 16))
    with pytest.raises(PassError, match="no made-up input runs"):
        prune_channels(model, context(), ratio=0.5, by="flops")
    fed = Given({"x": noise(12), "shape": ints(2, 6)})
    assert prune_channels(model, context(calibration=fed), ratio=0.5, by="flops").touched


def test_no_data_is_asked_for() -> None:
    assert Need.CALIBRATION not in prune_channels.needs_with(prune_channels.options.model_validate({"by": "flops"}))
