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
    *,
    timing: options.Timing,
    answer: options.Answer,
) -> None:
    """Time one or more models, in turn.

    They are fed with synthetic data. What slows the machine for a while slows all of them alike; the speed-up has an
    interval, and one that contains 1 is no measurable difference.
    """
    from .measuring import check_outputs, measure

    check_outputs(answer.manner, models)
    measure(models, answer.manner, timing, parts=["latency"])
