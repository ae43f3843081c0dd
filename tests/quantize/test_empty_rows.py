"""Batches in which a value has no rows, as a key-value cache of length 0: they count for nothing."""

import numpy as np
import pytest

from compress_ops.catalogue import PASSES
from tests.helpers import Given, arrays_of, context, model_of, noise, outputs

TEXT = """g (float[1,P,64] past, float[1,S,64] x) => (float[1,T,64] y)
    { a = MatMul(past, W) b = Relu(a) p = MatMul(b, V) q = MatMul(x, U) y = Concat<axis=1>(p, q) }"""
WEIGHTS = {name: noise(64, 64, seed=seed, scale=0.2) for seed, name in enumerate("WVU")}
OUTLIERS = np.where(np.arange(64) % 8 == 0, 30, 1).astype(np.float32)  # so that smoothing has something to gain


def feeds(rows: int, seed: int) -> dict[str, np.ndarray]:
    return {"past": noise(1, rows, 64, seed=seed) * OUTLIERS, "x": noise(1, 4, 64, seed=99)}


FULL = [feeds(3, seed) for seed in range(8)]
MIXED = [feeds(0, 0), *(batch for full in FULL for batch in (full, feeds(0, 0)))]
EMPTY = [feeds(0, 0)] * 8

STEPS = {
    "smooth": [("smooth", {})],
    **{
        rule: [("quantize_static", {"calibrator": rule})]
        for rule in ("minmax", "moving_average", "percentile", "entropy", "mse")
    },
    "gptq": [("quantize_weights", {"bits": 4, "method": "gptq"})],
    "sparsegpt": [("prune_weights", {"ratio": 0.5, "score": "hessian"})],
    "wanda": [("prune_weights", {"ratio": 0.5, "score": "activation"})],
    "low_rank": [("low_rank", {"energy": 0.9})],
    "refit": [("prune_channels", {"ratio": 0.25}), ("refit", {"ridge": 0.01})],
    "channels": [("prune_channels", {"ratio": 0.25, "score": "activation_weight"})],
    "hessian": [("prune_channels", {"ratio": 0.25, "score": "hessian"})],
    "half": [("to_float16", {})],
}


def after(steps, data):
    model = model_of(TEXT, **WEIGHTS)
    for name, options in steps:
        change = PASSES[name](model, context(calibration=Given(*data)), **options)
    return arrays_of(model), change, model


@pytest.mark.parametrize("name", STEPS)
def test_they_change_no_statistic_of_what_reads_the_rows(name):
    """x is the same in all batches, so that only how often it is seen differs: U is left out for that."""
    wanted, _, _ = after(STEPS[name], FULL)
    found, _, model = after(STEPS[name], MIXED)
    assert found.keys() == wanted.keys()
    for weight in (weight for weight in wanted if not weight.startswith(("U", "x", "q"))):
        assert found[weight].shape == wanted[weight].shape
        np.testing.assert_allclose(found[weight], wanted[weight], rtol=1e-4, atol=1e-5, err_msg=weight)
    for batch in (FULL[0], EMPTY[0]):
        assert np.isfinite(outputs(model, **batch)[0]).all()


@pytest.mark.parametrize("name", STEPS)
def test_where_there_never_is_a_row_it_is_declined_or_does_without_data(name):
    found, change, model = after(STEPS[name], EMPTY)
    assert all(np.isfinite(array).all() for array in found.values() if array.dtype.kind == "f")
    assert np.isfinite(outputs(model, **FULL[0])[0]).all()
    if name in ("smooth", "minmax", "entropy"):
        assert any("empty throughout" in declined.reason for declined in change.declined)


def test_the_quality_that_is_reported_is_that_of_a_batch_with_rows():
    _, wanted, _ = after([("quantize_static", {})], FULL[:1])
    _, found, _ = after([("quantize_static", {})], [EMPTY[0], FULL[0]])
    assert found.notes == wanted.notes
