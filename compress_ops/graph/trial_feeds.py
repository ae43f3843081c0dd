"""What is fed to a model when its shapes are looked at or its time is taken: real data, or made-up samples that run."""

from __future__ import annotations

from ..errors import PassError
from ..measure.feeds import Measure, NoFeed, latency_feed
from ..passes import Context
from ..runtime import Arrays, Session


def feed_for(session: Session, ctx: Context) -> Arrays:
    """The feed that a run is timed on (``measure`` of the recipe), from the calibration data where there is any."""
    feed = latency_feed({"model": session}, ctx.calibration, ctx.measure or Measure(), seed=0)
    if isinstance(feed, NoFeed):
        hint = "give --data, sizes (--dim NAME=N, --shape INPUT=1,3,48,192) or numbers (--value NAME=V)"
        raise PassError(f"no made-up input runs: {feed.reason}", hint=hint)
    return feed
