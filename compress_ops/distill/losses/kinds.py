"""What an output holds, told by the graph before it and by its numbers, and where in the graph its logits are.

In this order:

- probabilities: it is what a Softmax or LogSoftmax gives, or numbers of a class axis that add up to 1 everywhere;
  its logits are what goes into that Softmax, else the logarithm of the numbers;
- yes or no: each number by itself is the probability of two classes, as a Sigmoid gives it; its logit is what goes
  into that Sigmoid, else log p / (1 - p). Single numbers of a linear layer are such logits where that is asked for;
- numbers: a single one a sample, or what Sigmoids give beside others (a detector's scores and boxes), or numbers that
  all lie between 0 and 1;
- scores: what a MatMul, Gemm, Conv or sum of products gives, pooled or reshaped perhaps: logits, or numbers that look
  like them;
- embedding: anything else, such as what a normalization or Tanh gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from ...arrays import Array
from ...graph.edit import attribute
from ...lazy import ir

_SAME = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Dropout"})
_RESHAPED = _SAME | {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Gather"}
_POOLED = _RESHAPED | {"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "Add", "Sub"}
_LINEAR = frozenset({"MatMul", "Gemm", "Conv", "MatMulNBits", "ReduceSum", "Einsum"})
_SIGMOIDS = frozenset({"Sigmoid", "HardSigmoid"})
_SUMS_TO_ONE = 1e-3  # what rounding in half precision leaves of a sum of shares


class Kind(StrEnum):
    PROBABILITIES = "probabilities"
    YES_OR_NO = "yes or no"
    SCORES = "scores"
    EMBEDDING = "embedding"
    NUMBERS = "numbers"


@dataclass(frozen=True)
class Nature:
    """``axis``, not negative, holds classes or features; those of yes or no are a further axis behind the last.

    ``logits`` is the value that goes into the Softmax or Sigmoid; None where the output's own numbers are taken, their
    logarithm (of yes or no: log p / (1 - p)) where ``logarithm``.
    """

    kind: Kind
    axis: int
    logits: str | None = None
    logarithm: bool = False

    @property
    def classes(self) -> bool:
        return self.kind in (Kind.PROBABILITIES, Kind.YES_OR_NO, Kind.SCORES)


def as_yes_or_no(nature: Nature, output: ir.Value, sample: Array) -> Nature:
    """Numbers taken as logits of yes or no; as probabilities where no linear layer gives them and they may be such."""
    if nature.kind is Kind.YES_OR_NO:
        return nature
    shares = not _is_linear(output) and _shares(sample)
    return Nature(Kind.YES_OR_NO, sample.ndim, logarithm=shares)


def may_be_logits(nature: Nature, output: ir.Value, sample: Array) -> bool:
    """Whether an output of numbers is one of a linear layer for each sample: the logit of yes or no, or a quantity."""
    single = sample.ndim > 0 and sample.size == len(sample)
    return nature.kind is Kind.NUMBERS and single and _is_linear(output)


def nature_of(output: ir.Value, sample: Array) -> Nature:
    """What an output is, from its graph and from what it holds for some samples."""
    last = max(sample.ndim - 1, 0)
    before = _before(output, _SAME)
    if before is not None and before.op_type in ("Softmax", "LogSoftmax"):
        axis = attribute(before, "axis", -1) % max(sample.ndim, 1)
        source = before.inputs[0]
        return Nature(Kind.PROBABILITIES, axis, source.name if source is not None else None)
    if (sigmoid := _before(output, _RESHAPED)) is not None and sigmoid.op_type == "Sigmoid" and sample.ndim:
        source = sigmoid.inputs[0] if sigmoid is before else None
        return Nature(Kind.YES_OR_NO, sample.ndim, source.name if source is not None else None, source is None)
    shares = _shares_axis(sample)
    if shares is not None:
        return Nature(Kind.PROBABILITIES, shares, logarithm=True)
    if sample.ndim < 2 or sample.shape[1:] == (1,) or _bounded(output, sample):
        return Nature(Kind.NUMBERS, last)
    linear = _before(output, _POOLED)
    if linear is None or not _is_linear(output):
        return Nature(Kind.EMBEDDING if sample.shape[last] > 1 else Kind.NUMBERS, last)
    axis = 1 if sample.ndim > 2 and linear.op_type == "Conv" and not _transposed(output) else last
    return Nature(Kind.SCORES if sample.shape[axis] > 1 else Kind.NUMBERS, axis)


def _backwards(value: ir.Value) -> Iterator[ir.Node]:
    """The nodes before a value, each the maker of the first computed input of the one behind it."""
    while (node := value.producer()) is not None:
        yield node
        computed = [each for each in node.inputs if each is not None and not each.is_initializer()]
        if not computed:
            return
        value = computed[0]


def _before(value: ir.Value, passed: frozenset[str]) -> ir.Node | None:
    """The first node before a value that is none of those to be passed; None where the model's inputs come first."""
    return next((node for node in _backwards(value) if node.op_type not in passed), None)


def _transposed(value: ir.Value) -> bool:
    passed = takewhile(lambda node: node.op_type in _POOLED, _backwards(value))
    return any(node.op_type == "Transpose" for node in passed)


def _bounded(output: ir.Value, sample: Array) -> bool:
    """Whether there are numbers between 0 and 1."""
    last = _before(output, _RESHAPED)
    joined = last.inputs if last is not None and last.op_type == "Concat" else [output]
    before = [_before(value, _RESHAPED) for value in joined if value is not None]
    if any(node is not None and node.op_type in _SIGMOIDS for node in before):
        return True
    return _shares(sample)


def _shares(sample: Array) -> bool:
    return bool(sample.size and sample.min() >= 0 and sample.max() <= 1)


def _is_linear(output: ir.Value) -> bool:
    node = _before(output, _POOLED)
    return node is not None and node.op_type in _LINEAR


def _shares_axis(sample: Array) -> int | None:
    """The axis, the last or the second, along which numbers from 0 to 1 add up to 1."""
    if sample.ndim < 2 or not sample.size or sample.min() < 0:
        return None
    for axis in (sample.ndim - 1, 1):
        if sample.shape[axis] > 1 and abs(sample.sum(axis=axis) - 1).max() < _SUMS_TO_ONE:
            return axis
    return None
