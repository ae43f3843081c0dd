"""What run and quantize share: do the job or plan it, give the answer, and turn its verdicts into a status."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from compress_ops.errors import OutputError
    from compress_ops.measure.budget import Verdict
    from compress_ops.pipeline import Job
    from compress_ops.report.report import Report

    from .options import Doing
    from .show import Manner

T = TypeVar("T")


def execute(job: Job, doing: Doing) -> None:
    """Do the job and give its report; a job without an output is a dry run, of which the plan is given."""
    from compress_ops.pipeline import run

    if job.dry_run:
        _give_plan(job, doing.manner)
    else:
        carry_out(run, job, doing)


def _give_plan(job: Job, manner: Manner) -> None:
    from compress_ops.pipeline import plan
    from compress_ops.report.report import plain
    from compress_ops.report.tables import plan_page

    from .show import end_undelivered, give

    steps = watched(plan, job, manner)
    page = plan_page(job.model.name, steps, verbose=manner.verbose)
    end_undelivered(give(page, lambda beside: {"model": str(job.model), "plan": plain(steps)}, manner))


def carry_out(
    action: Callable[[Job], Report], job: Job, doing: Doing, keep: Callable[[Report], None] | None = None
) -> None:
    """Do the job by ``action`` and give its report; ``keep`` writes something else that was asked for."""
    from compress_ops.errors import OnnxpressError
    from compress_ops.report.tables import report_page

    from .show import attempt, give

    try:
        report: Report = watched(action, job, doing.manner)
    except (KeyboardInterrupt, OnnxpressError):
        _say_how_to_go_on(job)
        raise
    undelivered: list[OutputError] = []
    if keep is not None:
        attempt(lambda: keep(report), undelivered)
    failures = _failures(report, allow_unproven=doing.allow_unproven)
    page = report_page(report, verbose=doing.verbose)
    undelivered = give(page, report.plain, doing.manner, failed=bool(failures), undelivered=undelivered)
    _end(job, report, failures, undelivered)


def _say_how_to_go_on(job: Job) -> None:
    """A training that was interrupted, or behind which a step failed, has left its state."""
    import os

    from .faults import say

    for path in job.checkpoints:
        if os.path.exists(path):  # Path.exists raises where a name is too long
            say(f"{path} holds the training as of its last epoch: the same command with --resume goes on")


def watched(action: Callable[[Job], T], job: Job, manner: Manner) -> T:
    """Do something with a job while progress is shown; what its answer is written to is checked with the rest."""
    from dataclasses import replace

    from .guard import finish
    from .progress import watching

    with watching(quiet=manner.quiet) as progress:
        others = [*job.others, *manner.outputs]
        return action(replace(job, progress=progress, others=others, before_commit=finish))


def _failures(report: Report, *, allow_unproven: bool) -> list[Verdict]:
    """The limits that end the run with exit status 1."""
    failing = ["missed"] if allow_unproven else ["missed", "not proven"]
    return [verdict for verdict in report.verdicts if verdict.verdict in failing]


def _end(job: Job, report: Report, failures: Sequence[Verdict], undelivered: Sequence[OutputError]) -> None:
    """Exit status 1 for a limit that is missed, or not proven, and for a report that could not be written.

    The output is there, and stderr says what is amiss.
    """
    from compress_ops.errors import OnnxpressError
    from compress_ops.report.advice import advice

    from . import faults
    from .guard import UNFULFILLED

    for failure in failures:
        told = f"budget {failure.verdict}: {failure.limit}: wanted {failure.wanted}, measured {failure.measured}"
        faults.say(told)
        faults.annotate([OnnxpressError(told, place=job.loaded.document.place(("budget", failure.limit)))])
    for sentence in advice(report):
        faults.say(f"  might help: {sentence}")
    faults.tell(undelivered)
    if failures or undelivered:
        hint = "; --allow-unproven accepts what is not proven" if any(f.verdict != "missed" for f in failures) else ""
        faults.say(f"{report.out} was written all the same{hint}")
        raise typer.Exit(UNFULFILLED)


def output(out: str | None, model: Path, suffix: str, *, dry_run: bool) -> Path | None:
    """Where the result goes: nowhere on a dry run, into a folder under the model's name, else beside the model."""
    import os
    from pathlib import Path

    if dry_run:
        return None
    if out is None:
        return model.with_name(f"{model.stem}-{suffix}.onnx")
    is_folder = out.endswith(("/", os.sep)) or (os.path.isdir(out) and not os.path.islink(out))
    return Path(out) / model.name if is_folder else Path(out)
