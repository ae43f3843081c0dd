"""Outputs of one logit or one probability: binary cross-entropy of labels, and a teacher's soft yes and no."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.data.base import Dataset
from compress_ops.distill import distill
from compress_ops.distill.lesson.adaptive import corrected, shares_of, two_classes
from compress_ops.distill.lesson.targets import Fetch, find_targets
from compress_ops.distill.losses import Kind, Nature
from compress_ops.errors import DataError, PassError
from compress_ops.model import Model
from tests.helpers import Given, Table, context, model_of, noise, outputs

from .loss_case import ROUNDING, SHAPES, TEMPERATURE, Array, Written, agree, identity, mean

ODDS = 5e-5  # log p / (1 - p) of a p that single precision has rounded, some 3e-7 of it, for p about 0.01


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def binary_kl(s: Array, t: Array, mask: Array | None = None) -> float:
    """T^2 (p log p / q + (1 - p) log (1 - p) / (1 - q))."""
    p, q = sigmoid(t / TEMPERATURE), sigmoid(s / TEMPERATURE)
    return TEMPERATURE**2 * mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)), mask)


def binary_cross_entropy(s: Array, y: Array) -> float:
    return float(-(y * np.log(sigmoid(s)) + (1 - y) * np.log(1 - sigmoid(s))).mean())


def written(name: str, shape: tuple[int, ...], **more: Any) -> Written:
    return Written(name, shape, nature=Nature(Kind.YES_OR_NO, len(shape)), **more)


@pytest.mark.parametrize("shape", [(6,), (6, 1), *SHAPES.values()])
def test_soft_targets(shape: tuple[int, ...]) -> None:
    x, t = noise(*shape), noise(*shape, seed=1)
    agree(written("kl", shape), lambda s: binary_kl(s, t.astype(float)), x, t, None)


def test_padding_does_not_count() -> None:
    x, t, mask = noise(3, 4), noise(3, 4, seed=1), np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], float)
    agree(written("kl", (3, 4), mask=(3, 4)), lambda s: binary_kl(s, t.astype(float), mask), x, t, mask)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (3, 4)])
def test_labels(shape: tuple[int, ...]) -> None:
    x, y = noise(*shape), np.arange(np.prod(shape)).reshape(shape) % 2
    agree(written("cross_entropy", shape, labels="numbers"), lambda s: binary_cross_entropy(s, y), x, y, None)


def test_labels_as_shares() -> None:
    x, y = noise(5, 1), np.linspace(0, 1, 5)[:, None]
    both = np.stack([1 - y, y], axis=-1)
    agree(written("cross_entropy", (5, 1), labels="shares"), lambda s: binary_cross_entropy(s, y), x, both, None)


def test_probabilities_whose_logits_are_not_known() -> None:
    """log p / (1 - p) of what the graph gives, and of what the teacher gives."""
    nature = Nature(Kind.YES_OR_NO, 2, logarithm=True)
    x, t = noise(5, 3), noise(5, 3, seed=1)
    model = identity(2, "Sigmoid(x)")
    agree(Written("kl", (5, 3), nature=nature, model=model), lambda s: binary_kl(s, t.astype(float)), x, t, None)
    told = Fetch("p", logarithm=True, odds=True).take({"p": sigmoid(t)})
    np.testing.assert_allclose(told, t, atol=ODDS)


LINEAR = "agraph (float[N,6] x) => (float[N,{}] y) {{ h = Gemm(x, w, b) {} }}"
TAILS = {
    "logit": "y = Identity(h)",
    "probability": "y = Sigmoid(h)",
    "squeezed": "p = Sigmoid(h) y = Reshape(p, s)",
}


def net(tail: str, seed: int = 0, width: int = 1) -> Model:
    weights = {"w": noise(6, width, seed=seed), "b": noise(width, seed=seed + 1)}
    more = {"s": np.array([-1, width])} if "Reshape" in TAILS[tail] else {}
    return model_of(LINEAR.format(width, TAILS[tail]), **weights, **more)


def kinds(student: Model, teacher: Model, data: Dataset, **more: Any) -> Any:
    found = find_targets(student, teacher, context(), data, {}, {}, **more)
    return found.natures["y"], found.output_fetches["y"]


@pytest.mark.parametrize("tail", TAILS)
def test_a_probability_tells_itself_a_logit_is_told(tail: str) -> None:
    """One number of a linear layer may as well be a quantity: labels of 0 and 1 tell, or a loss of classes."""
    x = noise(20, 6)
    expected = Kind.NUMBERS if tail == "logit" else Kind.YES_OR_NO
    assert kinds(net(tail), net(tail, 5), Table(x))[0].kind is expected
    assert kinds(net(tail), net(tail, 5), Table(x, np.arange(20) % 2))[0].kind is Kind.YES_OR_NO
    assert kinds(net(tail), net(tail, 5), Table(x), classes=True)[0].kind is Kind.YES_OR_NO
    assert kinds(net(tail), net(tail, 5), Table(x, np.linspace(0, 9, 20)))[0].kind is expected


def test_a_student_of_logits_learns_from_probabilities() -> None:
    nature, fetch = kinds(net("logit"), net("probability", 5), Table(noise(20, 6)))
    assert (nature.kind, nature.logits, nature.logarithm) == (Kind.YES_OR_NO, None, False)
    assert fetch.tensor == "h" and not fetch.logarithm
    nature, fetch = kinds(net("squeezed"), net("logit", 5), Table(noise(20, 6)))
    assert nature.logarithm and not fetch.logarithm


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("loss", ["kl", "cross_entropy", "adaptive"])
def test_what_is_learned(tail: str, loss: str) -> None:
    """Teacher, labels, or both: nine of ten samples are told apart as they should be."""
    x, teacher = noise(240, 6, seed=9), net(tail)
    middle = 0 if tail == "logit" else 0.5
    right = (outputs(teacher, x=x)[0] > middle).astype(np.int64)
    options: dict[str, Any] = {"adaptive": True} if loss == "adaptive" else {"loss": {loss: 1.0}}
    given = net(tail, seed=30) if loss == "adaptive" else teacher
    student = net(tail, seed=50)
    before = ((outputs(student, x=x)[0] > middle) == right).mean()
    ctx = context(training=Table(x, right[:, 0]), earlier=given)
    change = distill(student, ctx, **{"epochs": 20, "learning_rate": 0.05, **options})
    student.check()
    assert change.touched and before < 0.7
    assert ((outputs(student, x=x)[0] > middle) == right).mean() > 0.9


def test_labels_of_yes_correct_a_teacher() -> None:
    logits, labels = np.array([[9.0], [9.0], [0.5]], np.float32), np.array([[1], [0], [1]])
    learned = corrected(two_classes(logits), shares_of(labels, 2, 2), 2)
    told = learned[..., 1] - learned[..., 0]
    right = np.where(labels == 1, sigmoid(logits), 1 - sigmoid(logits))
    np.testing.assert_allclose(sigmoid(told), right * sigmoid(logits) + (1 - right) * labels, atol=ROUNDING)


def test_what_is_no_yes_and_no() -> None:
    labels = np.full(200, 2)
    with pytest.raises(DataError, match="label 2 is out of range"):
        distill(
            net("probability"),
            context(training=Table(noise(200, 6), labels), earlier=net("probability", 5)),
            loss={"cross_entropy": 1.0},
        )
    data = Given(*({"x": noise(4, 6, seed=i)} for i in range(20)))
    with pytest.raises(PassError, match="'cosine' has nothing to compare"):
        distill(net("logit"), context(training=data, earlier=net("logit", 5)), loss={"cosine": 1.0})
