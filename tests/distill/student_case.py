"""A student x[6] -> 16 -> 3 and its teacher: lessons of 200 rows, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from compress_ops.data.base import Dataset
from compress_ops.distill import distill
from compress_ops.distill.lesson.held_out import HeldOut
from compress_ops.model import Model
from compress_ops.passes import Change
from tests.helpers import Table, context, model_of, noise, outputs

MLP = "agraph (float[N,6] x) => (float[N,3] y) {{ h = Gemm(x, w1, b1) r = Relu(h) {} }}"


def mlp(seed: int = 0, hidden: int = 16, tail: str = "y = Gemm(r, w2, b2)") -> Model:
    shapes = {"w1": (6, hidden), "b1": (hidden,), "w2": (hidden, 3), "b2": (3,)}
    weights = {name: noise(*shape, seed=seed + i, scale=0.5) for i, (name, shape) in enumerate(shapes.items())}
    return model_of(MLP.format(tail), **weights)


def taught(student: Model, teacher: Model, data: Dataset | None = None, **options: Any) -> Change:
    ctx = context(training=data or Table(noise(200, 6, seed=9)), earlier=teacher)
    change = distill(student, ctx, **{"epochs": 20, "learning_rate": 0.02, **options})
    student.check()
    return change


def distance(student: Model, teacher: Model) -> float:
    x = noise(50, 6, seed=99)
    return float(np.abs(outputs(student, x=x)[0] - outputs(teacher, x=x)[0]).mean())


@contextmanager
def breaking_off(score: int, error: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Trainings end in an error when they look at the held-out data for the n-th time."""
    count, judge = iter(range(1, 1000)), HeldOut.__call__

    def breaks_off(self: HeldOut) -> float:
        if next(count) == score:
            raise error
        return judge(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldOut, "__call__", breaks_off)
        yield
