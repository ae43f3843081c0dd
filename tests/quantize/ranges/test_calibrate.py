"""Calibrators against NumPy on all activations at once, whatever the batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from compress_ops.data.base import Batch
from compress_ops.errors import PassError
from compress_ops.quantize.numbers.formats import Asymmetric
from compress_ops.quantize.ranges import histogram as module
from compress_ops.quantize.ranges.calibrate import CALIBRATORS, MOMENTUM, calibrate
from compress_ops.quantize.ranges.clipping import Clipping, mse, quality
from compress_ops.quantize.ranges.histogram import BINS, Histogram
from tests.helpers import Given, Interrupted, context, model_of, noise, proto

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


METHODS = list(CALIBRATORS)
STREAMED = [name for name in METHODS if name != "moving_average"]  # which depends on the batches by its nature


def bin_width(activations):
    """Bins reach from the extremes to zero, which every form of codes holds."""
    return float(max(activations.max(), 0) - min(activations.min(), 0)) / (BINS - 2)


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
        width = bin_width(activations)
        ordered = np.sort(activations, axis=None)
        left_out = int((100 - percentile) / 200 * ordered.size + 1e-6)  # on either side
        assert found[name].low == pytest.approx(ordered[left_out], abs=width + ROUNDING)
        assert found[name].high == pytest.approx(ordered[-1 - left_out], abs=width + ROUNDING)


@pytest.mark.parametrize("method", STREAMED)
def test_ranges_do_not_depend_on_the_batch_size(method):
    assert ranges(split(X, 24), method, names=("x",)) == ranges(split(X, *[1] * 24), method, names=("x",))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_batches_of_different_lengths(method):
    feeds = [{"x": noise(n, length, 8, seed=n)} for n, length in ((1, 3), (4, 1), (2, 7))]
    flat = np.concatenate([feed["x"].reshape(-1) for feed in feeds])
    found = ranges(feeds, method, percentile=100.0, names=("x",))["x"]
    width = bin_width(flat) if method == "percentile" else 0
    assert found.low == pytest.approx(flat.min(), abs=width) and found.high == pytest.approx(flat.max(), abs=width)


def test_an_outlier_decides_minmax_and_not_percentile():
    x = X.copy()
    x[0, 0, 0] = 1e6
    assert ranges(split(x, 24), "minmax", names=("x",))["x"].high == 1e6
    assert ranges(split(x, 24), "percentile", 99.0, names=("x",))["x"].high < 1000


@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e-42])
def test_constant_activations(method, value):
    found = ranges([{"x": np.full((2, 3, 8), value, np.float32)}], method, names=("x",))["x"]
    assert found.low == found.high == np.float32(value)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1e-41), (1e8, 1e8 + 64), (-3e38, 3e38), (0.0, 3e38), (0.0, 1e-35), (-1e-44, 1e-44)],
    ids=str,
)
@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_extreme_ranges_do_not_crash(method, low, high):
    x = np.linspace(low, high, 2 * 3 * 8, dtype=np.float64).astype(np.float32).reshape(2, 3, 8)
    found = ranges([{"x": x}, {"x": x}], method, 100.0, names=("x",))["x"]
    assert float(x.min()) <= found.low <= found.high <= float(x.max())
    if method != "percentile":
        return
    width = min(bin_width(x.astype(np.float64)), float(x.max()) - float(x.min()))
    rounding = 4 * float(np.spacing(np.abs(x).max()))
    assert found.low == pytest.approx(float(x.min()), abs=width + rounding)
    assert found.high == pytest.approx(float(x.max()), abs=width + rounding)


def test_no_batches_is_a_clear_error():
    for method in METHODS:
        with pytest.raises(PassError, match="no batches"):
            ranges([], method)


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

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, context(calibration=Interrupted({"x": X})), list(model.graph.inputs), "minmax", 99.0)
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


# --- the other calibrators ---


@pytest.mark.parametrize("sizes", [(24,), (8, 8, 8), (1, 20, 3)], ids=str)
def test_moving_average_is_exponential(sizes):
    feeds = split(X, *sizes)
    found = ranges(feeds, "moving_average", names=("x",))["x"]
    low, high = feeds[0]["x"].min(), feeds[0]["x"].max()
    for feed in feeds[1:]:
        low = MOMENTUM * low + (1 - MOMENTUM) * feed["x"].min()
        high = MOMENTUM * high + (1 - MOMENTUM) * feed["x"].max()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def skewed(size, seed=0):
    """Long tails, as activations have: many small numbers, few large ones."""
    return (noise(size, seed=seed) ** 3).astype(np.float32)


def true_error(x, low, high, kind="uint8"):
    form = Asymmetric.of(low, high, kind)
    limits = np.iinfo(form.zero_point.dtype)
    codes = np.clip(np.rint(x / form.scale) + int(form.zero_point), limits.min, limits.max)
    return float(np.square((codes - int(form.zero_point)) * form.scale - x).sum())


DISTRIBUTIONS = {
    "normal": noise(24 * 40 * 8, seed=1),
    "tails": skewed(24 * 40 * 8),
    "relu": np.maximum(skewed(24 * 40 * 8), 0),
    "far outlier": np.append(noise(24 * 40 * 8 - 1, seed=1), np.float32(300)),
    "away from zero": noise(24 * 40 * 8, seed=1) + np.float32(20),
    "negative": -np.abs(skewed(24 * 40 * 8)),
}


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_mse_finds_the_least_squared_error(x, kind):
    """No clipping to any pair of 40 x 40 shares of the extremes errs 3 % less on the numbers themselves."""
    symmetric = kind == "int8"
    data, model = Given(*split(x.reshape(24, 40, 8), 10, 14)), model_of(MODEL, w=W)
    found = calibrate(model, context(calibration=data), list(model.graph.inputs), "mse", kind=kind, symmetric=symmetric)
    shares = np.geomspace(1, 1e-2, 40)
    low, high = min(x.min(), 0), max(x.max(), 0)
    if symmetric:
        pairs = [(-share * max(-low, high), share * max(-low, high)) for share in shares]
    else:
        pairs = [(low * a, high * b) for a in shares for b in shares if low * a < high * b]
    best = min(true_error(x, *pair, kind) for pair in dict.fromkeys(pairs))
    assert true_error(x, found["x"].low, found["x"].high, kind) <= 1.03 * best


def published_entropy(x, bins=2048, levels=128, stride=16):
    """Migacz 2017 in plain loops, on the histogram of |x|."""
    counts, edges = np.histogram(np.abs(x), bins, (0, np.abs(x).max()))
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    divergences = {}
    for i in range(levels, bins + 1, stride):
        p, q = counts[:i].copy(), np.zeros(i)
        p[-1] += counts[i:].sum()
        for level in range(levels):
            a, b = level * i // levels, (level + 1) * i // levels
            occupied = counts[a:b] > 0
            if occupied.any():
                q[a:b][occupied] = counts[a:b].sum() / occupied.sum()
        if not ((p > 0) & (q == 0)).any():
            p, q = p / p.sum(), q / q.sum()
            divergences[edges[i]] = float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
    return divergences


@pytest.mark.parametrize("name", ["normal", "tails", "relu", "negative"])
def test_entropy_is_the_published_method(name):
    """Divergence at the threshold found is the least, to what the different cutting of bins changes."""
    x = DISTRIBUTIONS[name]
    found = ranges(split(x.reshape(24, 40, 8), 10, 14), "entropy", names=("x",))["x"]
    divergences = published_entropy(x)
    threshold = max(-found.low, found.high)
    nearest = min(divergences, key=lambda edge: abs(edge - threshold))
    assert divergences[nearest] <= 1.1 * min(divergences.values()) + 1e-3
    assert found.low >= x.min() and found.high <= x.max()


def test_entropy_clips_a_far_outlier():
    x = DISTRIBUTIONS["far outlier"]
    assert ranges(split(x.reshape(24, 40, 8), 24), "entropy", names=("x",))["x"].high < 30


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16"])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.05])
@pytest.mark.parametrize("name", ["normal", "tails", "relu", "far outlier"])
def test_quality_is_that_of_the_numbers_themselves(name, share, kind):
    x = DISTRIBUTIONS[name]
    found = ranges(split(x.reshape(24, 40, 8), 10, 14), "percentile", 100.0, names=("x",))["x"]
    low, high = found.low * share, found.high * share
    form = Asymmetric.of(low, high, kind)
    sqnr, clipped = quality(found.histogram, form)
    expected = 10 * np.log10(np.square(x, dtype=np.float64).sum() / true_error(x, low, high, kind))
    assert sqnr == pytest.approx(expected, abs=1)  # dB: 16-bit steps are finer than bins
    limits = np.iinfo(form.zero_point.dtype)
    codes = np.rint(x / form.scale) + int(form.zero_point)
    outside = ((codes < limits.min) | (codes > limits.max)).mean()
    near = (np.abs(np.abs(x) - high) <= found.histogram.width).mean() + (
        np.abs(x - low) <= found.histogram.width
    ).mean()
    assert abs(clipped - outside) <= near + 1e-9


def test_large_tensors_are_counted_in_part_and_evenly(monkeypatch):
    """Every p-th number, p a prime that does not divide the size: all channels are seen, one bin stays one bin."""
    monkeypatch.setattr(module, "COUNTED", BINS)
    channels = np.arange(1, 9, dtype=np.float32)
    x = np.tile(channels, (64, 500, 1))
    model = model_of(MODEL, w=W)
    spans = {"x": module.Span(1.0, 8.0, x.size)}
    data = Given({"x": x}, {"x": x[:1]})
    counts = module.histograms(model, context(calibration=data), list(model.graph.inputs), spans)["x"].counts
    assert BINS / 2 <= counts.sum() <= 1.1 * BINS
    assert np.count_nonzero(counts) == 8 and np.ptp(counts[counts > 0]) <= 2


@pytest.mark.parametrize("size", [2**20, 2**18 + 1, 3 * 5 * 7 * 11 * 13 * 64, 999_983])
def test_strides(size):
    stride = module._stride(size, 2**18)
    assert size / stride <= 2**18 and size % stride and all(stride % i for i in range(2, stride))


def test_mse_of_one_bin():
    counts = np.zeros(BINS, np.int64)
    counts[BINS - 1] = 5
    low, high = mse(Histogram(counts, 0.5, 0), Clipping())
    assert low == 0 and high == pytest.approx((BINS - 1) * 0.5, rel=0.01)
