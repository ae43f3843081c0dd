"""The tables of a comparison: size, latency, cost, accuracy and fidelity of two or more models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ..measure import quality
from ..measure.closeness.fidelity import Fidelity, OutputFidelity
from ..measure.comparison import NOT_ASKED, Comparison
from ..measure.cost import Profile
from ..measure.feeds import MADE_UP
from ..measure.latency import NO_DIFFERENCE, LatencyResult, ModelLatency
from ..measure.metrics.accuracy import Accuracy
from ..measure.metrics.scores import Drop, MetricScores
from ..measure.size import Size
from . import units
from .page import Table


def measured_tables(comparison: Comparison) -> list[Table]:
    """A table for each part; one that could not be measured says why, one that nobody asked for is left out."""
    tables = [
        _size_table(comparison.size),
        _latency_table(comparison),
        _cost_table(comparison.cost, comparison.latency),
        *_accuracy_tables(comparison.accuracy),
        _fidelity_table(comparison),
    ]
    return [table for table in tables if NOT_ASKED not in table.notes]


def speed_change(comparison: Comparison) -> Iterator[str]:
    """``1.42x faster [1.38, 1.46]`` for the last model against the first."""
    if not isinstance(comparison.latency, str):
        yield _speed(list(comparison.latency.models.values())[-1])


def _speed(latency: ModelLatency) -> str:
    if latency.verdict == NO_DIFFERENCE:
        return f"{NO_DIFFERENCE} in speed"
    if latency.verdict == "slower":
        ratio, interval = latency.ratio, latency.ratio_interval
    else:
        ratio, interval = latency.speedup, latency.speedup_interval
    return units.factor_with(ratio, interval).replace("x", f"x {latency.verdict}", 1)


def metric_change(comparison: Comparison) -> Iterator[str]:
    """``top1 98.3 % -> 98.1 % (no measurable drop)`` for the first metric of the last model against the first."""
    if isinstance(comparison.accuracy, str):
        return
    name, scores = next(iter(comparison.accuracy.metrics.items()))
    first, *_, last = scores.models.values()
    within = last.drop.interval if last.drop is not None else None
    change = " -> ".join(units.score(score.value, scores.better, within) for score in (first, last))
    yield f"{name} {change} ({_drop_verdict(last.drop)})"


def _drop_verdict(drop: Drop | None) -> str:
    if drop is None or drop.interval is None:
        return "cannot be compared"
    if drop.interval.contains(0):
        return "no measurable drop"
    return "better" if drop.interval.high < 0 else "worse"


def comparison_headline(comparison: Comparison) -> str:
    """What the last model is against the first; of one model, how long it takes."""
    first, *others = comparison.models
    if not others:
        return _single_headline(first, comparison.latency)
    facts = [*_size_change(comparison.size), *speed_change(comparison), *metric_change(comparison)]
    return f"{others[-1]} against {first}: " + "; ".join(facts or [_why_nothing(comparison)]) + "."


def _why_nothing(comparison: Comparison) -> str:
    return comparison.latency if isinstance(comparison.latency, str) else "nothing was measured"


def _single_headline(name: str, latency: LatencyResult | str) -> str:
    return f"{name}: " + (latency if isinstance(latency, str) else _time(latency.models[name])) + "."


def _time(latency: ModelLatency) -> str:
    return f"{units.seconds(latency.median_seconds)} per inference (median)"


def _size_change(sizes: dict[str, Size] | str) -> Iterator[str]:
    if not isinstance(sizes, str):
        first, *_, last = (size.counted for size in sizes.values())
        yield f"{units.size(first)} -> {units.size(last)} ({units.of_whole(last, first)})"


def _size_table(sizes: dict[str, Size] | str) -> Table:
    if isinstance(sizes, str):
        return Table("Size", notes=[sizes])
    original = next(iter(sizes.values())).counted
    rows = [[name, *_size_row(size, original)] for name, size in sizes.items()]
    generated = [name for name, size in sizes.items() if size.counted != size.file]
    notes = [f"{name}: weights that the graph generates count as if stored." for name in generated]
    return Table("Size", ["Model", "File", "Of original", "Weights", "With zstd"], rows, notes)


def _size_row(size: Size, original: int) -> list[str]:
    return [
        units.size(size.file),
        units.of_whole(size.counted, original),
        units.size(size.weights),
        units.size(size.zstd),
    ]


def _latency_table(comparison: Comparison) -> Table:
    latency = comparison.latency
    if isinstance(latency, str):
        return Table("Latency", notes=[latency])
    copies = any(model.with_copies_seconds is not None for model in latency.models.values())
    columns = ["Model", "Median", "p90", "p99", *(["With copies"] if copies else []), "Speed-up", "Verdict"]
    rows = [[name, *_latency_row(model, copies)] for name, model in latency.models.items()]
    return Table("Latency", columns, rows, _latency_notes(comparison, latency))


def _latency_row(model: ModelLatency, copies: bool) -> list[str]:
    times = [model.median_seconds, model.p90_seconds, model.p99_seconds]
    times += [model.with_copies_seconds or 0.0] if copies else []
    is_reference = model.verdict == "reference"
    speedup = units.UNKNOWN if is_reference else units.factor_with(model.speedup, model.speedup_interval)
    return [*map(units.seconds, times), speedup, model.verdict]


def _latency_notes(comparison: Comparison, latency: LatencyResult) -> list[str]:
    timings = units.count(2 * latency.rounds)
    how = f"{timings} pairs of timings, models in turn" if len(latency.models) > 1 else f"{timings} timings"
    settled = "" if latency.settled else ", wider than 2 % when the time was up"
    busy = "Something else ran meanwhile: wall and processor time disagree, and the intervals cover both."
    notes = [f"{_fed(comparison)}{_on(comparison)}.", f"{how}; 95 % intervals{settled}."]
    return [*notes, busy] if latency.busy else notes


def _fed(comparison: Comparison) -> str:
    feed = comparison.feed
    if isinstance(feed, str):
        return feed
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in feed.shapes.items())
    return f"One inference: {shapes} ({_source(feed.source)})"


def _source(name: str) -> str:
    """Data by its last name; what is made up is called so."""
    return "synthetic data" if name in MADE_UP else Path(name).name


def _on(comparison: Comparison) -> str:
    return f", on {comparison.environment.provider} with {units.things(comparison.environment.threads, 'thread')}"


def _cost_table(cost: dict[str, Profile] | str, latency: LatencyResult | str) -> Table:
    if isinstance(cost, str):
        return Table("Cost of one inference", notes=[cost])
    cpu = {} if isinstance(latency, str) else {name: model.cpu_seconds for name, model in latency.models.items()}
    columns = ["Model", "CPU time", "Bytes moved", "Nodes run", "Copies between providers"]
    rows = [[name, units.seconds(cpu[name]) if name in cpu else units.UNKNOWN, *_cost_row(cost[name])] for name in cost]
    return Table("Cost of one inference", columns, rows)


def _cost_row(profile: Profile) -> list[str]:
    nodes = ", ".join(f"{count} on {provider}" for provider, count in profile.nodes_by_provider.items())
    return [units.size(profile.bytes_moved), nodes, units.count(profile.copies)]


def _accuracy_tables(accuracy: Accuracy | str) -> Iterator[Table]:
    if isinstance(accuracy, str):
        yield Table("Accuracy", notes=[accuracy])
        return
    names = list(next(iter(accuracy.metrics.values())).models)
    rows = [_score_row(name, accuracy) for name in names]
    yield Table("Accuracy", ["Model", *accuracy.metrics], rows, [*_about_accuracy(names[0], accuracy)])
    if len(names) > 1:
        rows = [_drop_row(name, accuracy) for name in names[1:]]
        yield Table(f"Drop against {names[0]}", ["Model", *accuracy.metrics], rows, [_about_drops(accuracy)])


_LISTED = 12  # classes


def _about_accuracy(first: str, accuracy: Accuracy) -> Iterator[str]:
    """What it is of; how class folders became labels; and that a model which guesses was fed something else."""
    yield f"{units.count(accuracy.samples)} samples of {_source(accuracy.data)}; 95 % intervals."
    if accuracy.classes:
        listed = ", ".join(f"{number} = {name}" for number, name in enumerate(accuracy.classes[:_LISTED]))
        more = f" ... and {len(accuracy.classes) - _LISTED} more" if len(accuracy.classes) > _LISTED else ""
        yield f"Labels by class folder: {listed}{more}."
    if accuracy.guessable and accuracy.guesses:
        score = units.score(next(iter(accuracy.guessable.models.values())).value, "higher")
        guessing = f"{first} scores {score} on {accuracy.kinds} classes, about what guessing does"
        yield f"{guessing}: labels or preprocessing do not fit?"


def _score_row(model: str, accuracy: Accuracy) -> list[str]:
    scores = [(metric.models[model], metric.better) for metric in accuracy.metrics.values()]
    return [model, *(units.score_with(score.value, score.interval, better) for score, better in scores)]


def _drop_row(model: str, accuracy: Accuracy) -> list[str]:
    return [model, *(_drop_cell(metric, model) for metric in accuracy.metrics.values())]


def _drop_cell(metric: MetricScores, model: str) -> str:
    drop = metric.models[model].drop
    return units.UNKNOWN if drop is None else units.drop_with(drop.absolute, drop.interval, metric.better)


def _about_drops(accuracy: Accuracy) -> str:
    losses = [name for name, metric in accuracy.metrics.items() if metric.better == "lower"]
    points = [] if len(losses) == len(accuracy.metrics) else ["percentage points"]
    own = [f"{', '.join(losses)} in {'its' if len(losses) == 1 else 'their'} own unit"] if losses else []
    return f"Positive is worse; {'; '.join([*points, *own])}; models paired on the same samples."


def _fidelity_table(comparison: Comparison) -> Table:
    fidelity, title = comparison.fidelity, f"Fidelity to {next(iter(comparison.models))}, without labels"
    if isinstance(fidelity, str):
        return Table(title, notes=[fidelity])
    rows = [
        [model, name, *_fidelity_row(output)]
        for model, outputs in fidelity.models.items()
        for name, output in outputs.items()
    ]
    columns = ["Model", "Output", "Closeness", "Cosine", "SQNR", "KL divergence", "Top-1 agreement", "Largest error"]
    notes = [
        f"{units.count(fidelity.samples)} samples of {_source(comparison.fidelity_data)}.",
        *_fidelity_notes(fidelity),
    ]
    return Table(title, columns, rows, notes)


def _fidelity_row(output: OutputFidelity) -> list[str]:
    found = math.inf if output.identical else output.sqnr_db
    sqnr = units.UNKNOWN if found is None else quality.told(found)
    closeness = output.closeness.value if output.closeness else None
    return [
        units.UNKNOWN if closeness is None else f"{closeness:.5f}",
        units.UNKNOWN if output.cosine is None else f"{output.cosine:.6f}",
        sqnr,
        units.number(output.kl_divergence),
        units.UNKNOWN if output.top1_agreement is None else units.score(output.top1_agreement, "higher"),
        units.number(output.max_difference),
    ]


def _fidelity_notes(fidelity: Fidelity) -> Iterator[str]:
    if fidelity.padding:
        yield f"{units.count(fidelity.padding)} padding positions, which an input masks, are left out."
    for model, outputs in fidelity.models.items():
        for name, output in outputs.items():
            if output.cosine is None and not output.not_finite:
                yield f"{model}, output {name}: {units.of_whole(output.equal_share, 1)} of the elements are equal."
            if output.not_finite or output.reference_not_finite:
                counts = f"{units.count(output.not_finite)} (the reference: {units.count(output.reference_not_finite)})"
                yield f"{model}, output {name}: {counts} of {units.count(output.elements)} numbers are NaN or infinite."
