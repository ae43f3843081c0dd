"""Values, intervals and paired drops of models that answer what they are fed."""

from typing import Any

import numpy as np
import onnx.parser
import pytest

from compress_ops.errors import DataError, UsageError
from compress_ops.measure.intervals import unseen_share, wilson_interval
from compress_ops.measure.metrics.accuracy import evaluate
from compress_ops.runtime import Session, open_session
from tests.helpers import Table


def samples(labels: np.ndarray | None, **inputs: np.ndarray) -> Table:
    """Stacked samples in memory, two at a time."""
    return Table(inputs, labels, batch=2)


def chooser(which: str) -> Session:
    """A model whose output is the input ``which`` of a and b."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[n,c] a, float[n,c] b) => (float[n,c] y) {{ y = Identity({which}) }}"""
    return open_session(onnx.parser.parse_model(text).SerializeToString())


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    return {"before": chooser("a"), "after": chooser("b")}


def answers(*classes: int, count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[list(classes)]


def test_a_share_and_its_paired_drop(sessions: dict[str, Session]) -> None:
    """Labels all 0; before hits 0-3, after hits 0, 1 and 4: two got worse, one better."""
    data = samples(np.zeros(5, int), a=answers(0, 0, 0, 0, 1), b=answers(0, 0, 1, 1, 0))
    result = evaluate(sessions, data, ["top1"])
    scores = result.metrics["top1"]
    before, after = scores.models["before"], scores.models["after"]
    assert (result.samples, scores.method, scores.better) == (5, "wilson", "higher")
    assert (before.value, after.value) == (0.8, 0.6)
    assert before.interval == wilson_interval(4, 5)
    assert before.drop is None
    assert after.drop.absolute == pytest.approx(0.2)
    assert after.drop.relative == pytest.approx(0.25)
    assert after.drop.interval.contains(0)
    assert after.drop.relative_interval.high == pytest.approx(after.drop.interval.high / 0.8)


def test_a_model_that_guesses_is_seen(sessions: dict[str, Session]) -> None:
    """Ten classes; 0 is always said, which is right for one in ten; saying the label is right for all."""
    labels = np.arange(50) % 10
    right, guess = answers(*labels, count=10), answers(*[0] * 50, count=10)
    guessing = evaluate(sessions, samples(labels, a=guess, b=right), ["top1"])
    assert (guessing.kinds, guessing.guesses) == (10, True)
    assert not evaluate(sessions, samples(labels, a=right, b=guess), ["top1"]).guesses
    few = evaluate(sessions, samples(labels[:4] % 2, a=answers(0, 1, 0, 0), b=answers(0, 1, 0, 1)), ["top1"])
    assert (few.kinds, few.guesses) == (2, False)  # three of four may be luck, and are no sign of a mistake


def test_of_numbers_there_are_no_kinds(sessions: dict[str, Session]) -> None:
    data = samples(np.zeros((5, 3), np.float32), a=answers(0, 0, 0, 0, 1), b=answers(0, 0, 1, 1, 0))
    assert evaluate(sessions, data, ["mse"]).kinds is None


def test_all_correct_is_not_certain(sessions: dict[str, Session]) -> None:
    labels = np.array([0, 1, 2] * 20)
    data = samples(labels, a=answers(*labels), b=answers(*labels))
    for name, scores in evaluate(sessions, data, ["top1", "f1"]).metrics.items():
        after = scores.models["after"]
        assert after.value == 1, name
        assert after.interval.low == pytest.approx(1 - unseen_share(60)), name
        assert after.interval.high == 1, name
        assert after.drop.absolute == 0, name
        assert 0 < after.drop.interval.high < 2 * unseen_share(60), name
        assert after.drop.interval.low == -after.drop.interval.high, name
        assert after.drop.relative_interval.high == after.drop.interval.high, name


def test_nothing_right_has_no_relative_drop(sessions: dict[str, Session]) -> None:
    data = samples(np.array([1, 1]), a=answers(0, 0), b=answers(1, 0))
    for scores in evaluate(sessions, data, ["top1", "f1"]).metrics.values():
        drop = scores.models["after"].drop
        assert drop.absolute < 0
        assert (drop.relative, drop.relative_interval) == (None, None)


def test_lower_is_better_drops_upwards(sessions: dict[str, Session]) -> None:
    """Squared errors 1 before and 4 after, for every sample: the drop is 3, or 300 %, without any doubt."""
    ones = np.ones((10, 2), np.float32)
    drop = evaluate(sessions, samples(0 * ones, a=ones, b=2 * ones), ["mse"]).metrics["mse"].models["after"].drop
    assert (drop.absolute, drop.relative) == (3, 3)
    assert (drop.interval.low, drop.interval.high) == (3, 3)
    assert (drop.relative_interval.low, drop.relative_interval.high) == (3, 3)


def test_pairing_sees_what_intervals_side_by_side_do_not(sessions: dict[str, Session]) -> None:
    """After is worse by 0.1 on every sample, which differ among themselves by far more."""
    rng = np.random.default_rng(0)
    target = rng.normal(0, 1, (200, 1)).astype(np.float32)
    before = target + abs(rng.normal(0, 5, (200, 1))).astype(np.float32)
    data = samples(target, a=before, b=before + np.float32(0.1))
    models = evaluate(sessions, data, ["mae"]).metrics["mae"].models
    assert models["after"].interval.low < models["before"].value < models["after"].interval.high
    drop = models["after"].drop
    spacing = float(np.spacing(np.float32(abs(before).max() + 1)))  # of float32 sums this size
    assert (drop.interval.low, drop.interval.high) == pytest.approx((0.1, 0.1), abs=2 * spacing)


def test_sequences_are_drawn_whole(sessions: dict[str, Session]) -> None:
    """Metrics of many labels per sample bootstrap the samples, of which one has all its tokens wrong."""
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[n,s,c] a, float[n,s,c] b) => (float[n,s,c] y) { y = Identity(a) }"""
    session = open_session(onnx.parser.parse_model(text).SerializeToString())
    output = np.eye(3, dtype=np.float32)[[[0, 0], [0, 0], [0, 0], [1, 1]]]
    scores = evaluate({"m": session}, samples(np.zeros((4, 2), int), a=output, b=output), ["top1"]).metrics["top1"]
    assert (scores.method, scores.models["m"].value) == ("bootstrap", 0.75)
    assert (scores.models["m"].interval.low, scores.models["m"].interval.high) == (0.25, 1)


def test_nan_is_reported_plainly(sessions: dict[str, Session]) -> None:
    ones = np.ones((6, 2), np.float32)
    broken = ones.copy()
    broken[3, 0] = np.nan
    after = evaluate(sessions, samples(0 * ones, a=ones, b=broken), ["mse"]).metrics["mse"].models["after"]
    assert (after.value, after.interval) == (None, None)
    assert (after.drop.absolute, after.drop.interval, after.drop.relative_interval) == (None, None, None)


def test_seeded(sessions: dict[str, Session]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    data = samples(labels, a=rng.normal(size=(40, 3)).astype("f4"), b=rng.normal(size=(40, 3)).astype("f4"))
    one, same, other = (evaluate(sessions, data, ["f1", "auc"], seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("labels", "metrics", "error", "says"),
    [
        (None, ["top1"], DataError, "metric 'top1' needs labels"),
        (np.array([0, 9]), ["mse", "top1"], DataError, "metric 'mse': labels of shape"),
        (np.array([0, 9]), ["top1"], DataError, "metric 'top1': label 9 is out of range"),
        (np.array([0, 1]), [], DataError, "no metric"),
        (np.array([0, 1]), ["f11"], UsageError, "did you mean 'f1'"),
    ],
)
def test_faults(sessions: dict[str, Session], labels: Any, metrics: list[str], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        evaluate(sessions, samples(labels, a=answers(0, 1), b=answers(0, 1)), metrics)


def test_no_samples(sessions: dict[str, Session]) -> None:
    with pytest.raises(DataError, match="no samples"):
        evaluate(sessions, samples(None, a=answers(), b=answers()), ["top1"])


def test_an_output_that_is_no_batch() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[n,c] a) => (float y) { y = ReduceSum<keepdims = 0>(a) }"""
    session = open_session(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(DataError, match="output 'y' of the model in memory is no batch"):
        evaluate({"m": session}, samples(np.array([0, 1]), a=answers(0, 1)), ["top1"])
