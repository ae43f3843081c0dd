"""What layers read, give, and how the outputs follow them: against NumPy's derivatives of small networks."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.model import Model
from compress_ops.passes import Context
from compress_ops.search.costs.apart import Apart, apart, layers_of
from compress_ops.search.costs.observed import Observed, observe
from tests.helpers import Given, calibrated, context, model_of, noise

U, W = noise(6, 8), noise(8, 5, seed=1)
LINEAR = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) y = MatMul(z, w) }"
CURVED = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) h = Tanh(z) y = MatMul(h, w) }"
TWO = "g (float[n,6] x) => (float[n,5] y, float[n,8] r) { z = MatMul(x, u) r = Tanh(z) y = MatMul(z, w) }"
STEEP = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) s = Shrink(z) y = MatMul(s, w) }"
FLAT = "g (float[n,6] x) => (float[n,5] y) { z = MatMul(x, u) h = MatMul(z, w) y = Round(h) }"
WHOLE = "g (float[n,6] x) => (int64[n] y) { z = MatMul(x, u) h = MatMul(z, w) y = ArgMax<axis=1, keepdims=0>(h) }"


def seen_of(model: Model, ctx: Context) -> tuple[Apart, Observed]:
    model.infer_shapes()
    alone = apart(model, layers_of(model))
    return alone, observe(model, alone, ctx)


def batches(count: int, rows: int = 3) -> list[dict[str, np.ndarray]]:
    return [{"x": noise(rows, 6, seed=seed + 10)} for seed in range(count)]


def test_layers_are_seen_reading_and_giving() -> None:
    feeds = batches(2)
    alone, observed = seen_of(model_of(CURVED, u=U, w=W), calibrated(*feeds))
    for feed, seen in zip(feeds, observed.seen, strict=True):
        z = feed["x"] @ U
        expected = {"x": feed["x"], "h": np.tanh(z), "z": z, "y": np.tanh(z) @ W}
        found = {**{of: seen.read[name] for name, of in alone.inputs.items()}, **seen.give}
        assert found.keys() == expected.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


def test_what_is_seen_is_calibration_data_for_the_layers() -> None:
    alone, observed = seen_of(model_of(CURVED, u=U, w=W), calibrated(*batches(3)))
    assert len(observed) == observed.batch_count() == 3
    assert observed.batch_count(2) == len([*observed.batches(2)]) == 2
    assert all(batch.feeds.keys() == alone.inputs.keys() for batch in observed.batches())
    assert observed.timed.keys() == alone.inputs.keys()


def test_slopes_are_those_of_random_signs_at_the_outputs() -> None:
    """In a linear network g = s w^T / |y|, one row of signs s for each sample: solved for s they are 1 and -1."""
    _, observed = seen_of(model_of(LINEAR, u=U, w=W), calibrated(*batches(3)))
    drawn = []
    for seen in observed.seen:
        norm = np.linalg.norm(seen.give["y"])
        for slope in seen.slopes:
            signs = slope["z"] @ np.linalg.pinv(W.T) * norm
            np.testing.assert_allclose(np.abs(signs), 1, rtol=1e-4)
            np.testing.assert_allclose(slope["y"] * norm, signs, rtol=1e-4)
            drawn.append(tuple(np.sign(signs).ravel()))
    assert len(set(drawn)) == len(drawn) > 3


def test_through_curves_they_are_central_differences() -> None:
    """The slope at the output itself is v: that at z is the derivative of v . y."""
    _, observed = seen_of(model_of(CURVED, u=U, w=W), calibrated(*batches(2)))
    step = 1e-4
    for seen in observed.seen:
        z = seen.give["z"].astype(np.float64)
        for slope in seen.slopes:
            expected = np.zeros_like(z)
            for at in np.ndindex(*z.shape):
                ends = [np.vdot(slope["y"], np.tanh(_moved(z, at, by)) @ W) for by in (step, -step)]
                expected[at] = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(slope["z"], expected, rtol=1e-4, atol=1e-6)


def _moved(array: np.ndarray, at: tuple[int, ...], by: float) -> np.ndarray:
    found = array.copy()
    found[at] += by
    return found


def test_every_output_counts_beside_its_own_norm() -> None:
    """(g . e)^2 for an error in one number of z is that of y and r together, whose signs lie apart."""
    _, observed = seen_of(model_of(TWO, u=U, w=W), calibrated(*batches(1, rows=1)))
    (seen,) = observed.seen
    z, y = seen.give["z"], seen.give["y"]
    for slope in seen.slopes:
        of_y = slope["y"] @ W.T
        of_r = (slope["z"] - of_y) / (1 - np.tanh(z) ** 2)  # what is left is that of r: signs over its norm
        np.testing.assert_allclose(np.abs(of_r) * np.linalg.norm(np.tanh(z)), 1, rtol=1e-3)
        np.testing.assert_allclose(np.abs(slope["y"]) * np.linalg.norm(y), 1, rtol=1e-4)


@pytest.mark.parametrize("text", [STEEP, FLAT, WHOLE], ids=["Shrink", "Round", "ArgMax"])
def test_without_a_gradient_there_are_no_slopes(text: str) -> None:
    """Through an operator of which none is known, or that has steps, and where no output is a float."""
    _, observed = seen_of(model_of(text, u=U, w=W), calibrated(*batches(2)))
    assert [list(seen.slopes) for seen in observed.seen] == [[], []]
    assert observed.seen[0].give.keys() >= {"z"}


def test_a_layer_that_nothing_depends_on_in_floats_has_none_of_its_own() -> None:
    ports = "(float[n,6] x) => (float[n,8] z, int64[n] y)"
    text = f"g {ports} {{ z = MatMul(x, u) h = MatMul(z, w) y = ArgMax<axis=1, keepdims=0>(h) }}"
    _, observed = seen_of(model_of(text, u=U, w=W), calibrated(*batches(1)))
    assert all(slope.keys() == {"z"} for slope in observed.seen[0].slopes)


def test_batches_of_other_shapes_are_seen_too() -> None:
    _, observed = seen_of(model_of(CURVED, u=U, w=W), calibrated(*batches(1), *batches(1, rows=5)))
    assert [seen.slopes[0]["z"].shape for seen in observed.seen] == [(3, 8), (5, 8)]


def test_some_samples_are_enough() -> None:
    given = Given(*batches(100))
    _, observed = seen_of(model_of(CURVED, u=U, w=W), context(calibration=given))
    assert len(observed) == len(observed.seen) < 50
    assert given.passes <= 2  # one that is timed, and those that are seen


def test_wide_layers_see_more_of_them() -> None:
    """Of 32 vectors of 48 numbers the covariance, by which ranks are chosen, would lack a third of its rank."""
    model = model_of("g (float[n,48] x) => (float[n,5] y) { y = MatMul(x, u) }", u=noise(48, 5))
    _, observed = seen_of(model, calibrated(*({"x": noise(1, 48, seed=seed)} for seed in range(300))))
    assert 48 < len(observed) < 300


def test_the_same_data_gives_the_same_slopes() -> None:
    first, second = (seen_of(model_of(CURVED, u=U, w=W), calibrated(*batches(2)))[1] for _ in range(2))
    for one, other in zip(first.seen, second.seen, strict=True):
        assert all((a["z"] == b["z"]).all() for a, b in zip(one.slopes, other.slopes, strict=True))


def test_a_model_without_layers_is_seen_too() -> None:
    _, observed = seen_of(model_of("g (float[n,6] x) => (float[n,6] y) { y = Relu(x) }"), calibrated(*batches(1)))
    assert (observed.seen[0].read, observed.seen[0].give, list(observed.seen[0].slopes)) == ({}, {}, [])
