"""Do labels fit a model's output? Each function gives the labels as a metric needs them, or says what is wrong."""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...errors import DataError

IGNORED = (-1, -100)
"""Labels of tokens that do not count (padding), in batches of sequences only."""


def class_labels(output: Array, labels: Array) -> Array:
    """Class numbers of shape [n] or [n, sequence], for an output of that shape and one more axis of class scores."""
    if output.ndim < 2 or output.shape[-1] < 2:
        hint = "the first output of the model must hold one number per class on its last axis"
        raise DataError(f"the output is {_text(output)}; scores of at least two classes are needed", hint=hint)
    numbers = whole_numbers(_shaped(labels, output.shape[:-1], output))
    known = numbers[~np.isin(numbers, IGNORED)] if numbers.ndim > 1 else numbers
    _check_range(known, output.shape[-1])
    return numbers


def is_counted(labels: Array) -> Array:
    """True where a label counts: everywhere but at ignored tokens of sequences."""
    return ~np.isin(labels, IGNORED) if labels.ndim > 1 else np.ones(labels.shape, dtype=bool)


def same_shape(output: Array, labels: Array) -> Array:
    """Numbers of the output's own shape; an axis of length 1 at the end of either may be missing in the other."""
    if labels.dtype.kind not in "biuf" or output.dtype.kind not in "biuf":
        raise DataError(f"labels ({labels.dtype}) and output ({output.dtype}) must be numbers")
    if labels.shape != output.shape and _trimmed(labels) == _trimmed(output):
        return labels.reshape(output.shape)
    return _shaped(labels, output.shape, output)


def relevance(output: Array, labels: Array) -> Array:
    """A 0/1 matrix [n, candidates], from one, or from the number of the one relevant candidate of each sample."""
    if output.ndim != 2:
        raise DataError(f"the output is {_text(output)}; scores of shape [n, candidates] are needed")
    if labels.shape == output.shape:
        _check_range(whole_numbers(labels), 2)
        return labels.astype(np.bool_)
    chosen = class_labels(output, labels)
    return np.asarray(chosen[:, None] == np.arange(output.shape[1]))


def whole_numbers(labels: Array) -> Array:
    """The labels as int64, if that loses nothing."""
    if labels.dtype.kind not in "biuf" or not np.array_equal(labels, np.rint(labels.astype(np.float64))):
        raise DataError(f"labels must be whole numbers (of classes, from 0); these are {labels.dtype}")
    return labels.astype(np.int64)


def _shaped(labels: Array, shape: tuple[int, ...], output: Array) -> Array:
    if labels.shape == (*shape, 1):
        return labels[..., 0]
    if labels.shape != shape:
        hint = f"labels of shape {list(shape)} fit this output"
        raise DataError(f"labels of shape {_text(labels)} do not fit the output of shape {_text(output)}", hint=hint)
    return labels


def _check_range(numbers: Array, classes: int) -> None:
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if len(wrong):
        hint = f"the output has room for {classes}: labels go from 0 to {classes - 1}"
        raise DataError(f"label {wrong[0]} is out of range", hint=hint)


def _trimmed(array: Array) -> tuple[int, ...]:
    return array.shape[:-1] if array.ndim > 1 and array.shape[-1] == 1 else array.shape


def _text(array: Array) -> str:
    return str(list(array.shape))
