"""learn_rounding: round weights up or down so that outputs change least, not so that weights do.

For inputs X the outputs of a layer change by X (w - s q), whose square is (w - s q)^T H (w - s q) with H = X^T X:
errors of weights that are read together can cancel (Nagel et al. 2020, AdaRound, arXiv:2004.10568). Scales stay. Codes
are chosen in closed form, without gradients: first by carrying each rounding error on to the weights not yet rounded
(GPTQ: Frantar et al. 2022, arXiv:2210.17323), then by coordinate descent, which lowers the error further. As in
AdaRound a code is one of the two next to w / s, which keeps portable weights portable and costs little (digits-cnn, one
scale per weight: 40.1 dB before, 42.9 after, 42.8 if codes may go farther). Rows for which rounding to nearest is
better keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from ...arrays import Array
from ...graph.layer_inputs import Rows, in_groups, products
from ...graph.layers.view import view_of_weight
from ...lazy import ir
from ...model import Model
from ...passes import ALL, NONE, Change, Context, Need, Only, Promise, Skip, register
from ..few_bits.gptq import LARGEST_PATCH, compensated_codes
from ..numbers.blocks import BlockFormat, Grid
from .counterparts import Counterpart, counterparts, unquantized_of
from .descent import descend, errors
from .stored_codes import StoredCodes, stored_codes

_WHOLE = 1e-4  # numbers so near to a whole one are that
_WITHIN = 1.0  # codes farther from the weight than that, in steps, are no rounding of it


@register("learn_rounding", promises=Promise.IMPROVES, needs={Need.CALIBRATION, Need.UNQUANTIZED})
def learn_rounding(
    model: Model,
    ctx: Context,
    *,
    damping: Annotated[
        float,
        Field(gt=0, le=1, description="Share of the mean of H's diagonal that is added to it; GPTQ's own 0.01."),
    ] = 0.01,
    sweeps: Annotated[
        int,
        Field(ge=0, description="Sweeps of coordinate descent after GPTQ at most; few codes change after the fifth."),
    ] = 5,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Choose anew, up or down, how int8 weights were rounded, so that the outputs on calibration data change least.

    AdaRound's aim (Nagel et al. 2020, arXiv:2004.10568), reached by error feedback (GPTQ, arXiv:2210.17323) and by
    coordinate descent (QuantEase, arXiv:2309.01885). Put it behind quantize_static or quantize_dynamic, and
    correct_bias behind it. Scales, size and speed stay. The coarser the scale the more is gained: most with one scale
    per weight. Needs a few hundred samples: with fewer rows than a layer has inputs it learns the data by
    heart. Grouped convolutions and weights in blocks (quantize_weights, which has GPTQ itself) are declined.
    """
    original, change = unquantized_of(ctx, "learn_rounding"), Change()
    tasks = _tasks(counterparts(model, original, only, skip, change), change)
    for group in ctx.progress([*in_groups(tasks, lambda task: task.rows)], "learn_rounding"):
        hessians = products(original, ctx, [rows for task in group for rows in task.rows], "learn_rounding: Hessians")
        for task in group:
            _round(task, np.asarray(sum(hessians[rows.key] for rows in task.rows)), damping, sweeps, change)
    return change


@dataclass
class _Task:
    """Codes with all the layers that read them, and what their Hessian sums over."""

    codes: StoredCodes
    pairs: list[Counterpart]
    rows: list[Rows] = field(default_factory=list)

    @property
    def inner(self) -> int:
        return int(self.codes.tensor.size // self.pairs[0].channels)


def _tasks(pairs: Sequence[Counterpart], change: Change) -> list[_Task]:
    found: dict[ir.Value, _Task] = {}
    for pair in pairs:
        codes = stored_codes(pair)
        if isinstance(codes, str):
            change.decline(pair.name, f"{pair.exact.op_type}: {codes}")
        else:
            found.setdefault(codes.value, _Task(codes, [])).pairs.append(pair)
    return [task for task in found.values() if _is_feasible(task, change)]


def _is_feasible(task: _Task, change: Change) -> bool:
    """Fill in the rows; False, and declined, where there cannot be a Hessian of all that read the codes."""
    reason = ""
    if len(task.codes.readers) > len(task.pairs):
        reason = "layers that are not selected read its codes too"
    elif task.pairs[0].exact.op_type == "Conv" and task.inner > LARGEST_PATCH:
        reason = f"its patches of {task.inner} numbers are too large for a Hessian"
    for pair in task.pairs:
        value = pair.exact.inputs[0]
        assert value is not None
        task.rows.append(Rows(value, task.inner, pair.exact if pair.exact.op_type == "Conv" else None))
        if reason:
            change.decline(pair.name, f"{pair.exact.op_type}: {reason}")
    return not reason


def _round(task: _Task, hessian: Array, damping: float, sweeps: int, change: Change) -> None:
    before, scale, first = task.codes.matrix(), task.codes.scales(), task.pairs[0]
    weight = view_of_weight(first.exact).matrix(first.weight.numpy())
    reason = _why_not(weight, before, scale, hessian)
    if not reason:
        after, gain = _best_codes(weight, task.codes, hessian, damping, sweeps)
        reason = "" if gain > 0 else "rounding to nearest is best already"
    for pair in task.pairs:
        if reason:
            change.decline(pair.name, f"{pair.exact.op_type}: {reason}")
        else:
            what = f"{(after != before).mean():.0%} of the codes; {gain:.0%} less squared error of the outputs"
            change.touch(pair.name, what)
    if not reason:
        task.codes.write(after)


def _why_not(weight: Array, codes: Array, scale: Array, hessian: Array) -> str:
    if not np.isfinite(hessian).all():
        return "its inputs are not finite on the calibration data"
    if not np.diag(hessian).any():
        return "its inputs are all zero on the calibration data"
    if codes.shape != weight.shape or not (np.abs(weight - codes * scale) <= _WITHIN * scale).all():
        return "its codes are no rounding of the weight before"
    return ""


def _best_codes(weight: Array, codes: StoredCodes, hessian: Array, damping: float, sweeps: int) -> tuple[Array, float]:
    """int16 [rows, inner], and the share of the squared error that is gone."""
    before, scale = codes.matrix(), codes.scales()
    form = BlockFormat(8, weight.shape[1], symmetric=False)
    carried = compensated_codes(weight, hessian, form, Grid(scale, codes.first), damping, True).astype(np.int16)
    bounds = _up_and_down(weight / scale, codes)
    damped = hessian + np.float32(damping * np.diag(hessian).mean()) * np.eye(len(hessian), dtype=np.float32)
    after = descend(weight, np.clip(carried - codes.first, *bounds), bounds, scale, damped, sweeps)
    plain, found = (errors(weight, tried, scale, hessian) for tried in (before, after))
    chosen = np.where((found < plain)[:, None], after, before)
    total = float(plain.sum())
    return chosen, 1 - float(np.minimum(plain, found).sum()) / total if total > 0 else 0.0


def _up_and_down(ratio: Array, codes: StoredCodes) -> tuple[Array, Array]:
    """The whole numbers below and above w / s: with these, pairs of portable weights cannot overflow either."""
    lower, upper = np.floor(ratio + _WHOLE), np.ceil(ratio - _WHOLE)
    return np.clip(lower, codes.least, codes.most), np.clip(upper, codes.least, codes.most)
