"""Metrics that sum a loss: each record is (sum of losses, how many), so that samples of different lengths weigh right.

mse: (y - t)^2;  mae: |y - t|;  perplexity: -log softmax(logits)[label], in nats, over the tokens that count.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from .fitting_labels import class_labels, is_counted, same_shape


def squared_errors(output: Array, labels: Array) -> Array:
    return _per_sample(_errors(output, labels) ** 2)


def absolute_errors(output: Array, labels: Array) -> Array:
    return _per_sample(abs(_errors(output, labels)))


def _errors(output: Array, labels: Array) -> Array:
    return np.asarray(output.astype(np.float64) - same_shape(output, labels))


def _per_sample(losses: Array) -> Array:
    rows = losses.reshape(len(losses), -1)
    return np.stack([rows.sum(axis=1), np.full(len(rows), float(rows.shape[1]))], axis=1)


def token_losses(output: Array, labels: Array) -> Array:
    """Per sample (negative log likelihood of its labels in nats, how many labels count)."""
    labels = class_labels(output, labels)
    counted = is_counted(labels)
    logits = output.astype(np.float64)
    top = logits.max(axis=-1)
    normalizer = top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))
    chosen = np.take_along_axis(logits, np.where(counted, labels, 0)[..., None], axis=-1)[..., 0]
    losses = np.where(counted, normalizer - chosen, 0.0)
    sums = (column.reshape(len(labels), -1).sum(axis=1) for column in (losses, counted))
    return np.stack([*sums], axis=1)
