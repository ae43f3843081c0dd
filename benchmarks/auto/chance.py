"""Random recipes, as many as are made in the time that auto took, against the models that auto made.

A recipe gives each layer a form drawn at random: all from a few forms that are drawn first, so that plain recipes
(one form everywhere) are among them as well as mixed ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from compress_ops.pipeline.job import Job, Prepared
from compress_ops.pipeline.preflight import prepare
from compress_ops.recipe import LoadedRecipe, Recipe
from compress_ops.search.auto.points import steps_for, told
from compress_ops.search.candidates import Candidate
from compress_ops.search.costs.apart import layers_of
from compress_ops.search.costs.forms import FLOAT, Form, forms_for
from compress_ops.search.preparing import begun, steps_of
from compress_ops.search.trials import Trial, trials_of

_NOISE = {"bytes": 1.0, "speedup": 1.05, "distance": 1.05}  # what one point must beat another by


def random_points(model: Path, data: Path, seconds: float, most: int, seed: int = 0) -> list[Trial]:
    """Measured models of random recipes."""
    recipe = LoadedRecipe(Recipe(version=1, passes=steps_of([{"simplify": {}}]), data={"calibration": str(data)}))
    prepared = begun(prepare(Job(recipe, model, out=None)))
    start, found = perf_counter(), []
    with trials_of(prepared) as workshop:
        for candidate in _drawn(prepared, np.random.default_rng(seed)):
            found += [replace(trial, work=None) for trial in workshop.make([candidate])]
            if perf_counter() - start > seconds or len(found) >= most:
                return found
    return found


def _drawn(prepared: Prepared, rng: np.random.Generator) -> Iterator[Candidate]:
    model = prepared.model.copy()
    model.infer_shapes()
    layers, forms = layers_of(model), [form for form in forms_for(None) if form.operation != "low_rank"]
    present = {node.op_type for node in model.nodes()}
    while True:
        kinds = rng.choice(len(forms) + 1, rng.integers(1, 5))
        choice = rng.choice(kinds, len(layers))
        steps = steps_for(choice, layers, _lenient(forms), present)
        yield Candidate(told(choice, [FLOAT, *(form.name for form in forms)]), [*prepared.job.recipe.passes, *steps])


def _lenient(forms: Sequence[Form]) -> list[Form]:
    """Forms for layers that may not take them."""
    both = {"allow_unchanged": True, "allow_larger": True}
    return [replace(form, options={**form.options, **both}) for form in forms]


def beaten(points: Sequence[dict[str, float]], others: Sequence[Trial]) -> int:
    """How many of the points of a front some random one is better than, by more than noise, in all three."""
    return sum(any(_beats(other, point) for other in others) for point in points)


def _beats(other: Trial, point: dict[str, float]) -> bool:
    if other.closeness is None or other.speedup is None:
        return False
    smaller = other.bytes * _NOISE["bytes"] <= point["bytes"]
    faster = other.speedup >= point["speedup"] * _NOISE["speedup"]
    closer = (1 - other.closeness) * _NOISE["distance"] <= 1 - point["closeness"]
    return smaller and faster and closer
