"""From a choice of forms to the steps of a recipe, one step for each form with the names of its layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from glob import escape

from ...arrays import Array
from ...recipe import Step
from ..costs.apart import Layer
from ..costs.forms import Form
from ..preparing import steps_of


def steps_for(choice: Array, layers: Sequence[Layer], forms: Sequence[Form], present: Collection[str]) -> list[Step]:
    """The steps that give each layer its form: 0 is float, i + 1 is ``forms[i]``; ``present``: types of operators."""
    steps = []
    for number, form in enumerate(forms, start=1):
        names = [name for layer, chosen in zip(layers, choice, strict=True) if chosen == number for name in layer.nodes]
        if names:
            steps += steps_of([form.step([*map(escape, names), *sorted(form.along.intersection(present))])])
    return steps


def told(choice: Array, forms: Sequence[str]) -> str:
    """A choice in words: ``12 int8 static, 3 codebook of 16, 1 float``."""
    counts = [(int((choice == number).sum()), name) for number, name in enumerate(forms)]
    return ", ".join(f"{count} {name}" for count, name in sorted(counts, reverse=True) if count)
