"""How far the outputs would move, to first order, if a unit were not there.

With w the weights that read unit i, and y the outputs, removing the unit sets w to 0 and moves y by about
J_i = -sum over w of w dy/dw. Its importance is the mean over batches of

    sum over outputs of |J_i|^2 / |y|^2,

after Molchanov et al. (2019, arXiv:1906.10771), who square sum w dL/dw for a loss L with labels. No labels are asked
for: a loss that compares the outputs with the model's own has no gradient where it starts. Instead of one loss there
are several random ones, L = v . y with v = +-1 / |y| drawn anew for each number of y: E[(v . J)^2] = |J|^2 / |y|^2
(Hutchinson 1990). Unlike a gradient summed over a batch, samples that pull in opposite directions do not cancel.

Reading weights say it all: what makes a channel has a bias and a normalization, too, and under BatchNormalization the
scale of a filter moves nothing. Where no weight reads a unit (queries and keys), those that make it are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...autodiff import GradientModel, build_gradients, drawn_signs, trainable
from ...errors import PassError
from ...model import Model
from ...passes import Context
from ...runtime import Feeds, Session, open_session
from ..channels import Group, Grouping, Member
from .evidence import require_data, rows_of

_PROBES = 8  # random losses a batch: 16 batches then tell |J|^2 to an eighth (the relative variance of one is 2)


def first_order(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group]) -> list[Array | None]:
    """For each group the importance of its units; None where no gradient reaches what reads or makes them."""
    require_data(ctx, "gradient")
    looked_at = [_looked_at(group) for group in groups]
    of = _outputs(model)
    reached = set(trainable(model, of=of))
    wanted = {member.weight for members in looked_at for member in members}
    weights = {w.name or "": w.const_value.numpy() for w in wanted if w.const_value is not None and w.name in reached}
    totals: list[Array | None] = [None] * len(groups)
    if not weights:
        return totals
    with model.exported() as path:
        forward = open_session(path, ctx.providers, threads=ctx.threads)
    sessions: dict[Any, tuple[GradientModel, Session]] = {}
    for feeds in ctx.calibration_batches("score: gradients"):
        shapes = tuple((given, array.shape) for given, array in feeds.items())
        if shapes not in sessions:
            sessions[shapes] = _opened(model, of, list(weights), feeds, ctx)
        values = forward.run(feeds, of)
        for _ in range(_PROBES):
            probe = drawn_signs(values, sessions[shapes][0], ctx.rng)
            _add(totals, looked_at, weights, _gradients(*sessions[shapes], {**weights, **feeds, **probe}))
    return totals


def _looked_at(group: Group) -> list[Member]:
    reads = [member for member in group.members if member.role == "reads"]
    return reads or [member for member in group.members if member.role == "makes"]


def _outputs(model: Model) -> list[str]:
    """Outputs that hold floats."""
    names = [v.name or "" for v in model.graph.outputs if v.dtype is not None and v.dtype.is_floating_point()]
    if not names:
        raise PassError("score 'gradient' needs an output of floating-point numbers", hint="take another score")
    return names


def _opened(
    model: Model, of: Sequence[str], weights: Sequence[str], feeds: Feeds, ctx: Context
) -> tuple[GradientModel, Session]:
    shapes = {given: array.shape for given, array in feeds.items()}
    try:
        built = build_gradients(model, of=of, parameters=weights, shapes=shapes)
    except PassError as error:
        raise PassError(f"score 'gradient': {error.message}", hint="take another score") from error
    with built.model.exported() as path:
        return built, open_session(path, ctx.providers, threads=ctx.threads)


def _gradients(built: GradientModel, session: Session, feeds: Feeds) -> dict[str, Array]:
    found = session.run(session.taken(feeds), list(built.gradients.values()))
    return {weight: found[output] for weight, output in built.gradients.items()}


def _add(
    totals: list[Array | None], looked_at: Sequence[Sequence[Member]], weights: Feeds, gradients: dict[str, Array]
) -> None:
    """Count in one probe."""
    products = {name: weights[name].astype(np.float64) * gradient for name, gradient in gradients.items()}
    for number, members in enumerate(looked_at):
        parts = [
            rows_of(member, products[member.weight.name]).sum(axis=(1, 2))
            for member in members
            if member.weight.name in products
        ]
        if parts:
            before = totals[number]
            square = np.square(np.sum(parts, axis=0)) / _PROBES
            totals[number] = square if before is None else before + square
