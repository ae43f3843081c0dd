"""Calibrators against NumPy on all activations at once, whatever the batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from compress_ops.data.base import Batch
from compress_ops.errors import PassError
from compress_ops.quantize import calibrate as module
from compress_ops.quantize.calibrate import BINS, calibrate
from tests.helpers import Given, context, model_of, noise, proto

MODEL = "g (float[N,L,8] x) => (float[N,L,4] y) { h = MatMul(x, w)  r = Relu(h)  y = Neg(r) }"
W = noise(8, 4)


def ranges(feeds, method="minmax", percentile=99.0, names=("x", "h", "r"), text=MODEL, **fields):
    model = model_of(text, w=W)
    values = [v for v in (*model.graph.inputs, *(o for n in model.nodes() for o in n.outputs)) if v.name in names]
    before = proto(model)
    found = calibrate(model, context(calibration=Given(*feeds), **fields), values, method, percentile)
    assert proto(model) == before  # taps are gone
    return found


def split(array, *sizes):
    edges = np.cumsum((0, *sizes))
    return [{"x": array[a:b]} for a, b in pairwise(edges)]


X = noise(24, 5, 8, seed=3)
ALL = {"x": X, "h": X @ W, "r": np.maximum(X @ W, 0)}
ROUNDING = float(8 * np.finfo(np.float32).eps * np.abs(X).max() * np.abs(W).sum(0).max())


@pytest.mark.parametrize("sizes", [(24,), (8, 8, 8), (1, 20, 3)], ids=str)
def test_minmax_is_that_of_all_activations(sizes):
    found = ranges(split(X, *sizes))
    for name, activations in ALL.items():
        assert found[name].low == pytest.approx(activations.min(), abs=ROUNDING)
        assert found[name].high == pytest.approx(activations.max(), abs=ROUNDING)
    assert found["x"].low == X.min() and found["x"].high == X.max()


@pytest.mark.parametrize("percentile", [100.0, 99.9, 99.0, 90.0, 60.0])
@pytest.mark.parametrize("sizes", [(24,), (1, 20, 3)], ids=str)
def test_percentile_is_exact_to_one_bin(sizes, percentile):
    """The interval leaves at most (100 - p) / 2 % of the numbers out on either side, up to one bin."""
    found = ranges(split(X, *sizes), "percentile", percentile)
    for name, activations in ALL.items():
        width = float(activations.max() - activations.min()) / (BINS - 1)
        ordered = np.sort(activations, axis=None)
        left_out = int((100 - percentile) / 200 * ordered.size + 1e-6)  # on either side
        assert found[name].low == pytest.approx(ordered[left_out], abs=width + ROUNDING)
        assert found[name].high == pytest.approx(ordered[-1 - left_out], abs=width + ROUNDING)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_ranges_do_not_depend_on_the_batch_size(method):
    assert ranges(split(X, 24), method, names=("x",)) == ranges(split(X, *[1] * 24), method, names=("x",))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_batches_of_different_lengths(method):
    feeds = [{"x": noise(n, length, 8, seed=n)} for n, length in ((1, 3), (4, 1), (2, 7))]
    flat = np.concatenate([feed["x"].reshape(-1) for feed in feeds])
    found = ranges(feeds, method, percentile=100.0, names=("x",))["x"]
    width = float(flat.max() - flat.min()) / (BINS - 1) if method == "percentile" else 0
    assert found.low == pytest.approx(flat.min(), abs=width) and found.high == pytest.approx(flat.max(), abs=width)


def test_an_outlier_decides_minmax_and_not_percentile():
    x = X.copy()
    x[0, 0, 0] = 1e6
    assert ranges(split(x, 24), "minmax", names=("x",))["x"].high == 1e6
    assert ranges(split(x, 24), "percentile", 99.0, names=("x",))["x"].high < 1000


def test_values_that_are_tapped_in_groups_have_the_same_ranges(monkeypatch):
    whole = ranges(split(X, 12, 12), "percentile")
    monkeypatch.setattr(module, "_HISTOGRAM_BYTES", 1)
    assert ranges(split(X, 12, 12), "percentile") == whole


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 7, 13, 23])
def test_a_number_that_is_not_finite_is_never_forgotten(method, bad, where):
    x = X.copy()
    x[where, 2, 3] = bad
    found = ranges(split(x, *[4] * 6), method, names=("x",))["x"]
    assert not (np.isfinite(found.low) and np.isfinite(found.high))


@pytest.mark.parametrize("position", [0, 1, 7, 8, 15, 16, 31, 32, 100, 119])
def test_nan_is_seen_wherever_it_stands(position):
    """onnxruntime's reductions are vectorized; NaN must come through on every lane."""
    x = noise(3, 5, 8)
    x.reshape(-1)[position] = np.nan
    found = ranges([{"x": x}], names=("x",))["x"]
    assert not (np.isfinite(found.low) and np.isfinite(found.high))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e-42])
def test_constant_activations(method, value):
    found = ranges([{"x": np.full((2, 3, 8), value, np.float32)}], method, names=("x",))["x"]
    assert found.low == found.high == np.float32(value)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1e-41), (1e8, 1e8 + 64), (-3e38, 3e38), (0.0, 3e38), (0.0, 1e-35), (-1e-44, 1e-44)],
    ids=str,
)
def test_extreme_ranges_do_not_crash_percentile(low, high):
    x = np.linspace(low, high, 2 * 3 * 8, dtype=np.float64).astype(np.float32).reshape(2, 3, 8)
    found = ranges([{"x": x}, {"x": x}], "percentile", 100.0, names=("x",))["x"]
    width = (float(x.max()) - float(x.min())) / (BINS - 1)
    rounding = 4 * float(np.spacing(np.abs(x).max()))
    assert found.low == pytest.approx(float(x.min()), abs=width + rounding)
    assert found.high == pytest.approx(float(x.max()), abs=width + rounding)


def test_no_batches_is_a_clear_error():
    with pytest.raises(PassError, match="no batches"):
        ranges([])
    with pytest.raises(PassError, match="no batches"):
        ranges([], "percentile")


def test_nothing_to_calibrate_reads_no_data():
    data = Given({"x": X})
    assert calibrate(model_of(MODEL, w=W), context(calibration=data), [], "minmax", 99.0) == {}
    assert data.passes == 0


def test_a_dry_run_reads_one_batch_a_pass():
    data = Given(*split(X, *[4] * 6))
    model = model_of(MODEL, w=W)
    calibrate(model, context(calibration=data, dry_run=True), list(model.graph.inputs), "percentile", 99.0)
    assert data.served == data.passes


def test_the_model_is_as_before_when_the_data_fails():
    model = model_of(MODEL, w=W)
    before = proto(model)

    class Failing(Given):
        def batches(self, limit=None):
            yield Batch({"x": X}, None, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, context(calibration=Failing()), list(model.graph.inputs), "minmax", 99.0)
    assert proto(model) == before


def test_memory_does_not_grow_with_the_set():
    """Batches come one at a time: none is asked for before the last was used up."""
    alive = []

    class Watched(Given):
        def batches(self, limit=None):
            for i in range(6):
                alive.append(i)
                yield Batch({"x": X}, None, 1)

    def progress(items, label, total=None):
        for i, item in enumerate(items):
            assert len(alive) % 6 == (i + 1) % 6
            yield item

    model = model_of(MODEL, w=W)
    calibrate(model, context(calibration=Watched(), progress=progress), list(model.graph.inputs), "minmax", 99.0)
    assert len(alive) == 6
