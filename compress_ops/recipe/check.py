"""Plain data -> a checked Recipe; every fault is found in one go and told with its line and column."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ..devices import TARGETS
from ..errors import OnnxpressError, Place, RecipeError, did_you_mean, raise_all
from ..passes import Pass, StepOptions
from ..runtime import Provider
from ..settings import wrong_with
from .gradually import NAME as GRADUALLY
from .gradually import Gradually, expanded
from .text import Document, Path
from .types import AUTO, Auto, Recipe, Step

_HOW_AUTO = "auto stands in the place of the whole list: passes: auto"
_HOW_GRADUALLY = "write gradually among the recipe's passes, as gradually: {steps: 4, passes: [...]}"
_MAY_DROP, _STAYS_CLOSE = {"max_drop": "1%"}, {"min_closeness": 0.99}  # what auto is held to where nothing is said
_MOST_STEPS = 1000
_MOST_FAULTS = 100  # of one mapping: nobody reads more, and to look for what was meant takes time


def check_document(document: Document, catalogue: dict[str, Pass]) -> Recipe:
    """Raise all faults of the document together, or return the recipe that it stands for."""
    recipe, faults = checked_document(document, catalogue)
    raise_all(faults)
    return recipe


def checked_document(document: Document, catalogue: dict[str, Pass]) -> tuple[Recipe, list[OnnxpressError]]:
    """The recipe and the faults of its steps, which it then lacks; raises where the sections are at fault, too."""
    if not isinstance(document.data, dict):
        found = "empty" if document.data is None else "not a mapping"
        raise RecipeError(f"the recipe is {found}", hint="start with: onnxpress recipe new", place=document.place(()))
    faults = list(document.faults)
    sections = _sections(document, faults)
    steps = _steps(document, catalogue, faults)
    if sections is None:
        raise_all(faults)
    assert sections is not None
    if document.data.get("passes") == AUTO:
        return _to_be_found(sections), faults
    return sections.model_copy(update={"passes": [] if faults else steps}), faults


def _to_be_found(recipe: Recipe) -> Recipe:
    """The recipe of ``passes: auto``: it holds a limit on what is lost, and its device says where it is measured."""
    auto, budget, evaluation = recipe.auto or Auto(), recipe.budget, recipe.data.evaluation
    if budget.max_drop is None and budget.min_closeness is None:
        budget = budget.but(**(_MAY_DROP if evaluation and evaluation.metrics else _STAYS_CLOSE))
    found: dict[str, Any] = {"auto": auto, "budget": budget}
    if auto.device is not None and "provider" not in recipe.model_fields_set:
        found["provider"] = [Provider(TARGETS[auto.device].provider)]
    return recipe.model_copy(update=found)


def _sections(document: Document, faults: list[OnnxpressError]) -> Recipe | None:
    plain = {**document.data, **({"passes": []} if "passes" in document.data else {})}
    try:
        return Recipe.model_validate(
            {name: value for name, value in plain.items() if not _is_empty_section(name, value)}
        )
    except ValidationError as error:
        faults += _told(error, document, (), list(Recipe.model_fields))
        return None


def _is_empty_section(name: str, value: Any) -> bool:
    """``budget:`` with nothing under it means the same as leaving it out."""
    return value is None and name in ("data", "measure", "budget", "model", "auto")


def _steps(document: Document, catalogue: dict[str, Pass], faults: list[OnnxpressError]) -> list[Step]:
    entries = document.data.get("passes", [])
    if entries == AUTO:
        return []
    if document.data.get("auto") is not None and "passes" in document.data:
        faults.append(_no_choice(document.place(("auto",), of_key=True)))
    if not isinstance(entries, list) or not entries:
        if "passes" in document.data:
            faults.append(_no_list(entries, document.place(("passes",))))
        return []
    if len(entries) > _MOST_STEPS:
        return _too_many(len(entries), document, faults)
    listed = [_entry(entry, ("passes", i), document, catalogue, faults) for i, entry in enumerate(entries)]
    steps = [step for steps in listed for step in steps]
    return steps if len(steps) <= _MOST_STEPS else _too_many(len(steps), document, faults)


def _no_choice(place: Place) -> RecipeError:
    hint = "write passes: auto in the place of the list, or leave out this section"
    return RecipeError("auto says how to find passes, and they are told", hint=hint, place=place)


def _no_list(entries: Any, place: Place) -> RecipeError:
    message = "passes must be a list with at least one step"
    if not isinstance(entries, dict) or not entries:
        hint = "write each step on a line of its own: - simplify; or write passes: auto"
        return RecipeError(message, hint=hint, place=place)
    name = next(iter(entries))
    line = f"- {name}" + (":" if entries[name] else "")
    return RecipeError(f"{message}, and is a mapping", hint=f"put a dash before each step: {line}", place=place)


def _too_many(count: int, document: Document, faults: list[OnnxpressError]) -> list[Step]:
    message = f"there are {count:,} steps; a recipe holds at most {_MOST_STEPS:,}"
    faults.append(RecipeError(message, place=document.place(("passes",))))
    return []


def _entry(
    entry: Any, path: Path, document: Document, catalogue: dict[str, Pass], faults: list[OnnxpressError]
) -> list[Step]:
    """The step that an entry is, or those that it stands for."""
    if isinstance(entry, dict) and list(entry) == [GRADUALLY] and isinstance(entry[GRADUALLY], dict):
        return _gradual(entry[GRADUALLY], (*path, GRADUALLY), document, catalogue, faults)
    step = _step(entry, path, document, catalogue, faults)
    return [step] if step is not None else []


def _gradual(
    options: dict[str, Any], path: Path, document: Document, catalogue: dict[str, Pass], faults: list[OnnxpressError]
) -> list[Step]:
    entries = options.get("passes")
    if not isinstance(entries, list) or not entries:
        message = "gradually: passes must be a list with at least one step"
        faults.append(RecipeError(message, place=document.place((*path, "passes"))))
        entries = []
    steps = [_step(entry, (*path, "passes", i), document, catalogue, faults) for i, entry in enumerate(entries)]
    try:
        section = Gradually.model_validate({**options, "passes": []})
    except ValidationError as error:
        faults += _told(error, document, path, list(Gradually.model_fields))
        return []
    return expanded(section, [step for step in steps if step is not None], path, document, faults)


def _step(
    entry: Any, path: Path, document: Document, catalogue: dict[str, Pass], faults: list[OnnxpressError]
) -> Step | None:
    name: Any = entry
    options: Any = {}
    inner = path
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, options),) = entry.items()
        inner = (*path, name)
    if name in (GRADUALLY, AUTO):
        how = _HOW_GRADUALLY if name == GRADUALLY else _HOW_AUTO
        faults.append(RecipeError(how, place=document.place(inner)))
        return None
    if not isinstance(name, str) or not isinstance(options, dict | None):
        message = "write a step as a pass name, or as one name with options: prune_weights: {ratio: 0.5}"
        faults.append(RecipeError(message, place=document.place(inner)))
        return None
    if name not in catalogue:
        message = f"unknown pass '{name}'{did_you_mean(name, [*catalogue, GRADUALLY])}"
        faults.append(
            RecipeError(message, hint=f"passes: {', '.join(catalogue)}", place=document.place(inner, of_key=True))
        )
        return None
    checked = _options(catalogue[name], options or {}, inner, document, faults)
    return Step(catalogue[name], checked, path) if checked is not None else None


def _options(
    operation: Pass, options: dict[str, Any], path: Path, document: Document, faults: list[OnnxpressError]
) -> StepOptions | None:
    try:
        return operation.options.model_validate(options)
    except ValidationError as error:
        faults += _told(error, document, path, list(operation.options.model_fields))
        return None


def _told(error: ValidationError, document: Document, start: Path, known: list[str]) -> list[OnnxpressError]:
    details = error.errors(include_url=False)
    told: list[OnnxpressError] = [_one(detail, document, start, known) for detail in details[:_MOST_FAULTS]]
    if len(details) > _MOST_FAULTS:
        message = f"and {len(details) - _MOST_FAULTS:,} more faults of this mapping"
        told.append(RecipeError(message, place=document.place(start)))
    return told


def _one(detail: Any, document: Document, start: Path, known: list[str]) -> OnnxpressError:
    path = document.written(start, detail["loc"])
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        message = f"unknown option '{last}'{did_you_mean(last, _siblings(path, start, known))}"
        return RecipeError(message, place=document.place(path, of_key=True))
    if detail["type"] == "missing":
        where = f" of {path[-1]}" if path else ""
        return RecipeError(f"'{last}'{where} is required", place=document.place(path, of_key=True))
    return RecipeError(f"{_name(path)}: {wrong_with(detail)}", place=document.place(path))


def _name(path: Path) -> str:
    """``skip[1]`` for the second entry of skip."""
    names = [part for part in path if isinstance(part, str)]
    index = path[-1] if path and isinstance(path[-1], int) else None
    return (names[-1] if names else "the recipe") + (f"[{index}]" if index is not None else "")


def _siblings(path: Path, start: Path, known: list[str]) -> list[str]:
    """Names that could stand where an unknown option stands."""
    if len(path) == len(start) + 1:
        return known
    section: Any = Recipe
    for part in path[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        annotation: Any = field.annotation if field else None
        section = next((a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")), annotation)
    return list(getattr(section, "model_fields", {}))


def step_from(operation: Pass, options: dict[str, Any]) -> Step:
    """A step from options given in code or by flags; its faults name the pass."""
    document = Document(operation.name, options)
    faults: list[OnnxpressError] = []
    checked = _options(operation, options, (), document, faults)
    raise_all(faults)
    assert isinstance(checked, StepOptions)
    return Step(operation, checked)
