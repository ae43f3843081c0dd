"""Settings that make no sense are told all together; schedules follow their formulas."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from compress_ops.distill.training.schedules import SCHEDULES, factor
from compress_ops.distill.training.train_settings import TrainSettings
from compress_ops.errors import Faults, OnnxpressError
from compress_ops.settings import checked


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: should be greater than 0 (found 0.0)"),
        ({"learning_rate": -1e-3}, "learning_rate: should be greater than 0 (found -0.001)"),
        ({"learning_rate": math.nan}, "learning_rate: should be a finite number (found nan)"),
        ({"epochs": 0}, "epochs: should be greater than or equal to 1 (found 0)"),
        ({"steps": 0}, "steps: should be greater than or equal to 1 (found 0)"),
        ({"accumulate": -1}, "accumulate: should be greater than or equal to 1 (found -1)"),
        ({"clip_norm": 0.0}, "clip_norm: should be greater than 0 (found 0.0)"),
        ({"patience": 0}, "patience: should be greater than or equal to 1 (found 0)"),
        ({"warmup": 1.0}, "warmup: should be less than 1 (found 1.0)"),
        ({"beta2": 1.0}, "beta2: should be less than 1 (found 1.0)"),
        ({"l1": -0.1}, "l1: should be greater than or equal to 0 (found -0.1)"),
        ({"optimizer": "adamx"}, "optimizer: should be 'sgd', 'adam' or 'adamw' (found 'adamx')"),
        ({"schedule": "linear"}, "schedule: should be 'constant', 'cosine' or 'step' (found 'linear')"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OnnxpressError, match=re.escape(message)):
        checked(TrainSettings, given)


def test_all_faults_are_told_together() -> None:
    with pytest.raises(Faults) as caught:
        checked(TrainSettings, {"epochs": 0, "learning_rate": -1.0, "momentum": 2.0})
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.74, 0.75, 0.99])
def test_schedules(t: float) -> None:
    assert SCHEDULES["constant"](t) == 1
    assert SCHEDULES["cosine"](t) == pytest.approx(math.cos(math.pi * t / 2) ** 2)
    assert SCHEDULES["step"](t) == pytest.approx(0.1 ** ((t >= 0.5) + (t >= 0.75)))


def test_warm_up_rises_in_a_straight_line_and_ends() -> None:
    rates = [factor("constant", 0.4, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    assert factor("cosine", 0.4, 2, 10) == pytest.approx(0.75 * math.cos(math.pi * 0.1) ** 2)
