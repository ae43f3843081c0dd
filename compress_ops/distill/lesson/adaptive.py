"""A teacher that is believed as far as it is right: labels correct what it teaches, sample by sample.

    q = c p + (1 - c) y,   c = <p, y>

p is what the teacher gives, y the label (shares of the classes), c the probability that the teacher gives to it, and q
what the student learns, by every loss of that output. Where the teacher is sure and right nothing changes; where it is
sure and wrong the label alone is left (after Meng et al. 2019, Conditional Teacher-Student Learning, arXiv:1904.12399,
where c is 0 or 1). It needs labels: weights by the teacher's own largest probability, a falling temperature and losses
balanced by their gradients were measured without, and won nothing (docs/benchmarks.md).
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

_LEAST = 1e-6  # of a probability: what a teacher tells of less likely classes is noise


def corrected(scores: Array, labels: Array, axis: int) -> Array:
    """float32 log q, of the teacher's scores or logarithms along an axis and labels as shares of their shape.

    Positions whose label is zeros throughout do not count, and stay as the teacher has them.
    """
    shifted = scores - scores.max(axis=axis, keepdims=True)
    whole = np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    given = np.exp(shifted - whole)
    right = (given * labels).sum(axis=axis, keepdims=True)
    learned = np.log(np.maximum(right * given + (1 - right) * labels, _LEAST))
    told: Array = learned + whole + scores.max(axis=axis, keepdims=True)
    return np.where(labels.any(axis=axis, keepdims=True), told, scores).astype(np.float32)


def shares_of(labels: Array, classes: int, axis: int) -> Array:
    """float32 shares of whole-numbered labels, the classes on a new axis; zeros where a label is below 0."""
    numbers = np.arange(classes).reshape([-1 if i == axis else 1 for i in range(labels.ndim + 1)])
    return (np.expand_dims(labels, axis) == numbers).astype(np.float32)


def two_classes(logits: Array) -> Array:
    """The scores (0, z) of no and yes on a further axis, for logits z of yes."""
    return np.stack([np.zeros_like(logits), logits], axis=-1)
