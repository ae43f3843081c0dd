"""Fidelity figures against SciPy and worked examples, whatever way the samples are cut into batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import entropy

from compress_ops.data import Batch
from compress_ops.errors import DataError
from compress_ops.measure.closeness.fidelity import OutputFidelity, compare_fidelity
from compress_ops.runtime import Session
from tests.measure.closeness.fidelity_case import session

ROUNDING = 1e-12
"""Sums of some hundred float64 numbers of size 1 to 10 in another order: 100 * 2**-53 * 10, and room."""


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    return {"before": session("y = Identity(a)"), "after": session("y = Identity(b)")}


def batches(size: int, **inputs: np.ndarray) -> Iterator[Batch]:
    for start in range(0, len(inputs["a"]), size):
        feeds = {name: array[start : start + size] for name, array in inputs.items()}
        yield Batch(feeds, None, len(feeds["a"]))


def fidelity(sessions: dict[str, Session], a: Any, b: Any, size: int = 4) -> OutputFidelity:
    arrays = {"a": np.asarray(a, np.float32), "b": np.asarray(b, np.float32)}
    return compare_fidelity(sessions, batches(size, **arrays)).models["after"]["y"]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_figures(sessions: dict[str, Session], size: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(10, 5)).astype(np.float32)
    b = a + rng.normal(0, 0.3, size=(10, 5)).astype(np.float32)
    found, wide, other = fidelity(sessions, a, b, size), a.astype(float), b.astype(float)
    assert found.cosine == pytest.approx(
        1 - np.mean([cosine(*rows) for rows in zip(wide, other, strict=True)]), rel=ROUNDING
    )
    noise = ((wide - other) ** 2).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10((wide**2).sum() / noise), rel=ROUNDING)
    divergences = entropy(softmax(wide, axis=1), softmax(other, axis=1), axis=1)
    assert found.kl_divergence == pytest.approx(divergences.mean(), rel=ROUNDING)
    assert found.top1_agreement == (a.argmax(1) == b.argmax(1)).mean() < 1
    assert found.max_difference == abs(wide - other).max()
    assert (found.elements, found.identical, found.not_finite) == (50, False, 0)


def test_by_hand(sessions: dict[str, Session]) -> None:
    """a = (3, 4), b = (3, 3.5): signal 25, noise 1/4: 20 dB; cosine 23 / (5 sqrt(21.25))."""
    found = fidelity(sessions, [[3, 4]], [[3, 3.5]])
    assert found.sqnr_db == pytest.approx(20)
    assert found.cosine == pytest.approx(23 / (5 * 21.25**0.5))
    assert (found.equal_share, found.max_difference) == (0.5, 0.5)


def test_identical_outputs_have_no_noise(sessions: dict[str, Session]) -> None:
    found = fidelity(sessions, [[1, 2], [0, 0]], [[1, 2], [0, 0]])
    assert found.identical
    assert (found.cosine, found.sqnr_db, found.kl_divergence, found.top1_agreement) == (pytest.approx(1), None, 0, 1)


def test_zeros_instead_of_numbers(sessions: dict[str, Session]) -> None:
    found = fidelity(sessions, [[1, 2]], [[0, 0]])
    assert (found.cosine, found.sqnr_db) == (0, 0)


def test_nan_is_not_hidden(sessions: dict[str, Session]) -> None:
    found = fidelity(sessions, np.ones((10, 3)), [[1, 1, 1]] * 9 + [[1, np.nan, np.inf]])
    assert (found.not_finite, found.reference_not_finite) == (2, 0)
    assert (found.cosine, found.sqnr_db, found.max_difference, found.kl_divergence) == (None, None, None, None)
    assert (found.identical, found.top1_agreement) == (False, 0.9)


def test_nan_early_is_still_seen_at_the_end(sessions: dict[str, Session]) -> None:
    found = fidelity(sessions, np.ones((10, 3)), [[np.nan, 1, 1]] + [[1, 1, 1]] * 9, size=1)
    assert found.max_difference is None


def test_infinities_in_the_same_places_are_no_difference(sessions: dict[str, Session]) -> None:
    """Masked logits: -inf in both."""
    found = fidelity(sessions, [[-np.inf, 1, 2]], [[-np.inf, 1, 3]])
    assert (found.max_difference, found.not_finite, found.reference_not_finite) == (1, 1, 1)
    expected = entropy(softmax([1, 2]), softmax([1, 3]))
    assert found.kl_divergence == pytest.approx(expected)


def test_outputs_without_classes_have_no_rows(sessions: dict[str, Session]) -> None:
    found = fidelity(sessions, [[1], [2]], [[1], [3]])
    assert (found.kl_divergence, found.top1_agreement) == (None, None)
    assert found.cosine == 1


def test_whole_numbers_are_equal_or_not() -> None:
    text = "int64[n] a, int64[n] b", "int64[n] y"
    models = {"before": session("y = Identity(a)", *text), "after": session("y = Identity(b)", *text)}
    arrays = {"a": np.array([1, 2, 3, 4]), "b": np.array([1, 2, 3, 5])}
    found = compare_fidelity(models, batches(2, **arrays)).models["after"]["y"]
    assert (found.equal_share, found.identical) == (0.75, False)
    assert (found.cosine, found.sqnr_db, found.max_difference) == (None, None, None)


def test_texts_are_equal_or_not() -> None:
    text = "string[n] a, string[n] b", "string[n] y"
    models = {"before": session("y = Identity(a)", *text), "after": session("y = Identity(b)", *text)}
    arrays = {"a": np.array(["x", "y"], object), "b": np.array(["x", "z"], object)}
    assert compare_fidelity(models, batches(2, **arrays)).models["after"]["y"].equal_share == 0.5


def test_sequences_count_as_their_tensors() -> None:
    outputs = "seq(float[n,c]) y"
    models = {
        name: session(f"y = SequenceConstruct({x}, {x})", outputs=outputs) for name, x in zip("pq", "ab", strict=True)
    }
    a = np.array([[3, 4]], np.float32)
    found = compare_fidelity(models, batches(1, a=a, b=a - 1)).models["q"]["y"]
    assert (found.elements, found.max_difference) == (4, 1)


def test_maps_count_as_their_values() -> None:
    """What scikit-learn's classifiers give: a list of one map per sample."""
    outputs = "seq(map(int64, float)) y"
    body = "y = ai.onnx.ml.ZipMap<classlabels_int64s = [5, 7]>({})"
    models = {name: session(body.format(x), outputs=outputs) for name, x in zip("pq", "ab", strict=True)}
    a = np.array([[3, 4], [1, 0]], np.float32)
    found = compare_fidelity(models, batches(2, a=a, b=a[:, ::-1].copy())).models["q"]["y"]
    assert (found.elements, found.top1_agreement) == (4, 0)


def test_scalars() -> None:
    models = {
        name: session(f"y = ReduceSum<keepdims = 0>({x})", outputs="float y")
        for name, x in zip("pq", "ab", strict=True)
    }
    a = np.ones((2, 2), np.float32)
    assert compare_fidelity(models, batches(2, a=a, b=2 * a)).models["q"]["y"].max_difference == 4


def test_whole_feeds_are_one_sample(sessions: dict[str, Session]) -> None:
    """Axis 0 of an output is not always the samples: here 2 rows belong to one feed, and one cosine."""
    a, b = np.array([[1, 0], [0, 0]], np.float32), np.array([[1, 0], [0, 1]], np.float32)
    found = compare_fidelity(sessions, [Batch({"a": a, "b": b}, None, 1)]).models["after"]["y"]
    assert found.cosine == pytest.approx(1 / 2**0.5)


def test_three_models_and_the_number_of_samples(sessions: dict[str, Session]) -> None:
    ones = np.ones((5, 2), np.float32)
    result = compare_fidelity({**sessions, "third": sessions["before"]}, batches(2, a=ones, b=2 * ones))
    assert (result.samples, list(result.models)) == (5, ["after", "third"])
    assert result.models["third"]["y"].identical
    assert not result.models["after"]["y"].identical


def test_other_names(sessions: dict[str, Session]) -> None:
    models = {**sessions, "after": session("z = Identity(b)", outputs="float[n,c] z")}
    with pytest.raises(DataError, match="after has outputs z; before has y"):
        compare_fidelity(models, [])


def test_other_shapes(sessions: dict[str, Session]) -> None:
    arrays = {"a": np.ones((2, 2), np.float32), "b": np.ones((2, 3), np.float32)}
    with pytest.raises(DataError, match=r"output 'y' of after has shape \[2, 3\] instead of \[2, 2\]"):
        compare_fidelity(sessions, batches(2, **arrays))


def test_no_samples(sessions: dict[str, Session]) -> None:
    with pytest.raises(DataError, match="no samples"):
        compare_fidelity(sessions, [])
