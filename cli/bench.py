"""onnxpress bench: latency only, models timed in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL", help="One or more models; the first is the reference.")
    ],
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    batch: options.Batch = None,
    seconds: options.Seconds = None,
    force: options.Force = False,
    report: options.Reports = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Time one or more models, in turn.

    They are fed with synthetic data. What slows the machine for a while slows all of them alike; the speed-up has an
    interval, and one that contains 1 is no measurable difference.
    """
    from compress_ops.measure.feeds import MeasureSettings

    from .flags import made_up, providers
    from .measuring import check_outputs, measure
    from .show import Manner

    manner = Manner(as_json, report, quiet, force=force)
    check_outputs(manner, models)
    measure(
        models,
        manner,
        providers=providers(provider),
        threads=threads or 1,
        seed=seed or 0,
        settings=MeasureSettings(batch=batch or 1, seconds=seconds or 10.0, **made_up(dim, shape, value)),
        parts=["latency"],
    )
