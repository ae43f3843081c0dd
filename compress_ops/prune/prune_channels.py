"""prune_channels: whole channels go, so that every tensor that holds them becomes smaller.

A channel is an index along several weight axes at once: the filter that makes it, its bias and normalization, the
columns of every operator that reads it. Such coupled indices are found from the graph (see ``channels``) and are cut
together, so the result is an ordinary, narrower model. ``selection`` says how a share of channels, parameters,
multiply-adds (``costs``) or time (``time``) is aimed at, ``providers`` why widths are rounded.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..errors import PassError
from ..model import Model
from ..passes import Change, Context, Fraction, Promise, Selection, ShareOf, register
from .channels import find_groups, merge_copies, prepare
from .scores.table import Normalize, ScoreName
from .shrink import Plan, needs_of, shrink
from .units.multiples import block_of
from .units.selection import By, Scope, Widths

EVERYWHERE: dict[str, float] = {}


class ChannelsOptions(Selection):
    """What prune_channels takes."""

    ratio: Annotated[Fraction, Field(description="Share to remove: of what, says by.")] = 0.5
    ratios: Annotated[
        dict[str, Fraction],
        Field(description="Other ratios for the groups whose nodes a glob pattern names; the first that fits counts."),
    ] = EVERYWHERE
    score: Annotated[ScoreName, Field(description="What makes a channel matter; the lowest are cut.")] = "l2"
    scope: Annotated[
        Scope,
        Field(
            description="The same share of each group; the lowest of all groups together; or, with data, such shares "
            "that as much is saved with the least error in the layers behind."
        ),
    ] = "uniform"
    by: Annotated[
        By, Field(description="What the ratio is a share of; flops and latency are those of one inference.")
    ] = "channels"
    normalize: Annotated[
        Normalize, Field(description="What a group's scores are divided by, so that groups compare (scope: global).")
    ] = "mean"
    round_to: Annotated[
        int | None,
        Field(ge=1, le=256, description="Remaining widths are multiples of this; null: as the provider's kernels ask."),
    ] = None
    minimum: Annotated[int, Field(ge=1, description="Channels that every group keeps at least.")] = 1
    soft: Annotated[
        bool, Field(description="Only silence: nothing reads what goes, and the next such step may give it back.")
    ] = False


@register("prune_channels", promises=Promise.SHRINKS, asks=needs_of, share_of=ShareOf.LEFT)
def prune_channels(model: Model, ctx: Context, options: ChannelsOptions) -> Change:
    """Remove whole channels, everywhere they occur: the model becomes smaller and faster.

    Coupled channels after DepGraph (Fang et al. 2023, arXiv:2301.12900). Residual sums, concatenations, flattening,
    grouped and depthwise convolutions, channel shuffles and attention (head size) are followed through the graph;
    channels that reach an output, an unknown operator or a computed size stay, and the reason is listed. Normalizations
    over channels go on over those that remain. Patterns name the nodes whose own output channels may be cut; whoever
    reads those channels becomes narrower with them. The outputs equal those of the original with the same channels
    zeroed; accuracy needs a recovery step (refit, distill) after large cuts.
    """
    if options.ratios and options.scope == "least_error":
        raise PassError("ratios say what scope least_error would find", hint="leave out one of the two")
    if options.ratios and options.by != "channels":
        raise PassError(f"ratios are of channels, not of {options.by}", hint="leave out ratios, or by")
    change = Change()
    copies = prepare(model)
    grouping = find_groups(model)
    for name, reason in grouping.protected.items():
        change.decline(name, reason)
    change.chosen["round_to"] = options.round_to or block_of(ctx.providers[0].name, model)
    widths = Widths(channels=options.minimum, round_to=change.chosen["round_to"])
    plan = Plan(
        "channels",
        options.ratio,
        options.score,
        options.normalize,
        options.scope,
        options.by,
        widths,
        options.only,
        options.skip,
        options.ratios,
        options.soft,
    )
    shrink(model, ctx, grouping, grouping.groups, plan, change)
    merge_copies(model, copies)
    return change
