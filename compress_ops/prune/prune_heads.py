"""prune_heads: whole attention heads go.

softmax(Q_h K_h^T) V_h is computed for each head h on its own and the results stand side by side, so a head is a block
of columns of the projections that make Q, K and V and of rows of the one that reads the result (Michel et al. 2019,
arXiv:1905.10650). In the graph, heads are what two computed values have in common as a batch dimension when they are
multiplied. Query heads that share keys and values (grouped-query attention) go together with these.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..model import Model
from ..passes import ALL, NONE, Change, Context, Fraction, Only, Promise, ShareOf, Skip, register
from .channels import find_groups, merge_copies, prepare
from .scores.table import Normalize, ScoreName
from .shrink import Plan, needs_of, shrink
from .units.selection import Scope, Widths


@register("prune_heads", promises=Promise.SHRINKS, asks=needs_of, share_of=ShareOf.LEFT)
def prune_heads(
    model: Model,
    ctx: Context,
    *,
    ratio: Annotated[Fraction, Field(description="Share of heads to remove.")] = 0.25,
    score: Annotated[ScoreName, Field(description="What makes a head matter; the lowest are cut.")] = "l2",
    scope: Annotated[
        Scope,
        Field(
            description="The same share in each layer; the lowest of all layers together; or, with data, such shares "
            "that as much is saved with the least error in the layers behind."
        ),
    ] = "uniform",
    normalize: Annotated[
        Normalize, Field(description="What a layer's scores are divided by, so that layers compare (scope: global).")
    ] = "mean",
    minimum: Annotated[int, Field(ge=1, description="Heads that every layer keeps at least.")] = 1,
    soft: Annotated[
        bool, Field(description="Only silence: nothing reads what goes, and the next such step may give it back.")
    ] = False,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Remove whole attention heads, with their part of every projection.

    Works on attention as exporters write it (MatMul, Reshape, Transpose, Softmax; Einsum; the operator Attention), with
    separate or packed projections; fused operators of other domains are declined. Other channels stay;
    ``prune_channels`` cuts those, and the size of heads.
    """
    change = Change()
    copies = prepare(model)
    grouping = find_groups(model, heads=True)
    heads = [group for group in grouping.groups if group.heads]
    if not heads:
        _tell_why(change, grouping.protected)
    plan = Plan("heads", ratio, score, normalize, scope, "channels", Widths(units=minimum), only, skip, soft=soft)
    shrink(model, ctx, grouping, heads, plan, change)
    merge_copies(model, copies)
    return change


def _tell_why(change: Change, protected: dict[str, str]) -> None:
    for name, reason in protected.items():
        change.decline(name, reason)
    change.decline("attention", "no two computed values that are multiplied share a dimension of heads that may be cut")
