"""Updates against NumPy statements of the papers' rules, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.distill.losses.objective import Objective
from compress_ops.distill.training.buffers import Buffers, flat_array, make_buffers
from compress_ops.distill.training.optimizers import BLOCK, make_optimizer, norm
from compress_ops.distill.training.train_settings import TrainSettings

from .train_case import EPS, objective, parsed

Array = np.ndarray[Any, Any]
STEPS, RATE = 5, 0.05
ROUNDINGS = 16 * STEPS  # operations on a parameter in all steps, each exact to half an EPS of numbers below 4
SETTINGS = TrainSettings(weight_decay=0.1)


def buffers(size: int = 3, decaying: int = 2, fill: float = 1.0) -> Buffers:
    parameters = flat_array(size)
    parameters[:] = np.linspace(-fill, fill, size)
    return Buffers((), parameters, flat_array(size), decaying, size)


def slopes(size: int, step: int) -> Array:
    return np.cos(np.arange(size) + step)


def sgd(w: Array, decay: Array) -> Array:
    m = np.zeros_like(w)
    for step in range(1, STEPS + 1):
        m = SETTINGS.momentum * m + slopes(w.size, step) + decay * w
        w = w - RATE * m
    return w


def adam(w: Array, decay: Array, decoupled: bool = False) -> Array:
    m, v, b1, b2 = np.zeros_like(w), np.zeros_like(w), SETTINGS.beta1, SETTINGS.beta2
    for step in range(1, STEPS + 1):
        g = slopes(w.size, step) + (0 if decoupled else decay * w)
        w = w * (1 - RATE * decay) if decoupled else w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - RATE * (m / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + SETTINGS.epsilon)
    return w


RULES = {"sgd": sgd, "adam": adam, "adamw": lambda w, decay: adam(w, decay, decoupled=True)}


@pytest.mark.parametrize("size", [3, 2 * BLOCK + 5])
@pytest.mark.parametrize("name", RULES)
def test_updates(name: Any, size: int) -> None:
    flat = buffers(size, decaying=size - 1)
    expected = RULES[name](flat.parameters.astype(np.float64), SETTINGS.weight_decay * (np.arange(size) < size - 1))
    optimizer = make_optimizer(SETTINGS.but(optimizer=name), flat)
    for step in range(1, STEPS + 1):
        flat.gradients[:] = slopes(size, step)
        optimizer.step(RATE, step)
    np.testing.assert_allclose(flat.parameters, expected, rtol=0, atol=ROUNDINGS * EPS)


def test_the_l1_penalty_pulls_matrices_towards_zero() -> None:
    flat = buffers()
    before = flat.parameters.copy()
    make_optimizer(TrainSettings(optimizer="sgd", l1=0.5), flat).step(RATE, 1)
    np.testing.assert_allclose(before - flat.parameters, [-0.5 * RATE, 0, 0], atol=EPS)


def test_clipping_keeps_the_direction() -> None:
    flat = buffers()
    before = flat.parameters.copy()
    flat.gradients[:] = [3, 0, 4]
    length = make_optimizer(TrainSettings(optimizer="sgd", clip_norm=1.0), flat).step(RATE, 1)
    assert length == 5
    np.testing.assert_allclose(before - flat.parameters, RATE * np.array([0.6, 0, 0.8]), atol=2 * EPS)


def test_short_gradients_are_not_clipped() -> None:
    flat = buffers()
    flat.gradients[:] = [0.3, 0, 0.4]
    make_optimizer(TrainSettings(optimizer="sgd", clip_norm=1.0), flat).step(RATE, 1)
    np.testing.assert_array_equal(flat.gradients, np.array([0.3, 0, 0.4], np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float) -> None:
    flat = buffers()
    before = flat.parameters.copy()
    flat.gradients[1] = bad
    length = make_optimizer(TrainSettings(clip_norm=1.0), flat).step(RATE, 1)
    assert not np.isfinite(length)
    np.testing.assert_array_equal(flat.parameters, before)


def test_the_norm_of_many_blocks() -> None:
    flat = np.linspace(0, 1, 3 * BLOCK + 7, dtype=np.float32)
    assert norm(flat) == pytest.approx(float(np.linalg.norm(flat.astype(np.float64))), rel=BLOCK**0.5 * EPS)


def test_matrices_come_first_and_every_slot_begins_a_cache_line() -> None:
    made = make_buffers(objective())
    assert [slot.name for slot in made.slots] == ["w", "b"]
    assert (made.decaying, made.student) == (16, 32)
    views = made.views(made.parameters)
    assert all(view.ctypes.data % 64 == 0 for view in (*views.values(), made.gradients))
    np.testing.assert_array_equal(views["b"], np.array([0.1, -0.2], np.float32))


def test_helpers_come_last() -> None:
    made = make_buffers(objective(helpers=["w"]))
    assert [slot.name for slot in made.slots] == ["b", "w"]
    assert (made.decaying, made.student, made.size) == (0, 16, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": ["w", "b", "w"]}, "'w' is listed twice"),
        ({"parameters": []}, "nothing to train"),
        ({"parameters": ["v"]}, "no weight of that name"),
    ],
)
def test_parameters_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_buffers(objective(**changes))


def test_half_precision_is_refused_with_a_way_out() -> None:
    half = parsed("float16[2] x", "float16[2] y", "float16[2] w = {1, 2}", "y = Mul(x, w)")
    with pytest.raises(Exception, match=r"'w' cannot be trained: it holds FLOAT16(?s:.*)train the float32 model"):
        make_buffers(Objective(half, "y", {}, {}, ["w"]))
