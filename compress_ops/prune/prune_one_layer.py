"""Sensitivity of groups: how far the outputs move when each group of channels alone is cut at a given share.

A cut needs no new graph to be judged: the outputs of the cut model are those of the original with the same channels
zeroed. So one session runs, with the group's part of each weight fed as zeros. Where that is not so (a normalization
over channels divides by how many there are; a weight is divided by, or coded, or in a branch) a copy is really cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..errors import PassError
from ..graph.overridable import altered, compared, overridable
from ..lazy import ir
from ..measure.sensitivity import Effect, Part, effect_of
from ..model import Model
from ..passes import Context
from ..runtime import Arrays, Session, open_session
from .channels import Group, Grouping, Member, cut, find_groups, prepare
from .scores.evidence import CannotScore, evidence_of
from .scores.table import SCORES
from .units.costs import Cost, parameters
from .units.multiples import block_of
from .units.selection import Dial, Widths

_MOST_REASONS = 5


@dataclass(frozen=True)
class GroupScan:
    """The effects of cutting each group, on how many samples, and why some were not looked at."""

    effects: list[Effect]
    samples: int
    declined: dict[str, str]


def scan_groups(model: Model, ctx: Context, *, ratio: float = 0.5, heads: bool = False) -> GroupScan:
    """Cut each group alone, the channels (or with ``heads`` the attention heads) of the least l2 first.

    The model stays as it is. One pass over the calibration data for each group; what the uncut model gives is
    computed once for each batch. Raises PassError, with the reasons, where no group can be cut.
    """
    model = model.copy()
    prepare(model)
    grouping = find_groups(model, heads=heads)
    declined = dict(grouping.protected)
    cuts = list(_cuts(ctx, grouping, [g for g in grouping.groups if g.heads == heads], ratio, declined))
    if not cuts:
        raise PassError(f"there is no group to cut{_reasons(declined)}", hint="see: onnxpress inspect MODEL -v")
    with overridable(model, ctx, _fed_weights(cuts)) as session:
        effects, samples = _judged(model, ctx, session, cuts)
    return GroupScan(effects, samples, declined)


def _reasons(declined: dict[str, str]) -> str:
    told = [f"{name}: {reason}" for name, reason in declined.items()]
    more = f"; and {len(told) - _MOST_REASONS} more" if len(told) > _MOST_REASONS else ""
    return f": {'; '.join(told[:_MOST_REASONS])}{more}" if told else ""


@dataclass(frozen=True)
class _Cut:
    """Units of one group that are to go."""

    part: Part
    group: Group
    units: Array
    by_zeros: bool

    def zeros(self) -> Arrays:
        """The group's weights with zeros for what would be cut."""
        gone, arrays = np.isin(self.group.units, self.units), Arrays()
        for member in self.group.members:
            name = member.weight.name or ""
            arrays.setdefault(name, _numbers(member.weight).copy())
            _zero(arrays[name], member, member.indices[gone].reshape(-1))
        return arrays


def _numbers(weight: ir.Value) -> Array:
    assert weight.const_value is not None
    return weight.const_value.numpy()


def _zero(array: Array, member: Member, indices: Array) -> None:
    """The weight of a grouped convolution is indexed by (group, channel of the group)."""
    if member.groups == 1:
        np.moveaxis(array, member.axis, 0)[indices] = 0
        return
    outputs, channels, *others = array.shape
    group, channel = np.divmod(indices, channels)
    array.reshape(member.groups, outputs // member.groups, channels, *others)[group, :, channel] = 0


def _cuts(
    ctx: Context, grouping: Grouping, groups: Sequence[Group], ratio: float, declined: dict[str, str]
) -> Iterator[_Cut]:
    block = block_of(ctx.providers[0].name, grouping.trace.model)
    widths, size = Widths(round_to=1 if any(g.heads for g in groups) else block), parameters(grouping, groups)
    for number, group in enumerate(groups):
        removed = widths.removed(group, ratio * len(group))
        if not removed:
            declined[group.name] = f"it keeps its {len(group) * group.width} channels: too few to lose any"
            continue
        try:
            dial = Dial([group], [SCORES["l2"](evidence_of(group, {}, ctx.rng))], widths, "uniform")
        except CannotScore as reason:
            declined[group.name] = str(reason)
            continue
        part = _part(group, removed, size, [removed if i == number else 0 for i in range(len(groups))])
        yield _Cut(part, group, dial.units([removed]), _can_be_zeroed(grouping.trace.model, group))


def _part(group: Group, removed: int, size: Cost, counts: Sequence[int]) -> Part:
    gone = int(size.left([0] * len(counts)) - size.left(counts) + 0.5)
    unit = "heads" if group.heads else "channels"
    each = 1 if group.heads else group.width
    what = f"{removed * each} of {len(group) * each} {unit}"
    tensor = group.members[0].weight.const_value
    names = [node.name or "?" for node in group.nodes]
    return Part(names, what, gone, gone * (int(tensor.dtype.itemsize) if tensor is not None else 4))


def _can_be_zeroed(model: Model, group: Group) -> bool:
    return not group.mixing and all(_is_plain(model, member.weight) for member in group.members)


def _is_plain(model: Model, weight: ir.Value) -> bool:
    """Whether it can be fed, and zeros in it are as good as nothing."""
    assert weight.const_value is not None
    divides = any(node.op_type == "Div" and index == 1 for node, index in weight.uses())
    dtype = weight.const_value.dtype
    return weight.graph is model.graph and dtype.is_floating_point() and dtype.itemsize > 1 and not divides


def _fed_weights(cuts: Sequence[_Cut]) -> list[ir.Value]:
    return [member.weight for cut in cuts if cut.by_zeros for member in cut.group.members]


def _judged(model: Model, ctx: Context, session: Session, cuts: Sequence[_Cut]) -> tuple[list[Effect], int]:
    """All that need zeros alone run batch by batch beside the uncut model; the others one after another."""
    zeroed, others = [cut for cut in cuts if cut.by_zeros], [cut for cut in cuts if not cut.by_zeros]
    versions = altered(session, {str(i): cut.zeros for i, cut in enumerate(zeroed)}, ctx, "one group at a time")
    found = [(zeroed, compared(ctx, session, versions))] if zeroed else []
    found += [([cut], compared(ctx, session, {"0": _really_cut(model, ctx, cut)})) for cut in others]
    effects = [effect_of(cut.part, fidelity, str(i)) for of, fidelity in found for i, cut in enumerate(of)]
    return effects, found[0][1].samples


def _really_cut(model: Model, ctx: Context, wanted: _Cut) -> Session:
    """A copy without these units; a copy's groups are numbered as the model's are."""
    twin = model.copy()
    cut(find_groups(twin, heads=wanted.group.heads), wanted.units)
    twin.drop_unused()
    with twin.exported() as path:
        return open_session(path, ctx.providers, threads=ctx.threads)
