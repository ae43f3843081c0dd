"""Every metric against scikit-learn or a worked example, whole and on resampled data."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk

from compress_ops.errors import DataError, UsageError
from compress_ops.measure.metrics.table import METRIC_NAMES, METRICS, parse_metric

N, CLASSES = 300, 7
ROUNDING = 1e-12
"""Sums of a few hundred float64 numbers of size 1 in another order: 300 * 2**-53, and room."""

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, N)
LOGITS = RNG.normal(size=(N, CLASSES)) + 2 * np.eye(CLASSES)[LABELS]
BINARY = RNG.integers(0, 2, N)
TIED_SCORES = np.round(RNG.normal(size=N) + BINARY, 1)
DRAWN = RNG.multinomial(N, np.full(N, 1 / N)).astype(float)
"""How often each sample is in one bootstrap sample."""


def value(name: str, output: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    metric = parse_metric(name)
    records = metric.record(np.asarray(output), np.asarray(labels))
    assert records.shape[0] == len(output)
    both = np.stack([np.ones(len(output)), np.ones(len(output)) if weights is None else weights])
    return float(metric.score(records, both)[1])


def resampled(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(array, DRAWN.astype(int), axis=0) for array in arrays]


MACRO = {"average": "macro", "zero_division": 0}
ORACLES = {
    "top1": lambda o, y: sk.accuracy_score(y, o.argmax(1)),
    "top5": lambda o, y: sk.top_k_accuracy_score(y, o, k=5, labels=range(CLASSES)),
    "f1": lambda o, y: sk.f1_score(y, o.argmax(1), **MACRO),
    "precision": lambda o, y: sk.precision_score(y, o.argmax(1), **MACRO),
    "recall": lambda o, y: sk.recall_score(y, o.argmax(1), **MACRO),
    "auc": lambda o, y: sk.roc_auc_score(y, softmax(o, axis=1), multi_class="ovr", average="macro"),
    "mse": lambda o, y: sk.mean_squared_error(y, o),
    "mae": lambda o, y: sk.mean_absolute_error(y, o),
    "perplexity": lambda o, y: np.exp(sk.log_loss(y, softmax(o, axis=1), labels=range(CLASSES))),
    "ndcg@k": lambda o, y: sk.ndcg_score(np.eye(CLASSES)[y], o, k=3),
    "hit_rate@k": lambda o, y: sk.top_k_accuracy_score(y, o, k=3, labels=range(CLASSES)),
}


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_against_scikit_learn(name: str, weighted: bool) -> None:
    regression = name in ("mse", "mae")
    output, labels = (LOGITS, np.sin(LOGITS)) if regression else (LOGITS, LABELS)
    chosen = resampled(output, labels) if weighted else (output, labels)
    found = value(name.replace("@k", "@3"), output, labels, DRAWN if weighted else None)
    assert found == pytest.approx(ORACLES[name](*chosen), rel=ROUNDING)


def test_every_metric_has_an_oracle() -> None:
    assert set(ORACLES) == set(METRIC_NAMES)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_auc_counts_ties_half(shape: tuple[int, ...], weighted: bool) -> None:
    found = value("auc", TIED_SCORES.reshape(shape), BINARY, DRAWN if weighted else None)
    labels, scores = resampled(BINARY, TIED_SCORES) if weighted else (BINARY, TIED_SCORES)
    assert found == pytest.approx(sk.roc_auc_score(labels, scores), rel=ROUNDING)


def test_auc_of_two_columns_takes_the_second() -> None:
    probabilities = softmax(np.stack([np.zeros(N), TIED_SCORES], axis=1), axis=1)
    assert value("auc", probabilities, BINARY) == pytest.approx(sk.roc_auc_score(BINARY, TIED_SCORES), rel=ROUNDING)


def test_auc_takes_probabilities_as_they_are() -> None:
    probabilities = softmax(LOGITS, axis=1)
    expected = sk.roc_auc_score(LABELS, probabilities, multi_class="ovr")
    assert value("auc", probabilities, LABELS) == pytest.approx(expected, rel=ROUNDING)


def test_auc_leaves_out_classes_that_do_not_occur() -> None:
    """Labels 0 and 1 of three classes; perfect for both."""
    output = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    assert value("auc", output, np.array([0, 1, 0])) == 1.0


def test_auc_of_one_class_is_not_defined() -> None:
    assert np.isnan(value("auc", np.array([0.1, 0.2]), np.array([1, 1])))


def test_macro_means_over_classes_that_occur() -> None:
    """Answers 0 0 1, labels 0 1 1 of five classes: F1 is 2/3 for both classes that occur."""
    output, labels = np.eye(5)[[0, 0, 1]], np.array([0, 1, 1])
    assert value("f1", output, labels) == pytest.approx(2 / 3)
    assert value("precision", output, labels) == pytest.approx((1 / 2 + 1) / 2)
    assert value("recall", output, labels) == pytest.approx((1 + 1 / 2) / 2)


def test_f1_of_one_draw_sees_only_drawn_samples() -> None:
    output, labels = np.eye(3)[[0, 1, 2]], np.array([0, 1, 1])
    assert value("f1", output, labels, np.array([2.0, 1.0, 0.0])) == 1.0


def test_models_that_answer_with_class_numbers() -> None:
    answered = LOGITS.argmax(1)
    for name in ("top1", "f1"):
        assert value(name, answered, LABELS) == pytest.approx(ORACLES[name](LOGITS, LABELS), rel=ROUNDING)


def test_equal_scores_go_to_the_lower_class_as_in_argmax() -> None:
    output = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert parse_metric("top1").record(output, np.array([0, 1]))[:, 0].tolist() == [1, 0]


def test_top1_of_sequences_ignores_padding() -> None:
    output = np.eye(4)[[[0, 1, 2], [3, 3, 3]]]
    labels = np.array([[0, 1, -100], [0, -1, 3]])
    assert parse_metric("top1").record(output, labels).tolist() == [[2, 2], [1, 2]]
    assert value("top1", output, labels) == 3 / 4


def test_perplexity_weighs_tokens_not_sequences() -> None:
    logits = np.random.default_rng(1).normal(size=(2, 3, 5))
    labels = np.array([[0, 1, 4], [2, -100, -1]])
    chosen = log_softmax(logits, axis=-1)[[0, 0, 0, 1], [0, 1, 2, 0], [0, 1, 4, 2]]
    assert value("perplexity", logits, labels) == pytest.approx(np.exp(-chosen.mean()), rel=ROUNDING)


def test_perplexity_of_knowing_nothing_is_the_number_of_classes() -> None:
    assert value("perplexity", np.full((2, 3, 256), 1000.0), np.zeros((2, 3), int)) == pytest.approx(256)


def test_regression_of_a_column_against_a_vector() -> None:
    assert value("mae", np.array([[1.0], [2.0]]), np.array([0.0, 4.0])) == 1.5
    assert value("mse", np.array([1.0, 2.0]), np.array([[0.0], [4.0]])) == 2.5


def test_mean_of_records_is_over_elements() -> None:
    """A batch of rows of three and one of five elements, as batches of different lengths give them."""
    metric = METRICS["mse"]
    records = np.concatenate([metric.record(np.ones((1, n)), np.zeros((1, n)) + w) for n, w in ((3, 1), (5, 3))])
    assert metric.score(records, np.ones((1, 2)))[0] == pytest.approx(5 * 4 / 8)


@pytest.mark.parametrize("k", [1, 2, 10])
def test_ndcg_of_several_relevant_is_scikit_learns(k: int) -> None:
    rng = np.random.default_rng(2)
    relevant, scores = rng.integers(0, 2, (50, 8)), rng.normal(size=(50, 8))
    relevant[:, 0] = 1
    assert value(f"ndcg@{k}", scores, relevant) == pytest.approx(sk.ndcg_score(relevant, scores, k=k), rel=ROUNDING)


def test_ndcg_by_hand() -> None:
    """Relevant candidates in places 0 and 2: (1 + 1/log2 4) / (1 + 1/log2 3)."""
    found = value("ndcg@3", np.array([[9.0, 8.0, 7.0, 6.0]]), np.array([[1, 0, 1, 0]]))
    assert found == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))


def test_ties_are_pessimistic() -> None:
    """A model that gives every candidate the same score has recommended nothing."""
    same, relevant = np.zeros((2, 10)), np.array([0, 9])
    assert value("hit_rate@9", same, relevant) == 0
    assert value("ndcg@9", same, relevant) == 0
    assert value("hit_rate@10", same, relevant) == 1


def test_samples_without_a_relevant_candidate_do_not_count() -> None:
    relevant = np.array([[0, 0, 0], [0, 0, 1]])
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert value("hit_rate@1", scores, relevant) == 1
    assert value("ndcg@1", scores, relevant) == 1


@pytest.mark.parametrize("name", ["top1", "top5", "hit_rate@1", "ndcg@1", "recall", "precision", "f1"])
def test_nan_is_a_miss(name: str) -> None:
    output = np.full((4, 6), np.nan)
    assert value(name, output, np.array([0, 0, 1, 1])) == 0


@pytest.mark.parametrize("name", ["mse", "perplexity", "auc"])
def test_nan_is_nan(name: str) -> None:
    output = np.array([[0.5, np.nan], [0.5, 0.5]])
    labels = output * 0 + 1 if name == "mse" else np.array([0, 1])
    assert np.isnan(value(name, output, labels))


@pytest.mark.parametrize(
    ("name", "output", "labels", "says"),
    [
        ("top1", np.zeros((3, 4)), np.zeros(2, int), r"labels of shape \[2\] do not fit the output of shape \[3, 4\]"),
        ("top1", np.zeros((3, 4)), np.array([0, 4, 1]), "label 4 is out of range"),
        ("f1", np.zeros((3, 4)), np.array([0, -1, 1]), "label -1 is out of range"),
        ("f1", np.zeros((3, 2, 4)), np.zeros((3, 2), int), "3 axes"),
        ("top5", np.zeros((3, 4)), np.array([0.5, 1, 1]), "whole numbers"),
        ("top1", np.zeros((3, 4)), np.array(["a", "b", "c"]), "whole numbers"),
        ("top1", np.zeros(3), np.zeros(3, int), "at least two classes"),
        ("auc", np.zeros(3), np.array([0, 1, 2]), "label 2 is out of range"),
        ("auc", np.zeros((3, 2, 2)), np.zeros(3, int), "3 axes"),
        ("mse", np.zeros((3, 4)), np.zeros((3, 5)), "do not fit"),
        ("mse", np.zeros(3), np.array(["a", "b", "c"]), "must be numbers"),
        ("ndcg@2", np.zeros((3, 4)), np.full((3, 4), 2), "label 2 is out of range"),
        ("hit_rate@2", np.zeros((3, 4)), np.array([0, 1, 4]), "label 4 is out of range"),
        ("hit_rate@2", np.zeros(3), np.array([0, 1, 0]), "candidates"),
        ("perplexity", np.zeros((2, 3, 4)), np.array([[0, 1, 2], [0, 1, -2]]), "label -2 is out of range"),
    ],
)
def test_labels_that_do_not_fit(name: str, output: np.ndarray, labels: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_metric(name).record(output, labels)


@pytest.mark.parametrize("labels", [np.array([[1], [0]]), np.array([1.0, 0.0]), np.array([True, False])])
def test_labels_in_other_clothes(labels: np.ndarray) -> None:
    assert value("top1", np.array([[0.0, 1.0], [1.0, 0.0]]), labels) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("topp1", "did you mean 'top1'"),
        ("hit_rate@0", "did you mean 'hit_rate@10'"),
        ("hit_rate", "did you mean 'hit_rate@10'"),
        ("ndcg@ten", "did you mean 'ndcg@10'"),
        ("zzz", "unknown metric 'zzz'"),
    ],
)
def test_unknown_metrics(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_metric(name)


def test_k_is_in_the_name() -> None:
    assert parse_metric("ndcg@25").name == "ndcg@25"
    assert value("hit_rate@25", np.zeros((1, 3)), np.array([0])) == 1
