"""A stored weight as [groups, outputs, inputs, taps]: an output sums over inputs and taps, within its group.

Conv            [groups outputs, inputs, kernel...]
ConvTranspose   [groups inputs, outputs, kernel...]
Gemm, MatMul    [inputs, outputs], with transB [outputs, inputs]; more axes in front are groups
Gather          [rows..., inputs]: nothing sums over the rows of a table
LSTM, GRU, RNN  [directions, gates, inputs]: directions are groups
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...nodes import attribute, constant_of
from .weights import PRODUCTS, RECURRENT


@dataclass(frozen=True)
class View:
    """How a stored array becomes [groups, outputs, inputs, taps]: its axes are split or joined, and reordered."""

    sizes: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        groups, outputs, inputs, taps = (self.split[axis] for axis in self.order)
        return groups, outputs, inputs, taps

    @property
    def rows(self) -> int:
        """The outputs of all groups."""
        return self.shape[0] * self.shape[1]

    @property
    def inner(self) -> int:
        """Numbers that each output sums over."""
        return self.shape[2] * self.shape[3]

    def of(self, stored: Array) -> Array:
        """[groups, outputs, inputs, taps], without a copy."""
        return stored.reshape(self.split).transpose(self.order)

    def matrix(self, stored: Array) -> Array:
        """[outputs of all groups, what each sums over]."""
        return self.of(stored).reshape(self.rows, self.inner)

    def back(self, seen: Array) -> Array:
        """What ``of`` undid."""
        return seen.transpose(np.argsort(self.order)).reshape(self.sizes)


def view_of(node: ir.Node, sizes: Sequence[int]) -> View:
    """How a node reads a weight of these sizes."""
    kind, last = node.op_type, sizes[-1]
    if kind == "ConvTranspose":
        groups = int(attribute(node, "group", 1))
        return View(tuple(sizes), (groups, sizes[0] // groups, sizes[1], math.prod(sizes[2:])), (0, 2, 1, 3))
    if kind == "Conv":
        groups = int(attribute(node, "group", 1))
        return View(tuple(sizes), (groups, sizes[0] // groups, sizes[1], math.prod(sizes[2:])), (0, 1, 2, 3))
    if kind in RECURRENT:
        return View(tuple(sizes), (math.prod(sizes[:-2]), sizes[-2], last, 1), (0, 1, 2, 3))
    if kind not in PRODUCTS or attribute(node, "transB", 0) or len(sizes) == 1:
        return View(tuple(sizes), (1, math.prod(sizes[:-1]), last, 1), (0, 1, 2, 3))
    return View(tuple(sizes), (math.prod(sizes[:-2]), sizes[-2], last, 1), (0, 2, 1, 3))


def view_of_weight(node: ir.Node) -> View:
    """How a linear operator reads the weight that it has stored."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    return view_of(node, tensor.shape.numpy())


def output_axis(node: ir.Node, rank: int, index: int = 1) -> int:
    """The axis of a weight's channels: outputs of a group, rows of a table, gates."""
    if node.op_type in ("Conv", "Gather"):
        return 0
    if node.op_type in ("ConvTranspose", *RECURRENT):
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - (1 if index == 1 else 2)
