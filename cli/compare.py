"""onnxpress compare: size, latency, fidelity and every metric of two or more models, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from compress_ops.data import Dataset, DataSettings

DEFAULT_METRICS = ["top1", "precision", "recall", "f1"]


def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The model that the others are compared with.")],
    after: Annotated[list[Path], typer.Argument(metavar="AFTER", help="One or more models.")],
    data: options.Data = None,
    labels: options.Labels = None,
    metric: options.Metrics = None,
    batch_size: options.BatchSize = None,
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    batch: options.Batch = None,
    seconds: options.Seconds = None,
    allow_code: options.AllowCode = False,
    force: options.Force = False,
    report: options.Reports = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare models: size, latency, fidelity, metrics.

    With --data the models run on it; with --labels, too, they are scored: by top1, precision, recall and f1 unless
    --metric names others. Without --data the models are fed with synthetic data, and the report says so.
    """
    from compress_ops.data import DataSettings
    from compress_ops.measure.feeds import MeasureSettings

    from .flags import made_up, providers
    from .measuring import check_outputs, measure
    from .show import Manner

    manner = Manner(as_json, report, quiet, force=force)
    check_outputs(manner, [before, *after], data)
    free = made_up(dim, shape, value)
    reading = DataSettings(batch_size=batch_size or 16, labels=labels, seed=seed or 0, allow_code=allow_code, **free)
    metrics = metric or (DEFAULT_METRICS if labels else [])
    dataset = _dataset(before, data, reading, metrics)
    measure(
        [before, *after],
        manner,
        providers=providers(provider),
        threads=threads or 1,
        seed=seed or 0,
        settings=MeasureSettings(batch=batch or 1, seconds=seconds or 10.0, **free),
        evaluation=dataset if metrics else None,
        metrics=metrics,
        fidelity_data=dataset,
    )


def _dataset(model: Path, data: str | None, reading: DataSettings, metrics: list[str]) -> Dataset | None:
    """The data for the first model's inputs, if there is any; names of metrics are checked before it is read."""
    from compress_ops.data import open_data
    from compress_ops.errors import UsageError
    from compress_ops.measure.metrics.table import parse_metric
    from compress_ops.runtime import open_session

    for name in metrics:
        parse_metric(name)
    if data is None and metrics:
        raise UsageError("labels and metrics need data", hint="give --data DATA")
    if data is None:
        return None
    session = open_session(model, optimize=False)
    return open_data(data, session.inputs, reading, session.defaults)
