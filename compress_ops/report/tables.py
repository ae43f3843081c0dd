"""A report as tables of text: the one form that the terminal, Markdown and HTML are rendered from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..measure import quality
from ..measure.budget import Verdict
from ..measure.comparison import Comparison
from ..measure.environment import Environment
from . import units
from .advice import advice
from .choices import search_tables
from .measured import comparison_headline, measured_tables, metric_change, speed_change
from .page import Page, Table
from .report import Report, StepReport, TrialReport


def report_page(report: Report, *, verbose: bool = False) -> Page:
    """A finished run; ``verbose`` lists every node that was touched or declined."""
    return Page(
        title=f"{report.model.name} -> {report.out.name}",
        headline=_headline(report),
        tables=[
            *budget_tables(report.verdicts, advice(report)),
            *trials_tables(report.trials),
            *(search_tables(report.search, verbose=verbose) if report.search is not None else []),
            steps_table(report.steps, report.notes),
            *course_tables(report.steps),
            *worst_tables(report.steps),
            *(measured_tables(report.comparison) if report.comparison else [_not_measured(report)]),
            *declined_tables(report.steps, verbose=verbose),
            *(touched_tables(report.steps) if verbose else []),
            environment_table(report.environment, _cost_of_run(report), report.without_data),
        ],
    )


def _headline(report: Report) -> str:
    size = f"{units.size(report.bytes_before)} -> {units.size(report.bytes_after)}"
    facts = [f"{size} ({units.of_whole(report.bytes_after, report.bytes_before)})"]
    if report.comparison is not None:
        facts += [*speed_change(report.comparison), *metric_change(report.comparison)]
    facts += _budget_fact(report.verdicts, report.recipe.get("budget", {}).get("against"))
    return f"{report.model.name} -> {report.out.name}: " + "; ".join(facts) + "."


_TOLD = {"min_closeness": "closeness", "min_speedup": "speed-up", "max_size": "size", "max_drop": "drop"}


def _told_limit(limit: str, against: str | None) -> str:
    """What a limit is about, and of what: ``against`` names another model than the original."""
    other = Path(against).name if against else "the original"
    of = {"min_closeness": f" to {other}", "max_drop": f" from {other}" if against else ""}
    return _TOLD[limit] + of.get(limit, "")


def _budget_fact(verdicts: Sequence[Verdict], against: str | None) -> list[str]:
    """``budget met``, or which limit was missed and by what."""
    failed = [verdict for word in ("missed", "not proven") for verdict in verdicts if verdict.verdict == word]
    if not failed:
        return ["budget met"] if verdicts else []
    told = ", ".join(f"{_told_limit(v.limit, against)} {v.measured} where {v.wanted} was asked" for v in failed)
    return [f"budget {failed[0].verdict}: {told}"]


def _not_measured(report: Report) -> Table:
    before, after = report.bytes_before, report.bytes_after
    rows = [["original", units.size(before), "100.0 %"], ["result", units.size(after), units.of_whole(after, before)]]
    return Table(
        "Size", ["Model", "File", "Of original"], rows, ["Latency, cost, accuracy and fidelity: not measured."]
    )


def _cost_of_run(report: Report) -> dict[str, str]:
    comparison = report.comparison
    peak = report.peak_memory_bytes or (comparison.peak_memory if comparison else None)
    run = f"{units.seconds(report.seconds)}, {units.seconds(report.cpu_seconds)} of CPU time"
    return {"this run": run + (f", at most {units.size(peak)} of memory" if peak else "")}


def comparison_page(comparison: Comparison) -> Page:
    """Two or more models side by side."""
    return Page(
        title=" / ".join(comparison.models),
        headline=comparison_headline(comparison),
        tables=[*measured_tables(comparison), environment_table(comparison.environment)],
    )


def trials_tables(trials: Sequence[TrialReport]) -> list[Table]:
    """The candidates that were tried, where the recipe was chosen."""
    rows = [
        [
            trial.name,
            units.size(trial.bytes),
            units.UNKNOWN if trial.closeness is None else f"{trial.closeness:.5f}",
            units.UNKNOWN if trial.speedup is None else f"{trial.speedup:.2f}x",
            "chosen" if trial.chosen else "",
        ]
        for trial in trials
    ]
    notes = ["Short trials on the calibration data, where there is some; the tables below measure the result in full."]
    columns = ["Candidate", "Size", "Closeness", "Speed-up", ""]
    return [Table("Candidates", columns, rows, notes)] if len(rows) > 1 else []


def plan_page(name: str, steps: Sequence[StepReport], *, verbose: bool = False) -> Page:
    """What a dry run found."""
    before, after = steps[0].bytes_before, steps[-1].bytes_after
    change = f"about {units.size(before)} -> {units.size(after)} ({units.of_whole(after, before)})"
    return Page(
        title=f"{name}: plan",
        headline=f"{name}: {units.things(len(steps), 'step')}, {change}; nothing was written.",
        tables=[steps_table(steps), *declined_tables(steps, verbose=verbose), *touched_tables(steps)],
    )


def steps_table(steps: Sequence[StepReport], notes: Sequence[str] = ()) -> Table:
    """One row for each step of the recipe."""
    columns = ["", "Step", "Touched", "Declined", "Before", "After", "Time", "CPU", "Notes"]
    rows = [[f"{number}", *_step_row(step)] for number, step in enumerate(steps, 1)]
    if any(row[-1] for row in rows):
        return Table("Steps", columns, rows, notes)
    return Table("Steps", columns[:-1], [row[:-1] for row in rows], notes)


def _step_row(step: StepReport) -> list[str]:
    return [
        step.name,
        units.count(len(step.touched)),
        units.count(len(step.declined)),
        units.size(step.bytes_before),
        units.size(step.bytes_after),
        units.seconds(step.seconds),
        units.seconds(step.cpu_seconds),
        ", ".join(f"{name} {value}" for name, value in step.notes.items() if _is_short(name, value)),
    ]


def _is_short(name: str, value: object) -> bool:
    """Whether a note fits a cell: numbers by epoch, and those by tensor, have tables of their own."""
    return name != "sqnr_db" and not _is_course(value)


def course_tables(steps: Sequence[StepReport]) -> Iterator[Table]:
    """How a number went from epoch to epoch: what steps note as a list of numbers."""
    rows = [
        [f"{number} {step.name}", name, _course(values), f"{values[0]:.4g}", f"{values[-1]:.4g}"]
        for number, step in enumerate(steps, 1)
        for name, values in step.notes.items()
        if _is_course(values)
    ]
    if rows:
        yield Table("Training", ["Step", "", "By epoch", "First", "Last"], rows)


def _is_course(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, float) for each in value)


def _course(values: Sequence[float]) -> str:
    """One bar for each of at most 40 values; the longest is the largest."""
    bars, step = "▁▂▃▄▅▆▇█", max(1, -(-len(values) // 40))
    most = max(values) or 1.0
    return "".join(bars[min(int(max(value, 0.0) / most * len(bars)), len(bars) - 1)] for value in values[::step])


def worst_tables(steps: Sequence[StepReport]) -> Iterator[Table]:
    """The tensors that each step quantized with the lowest signal-to-noise ratio, and how much of them is clipped."""
    rows = [
        [f"{number} {step.name}", tensor, quality.told(sqnr), f"{100 * clipped:.2g} %" if clipped else "-"]
        for number, step in enumerate(steps, 1)
        for tensor, sqnr, clipped in _worst_tensors(step.notes)
    ]
    if rows:
        clips = any(row[-1] != "-" for row in rows)
        columns = ["Step", "Tensor", "SQNR", "Clipped"] if clips else ["Step", "Tensor", "SQNR"]
        yield Table("Worst tensors", columns, [row[: len(columns)] for row in rows])


def _worst_tensors(notes: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Name, decibels and clipped share, from either form of the note."""
    yield from ((found["name"], found["sqnr_db"], found.get("clipped", 0.0)) for found in notes.get("worst", ()))
    yield from ((name, sqnr, 0.0) for name, sqnr in notes.get("sqnr_db", {}).items())


def budget_tables(verdicts: Iterable[Verdict], helps: Sequence[str] = ()) -> Iterator[Table]:
    """How each limit of the budget came out, if there is one, and what would help where it was missed."""
    rows = [[verdict.limit, verdict.wanted, verdict.measured, verdict.verdict] for verdict in verdicts]
    if rows:
        yield Table(
            "Budget", ["Limit", "Wanted", "Measured", "Verdict"], rows, [f"Might help: {text}." for text in helps]
        )


def declined_tables(steps: Sequence[StepReport], *, verbose: bool = False) -> Iterator[Table]:
    """What was left alone, by reason; ``verbose`` names each node."""
    rows = [
        row for number, step in enumerate(steps, 1) for row in _declined_rows(f"{number} {step.name}", step, verbose)
    ]
    if rows:
        yield Table("Declined", ["Step", "Node" if verbose else "Count", "Reason"], rows)


def _declined_rows(label: str, step: StepReport, verbose: bool) -> list[list[str]]:
    if verbose:
        return [[label, declined.name, declined.reason] for declined in step.declined]
    return [[label, units.count(times), reason] for reason, times in reasons(step)]


def reasons(step: StepReport) -> list[tuple[str, int]]:
    """The reasons why a step declined nodes, the commonest first."""
    return Counter(declined.reason for declined in step.declined).most_common()


def touched_tables(steps: Sequence[StepReport]) -> Iterator[Table]:
    """Every node or weight that was changed."""
    rows = [[f"{i} {step.name}", name, what] for i, step in enumerate(steps, 1) for name, what in step.touched.items()]
    if rows:
        yield Table("Touched", ["Step", "Node", "What"], rows)


def environment_table(environment: Environment, more: Mapping[str, Any] | None = None, last: str = "") -> Table:
    """Where and with what it was measured, and a last sentence."""
    versions = f"onnxpress {environment.onnxpress}, onnxruntime {environment.onnxruntime}, Python {environment.python}"
    facts = {
        "provider": f"{environment.provider}, {units.things(environment.threads, 'thread')}",
        "device": environment.device,
        "processor": f"{environment.cpu}, {units.things(environment.cores, 'core')}",
        "features": " ".join(environment.cpu_features),
        "system": environment.system,
        "versions": versions,
        **(more or {}),
    }
    rows = [[name, str(fact)] for name, fact in facts.items() if fact]
    return Table("Environment", ["", ""], rows, [last] if last else [])
