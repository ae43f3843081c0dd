"""What prune_channels and prune_heads share: score the groups, select units, cut them, and tell what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import Array
from ..model import Model
from ..passes import Change, Context, Need, matches, selected
from .channels import Group, Grouping, Role, Trimmed, cut
from .scores.evidence import CannotScore, evidence_of, measure
from .scores.table import SCORES, Normalize, ScoreName, normalized
from .units.costs import multiply_adds, parameters
from .units.least_error import least_error
from .units.selection import By, Dial, Scope, Widths, by_channels, turn, within_reach
from .units.silence import give_back, silence, why_loud
from .units.time import setting_for_time


@dataclass(frozen=True)
class Plan:
    """The options of a pass that cuts units, of which there is one ``kind``: channels or heads."""

    kind: str
    ratio: float
    score: ScoreName
    normalize: Normalize
    scope: Scope
    by: By
    widths: Widths
    only: list[str]
    skip: list[str]
    ratios: Mapping[str, float] = field(default_factory=dict)
    soft: bool = False


def needs_of(options: Any) -> Iterator[Need]:
    """What must be there for the score and the scope."""
    if SCORES[options.score].needs_data or options.scope == "least_error":
        yield Need.CALIBRATION


def shrink(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group], plan: Plan, change: Change) -> None:
    """Cut units of these groups from a prepared model in place, or silence them, and record it."""
    known = len(groups) + (grouping.whole if plan.kind == "channels" else 0)
    groups = [group for group in groups if _allowed(group, plan, change)]
    groups, scores = _scored(model, ctx, grouping, groups, plan, change)
    before = _weights_size(grouping)
    dial = Dial(groups, scores, plan.widths, plan.scope)
    units = dial.units(_removed(model, ctx, grouping, dial, plan, change) if groups else [])
    _decline_whole(groups, units, change)
    change.touched |= silence(model, groups, units, plan.kind) if plan.soft else _cut(grouping, units)
    change.notes["groups"] = f"{_lost(groups, units)} of {known} {'silenced' if plan.soft else 'cut'}"
    _note(grouping, groups, units, before, change)


def _cut(grouping: Grouping, units: Array) -> dict[str, str]:
    roles = _roles(grouping)
    return {weight.name: _told(weight, roles) for weight in cut(grouping, units)}


def _allowed(group: Group, plan: Plan, change: Change) -> bool:
    if len(group) < 2:
        change.decline(group.name, "its channels are joined into one unit")
        return False
    out = [node.name for node in group.nodes if not selected(node, plan.only, plan.skip)]
    if out and len(out) < len(group.nodes):
        change.decline(group.name, f"its channels are those of {out[0]}, which the patterns leave out")
    if plan.soft and not out and (reason := why_loud(group)):
        change.decline(group.name, reason)
        return False
    return not out


def _scored(
    model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group], plan: Plan, change: Change
) -> tuple[list[Group], list[Array]]:
    by = SCORES[plan.score]
    magnitudes = measure(model, ctx, grouping, plan.score) if by.reads_activations else {}
    measured = by.measure(model, ctx, grouping, groups) if by.measure else [None] * len(groups)
    give_back(model, plan.kind)  # after measuring: what is silenced was measured while others made up for it
    found: list[tuple[Group, Array]] = []
    for group, own in ctx.progress(list(zip(groups, measured, strict=True)), "score"):
        try:
            score = by(evidence_of(group, magnitudes, ctx.rng, own))
            found.append((group, normalized(score, plan.normalize)))
        except CannotScore as reason:
            change.decline(group.name, str(reason))
    return [group for group, _ in found], [score for _, score in found]


def _removed(model: Model, ctx: Context, grouping: Grouping, dial: Dial, plan: Plan, change: Change) -> Sequence[int]:
    """How many units each group loses."""
    if plan.scope == "least_error":
        return least_error(model, ctx, grouping, dial, plan.by, plan.ratio)
    if plan.by == "channels":
        return by_channels(dial, [_ratio_of(group, plan) for group in dial.groups])
    if plan.by == "latency":
        return _timed(model, ctx, dial, plan, change)
    flops = plan.by == "flops"
    cost = multiply_adds(model, ctx, grouping, dial.groups) if flops else parameters(grouping, dial.groups)
    what = "multiply-adds" if flops else "parameters"
    within_reach(cost.gone(dial.counts(1)), plan.ratio, what)
    removed = turn(dial, cost.gone, plan.ratio)
    change.notes[f"{what} gone"] = f"{cost.gone(removed):.1%}"
    return removed


def _ratio_of(group: Group, plan: Plan) -> float:
    """The least that the group's nodes are given, each by the first pattern that names it."""
    return min(
        next((ratio for pattern, ratio in plan.ratios.items() if matches(pattern, node)), plan.ratio)
        for node in group.nodes
    )


def _timed(model: Model, ctx: Context, dial: Dial, plan: Plan, change: Change) -> Sequence[int]:
    """What was measured is told as a share of channels, so that a replay need not measure again."""
    found = setting_for_time(model, ctx, dial, plan.ratio)
    removed = dial.counts(found.knob)
    share = found.knob if plan.scope == "uniform" else dial.channels_gone(removed)
    change.chosen |= {"by": "channels", "ratio": share}
    change.notes["time gone"] = f"{found.gone:.1%}, measured"
    return removed


def _weights_size(grouping: Grouping) -> int:
    return sum(weight.const_value.size for weight in grouping.trace.weights if weight.const_value is not None)


def _decline_whole(groups: Sequence[Group], units: Array, change: Change) -> None:
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


def _lost(groups: Sequence[Group], units: Array) -> int:
    """How many groups lost some of their units."""
    return sum(bool(np.isin(group.units, units).any()) for group in groups)


def _note(grouping: Grouping, groups: Sequence[Group], units: Array, before: int, change: Change) -> None:
    cut_groups = [group for group in groups if np.isin(group.units, units).any()]
    change.notes |= {
        "weights": len(change.touched),
        "parameters": f"{before} -> {_weights_size(grouping)}",
    }
    mixing = sorted({reason for group in cut_groups for reason in group.mixing})
    shares = [np.isin(group.units, units).mean() for group in groups]
    if shares and max(shares) - min(shares) > 0.01:
        change.notes["of a group"] = f"{min(shares):.0%} to {max(shares):.0%}"
    if mixing:
        change.notes["over remaining channels"] = mixing[0] + (f" (and {len(mixing) - 1} more)" if mixing[1:] else "")
