"""What run and quantize share: do the job or plan it, give the answer, and turn its verdicts into a status."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compress_ops.measure.report import Report
    from compress_ops.pipeline import Job

    from .show import Manner

T = TypeVar("T")


def execute(job: Job, manner: Manner, *, allow_unproven: bool = False) -> None:
    """Do the job and give its report; a job without an output is a dry run, of which the plan is given."""
    from compress_ops.pipeline import run

    if job.dry_run:
        _give_plan(job, manner)
    else:
        end(give_report(run, job, manner), allow_unproven)


def _give_plan(job: Job, manner: Manner) -> None:
    from compress_ops.measure.report import plain
    from compress_ops.measure.tables import plan_page
    from compress_ops.pipeline import plan

    from .show import give

    steps = watched(plan, job, manner)
    page = plan_page(job.model.name, steps, verbose=manner.verbose)
    give(page, lambda beside: {"model": str(job.model), "plan": plain(steps)}, manner)


def give_report(action: Callable[[Job], Report], job: Job, manner: Manner) -> Report:
    """Do the job by ``action`` and show its report."""
    from compress_ops.measure.tables import report_page

    from .show import give

    try:
        report: Report = watched(action, job, manner)
    except KeyboardInterrupt:
        _say_how_to_go_on(job)
        raise
    give(report_page(report, verbose=manner.verbose), report.plain, manner)
    return report


def _say_how_to_go_on(job: Job) -> None:
    """An interrupted training has left its state."""
    from compress_ops.pipeline.job import checkpoint_of

    steps = range(1, len(job.recipe.passes) + 1)
    kept = [checkpoint_of(job.out, step) for step in steps] if job.out is not None else []
    for path in (path for path in kept if path.exists()):
        typer.echo(f"{path} holds the training as of its last epoch: the same command with --resume goes on", err=True)


def watched(action: Callable[[Job], T], job: Job, manner: Manner) -> T:
    """Do something with a job while progress is shown."""
    from dataclasses import replace

    from .progress import watching

    with watching(quiet=manner.quiet) as progress:
        return action(replace(job, progress=progress))


def end(report: Report, allow_unproven: bool) -> None:
    """Exit status 1 for a budget that is missed, or not proven; the output is there, and stderr says why."""
    from .guard import BUDGET

    failing = ["missed"] if allow_unproven else ["missed", "not proven"]
    failures = [verdict for verdict in report.verdicts if verdict.verdict in failing]
    for failure in failures:
        told = f"budget {failure.verdict}: {failure.limit}: wanted {failure.wanted}, measured {failure.measured}"
        typer.echo(told, err=True)
    if failures:
        hint = "; --allow-unproven accepts what is not proven" if any(f.verdict != "missed" for f in failures) else ""
        typer.echo(f"{report.out} was written all the same{hint}", err=True)
        raise typer.Exit(BUDGET)


def output(out: Path | None, *, dry_run: bool) -> Path | None:
    """Where the result goes: nowhere on a dry run, and else it must be said."""
    from compress_ops.errors import UsageError

    if out is None and not dry_run:
        raise UsageError("where should the result go?", hint="give -o FILE, or --dry-run to see the plan alone")
    return None if dry_run else out
