"""Channels that were silenced (``gradually``, ``dynamic``), in a training: what they come back with."""

from __future__ import annotations

import numpy as np

from compress_ops.distill import distill
from compress_ops.model import Model
from compress_ops.prune.prune_channels import prune_channels
from tests.distill.student_case import mlp
from tests.helpers import Table, array_of, context, noise


def silenced(model: Model, ratio: float) -> np.ndarray:
    prune_channels(model, context(), ratio=ratio, soft=True, round_to=1)
    return np.flatnonzero((array_of(model, "w2") == 0).all(axis=1))


def test_what_reads_them_is_learned_anew_from_zero_and_what_feeds_them_goes_on() -> None:
    teacher, student = mlp(), mlp()
    silent = silenced(student, 0.5)
    assert len(silent) == 8
    ctx = context(training=Table(noise(200, 6, seed=9)), earlier=teacher)
    distill(student, ctx, epochs=2, learning_rate=0.01)
    readers, old = array_of(student, "w2")[silent], array_of(teacher, "w2")[silent]
    assert (np.abs(readers) > 1e-3).all()
    reach = 0.01 * 2 * 22  # steps of at most the rate, 22 in an epoch
    assert (np.abs(readers) <= reach).all() and np.linalg.norm(readers) < 0.6 * np.linalg.norm(old)
    moved = np.abs(array_of(student, "w1") - array_of(teacher, "w1"))[:, silent]
    assert 0 < moved.max() <= reach


def test_the_next_step_may_keep_them() -> None:
    """One of them that training makes important is not silenced again."""
    teacher, student = mlp(), mlp()
    first = silenced(student, 0.5)
    ctx = context(training=Table(noise(200, 6, seed=9)), earlier=teacher)
    distill(student, ctx, epochs=30, learning_rate=0.02)
    second = silenced(student, 0.5)
    assert set(first) - set(second) and len(second) == 8
