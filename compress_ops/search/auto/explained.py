"""What a search found, for the report: why each layer became what it is, and how well its costs were foretold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...arrays import Array
from ...report.choices import LayerReport, PointReport, SearchReport
from ..costs.cost_table import Costs
from ..solver import not_dominated
from .rounds import Loop, Point

_FEWEST = 3  # models that say something about agreement
_TENTH = 0.1


def explained(loops: Sequence[Loop], chosen: Point, hints: Sequence[str]) -> SearchReport:
    """The report of all that was made; ``chosen`` is one of the points."""
    made = [(loop, point) for loop in loops for point in loop.points]
    front = not_dominated(np.array([_costs(loop, point) for loop, point in made]))
    points = [
        point_report(loop, point, on_front=bool(on), chosen=point is chosen)
        for (loop, point), on in zip(made, front, strict=True)
    ]
    foretold = [told for told, (_, point) in zip(points, made, strict=True) if not point.refined]
    last = next(loop for loop, point in made if point is chosen)
    return SearchReport(
        objective=last.wishes.objective,
        points=points,
        layers=[*_layers(last, chosen)],
        failed=[reason for loop in loops for reason in loop.failed],
        rank_correlation=_rank_correlation(foretold),
        within_tenth=_within_tenth(foretold),
        hints=hints,
    )


def _costs(loop: Loop, point: Point) -> tuple[float, float, float]:
    return loop.distance(point), float(point.trial.bytes), loop.seconds(point)


def point_report(loop: Loop, point: Point, *, on_front: bool, chosen: bool) -> PointReport:
    """A model that was made, for the report."""
    trial, expected = point.trial, point.expected
    return PointReport(
        name=f"{loop.name}: {trial.name}" if loop.name else trial.name,
        bytes=trial.bytes,
        closeness=trial.closeness,
        drop=point.drop.relative if point.drop is not None else None,
        speedup=trial.speedup,
        expected_bytes=expected["bytes"],
        expected_noise=expected["loss"],
        expected_speedup=loop.predictions.original_seconds / expected["seconds"],
        meets=point.meets,
        on_front=on_front,
        chosen=chosen,
    )


def _rank_correlation(points: Sequence[PointReport]) -> float | None:
    """Spearman's, of the expected noise and the measured distance."""
    pairs = [(point.expected_noise, 1 - point.closeness) for point in points if point.closeness is not None]
    if len(pairs) < _FEWEST:
        return None
    ranks = np.argsort(np.argsort(np.array(pairs), axis=0), axis=0)
    return float(np.corrcoef(*ranks.T).item(1))


def _within_tenth(points: Sequence[PointReport]) -> float | None:
    ratios = [point.expected_speedup / point.speedup for point in points if point.speedup]
    return float(np.mean([abs(ratio - 1) <= _TENTH for ratio in ratios])) if len(ratios) >= _FEWEST else None


def _layers(loop: Loop, point: Point) -> Iterator[LayerReport]:
    costs, losses = loop.predictions.costs, loop.predictions.losses()
    total = sum(losses[i, form] for i, form in enumerate(point.choice))
    for i, (layer, form) in enumerate(zip(costs.layers, point.choice, strict=True)):
        yield LayerReport(
            name=layer.name,
            kind=layer.kind,
            form=costs.forms[form],
            bytes_before=int(costs.bytes[i, 0]),
            bytes_after=int(costs.bytes[i, form]),
            seconds_before=float(costs.seconds[i, 0]),
            seconds_after=float(costs.seconds[i, form]),
            noise=float(losses[i, form]),
            why=_why(costs, losses, i, int(form), total),
        )


def _why(costs: Costs, losses: Array, layer: int, form: int, total: float) -> str:
    """What the form gains and takes; of a layer in float, what the next best would have taken."""
    if form:
        saved = 1 - costs.bytes[layer, form] / max(costs.bytes[layer, 0], 1)
        told = f"saves {saved:.0%}" if saved >= 0 else f"takes {-saved:.0%} more, and integers"
        return f"{told} for {losses[layer, form] / (total or 1):.0%} of the loss"
    able = np.flatnonzero(np.isfinite(losses[layer, 1:])) + 1
    if not len(able):
        return "no form fits it"
    least = able[int(np.argmin(losses[layer, able]))]
    smallest = able[int(np.argmin(costs.bytes[layer, able]))]
    if costs.bytes[layer, smallest] >= costs.bytes[layer, 0]:
        return "no form is smaller"
    if not total:
        return f"even {costs.forms[least]} would lose something"
    return f"even {costs.forms[least]} would lose {losses[layer, least] / total:.0%} of what all lose now"
