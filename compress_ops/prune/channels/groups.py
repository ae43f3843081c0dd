"""Groups: units (sets of indices that stand or fall together) that are alike, so that scores can be compared.

Two units are alike when they own as many indices of the same weight axes. That is found with one random number per
weight axis: a unit's numbers are summed over its indices, and equal sums make a group (Zobrist hashing).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...model import Model
from .axes import labels_of, live
from .even import even_out
from .labels import NEVER
from .trace import Trace
from .walk import walk

_TRIES = 8  # a dimension split into three factors has three that may carry its channels, and others may have to follow


class Role(StrEnum):
    """What a weight axis has to do with the channels."""

    MAKES = "makes"
    READS = "reads"
    SCALES = "scales"
    FOLLOWS = "follows"


@dataclass(frozen=True)
class Member:
    """The part of a weight axis that belongs to a group: ``indices[unit]`` are the indices that the unit owns.

    The weight of a grouped convolution has several ``groups``; its indices count along (group, channel of the group).
    """

    weight: ir.Value
    axis: int
    indices: Array
    role: Role
    groups: int = 1


@dataclass
class Group:
    """Units that are alike. ``nodes`` make the channels; ``mixing`` tells which operators see channels together."""

    units: Array
    members: list[Member] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    mixing: list[str] = field(default_factory=list)
    heads: bool = False

    @property
    def name(self) -> str:
        return self.nodes[0].name or "?"

    def __len__(self) -> int:
        return len(self.units)

    @property
    def width(self) -> int:
        """Channels of the first node that one unit owns."""
        made = [member.indices.shape[1] for member in self.members if member.role is Role.MAKES]
        return made[0] if made else 1


@dataclass
class Grouping:
    """All groups of a model, in graph order, and for each node whose channels must stay the reason.

    ``whole`` counts the sets of coupled channels of which none may go.
    """

    trace: Trace
    groups: list[Group]
    protected: dict[str, str]
    whole: int = 0


def find_groups(model: Model, *, heads: bool = False) -> Grouping:
    """The coupled channels of a prepared model (see ``prepare``); with ``heads``, whole attention heads as units."""
    choices: dict[ir.Node, int] = {}
    hopeless: set[ir.Node] = set()
    for _ in range(_TRIES):
        trace = _traced(model, heads, choices)
        marks, reasons = trace.labels.protection()
        if not _choose_again(trace, marks, reasons, choices, hopeless):
            break
    return _grouping(trace, marks, reasons)


def _traced(model: Model, heads: bool, choices: dict[ir.Node, int]) -> Trace:
    trace = Trace(model, heads, dict(choices))
    walk(trace, model.graph)
    for value in model.graph.outputs:
        for axis in [*(trace.layouts.get(value) or []), *trace.sizes_in(value)]:
            if (labels := labels_of(axis)) is not None:
                trace.labels.protect(labels, f"they are the output '{value.name}'")
    even_out(trace)
    return trace


def _choose_again(
    trace: Trace, marks: Array, reasons: list[str], choices: dict[ir.Node, int], hopeless: set[ir.Node]
) -> bool:
    """Where the factor that a split chose turned out protected, try the next one; after the last, the first stays.

    A split that only met others with nothing to cut waits until these have chosen again.
    """
    stuck: list[tuple[ir.Node, int]] = []
    waiting: list[tuple[ir.Node, int]] = []
    for node, axis, candidates in trace.splits:
        found = marks[trace.labels.roots(axis)]
        if found.all() and candidates > 1 and node not in hopeless:
            met = any(reasons[mark - 1] in trace.met for mark in np.unique(found))
            (waiting if met else stuck).append((node, candidates))
    for node, candidates in stuck or waiting:
        choices[node] = (choices.get(node, 0) + 1) % candidates
        if not choices[node]:
            hopeless.add(node)
    return bool(stuck or waiting)


@dataclass(frozen=True)
class _Site:
    weight: ir.Value
    axis: int
    roots: Array
    role: Role
    groups: int


def _grouping(trace: Trace, marks: Array, reasons: list[str]) -> Grouping:
    sites = list(_sites(trace))
    made = [(node, trace.labels.roots(labels)) for node, labels in trace.produced]
    groups = _groups(trace, sites, made, marks)
    whole = {int(roots.min()) for _, roots in made if marks[roots].all()}
    return Grouping(trace, groups, _protected(made, marks, reasons), len(whole))


def _sites(trace: Trace) -> list[_Site]:
    roles = _roles(trace)
    sites = []
    for weight, layout in trace.weights.items():
        for axis, labels in enumerate(layout):
            if axis == 1 and weight in trace.grouped:
                labels = trace.grouped[weight]
            if live(labels):
                role = Role.READS if labels.ndim > 1 else roles.get((weight, axis), Role.FOLLOWS)
                groups = len(labels) if labels.ndim > 1 else 1
                sites.append(_Site(weight, axis, trace.labels.roots(labels).reshape(-1), role, groups))
    return sites


def _roles(trace: Trace) -> dict[tuple[ir.Value, int] | None, Role]:
    roles = {trace.owner(int(labels.max())): Role.SCALES for labels in trace.scales}
    roles |= {trace.owner(int(reading.labels.max())): Role.READS for reading in trace.readings}
    return roles | {trace.owner(int(labels.max())): Role.MAKES for _, labels in trace.produced}


def _groups(trace: Trace, sites: list[_Site], made: list[tuple[ir.Node, Array]], marks: Array) -> list[Group]:
    units = np.unique(np.concatenate([roots for _, roots in made])) if made else np.zeros(0, np.int64)
    units = units[marks[units] == 0]
    kinds = _kinds(trace, sites)[units]
    groups = [Group(units[kinds == kind]) for kind in np.unique(kinds)]
    groups.sort(key=lambda group: int(group.units[0]))
    where = np.full(trace.labels.count, -1)
    place = np.zeros(trace.labels.count, np.int64)
    for number, group in enumerate(groups):
        where[group.units], place[group.units] = number, np.arange(len(group))
    for site in sites:
        _add_members(groups, site, where[site.roots], place[site.roots])
    for node, roots in made:
        for number in np.unique(where[roots]):
            if number >= 0:
                groups[number].nodes.append(node)
    _describe(trace, groups, where)
    return groups


def _kinds(trace: Trace, sites: list[_Site]) -> Array:
    numbers = np.random.default_rng(0).integers(0, 2**63, len(sites), dtype=np.uint64)
    sums = np.zeros(trace.labels.count, np.uint64)
    for site, number in zip(sites, numbers, strict=True):
        np.add.at(sums, site.roots, number)
    return sums


def _add_members(groups: list[Group], site: _Site, where: Array, place: Array) -> None:
    indices = np.flatnonzero(where >= 0)
    order = indices[np.lexsort((indices, place[indices], where[indices]))]
    starts = np.flatnonzero(np.diff(where[order], prepend=-1))
    for part in np.split(order, starts[1:]) if order.size else []:
        group = groups[where[part[0]]]
        member = Member(site.weight, site.axis, part.reshape(len(group), -1), site.role, site.groups)
        group.members.append(member)


def _describe(trace: Trace, groups: list[Group], where: Array) -> None:
    for labels in trace.head_labels:
        for number in np.unique(where[trace.labels.roots(labels)]):
            if number >= 0:
                groups[number].heads = True
    for labels, reason in trace.mixing:
        for number in np.unique(where[trace.labels.roots(labels)]):
            if number >= 0:
                groups[number].mixing.append(reason)


def _protected(made: list[tuple[ir.Node, Array]], marks: Array, reasons: list[str]) -> dict[str, str]:
    protected = {}
    for node, roots in made:
        stay = marks[roots]
        if stay.any():
            share = "" if stay.all() else f"{np.count_nonzero(stay)} of {len(stay)} channels stay: "
            protected[node.name or "?"] = share + reasons[int(stay[stay != NEVER][0]) - 1]
    return protected
