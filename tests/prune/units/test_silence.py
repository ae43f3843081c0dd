"""Soft steps: the model answers as if the channels were cut, and what is scored high again comes back."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.prune_heads import prune_heads
from compress_ops.prune.refitting.refit import refit
from tests.helpers import Given, array_of, context, model_of, noise, outputs, put
from tests.prune.channels.channel_case import SEPARATE
from tests.prune.mlp_case import mlp
from tests.prune.units.recurrent_case import GATES, RECURRENT

ROUNDING = 2e-6  # sums of at most a few hundred float32 products
GROUPED = """agraph (float[N,2,4,4] x) => (float[N,3,4,4] y) {
    a = Conv(x, w1, b1)  r = Relu(a)  g = Conv<group=2>(r, w2)  y = Conv(g, w3) }"""
KERNELS = {"w1": noise(8, 2, 1, 1), "b1": noise(8), "w2": noise(8, 4, 1, 1, seed=1), "w3": noise(3, 8, 1, 1, seed=2)}


BOTH_WAYS = """agraph (float[5,N,6] x) => (float[5,N,3] y) {
    a = MatMul(x, wa)  h, last = LSTM<hidden_size=8, direction="bidirectional">(a, w, r)
    t = Transpose<perm=[0,2,1,3]>(h)  f = Reshape(t, s)  y = MatMul(f, wo) }"""
GATES_BOTH_WAYS = {
    "wa": noise(6, 10),
    "w": noise(2, 32, 10, seed=1, scale=0.3),
    "r": noise(2, 32, 8, seed=2, scale=0.3),
    "s": np.array([0, 0, -1]),
    "wo": noise(16, 3, seed=3),
}


def soft(model: Model, ratio: float = 0.5, **options: object) -> Change:
    return prune_channels(model, context(), ratio=ratio, soft=True, round_to=1, **options)


def hard(model: Model, ratio: float = 0.5, **options: object) -> Change:
    return prune_channels(model, context(), ratio=ratio, round_to=1, **options)


def feed_of(model: Model) -> dict[str, np.ndarray]:
    return {
        value.name: noise(*(size if isinstance(size, int) else 2 for size in value.shape), seed=9)
        for value in model.graph.inputs
    }


@pytest.mark.parametrize(
    "make",
    [
        mlp,
        lambda: model_of(GROUPED, **KERNELS),
        lambda: SEPARATE.model(),
        lambda: model_of(BOTH_WAYS, **GATES_BOTH_WAYS),
    ],
    ids=["dense", "grouped convolution", "attention", "bidirectional"],
)
def test_silent_channels_are_as_good_as_cut(make) -> None:
    silent, cut = make(), make()
    whole = outputs(silent, **feed_of(silent))[0]
    change = soft(silent)
    kept = [declined.name for declined in change.declined if "silenced" in declined.reason]
    hard(cut, skip=kept)
    expected, found = (outputs(model, **feed_of(model))[0] for model in (cut, silent))
    assert np.abs(found - expected).max() < ROUNDING * np.abs(expected).max()
    assert np.abs(found - whole).max() > 1e-2


def test_what_is_silenced_is_told() -> None:
    model = mlp()
    change = soft(model)
    assert change.touched == {"w2": "silences 50% of what it reads", "w3": "silences 50% of what it reads"}
    assert change.notes["groups"] == "2 of 3 silenced"
    assert np.count_nonzero(array_of(model, "w1")) == 6 * 32


def test_a_channel_that_scores_high_again_comes_back() -> None:
    model = mlp()
    w1, w2 = array_of(model, "w1").copy(), array_of(model, "w2").copy()
    soft(model)
    silent = np.flatnonzero((array_of(model, "w2") == 0).all(axis=1))
    assert len(silent) == 16
    risen = w1.copy()
    risen[:, silent[:3]] *= 100
    put(model, "w1", risen)
    soft(model)
    again = np.flatnonzero((array_of(model, "w2") == 0).all(axis=1))
    assert len(again) == 16 and not set(silent[:3]) & set(again)
    assert np.array_equal(array_of(model, "w2")[silent[:3]], w2[silent[:3]])
    hard(model)
    assert np.array_equal(array_of(model, "w1"), np.delete(risen, again, axis=1))
    assert not model.silenced


def test_refit_solves_around_what_is_silent() -> None:
    """What others make up for stays when a channel comes back, and the zeros stay while it is silent."""
    model = mlp()
    data = context(calibration=Given(*({"x": noise(64, 6, seed=seed)} for seed in range(4))))
    soft(model, 0.25)
    before = array_of(model, "w2")
    silent = (before == 0).all(axis=1)
    refit(model, data)
    after = array_of(model, "w2")
    assert np.array_equal(after == 0, before == 0)
    assert not np.allclose(after[~silent], before[~silent])
    soft(model, 0.05)
    restored = array_of(model, "w2")
    assert np.count_nonzero((restored == 0).all(axis=1)) == 2
    assert np.array_equal(restored[~silent], after[~silent])


def test_activations_of_silent_channels_are_measured() -> None:
    model = mlp()
    data = context(calibration=Given({"x": noise(64, 6)}))
    for _ in range(2):
        prune_channels(model, data, ratio=0.5, soft=True, round_to=1, score="activation_weight")
    silent = np.flatnonzero((array_of(model, "w2") == 0).all(axis=1))
    fresh = mlp()
    prune_channels(fresh, data, ratio=0.5, soft=True, round_to=1, score="activation_weight")
    assert np.array_equal(silent, np.flatnonzero((array_of(fresh, "w2") == 0).all(axis=1)))


def test_heads_and_channels_are_silenced_apart() -> None:
    model = SEPARATE.model()
    prune_heads(model, context(), ratio=0.34, soft=True)
    rows = (array_of(model, "wo") == 0).all(axis=1)
    assert np.count_nonzero(rows) == 4
    soft(model, 0.25)
    both = (array_of(model, "wo") == 0).all(axis=1)
    assert both[rows].all() and np.count_nonzero(both) > 4
    assert set(model.silenced) == {"heads", "channels"}


def test_both_directions_lose_what_they_read_and_no_more() -> None:
    model = model_of(BOTH_WAYS, **GATES_BOTH_WAYS)
    change = soft(model)
    silent = (array_of(model, "w") == 0).all(axis=1)
    assert set(change.touched) == {"w"}
    assert np.array_equal(silent[0], silent[1]) and np.count_nonzero(silent[0]) == 5
    assert {"LSTM_h": "its units are fed back: they can be cut, not silenced"}.items() <= {
        declined.name: declined.reason for declined in change.declined
    }.items()


def test_what_cannot_be_silenced_is_declined() -> None:
    reasons = {declined.reason for declined in soft(model_of(RECURRENT, **GATES)).declined}
    assert "its units are fed back: they can be cut, not silenced" in reasons
    reasons = {declined.reason for declined in soft(SEPARATE.model()).declined}
    assert "no weight reads these channels: they can be cut, not silenced" in reasons
