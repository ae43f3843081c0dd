"""What prune_channels and prune_heads share: score the groups, select units, cut them, and tell what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..model import Model
from ..passes import Change, Context, selected
from .evidence import evidence_of, measure
from .scores import NEEDS_DATA, SCORES, CannotScore, Normalize, ScoreName, normalized
from .selection import By, Parameters, Scope, Widths, select

if TYPE_CHECKING:
    import numpy as np

    from .channels import Group, Grouping, Role, Trimmed

    Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """The options of a pass that cuts units."""

    ratio: float
    score: ScoreName
    normalize: Normalize
    scope: Scope
    by: By
    widths: Widths
    only: list[str]
    skip: list[str]


def shrink(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group], plan: Plan, change: Change) -> None:
    """Cut units of these groups from a prepared model in place, and record it."""
    from .channels import cut

    groups = [group for group in groups if _allowed(group, plan, change)]
    groups, scores = _scored(model, ctx, grouping, groups, plan, change)
    parameters = Parameters(grouping, groups)
    before = parameters.left([0] * len(groups))
    units = select(groups, scores, parameters, plan.widths, ratio=plan.ratio, scope=plan.scope, by=plan.by)
    _decline_whole(groups, units, change)
    trimmed = cut(grouping, units)
    for weight in trimmed:
        change.touch(weight.name, _told(weight, _roles(grouping)))
    _note(model, grouping, groups, units, trimmed, before, change)


def _allowed(group: Group, plan: Plan, change: Change) -> bool:
    if len(group) < 2:
        change.decline(group.name, "its channels are joined into one unit")
        return False
    out = [node.name for node in group.nodes if not selected(node, plan.only, plan.skip)]
    if out and len(out) < len(group.nodes):
        change.decline(group.name, f"its channels are those of {out[0]}, which the patterns leave out")
    return not out


def _scored(
    model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group], plan: Plan, change: Change
) -> tuple[list[Group], list[Array]]:
    magnitudes = measure(model, ctx, grouping, plan.score) if plan.score in NEEDS_DATA else {}
    found: list[tuple[Group, Array]] = []
    for group in ctx.progress(list(groups), "score"):
        try:
            score = SCORES[plan.score](evidence_of(group, magnitudes, ctx.rng))
            found.append((group, normalized(score, plan.normalize)))
        except CannotScore as reason:
            change.decline(group.name, str(reason))
    return [group for group, _ in found], [score for _, score in found]


def _decline_whole(groups: Sequence[Group], units: Array, change: Change) -> None:
    import numpy as np

    for group in groups:
        if not np.isin(group.units, units).any():
            change.decline(group.name, f"it keeps its {len(group) * group.width} channels: too few to lose any")


def _roles(grouping: Grouping) -> dict[tuple[str, int], Role]:
    members = (member for group in grouping.groups for member in group.members)
    return {(member.weight.name or "?", member.axis): member.role for member in members}


def _told(weight: Trimmed, roles: dict[tuple[str, int], Role]) -> str:
    """Such as "64 -> 32 channels, reads 128 -> 64"."""
    parts = []
    for axis, (before, after) in enumerate(zip(weight.before, weight.after, strict=True)):
        if before != after:
            reads = roles.get((weight.name, axis)) == "reads"
            parts.append(f"reads {before} -> {after}" if reads else f"{before} -> {after} channels")
    return ", ".join(parts)


def _note(
    model: Model,
    grouping: Grouping,
    groups: Sequence[Group],
    units: Array,
    trimmed: Sequence[Trimmed],
    before: int,
    change: Change,
) -> None:
    import numpy as np

    after = sum(weight.const_value.size for weight in grouping.trace.weights if weight.const_value is not None)
    cut_groups = [group for group in groups if np.isin(group.units, units).any()]
    change.notes = {
        "groups": f"{len(cut_groups)} of {len(grouping.groups)} cut",
        "weights": len(trimmed),
        "parameters": f"{before} -> {after}",
    }
    mixing = sorted({reason for group in cut_groups for reason in group.mixing})
    if mixing:
        change.notes["over remaining channels"] = mixing[0] + (f" (and {len(mixing) - 1} more)" if mixing[1:] else "")
