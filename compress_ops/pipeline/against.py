"""What a loss is held against where that is not the original: the model that ``budget.against`` names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import OnnxpressError, RecipeError
from ..files.reading import unreadable
from ..runtime import Port, open_session
from .job import Job


def reference_of(job: Job) -> Path | None:
    """The file that the budget names; relative to the recipe."""
    against = job.recipe.budget.against
    return None if against is None else job.loaded.folder / Path(against).expanduser()


def outputs_of(job: Job, ports: tuple[Port, ...]) -> dict[str, str]:
    """For each output of the model that of the reference: where it teaches, as the step matches them."""
    matches: dict[str, str] = {}
    for step in job.recipe.passes:
        options = step.arguments()
        if options.get("teacher") == job.recipe.budget.against:
            matches |= options.get("match", {})
    return {port.name: matches.get(port.name, port.name) for port in ports}


def reference_faults(job: Job, ports: tuple[Port, ...]) -> Iterator[OnnxpressError]:
    """Why the reference cannot be compared with: it is not there, does not load, or lacks an output."""
    path, place = reference_of(job), job.loaded.document.place(("budget", "against"))
    if path is None:
        return
    if why := unreadable(path):
        yield RecipeError(f"against: {path} {why}", place=place)
        return
    try:
        found = [port.name for port in open_session(path, job.recipe.provider, optimize=False).outputs]
    except OnnxpressError as fault:
        yield fault.moved(place)
        return
    for name in sorted({*outputs_of(job, ports).values()} - {*found}):
        hint = f"it has {', '.join(found)}"
        yield RecipeError(f"against: {path.name} has no output '{name}' to compare with", hint=hint, place=place)
