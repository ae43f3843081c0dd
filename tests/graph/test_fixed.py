"""Fixed weights, by formulas that others state them by, and trained ones, which must never count as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.factorize import low_rank
from compress_ops.graph.fixed import why_fixed
from compress_ops.model import load
from compress_ops.prune import prune_channels, prune_weights
from tests.helpers import SAMPLES, array_of, context, model_of, noise

MODELS = sorted(SAMPLES.glob("*.onnx"))


def dft(size: int) -> np.ndarray:
    """[frequencies of cosines, then of sines; size]"""
    angle = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    return np.concatenate([np.cos(angle), np.sin(angle)])


def positions(length: int, width: int) -> np.ndarray:
    """Vaswani et al. 2017, arXiv:1706.03762, section 3.5."""
    angle = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(length, width)


def mel(bands: int, bins: int, rate: float = 16000) -> np.ndarray:
    """Triangles between equal steps of 2595 log10(1 + f / 700)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    f = np.linspace(0, rate / 2, bins)
    rising = (f - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - f) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


FIXED = {
    "DFT": (dft(128), "sinusoids"),
    "STFT, as a Conv": ((dft(256) * np.hanning(257)[:-1])[:, None], "windowed sinusoids"),
    "STFT, as a MatMul": ((dft(256) * np.hamming(257)[:-1]).T, "windowed sinusoids"),
    "positions": (positions(512, 64)[None], "sinusoids"),
    "mel": (mel(40, 257), "bands"),
    "mel, as a MatMul": (mel(80, 257).T, "bands"),
}


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("name", FIXED)
def test_fixed(name: str, kind: type) -> None:
    array, told = FIXED[name]
    assert told in why_fixed(ir.Tensor(array.astype(kind)))


@pytest.mark.parametrize("name", FIXED)
def test_one_row_that_was_trained_is_enough(name: str) -> None:
    array = FIXED[name][0].astype(np.float32).copy()
    view = array.reshape([size for size in array.shape if size != 1])
    view[3] += 0.1 * np.abs(view).max() * noise(view.shape[1], seed=1)
    view[:, 3] += 0.1 * np.abs(view).max() * noise(view.shape[0], seed=2)
    assert why_fixed(ir.Tensor(array)) == ""


@pytest.mark.parametrize(
    "array",
    [
        noise(64, 64),
        np.maximum(noise(64, 64), 0),
        np.zeros((64, 64)),
        np.ones((64, 64)),
        np.tile(np.linspace(0, 1, 64), (64, 1)),
        np.full((64, 64), np.nan),
        np.cumsum(noise(64, 256), axis=1),
        dft(8),
    ],
    ids=["noise", "positive", "zeros", "ones", "ramps", "NaN", "smooth", "too small to tell"],
)
def test_what_is_not(array: np.ndarray) -> None:
    assert why_fixed(ir.Tensor(array.astype(np.float32))) == ""


@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_no_trained_weight_of_the_samples_is(path: Path) -> None:
    assert [w.name for w in load(path).weights() if why_fixed(w.const_value)] == []


def test_passes_that_cut_leave_them_alone() -> None:
    text = """agraph (float[N,1,512] x) => (float[N,4,5] y) {
        s = Conv<strides=[64]>(x, basis)  a = Conv(s, w1)  y = Conv(a, w2) }"""
    basis = (dft(256) * np.hanning(257)[:-1])[:, None].astype(np.float32)
    weights = {"basis": basis, "w1": noise(16, len(basis), 1), "w2": noise(4, 16, 1)}
    for cut, what in ((prune_channels, "Conv_s"), (prune_weights, "basis"), (low_rank, "Conv_s")):
        model = model_of(text, **weights)
        change = cut(model, context(), **({"energy": 0.5} if cut is low_rank else {"ratio": 0.5}))
        reasons = {declined.name: declined.reason for declined in change.declined}
        assert "windowed sinusoids, which no training made" in reasons[what]
        assert np.array_equal(array_of(model, "basis"), basis)
        assert change.touched
