"""What a dimension is, and what shape inference and the graph's form say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from ...arrays import Array
from ...lazy import ir

Axis: TypeAlias = "Array | Folded | int | str | None"
Layout: TypeAlias = list[Axis]


@dataclass(frozen=True, eq=False)
class Folded:
    """A dimension of unknown size, such as batch * heads: its index i is the channel ``labels[i % len(labels)]``."""

    labels: Array


class Unnamed(str):
    """A name given to a size of which nothing is known, so that it can be recognized further on."""


class Unclear(Exception):
    """Raised by a rule that cannot say what an operator does to channels; the message is the reason."""


def live(axis: Axis) -> TypeGuard[Array]:
    """Whether an axis is made of channels that may be cut."""
    return axis is not None and not isinstance(axis, int | str | Folded)


def labels_of(axis: Axis) -> Array | None:
    """The channels that an axis holds, once or folded; None where it holds none."""
    return axis.labels if isinstance(axis, Folded) else axis if live(axis) else None


def size_of(axis: Axis) -> int | str | None:
    """How many indices an axis has, or the name of that number."""
    if isinstance(axis, int | str) or axis is None:
        return axis
    return None if isinstance(axis, Folded) else len(axis)


@dataclass(frozen=True)
class Count:
    """A number written in the graph that must become the number of indices kept among ``labels``.

    ``where`` is an input's index or an attribute's name; ``position`` is the place within it, if it is a list. A size
    that is ``inferred`` becomes -1 instead.
    """

    node: ir.Node
    where: int | str
    position: int | None
    labels: Array
    inferred: bool = False


@dataclass(frozen=True)
class Reading:
    """An operator's weight that sums over channels: ``labels`` of the weight's axis, and the value that it reads."""

    node: ir.Node
    labels: Array
    value: ir.Value
    axis: int


def ones(count: int) -> Layout:
    return [1] * count


def known_better(axis: Axis, inferred: Axis) -> Axis:
    """What a rule found, unless shape inference knows more: a size beats a name, a name beats nothing."""
    if live(axis) or isinstance(axis, int | Folded):
        return axis
    unknown = axis is None or (isinstance(axis, Unnamed) and inferred is not None)
    return inferred if isinstance(inferred, int) or unknown else axis


def declared(value: ir.Value) -> Layout | None:
    """The axes that a value's inferred shape tells: sizes and names ('?' is how some exporters write "unknown")."""
    if value.shape is None:
        return None
    return [size if isinstance(size, int) else _symbol(size.value) for size in value.shape]


def _symbol(name: str | None) -> str | None:
    return name if name not in (None, "", "?", "None") else None


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH":
            found.append(attribute.as_graph())
        elif attribute.type.name == "GRAPHS":
            found += attribute.as_graphs()
    return found
