"""What a search found: models that were made, what each layer became and why, and how well costs were foretold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import units
from .page import Table

_SHOWN = 20  # layers, those of most bytes; verbose shows all


@dataclass(frozen=True)
class PointReport:
    """A model that was made: measured, and as it was expected before. ``drop`` is relative, of the first metric.

    ``on_front``: no other model that was made is as good in size, speed and loss and better in one of them.
    """

    name: str
    bytes: int
    closeness: float | None
    drop: float | None
    speedup: float | None
    expected_bytes: float
    expected_noise: float
    expected_speedup: float
    meets: bool
    on_front: bool
    chosen: bool


@dataclass(frozen=True)
class LayerReport:
    """A layer and its form in the model that was chosen; seconds as measured by itself, ``noise`` at the outputs."""

    name: str
    kind: str
    form: str
    bytes_before: int
    bytes_after: int
    seconds_before: float
    seconds_after: float
    noise: float
    why: str


@dataclass(frozen=True)
class SearchReport:
    """``failed`` are choices of which no model could be made, with the reason.

    ``rank_correlation`` is Spearman's, of expected noise and measured distance; ``within_tenth`` the share of models
    whose time was within 10 % of what was expected. None where too few were made.
    """

    objective: str
    points: Sequence[PointReport]
    layers: Sequence[LayerReport]
    failed: Sequence[str]
    rank_correlation: float | None
    within_tenth: float | None
    hints: Sequence[str]


def search_tables(found: SearchReport, *, verbose: bool) -> list[Table]:
    """The models, then the layers."""
    return [_points_table(found), _layers_table(found.layers, verbose=verbose)]


def _points_table(found: SearchReport) -> Table:
    rows = [
        [
            point.name,
            units.size(point.bytes),
            _known(point.closeness, "{:.5f}"),
            *([_known(point.drop, "{:.2%}").replace("%", " %")] if _has_drop(found) else []),
            _known(point.speedup, "{:.2f}x"),
            f"{point.expected_speedup:.2f}x",
            "chosen" if point.chosen else "front" if point.on_front else "",
        ]
        for point in found.points
    ]
    drop = ["Drop"] if _has_drop(found) else []
    columns = ["Layers", "Size", "Closeness", *drop, "Speed-up", "Expected", ""]
    return Table(
        f"Models made, in search of: {found.objective}",
        columns,
        rows,
        [*_agreement(found), *found.failed, *found.hints],
    )


def _has_drop(found: SearchReport) -> bool:
    return any(point.drop is not None for point in found.points)


def _known(value: float | None, form: str) -> str:
    return units.UNKNOWN if value is None else form.format(value)


def _agreement(found: SearchReport) -> list[str]:
    told = []
    if found.rank_correlation is not None:
        told.append(f"expected and measured loss: rank correlation {found.rank_correlation:.2f}")
    if found.within_tenth is not None:
        told.append(f"{found.within_tenth:.0%} of the times within 10 % of what was expected")
    return [f"{'; '.join(told)}.".capitalize()] if told else []


def _layers_table(layers: Sequence[LayerReport], *, verbose: bool) -> Table:
    shown = layers if verbose else sorted(layers, key=lambda layer: -layer.bytes_before)[:_SHOWN]
    rows = [
        [
            layer.name,
            layer.form,
            f"{units.size(layer.bytes_before)} -> {units.size(layer.bytes_after)}",
            f"{units.seconds(layer.seconds_before)} -> {units.seconds(layer.seconds_after)}",
            f"{layer.noise:.2g}",
            layer.why,
        ]
        for layer in shown
    ]
    more = len(layers) - len(shown)
    notes = [f"... and {more} smaller layers; --verbose shows all"] if more else []
    return Table("Layers", ["Layer", "Became", "Bytes", "Time alone", "Noise", "Why"], rows, notes)
