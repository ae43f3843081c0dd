"""A sensitivity scan as tables."""

from __future__ import annotations

import json

from ..measure import quality
from ..measure.sensitivity import Effect, Sensitivity
from . import units
from .page import Page, Table

_FEW = 20  # rows, unless all are asked for


def sensitivity_page(found: Sensitivity, *, verbose: bool = False) -> Page:
    """The parts, most sensitive first, and the recipe step that spares those that stand out."""
    return Page(
        title=found.model,
        headline=_headline(found),
        tables=[
            _effects_table(found, verbose=verbose),
            _recipe_table(found),
            *_declined_tables(found, verbose=verbose),
        ],
    )


def _headline(found: Sensitivity) -> str:
    parts, count = units.things(len(found.effects), "part"), len(found.skipped)
    named = (
        "1 part stands out" if count == 1 else f"{units.count(count)} parts stand out" if count else "none stands out"
    )
    return f"{found.model}: {parts} changed one at a time by {next(iter(found.step))}; {named}."


def _effects_table(found: Sensitivity, *, verbose: bool) -> Table:
    shown = found.effects if verbose else found.effects[:_FEW]
    columns = ["Node", "Change", "Parameters", "Saves", "Cosine", "SQNR", "Top-1 agreement"]
    notes = [f"Each part alone, the others as they are; outputs against the model's own, {_data(found)}."]
    if len(shown) < len(found.effects):
        notes.append(f"{len(found.effects) - len(shown)} more with --verbose")
    return Table("Most sensitive first", columns, [_row(effect) for effect in shown], notes)


def _data(found: Sensitivity) -> str:
    return f"{units.things(found.samples, 'sample')} of {found.data}"


def _row(effect: Effect) -> list[str]:
    part, others = effect.part, len(effect.part.nodes) - 1
    return [
        f"{part.name} (+{others})" if others else part.name,
        part.what,
        units.count(part.parameters),
        units.size(part.saved),
        "not finite" if effect.noise is None else _cosine(effect.cosine),
        units.UNKNOWN if effect.sqnr_db is None else quality.told(effect.sqnr_db),
        units.score(effect.top1_agreement, "higher") if effect.top1_agreement is not None else units.UNKNOWN,
    ]


def _cosine(cosine: float | None) -> str:
    return units.UNKNOWN if cosine is None else f"{cosine:.4f}"


def _recipe_table(found: Sensitivity) -> Table:
    (name, options), *_ = found.step.items()
    written = ", ".join(f"{key}: {json.dumps(value)}" for key, value in options.items())
    note = (
        "Those in skip carry half of the noise of all parts."
        if found.skipped
        else "The noise is spread over many parts: leaving out a few would not help much."
    )
    return Table("The step for a recipe", ["", ""], [["-", f"{name}: {{{written}}}" if written else name]], [note])


def _declined_tables(found: Sensitivity, *, verbose: bool) -> list[Table]:
    rows = [[name, reason] for name, reason in found.declined.items()]
    if not rows:
        return []
    if not verbose:
        return [Table("Not looked at", notes=[f"{units.things(len(rows), 'node')}; --verbose lists them"])]
    return [Table("Not looked at", ["Node", "Reason"], rows)]
