"""A teacher that is believed as far as labels say that it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.distill import distill
from compress_ops.distill.lesson.adaptive import corrected, shares_of
from compress_ops.errors import DataError, PassError
from tests.distill.losses.loss_case import softmax
from tests.distill.student_case import mlp, taught
from tests.helpers import Table, context, noise, outputs, proto

ROUNDINGS = 1e-5  # a few of single precision, of numbers about 10


@pytest.mark.parametrize("axis", [1, 2])
def test_the_rule(axis: int) -> None:
    """q = c p + (1 - c) y, one position after another; those without a label stay."""
    scores, labels = noise(3, 5, 5, scale=2), np.array([[0, 1, 2, 3, 4], [4, 4, -1, -1, 0], [2, -1, 3, 0, 0]])
    learned = corrected(scores, shares_of(labels, 5, axis), axis)
    assert learned.dtype == np.float32
    rows, told = (np.moveaxis(array.astype(float), axis, -1) for array in (scores, learned))
    for place in np.ndindex(3, 5):
        label, given = labels[place], softmax(rows[place], 0)
        expected = given
        if label >= 0:
            expected = given[label] * given + (1 - given[label]) * np.eye(5)[label]
        np.testing.assert_allclose(softmax(told[place], 0), expected, atol=ROUNDINGS)


def test_sure_and_right_stays_sure_and_wrong_turns() -> None:
    scores = np.array([[20.0, 0, 0], [20, 0, 0]], np.float32)
    learned = corrected(scores, shares_of(np.array([0, 2]), 3, 1), 1)
    assert learned.argmax(1).tolist() == [0, 2]
    assert softmax(learned, 1)[1, 2] > 0.999
    assert np.isfinite(learned).all() and learned.min() >= 20 + np.log(1e-6) - ROUNDINGS


def test_labels_as_shares_of_several_classes() -> None:
    scores, shares = noise(4, 3), softmax(noise(4, 3, seed=1), 1).astype(np.float32)
    given = softmax(scores.astype(float), 1)
    right = (given * shares).sum(1, keepdims=True)
    expected = right * given + (1 - right) * shares
    np.testing.assert_allclose(softmax(corrected(scores, shares, 1), 1), expected, atol=ROUNDINGS)


def test_a_student_learns_from_a_teacher_that_errs() -> None:
    """More than a quarter of what the teacher says is wrong."""
    x = noise(300, 6, seed=9)
    right = outputs(mlp(), x=x)[0].argmax(1)
    wrong = mlp(seed=200)
    shares = {}
    for adaptive in (False, True):
        student = mlp(seed=50)
        taught(student, wrong, Table(x, right), adaptive=adaptive)
        shares[adaptive] = (outputs(student, x=x)[0].argmax(1) == right).mean()
    assert (outputs(wrong, x=x)[0].argmax(1) == right).mean() < 0.75 and shares[False] < 0.8
    assert shares[True] > 0.85


def test_it_repeats() -> None:
    x = noise(200, 6, seed=9)
    students = [mlp(seed=50), mlp(seed=50)]
    for student in students:
        taught(student, mlp(), Table(x, np.arange(200) % 3), epochs=2, adaptive=True)
    first, second = (proto(student).SerializeToString() for student in students)
    assert first == second


@pytest.mark.parametrize(
    ("data", "tail", "told"),
    [
        (Table(noise(200, 6)), "y = Gemm(r, w2, b2)", "adaptive corrects the teacher by labels"),
        (Table(noise(200, 6), np.zeros(200, int)), "z = Gemm(r, w2, b2) y = Tanh(z)", "'y' holds no classes"),
    ],
)
def test_what_it_needs(data: Table, tail: str, told: str) -> None:
    student = mlp(seed=50, tail=tail)
    options: dict[str, Any] = {"adaptive": True, "epochs": 1}
    with pytest.raises((DataError, PassError), match=told):
        distill(student, context(training=data, earlier=mlp(tail=tail)), **options)
