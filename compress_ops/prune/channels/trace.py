"""What is known of a graph's dimensions while it is walked: the labels of every axis of every value.

A dimension (``Axis``) is one of: an array with one label per index, where it is made of channels; its size or
symbolic name, where it is not; None, where nothing is known. The labels of a weight's axes are made when a rule first
looks at the weight, so a weight used twice couples both users.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...arrays import Array
from ...graph.fixed import why_fixed
from ...lazy import ir
from ...model import Model
from ...shapes.elements import Dim, Element, Elements, Evaluator
from .axes import (
    Axis,
    Count,
    Folded,
    Layout,
    Reading,
    Unclear,
    Unnamed,
    declared,
    known_better,
    labels_of,
    live,
    ones,
    size_of,
    subgraphs,
)
from .labels import Labels
from .limits import Limits


@dataclass
class Trace:
    """What is known while walking. ``heads`` asks for whole heads as units, else for channels within heads.

    ``choices`` holds, for nodes that split one dimension into several, how many of the possible factors to pass over;
    ``balanced`` are axes, [groups, channels of a group], of operators whose groups must stay equal;
    ``loud`` are values in which channels of zero weights may be other than zero;
    ``met`` are the reasons of channels that stay because of what they meet, which another choice elsewhere may change.
    """

    model: Model
    heads: bool = False
    choices: dict[ir.Node, int] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    layouts: dict[ir.Value, Layout | None] = field(default_factory=dict)
    weights: dict[ir.Value, Layout] = field(default_factory=dict)
    grouped: dict[ir.Value, Array] = field(default_factory=dict)
    counts: list[Count] = field(default_factory=list)
    produced: list[tuple[ir.Node, Array]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    scales: list[Array] = field(default_factory=list)
    mixing: list[tuple[Array, str]] = field(default_factory=list)
    head_labels: list[Array] = field(default_factory=list)
    balanced: list[tuple[ir.Node, Array]] = field(default_factory=list)
    splits: list[tuple[ir.Node, Array, int]] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    loud: set[ir.Value] = field(default_factory=set)
    constants: set[ir.Value] = field(default_factory=set)
    generated: list[Array] = field(default_factory=list)
    _unnamed: int = 0
    _starts: list[int] = field(default_factory=list)
    _owners: list[tuple[ir.Value, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.elements = Evaluator(self._dims)
        self.limits = Limits.of(self.model)

    def layout(self, value: ir.Value | None) -> Layout:
        """A value's axes, for rules that do not know folded ones; Unclear where not even their number is known."""
        layout = self.folded_layout(value)
        for axis in layout:
            if isinstance(axis, Folded) and value is not None:
                self.labels.protect(axis.labels, f"'{value.name}' holds them in a dimension of unknown size")
        return [None if isinstance(axis, Folded) else axis for axis in layout]

    def folded_layout(self, value: ir.Value | None) -> Layout:
        """A value's axes, for rules that hand folded ones on."""
        if value is None:
            raise Unclear("an input is missing")
        if value not in self.layouts:
            self.layouts[value] = self._weight(value) if value.is_initializer() else self._named(declared(value))
        found = self.layouts[value]
        if found is None:
            raise Unclear("the shape of its input is not known")
        return found

    def rank(self, value: ir.Value) -> int | None:
        known = self.layouts.get(value) if value in self.layouts else declared(value)
        return None if known is None else len(known)

    def _dims(self, value: ir.Value) -> Elements:
        rank = self.rank(value)
        return [Dim(value, axis) for axis in range(rank)] if rank is not None else None

    def set(self, value: ir.Value, layout: Layout | None) -> None:
        """Store an output's axes; sizes that shape inference knows fill gaps. A single index is no longer cut."""
        shape = declared(value)
        if layout is not None and shape is not None and len(shape) == len(layout):
            layout = [known_better(axis, size) for axis, size in zip(layout, shape, strict=True)]
        found = [self._several(axis, value) for axis in layout] if layout is not None else shape
        self.layouts[value] = self._named(found)

    def _named(self, layout: Layout | None) -> Layout | None:
        return None if layout is None else [self._name() if axis is None else axis for axis in layout]

    def _name(self) -> Unnamed:
        self._unnamed += 1
        return Unnamed(f"?{self._unnamed}")

    def _several(self, axis: Axis, value: ir.Value) -> Axis:
        if live(axis) and len(axis) < 2:
            self.labels.protect(axis, f"'{value.name}' has only one of these")
            return len(axis)
        return axis

    def _weight(self, value: ir.Value) -> Layout:
        assert value.const_value is not None
        layout: Layout = []
        for axis, size in enumerate(value.const_value.shape.numpy()):
            several = size > 1 and value.const_value.size > 0 and self.limits.allow(size)
            layout.append(self._fresh(size) if several else size)
            if several:
                self._starts.append(self.labels.count - size)
                self._owners.append((value, axis, size))
        self.weights[value] = layout
        return layout

    def _fresh(self, size: int) -> Array:
        self.limits.make(size)
        return self.labels.fresh(size)

    def owner(self, label: int) -> tuple[ir.Value, int] | None:
        """The weight and the axis for which a label was made, if it was made for one."""
        position = bisect_right(self._starts, label) - 1
        weight, axis, size = self._owners[max(position, 0)]
        return (weight, axis) if position >= 0 and label < self._starts[position] + size else None

    def why(self, node: ir.Node, reason: str) -> str:
        return f"{node.op_type} {node.name}: {reason}"

    def protect(self, axes: Iterable[Axis], node: ir.Node, reason: str) -> None:
        for axis in axes:
            if (labels := labels_of(axis)) is not None:
                self.labels.protect(labels, self.why(node, reason))

    def join(self, left: Axis, right: Axis, node: ir.Node) -> Axis:
        """Two axes that must stay equal; returns what both are."""
        ours, theirs = labels_of(left), labels_of(right)
        if ours is not None and theirs is not None and type(left) is type(right) and len(ours) == len(theirs):
            self.labels.join(ours, theirs, self.why(node, "it joins these with channels that cannot be cut"))
            return left
        reason = "it joins these with a dimension that is no weight's channels"
        self.protect((left, right), node, reason)
        self.met.add(self.why(node, reason))
        sizes = [size_of(axis) for axis in (left, right)]
        return next((size for size in sizes if isinstance(size, int)), sizes[0] or sizes[1])

    def broadcast(self, left: Axis, right: Axis, node: ir.Node) -> Axis:
        """Two axes that meet in an elementwise operator: one of them may have size 1."""
        if isinstance(left, int) and left == 1:
            return right
        if isinstance(right, int) and right == 1:
            return left
        if isinstance(left, Unnamed) and isinstance(right, str) and left != right:
            return None if isinstance(right, Unnamed) else right
        return self.join(left, right, node)

    def broadcast_all(self, layouts: Sequence[Layout], node: ir.Node) -> Layout:
        """Several layouts, aligned at the last axis."""
        rank = max(map(len, layouts))
        padded = [[*ones(rank - len(layout)), *layout] for layout in layouts]
        result = ones(rank)
        for layout in padded:
            result = [self.broadcast(a, b, node) for a, b in zip(result, layout, strict=True)]
        return result

    def produce(self, node: ir.Node, axis: Axis) -> None:
        """This weight axis makes channels: cutting one removes a row of the node's weight, unless that is fixed."""
        if not live(axis):
            return
        self.produced.append((node, axis))
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            reasons = (
                why_fixed(value.const_value)
                for value in node.inputs[:2]
                if value is not None and value.is_initializer()
            )
            if reason := next(filter(None, reasons), ""):
                self.protect([axis], node, reason)

    def read(self, node: ir.Node, axis: Axis, value: ir.Value | None, position: int) -> None:
        """This weight axis sums over the channels of ``value``."""
        if live(axis) and value is not None:
            self.readings.append(Reading(node, axis, value, position))

    def mix(self, axes: Iterable[Axis], node: ir.Node, reason: str) -> None:
        """Channels that are seen together: after a cut, the operator sees those that remain."""
        self.mixing += [(axis, self.why(node, reason)) for axis in axes if live(axis)]

    def count(self, node: ir.Node, where: int | str, position: int | None, axis: Axis) -> None:
        if live(axis):
            self.counts.append(Count(node, where, position, axis))

    def follow(self, node: ir.Node, index: int, elements: Sequence[Element], layout: Layout) -> None:
        """See to it that the target shape in input ``index`` is right for ``layout`` after the cut."""
        for position, (element, axis) in enumerate(zip(elements, layout, strict=True)):
            if element == -1 or self.follows(element, axis):
                continue
            if isinstance(element, int):
                self.count(node, index, position, axis)
            elif isinstance(axis, Folded) and -1 not in elements:
                self.counts.append(Count(node, index, position, axis.labels, inferred=True))
            else:
                self.protect([axis, self.axis_of(element)], node, "the number of these channels is computed")

    def follows(self, element: Element, axis: Axis) -> bool:
        """Whether an element will be the number of these channels by itself."""
        other = self.axis_of(element) if isinstance(element, Dim) else None
        labels, others = labels_of(axis), labels_of(other)
        if labels is None or others is None or type(axis) is not type(other) or len(labels) != len(others):
            return False
        return bool((self.labels.roots(others) == self.labels.roots(labels)).all())

    def generate(self, node: ir.Node, index: int, position: int, element: Element) -> Axis:
        """The axis that a written number makes where nothing else says what it is made of: it can be rewritten."""
        if not isinstance(element, int) or element < 2 or not self.limits.allow(element):
            return self.axis_of(element)
        labels = self._fresh(element)
        self.generated.append(labels)
        self.count(node, index, position, labels)
        return labels

    def is_generated(self, axis: Array) -> bool:
        """Whether an axis was made by a written number."""
        return any(made[0] <= axis.min() and axis.max() <= made[-1] for made in self.generated)

    def axis_of(self, element: Element) -> Axis:
        """The axis that a target's element stands for."""
        if not isinstance(element, Dim):
            return element
        return self.folded_layout(element.value)[element.axis]

    def is_heads(self, axis: Array) -> bool:
        """Whether two computed values had these in common as a batch dimension when they were multiplied."""
        roots = self.labels.roots(axis)
        return any(len(heads) == len(roots) and (self.labels.roots(heads) == roots).all() for heads in self.head_labels)

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is a weight, or made from weights alone."""
        return value is not None and (value.is_initializer() or value in self.constants)

    def sizes_in(self, value: ir.Value) -> list[Axis]:
        """Axes of channels whose number stands in an integer tensor."""
        axes = [self.axis_of(element) for element in self.elements(value) or []]
        return [axis for axis in axes if labels_of(axis) is not None]

    def give_up(self, node: ir.Node, reason: str) -> None:
        """Protect all that goes into a node, and take its outputs to be fixed; what its weights hold stays."""
        for value in node.inputs:
            if value is not None:
                layout = self.layout(value) if value.is_initializer() else self.layouts.get(value) or []
                self.protect(layout, node, reason)
                for axis in layout if value.is_initializer() and len(layout) > 1 else []:
                    self.produce(node, axis)
                self.protect(self.sizes_in(value), node, reason)
        for graph in subgraphs(node):
            for value in graph.outputs:
                self.protect(self.layouts.get(value) or [], node, reason)
        for output in node.outputs:
            self.set(output, None)
