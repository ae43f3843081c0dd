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
    *,
    timing: options.Timing,
    allow_code: options.AllowCode = False,
    answer: options.Answer,
) -> None:
    """Compare models: size, latency, fidelity, metrics.

    With --data the models run on it; with --labels, too, they are scored: by top1, precision, recall and f1 unless
    --metric names others. Without --data the models are fed with synthetic data, and the report says so.
    """
    from compress_ops.data import DataSettings

    from .flags import made_up, said
    from .measuring import check_outputs, measure

    check_outputs(answer.manner, [before, *after], data)
    read = said({"batch_size": batch_size, "labels": labels, "seed": timing.seed, **made_up(timing)})
    metrics = metric or (DEFAULT_METRICS if labels else [])
    dataset = _dataset(before, data, DataSettings(**read, allow_code=allow_code), metrics)
    scored = dataset if metrics else None
    measure([before, *after], answer.manner, timing, evaluation=scored, metrics=metrics, fidelity_data=dataset)


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
