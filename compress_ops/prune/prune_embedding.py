"""prune_embedding: rows of embedding tables that the data never asks for go.

A table E with R rows is read as E[ids]. Let S be the rows seen in the data. The new table holds E[S] and one row u for
all others; a map m of R int32 numbers gives each old id its new row, so the model still takes the old ids:

    E[ids]  becomes  E'[m[ids]],   E' = [E[S]; u],   m[S_k] = k,   m[i not in S] = |S|

Saved are (R - |S| - 1) rows; the map costs 4 R bytes. Tables that the same ids read share a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..arrays import Array
from ..errors import PassError
from ..graph.edit import Editor, attribute, constant_of
from ..lazy import ir
from ..model import ONNX_DOMAINS, Model
from ..passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register, selected
from ..runtime import Session, open_session

Unseen = Literal["mean", "zero", "error"]
_MOVES = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Slice"}


@register("prune_embedding", promises=Promise.SHRINKS, needs={Need.CALIBRATION})
def prune_embedding(
    model: Model,
    ctx: Context,
    *,
    min_count: Annotated[
        int, Field(ge=1, description="Rows that the data asks for fewer times than this go; 1: those never asked for.")
    ] = 1,
    unseen: Annotated[
        Unseen,
        Field(
            description="What ids without a row get: the mean of the rows that went, zeros, or an error at run time."
        ),
    ] = "mean",
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Remove the rows of embedding tables that the data never asks for, and put a map of ids in front.

    Inputs stay as they are: old ids go through a map, an initializer whose name the report gives (new row by old id;
    in the table, the last row stands for all that went). Training data counts as well as calibration data: give
    whatever holds the ids that will occur. Tables are those that Gather reads by ids from an input of the model;
    tables that others read too (tied output layers), ids that are computed (positions), and tables whose map would
    take more room than it saves are declined.
    """
    change = Change()
    groups = _groups(_lookups(model, only, skip, change))
    counts = _counted(model, ctx, groups)
    for group, count in zip(groups, counts, strict=True):
        keep = count >= min_count
        reason = _why_not(group, keep, unseen)
        if reason:
            change.decline(group.name, reason)
        else:
            model.keep_reference()
            _replace(model, group, keep, unseen, change)
    return change


@dataclass(frozen=True)
class _Lookup:
    """A Gather of rows of ``table`` by ``ids``."""

    node: ir.Node
    table: ir.Value
    ids: ir.Value

    @property
    def rows(self) -> int:
        return int(_tensor(self.table).shape.numpy()[0])


@dataclass
class _Group:
    """Lookups that share tables or ids, of tables with as many rows."""

    lookups: list[_Lookup] = field(default_factory=list)

    @property
    def name(self) -> str:
        return ", ".join(table.name or "?" for table in self.tables)

    @property
    def rows(self) -> int:
        return self.lookups[0].rows

    @property
    def tables(self) -> list[ir.Value]:
        return list(dict.fromkeys(lookup.table for lookup in self.lookups))

    @property
    def ids(self) -> list[ir.Value]:
        return list(dict.fromkeys(lookup.ids for lookup in self.lookups))

    def takes(self, lookup: _Lookup) -> bool:
        return self.rows == lookup.rows and any(
            lookup.table is other.table or lookup.ids is other.ids for other in self.lookups
        )


def _tensor(table: ir.Value) -> ir.TensorProtocol:
    assert table.const_value is not None
    return table.const_value


def _lookups(model: Model, only: list[str], skip: list[str], change: Change) -> list[_Lookup]:
    """Lookups that may be changed; a table of which one reader may not is declined as a whole."""
    found: list[_Lookup] = []
    refused: dict[ir.Value, str] = {}
    for node in model.nodes():
        table = node.inputs[0] if node.op_type == "Gather" and node.domain in ONNX_DOMAINS else None
        tensor = constant_of(table)
        if table is None or tensor is None or len(tensor.shape.numpy()) != 2 or not _holds_numbers(tensor):
            continue
        reason = _refusal(model, node, table, only, skip)
        if reason:
            refused.setdefault(table, reason)
        elif node.inputs[1] is not None:
            found.append(_Lookup(node, table, node.inputs[1]))
    for table, reason in refused.items():
        change.decline(table.name, reason)
    return [lookup for lookup in found if lookup.table not in refused]


def _holds_numbers(tensor: ir.TensorProtocol) -> bool:
    """Whether it can be an embedding: floats, or 8-bit codes; not a table of sizes."""
    return tensor.dtype.is_floating_point() or tensor.dtype.name in ("INT8", "UINT8")


def _refusal(model: Model, node: ir.Node, table: ir.Value, only: list[str], skip: list[str]) -> str:
    if not selected(node, only, skip):
        return f"{node.name}, which reads it, is left out by the patterns"
    if node.graph is not model.graph or table.graph is not model.graph:
        return "it is read inside a branch or loop"
    others = [use.node for use in table.uses() if use.node.op_type != "Gather" or use.idx != 0]
    if others:
        return f"it is tied: {others[0].name} ({others[0].op_type}) reads all of its rows"
    if table.is_graph_output():
        return "it is an output of the model"
    if attribute(node, "axis", 0) not in (0, -2):
        return f"{node.name} gathers columns of it, not rows"
    if not _from_input(node.inputs[1]):
        return "its ids are computed, not an input of the model"
    return ""


def _from_input(ids: ir.Value | None) -> bool:
    """Whether ids are an input of the model, moved or reshaped at most."""
    while ids is not None and not ids.is_graph_input():
        producer = ids.producer()
        if producer is None or producer.op_type not in _MOVES:
            return False
        ids = producer.inputs[0]
    return ids is not None


def _groups(lookups: Sequence[_Lookup]) -> list[_Group]:
    groups: list[_Group] = []
    for lookup in lookups:
        near = [group for group in groups if group.takes(lookup)]
        joined = _Group([other for group in near for other in group.lookups] + [lookup])
        groups = [group for group in groups if group not in near] + [joined]
    return groups


def _counted(model: Model, ctx: Context, groups: Sequence[_Group]) -> list[Array]:
    """How often the data asks for each row."""
    counts = [np.zeros(group.rows, np.int64) for group in groups]
    for seen in _seen(model, ctx, list(dict.fromkeys(ids for group in groups for ids in group.ids))):
        for group, count in zip(groups, counts, strict=True):
            for ids in group.ids:
                count += _frequencies(seen[ids], group)
    return counts


def _frequencies(ids: Array, group: _Group) -> Array:
    flat = ids.reshape(-1).astype(np.int64)
    if flat.size and (flat.max() >= group.rows or flat.min() < -group.rows):
        worst = flat[np.abs(flat).argmax()]
        raise PassError(f"the data has the id {worst}, and '{group.name}' has {group.rows} rows")
    return np.bincount(flat % group.rows, minlength=group.rows)


def _seen(model: Model, ctx: Context, wanted: Sequence[ir.Value]) -> Iterator[dict[ir.Value, Array]]:
    """What these values are on each batch of the data."""
    given = {value: value.name or "" for value in wanted if value.is_graph_input()}
    made = [value for value in wanted if value not in given]
    with _session(model, made) as session:
        for feeds in _feeds(ctx) if wanted else ():
            found = session.run(feeds).values() if session is not None else ()
            yield {**{value: feeds[name] for value, name in given.items()}, **dict(zip(made, found, strict=True))}


@contextmanager
def _session(model: Model, made: Sequence[ir.Value]) -> Iterator[Session | None]:
    """As much of the model as makes these values."""
    if not made:
        yield None
        return
    part = model.copy()
    by_name = {value.name: value for node in part.graph for value in node.outputs}
    part.graph.outputs[:] = [by_name[value.name] for value in made]
    part.drop_unused()
    with part.exported() as path:
        yield open_session(path)


def _feeds(ctx: Context) -> Iterator[dict[str, Array]]:
    yield from ctx.calibration_batches("prune_embedding: rows seen")
    if ctx.training is not None and ctx.training is not ctx.calibration:
        label, limit = "prune_embedding: rows seen in training", 1 if ctx.dry_run else None
        yield from (batch.feeds for batch in ctx.training.watched(ctx.progress, label, limit))


def _why_not(group: _Group, keep: Array, unseen: Unseen) -> str:
    gone = int((~keep).sum())
    if not gone:
        return f"the data asks for each of its {group.rows} rows"
    if not keep.any():
        return f"the data asks for none of its {group.rows} rows"
    saved = sum(_tensor(table).nbytes // group.rows for table in group.tables) * (gone - (unseen != "error"))
    if saved <= 4 * group.rows:
        return f"{gone} of its {group.rows} rows could go: {saved} bytes, and the map of ids takes {4 * group.rows}"
    return ""


def _replace(model: Model, group: _Group, keep: Array, unseen: Unseen, change: Change) -> None:
    rows = np.where(keep, np.cumsum(keep) - 1, keep.sum()).astype(np.int32)
    ids = model.add_weight(f"{group.tables[0].name}_rows", ir.Tensor(rows))
    for value in group.ids:
        _look_up_rows(model, value, ids, [lookup.node for lookup in group.lookups if lookup.ids is value])
    for table in group.tables:
        _shrink(table, keep, unseen)
        told = f"rows {len(keep)} -> {_tensor(table).shape.numpy()[0]}, ids through '{ids.name}'"
        change.touch(table.name, f"{told}; {(~keep).sum()} rows went, their ids get {_TOLD[unseen]}")
    change.notes.setdefault("id maps", []).append(ids.name)


_TOLD: dict[Unseen, str] = {"mean": "their mean", "zero": "zeros", "error": "an error at run time"}


def _look_up_rows(model: Model, value: ir.Value, ids: ir.Value, readers: Sequence[ir.Node]) -> None:
    mapped = Editor(model, readers[0]).op("Gather", ids, value)
    mapped.type = ir.TensorType(ir.DataType.INT32)
    mapped.shape = value.shape.copy() if value.shape is not None else None
    for node in readers:
        node.replace_input_with(1, mapped)


def _shrink(table: ir.Value, keep: Array, unseen: Unseen) -> None:
    old = _tensor(table)
    shape = ir.Shape([int(keep.sum()) + (unseen != "error"), *old.shape.numpy()[1:]])
    table.const_value = ir.LazyTensor(
        lambda: ir.Tensor(_kept(old.numpy(), keep, unseen), dtype=old.dtype, name=table.name),
        dtype=old.dtype,
        shape=shape,
        name=table.name,
    )
    table.shape = shape.copy()


def _kept(array: Array, keep: Array, unseen: Unseen) -> Array:
    if unseen == "error":
        return array[keep]
    mean = array[~keep].astype(np.float32).mean(axis=0, keepdims=True)
    shared = mean if unseen == "mean" else np.zeros_like(mean)
    whole = np.rint(shared) if array.dtype.kind in "iu" else shared
    return np.concatenate([array[keep], whole.astype(array.dtype)])
