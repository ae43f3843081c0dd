"""The tensors that losses compare: the student's, taken from its graph, and targets, which are inputs of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...errors import PassError
from ...graph.part import find
from ...lazy import ir
from .graph import TINY, LossGraph
from .kinds import Kind, Nature
from .terms import Pair

Shape = tuple[int, ...]
LabelForm = Literal["numbers", "shares"]


@dataclass(frozen=True)
class Target:
    """A tensor of the student, by name, and the shapes that it and the teacher's have for one batch.

    An output has a nature; an inner tensor, one of a pair, has none. ``probabilities``: what a Softmax gives.
    """

    tensor: str
    shape: Shape
    teacher_shape: Shape
    nature: Nature | None = None
    probabilities: bool = False

    @property
    def yes_or_no(self) -> bool:
        return self.nature is not None and self.nature.kind is Kind.YES_OR_NO

    @property
    def rank(self) -> int:
        """That of what is compared: yes and no are an axis of their own."""
        return len(self.shape) + self.yes_or_no

    @property
    def axis(self) -> int:
        return self.nature.axis if self.nature is not None else max(len(self.shape) - 1, 0)


@dataclass
class Inputs:
    """The inputs of an objective that bring targets: by output, by number of the pair, and those of labels and mask."""

    outputs: dict[str, str] = field(default_factory=dict)
    pairs: dict[int, str] = field(default_factory=dict)
    labels: str | None = None
    mask: str | None = None

    @property
    def names(self) -> list[str]:
        single = [name for name in (self.labels, self.mask) if name is not None]
        return [*self.outputs.values(), *self.pairs.values(), *single]


@dataclass
class Pairs:
    """Makes each input once, however many losses read it; ``helpers`` are the maps between widths."""

    graph: LossGraph
    temperature: ir.Value
    mask_shape: Shape | None
    labels: LabelForm | None
    rng: np.random.Generator
    helpers: list[str] = field(default_factory=list)
    inputs: Inputs = field(default_factory=Inputs)
    _made: dict[str, ir.Value] = field(default_factory=dict)

    def output(self, name: str, target: Target) -> Pair:
        student = self._student(target)
        teacher = self._input(f"teacher/{name}", self._dims(target, target.teacher_shape))
        self.inputs.outputs[name] = teacher.name or ""
        return self._pair(target, student, self._classes(teacher, target))

    def inner(self, number: int, target: Target, *, mapped: bool) -> Pair:
        """A pair of inner tensors; ``mapped``: the student's is brought to the teacher's width."""
        student = self._student(target)
        teacher = self._input(f"teacher/pair_{number}", self._dims(target, target.teacher_shape))
        self.inputs.pairs[number] = teacher.name or ""
        if mapped and target.shape != target.teacher_shape:
            student = self._map(target, student)
        elif target.probabilities and target.shape[1:2] != target.teacher_shape[1:2]:  # as many heads need not be
            student, teacher = (self.graph.mean(value, [1], keepdims=1) for value in (student, teacher))
        return self._pair(target, student, teacher)

    def labelled(self, target: Target) -> Pair:
        """The first output and its labels."""
        shares = self.labels == "shares"
        dims = [size for i, size in enumerate(self._dims(target, target.shape)) if shares or i != target.axis]
        dims += [2] if shares and target.yes_or_no else []
        labels = self._input("labels", dims, ir.DataType.FLOAT if shares else ir.DataType.INT64)
        self.inputs.labels = labels.name
        return replace(self._pair(target, self._student(target), labels), labels=self.labels)

    def _pair(self, target: Target, student: ir.Value, teacher: ir.Value) -> Pair:
        rank = target.rank
        values = [self._ranked(value, rank) for value in (student, teacher)] if rank < 2 else [student, teacher]
        pair = Pair(values[0], values[1], max(rank, 2), target.axis if rank > 1 else 1, self.temperature)
        pair = replace(pair, probabilities=target.probabilities)
        return replace(pair, mask=self._mask(), mask_rank=len(self.mask_shape or ())) if self._masked(target) else pair

    def _ranked(self, value: ir.Value, rank: int) -> ir.Value:
        """Single numbers as rows [n, 1]."""
        return self.graph.op("Unsqueeze", value, self.graph.integers([1] if rank else [0, 1]))

    def _student(self, target: Target) -> ir.Value:
        """The tensor that holds logits, where the output holds probabilities."""
        nature = target.nature
        name = nature.logits if nature is not None and nature.logits is not None else target.tensor
        key = f"student/{name}"
        if key not in self._made:
            value = self.graph.float32(find(self.graph.model, name))
            if nature is not None and nature.logarithm:
                value = self._logarithm(value, target.yes_or_no)
            self._made[key] = self._classes(value, target)
        return self._made[key]

    def _logarithm(self, shares: ir.Value, odds: bool) -> ir.Value:
        """log p, or log p / (1 - p)."""
        g = self.graph
        logarithm = g.op("Log", g.op("Max", shares, g.number(TINY)))
        return g.sub(logarithm, self._logarithm(g.sub(g.number(1), shares), False)) if odds else logarithm

    def _classes(self, value: ir.Value, target: Target) -> ir.Value:
        """Of logits z of yes the logits (0, z) of no and yes, on a further axis: softmax (0, z / T) = sigmoid z / T."""
        if not target.yes_or_no:
            return value
        last = len(target.shape)
        pads = [0] * last + [1] + [0] * (last + 1)
        return self.graph.op(
            "Pad", self.graph.op("Unsqueeze", value, self.graph.integers([last])), self.graph.integers(pads)
        )

    def _dims(self, target: Target, shape: Shape) -> list[int | str | None]:
        """The student's declared sizes where it declares as many, the given ones where they are known to be fixed."""
        declared = find(self.graph.model, target.tensor).shape
        if declared is None or declared.rank() != len(shape):
            return [None] * len(shape)
        sizes = [size if isinstance(size, int) else size.value for size in declared]
        return [
            size if mine == theirs else theirs for size, mine, theirs in zip(sizes, target.shape, shape, strict=True)
        ]

    def _input(self, wish: str, dims: Sequence[int | str | None], dtype: ir.DataType | None = None) -> ir.Value:
        if wish not in self._made:
            self._made[wish] = self.graph.input(wish, dims, dtype or ir.DataType.FLOAT)
        return self._made[wish]

    def _masked(self, target: Target) -> bool:
        """Positions of the mask are the first axes of the value, and none of them holds classes."""
        mask = self.mask_shape
        if mask is None or target.rank <= len(mask) or target.axis < len(mask):
            return False
        return target.shape[: len(mask)] == mask

    def _mask(self) -> ir.Value:
        mask = self._input("mask", [None] * len(self.mask_shape or ()))
        self.inputs.mask = mask.name
        return mask

    def _map(self, target: Target, student: ir.Value) -> ir.Value:
        """y = M x along the one axis whose sizes differ, M learned, its entries of variance 1 / size at first."""
        axis, mine, theirs = _differing(target)
        matrix = self.rng.normal(0, mine**-0.5, (mine, theirs)).astype(np.float32)
        weight = self.graph.model.add_weight("map", ir.Tensor(matrix))
        self.helpers.append(weight.name or "")
        order = list(range(len(target.shape)))
        order[axis], order[-1] = order[-1], order[axis]
        turn = order != sorted(order)
        value = self.graph.op("Transpose", student, perm=order) if turn else student
        product = self.graph.op("MatMul", value, weight)
        return self.graph.op("Transpose", product, perm=order) if turn else product


def _differing(target: Target) -> tuple[int, int, int]:
    """The axis along which a student's tensor differs from the teacher's, and both sizes."""
    shapes = f"{list(target.shape)} and {list(target.teacher_shape)}"
    if len(target.shape) == len(target.teacher_shape):
        sizes = enumerate(zip(target.shape, target.teacher_shape, strict=True))
        axes = [(axis, mine, theirs) for axis, (mine, theirs) in sizes if mine != theirs]
        if len(axes) == 1 and axes[0][0] > 0:
            return axes[0]
    raise PassError(
        f"pair '{target.tensor}': the shapes {shapes} differ in more than a width",
        hint="pair tensors that differ along one axis at most, such as channels",
    )
