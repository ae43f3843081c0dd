"""Not a pass, but an entry of ``passes`` that stands for several steps, each taking more, with recovery between.

Of the share s that is gone, step i of n (i = 0 ... n - 1) reaches, after Zhu and Gupta 2017 (arXiv:1710.01878),

    s_i = s_final + (s_initial - s_final) (1 - i / (n - 1))^3,

much while there is much to choose from, and little towards the end. A pass that takes channels away sees in step i what
the steps before left, so its ratio there is 1 - (1 - s_i) / (1 - s_(i-1)); one whose zeros stay is given s_i itself.
Widths are rounded in the last step only. Everything is written out before any work starts: reports and resolved recipes
know ordinary steps only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from ..errors import OnnxpressError, RecipeError
from ..passes import ShareOf
from ..settings import Fraction, Settings
from .text import Document, Path
from .types import Step

NAME = "gradually"
_DIGITS = 6  # of a ratio that a report shows


class Gradually(Settings):
    """Raises the ratio of pruning passes step by step; all listed passes are run in each step."""

    passes: list[Any] = Field(description="What each step does: a pass with a ratio, and behind it those that recover.")
    steps: int = Field(4, ge=2, le=100, description="How many times the passes are run.")
    initial: Fraction | None = Field(None, description="Share that the first step takes; null: the last one / steps.")
    final: Fraction | None = Field(None, description="Share that is gone after the last step; null: the pass's ratio.")
    dynamic: bool = Field(
        False, description="Cut in the last step only; until then channels are silenced and can come back."
    )


def expanded(
    section: Gradually, steps: Sequence[Step], path: Path, document: Document, faults: list[OnnxpressError]
) -> list[Step]:
    """The steps that the section, standing at ``path``, stands for; what is wrong with it goes to ``faults``."""
    found = [*_faults(section, steps, path, document)]
    faults += found
    return [] if found else [_at(step, section, i) for i in range(section.steps) for step in steps]


def _faults(section: Gradually, steps: Sequence[Step], path: Path, document: Document) -> Iterator[RecipeError]:
    scheduled = [step for step in steps if step.operation.share_of is not None]
    if steps and not scheduled:
        message = "gradually needs a pass that takes a share, such as prune_channels: {ratio: 0.5}"
        yield RecipeError(message, place=document.place((*path, "passes")))
    for step in scheduled:
        name, place = step.operation.name, document.place(step.path)
        if section.final is not None and "ratio" in step.options.model_fields_set:
            yield RecipeError(f"{name}: give ratio or gradually's final, not both", place=place)
        if section.dynamic and "soft" not in type(step.options).model_fields:
            yield RecipeError(f"{name} cannot give back what it took, as dynamic asks", place=place)
        yield from _unfit_shares(section, step, path, document)


def _unfit_shares(section: Gradually, step: Step, path: Path, document: Document) -> Iterator[RecipeError]:
    finals = list(_finals(section, step))
    if not finals:
        message = f"{step.operation.name} has no ratio to reach: give its ratio, or gradually's final"
        yield RecipeError(message, place=document.place(step.path))
    elif section.initial is not None and section.initial >= min(finals):
        message = f"initial: {section.initial:g} is not below the share to reach, {min(finals):g}"
        yield RecipeError(message, place=document.place((*path, "initial")))


def _finals(section: Gradually, step: Step) -> Iterator[float]:
    ratio = section.final or getattr(step.options, "ratio", None)
    if ratio is not None:
        yield ratio
        yield from (getattr(step.options, "ratios", None) or {}).values()


def _at(step: Step, section: Gradually, i: int) -> Step:
    """A listed pass as it is in step i; steps behind the first may find that rounding leaves them nothing to do."""
    changes: dict[str, Any] = {"allow_unchanged": True} if i else {}
    if step.operation.share_of is not None:
        changes |= _shares(step, section, i)
        if i < section.steps - 1:
            changes |= _unfinished(step, section)
    return Step(step.operation, type(step.options).model_validate({**step.options.model_dump(), **changes}), step.path)


def _unfinished(step: Step, section: Gradually) -> dict[str, Any]:
    """Before the last step: widths need not suit kernels yet, and ``dynamic`` does not cut, so nothing is smaller."""
    early = {"round_to": 1, **({"soft": True, "allow_larger": True} if section.dynamic else {})}
    return {name: value for name, value in early.items() if name in type(step.options).model_fields}


def _shares(step: Step, section: Gradually, i: int) -> dict[str, Any]:
    relative = step.operation.share_of is ShareOf.LEFT and not section.dynamic
    ratio, *_ = _finals(section, step)
    ratios = getattr(step.options, "ratios", None) or {}
    named = {name: _share(section, final, i, relative=relative) for name, final in ratios.items()}
    return {"ratio": _share(section, ratio, i, relative=relative), **({"ratios": named} if named else {})}


def _share(section: Gradually, final: float, i: int, *, relative: bool) -> float:
    """What step i is told to take."""
    gone = _gone(section, final, i)
    if not relative or i == 0:
        return round(gone, _DIGITS)
    return round(1 - (1 - gone) / (1 - _gone(section, final, i - 1)), _DIGITS)


def _gone(section: Gradually, final: float, i: int) -> float:
    """s_i."""
    initial = section.initial or final / section.steps
    return final + (initial - final) * (1 - i / (section.steps - 1)) ** 3
