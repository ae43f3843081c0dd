"""Run a model in stages on calibration data: each goes on, batch by batch, from the values that the one before left.

Left are the values that nodes behind the stage read. Of a value that is dequantized the codes are left: they are a
quarter as large, and what reads them is still fused into integer kernels. Where they would take more memory than
``MOST_KEPT`` the next stage begins where this one began.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

import numpy as np

from ..arrays import Array
from ..lazy import ir
from ..model import Model
from ..nodes import bodies, constant_of, maker
from ..passes import Context
from ..runtime import Arrays
from .part import part
from .tap import tapped

MOST_KEPT = 2**28  # bytes, of all batches together


class Stages:
    """What is known of a model's values so far; behind these it may be changed from stage to stage."""

    def __init__(self, ctx: Context, label: str) -> None:
        self.ctx, self.label = ctx, label
        self.kept: list[Arrays] = []

    def run(
        self,
        model: Model,
        wanted: Sequence[str],
        taps: Callable[[Model, dict[str, ir.Value]], list[ir.Node]],
        later: Container[ir.Value],
    ) -> Iterator[list[Array]]:
        """By batch what ``taps`` of the ``wanted`` values give; the next stage begins before those that come ``later``.

        The taps are built on the part of the model that is run, whose values come by name.
        """
        inputs = {value.name for value in model.graph.inputs}
        left = _left(model, later)
        known = inputs | (self.kept[0].keys() if self.kept else set())
        fresh = [name for name in left if name not in known]
        rest = part(model, _ports(self.kept), [*wanted, *fresh])
        values = {value.name or "": value for node in rest.graph for value in node.outputs}
        own, more = taps(rest, values), [ir.node("Identity", [values[name]]) for name in fresh]
        after = _Kept(left)
        with tapped(rest, self.ctx, [*own, *more]) as session:
            for before in self.kept or self.ctx.calibration_batches(self.label):
                found = [*session.run(session.taken(before)).values()]
                after.add({**before, **dict(zip(fresh, found[len(own) :], strict=True))})
                yield found[: len(own)]
        self.kept = after.batches if after.fits else self.kept


class _Kept:
    """The values that are left of each batch, as long as they are few enough."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.batches, self.bytes = names, list[Arrays](), 0

    @property
    def fits(self) -> bool:
        return self.bytes <= MOST_KEPT

    def add(self, values: Mapping[str, Array]) -> None:
        """Take in a batch; of a list that a node gives there is no telling how large it is."""
        arrays = {name: values[name] for name in self.names if name in values}  # inputs with a default need not be
        known = all(isinstance(array, np.ndarray) and array.dtype.kind != "O" for array in arrays.values())
        self.bytes += sum(array.nbytes for array in arrays.values()) if known else MOST_KEPT + 1
        self.batches = [*self.batches, arrays] if self.fits else []


def _ports(kept: Sequence[Arrays]) -> dict[str, tuple[ir.DataType, ir.Shape | None]]:
    """Types and numbers of axes of what is fed."""
    first = kept[0] if kept else {}
    return {name: (ir.DataType.from_numpy(array.dtype), ir.Shape([None] * array.ndim)) for name, array in first.items()}


def _left(model: Model, later: Container[ir.Value]) -> list[str]:
    """Names of the values that do not come later and are read by nodes of which something does, constants aside."""
    moving = _moving(model)
    nodes = [node for node in model.graph if any(value in later for value in node.outputs)]
    read = [_codes(value) for node in nodes for value in _read(node) if value in moving and value not in later]
    return list(dict.fromkeys(value.name or "" for value in read))


def _moving(model: Model) -> set[ir.Value]:
    """The inputs, and what the main graph computes from them; what follows from stored numbers alone stands still."""
    found: set[ir.Value] = set(model.graph.inputs)
    for node in model.graph:
        if not found.isdisjoint(_read(node)):
            found.update(node.outputs)
    return found


def _codes(value: ir.Value) -> ir.Value:
    """What a value is dequantized from, else the value."""
    source = maker(value, "DequantizeLinear")
    codes, *form = source.inputs if source is not None else [None]
    return codes if codes is not None and all(map(constant_of, form)) else value


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, its branches included."""
    inner = (one for graph in bodies(node) for one in ir.traversal.RecursiveGraphIterator(graph))
    yield from (value for one in (node, *inner) for value in one.inputs if value is not None)
