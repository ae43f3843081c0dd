"""YAML <-> recipe: what to do to a model, checked in full before any work starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..catalogue import PASSES
from ..data import Images
from ..errors import OnnxpressError, Place, RecipeError, raise_all
from ..files.not_onnx import DATA, ONNX, kind_of_file
from ..files.reading import is_absent, reason_of, unreadable
from ..measure import Budget, Measure
from .check import checked_document, step_from
from .text import Document, Flag, dump_recipe, read_document, set_flag, set_value
from .types import Auto, Data, Evaluation, Recipe, Step

__all__ = [
    "Auto",
    "Budget",
    "Data",
    "Evaluation",
    "Flag",
    "Images",
    "LoadedRecipe",
    "Measure",
    "Recipe",
    "Step",
    "dump_recipe",
    "load_recipe",
    "parse_recipe",
    "read_recipe",
    "recipe_of",
    "step_from",
]


_ORDER = "the recipe comes first: onnxpress run RECIPE MODEL -o OUT"
_LARGEST_RECIPE = 10**6  # bytes: what people write has a thousandth of that
_LARGEST_REPORT = 64 * 10**6  # bytes: a report lists all that was touched
_TOO_LARGE = "the recipe is larger than 1 MB (a report than 64 MB), which nobody has written"


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the folder that its paths are relative to, and, when it is replayed from a report, what must hold.

    ``expected`` maps what the report hashed (``model``, ``calibration`` ...) to its SHA-256. ``faults`` are those of
    the steps, which then are left out: they are told with all that does not fit model and data (``prepare``). ``path``
    is the file that it was read from.
    """

    recipe: Recipe
    folder: Path = field(default_factory=Path)
    expected: dict[str, str] = field(default_factory=dict)
    document: Document = field(default_factory=lambda: Document("recipe"))
    faults: Sequence[OnnxpressError] = ()
    path: Path | None = None


def load_recipe(path: Path, overrides: Sequence[str] = (), flags: Sequence[Flag] = ()) -> LoadedRecipe:
    """Read a recipe (.yaml), or the resolved recipe inside a report (.json).

    ``flags`` win over what it says, and ``overrides``, the ``--set`` values, over both.
    """
    loaded = read_recipe(path, overrides, flags)
    raise_all(loaded.faults)
    return loaded


def read_recipe(path: Path, overrides: Sequence[str] = (), flags: Sequence[Flag] = ()) -> LoadedRecipe:
    """Like load_recipe, but where the steps alone are at fault their faults are kept, to be told with others."""
    text = _text(path)
    return replace(_parsed(text, str(path), overrides, flags, path.parent), path=path)


def _text(path: Path) -> str:
    place = Place(str(path))
    if why := unreadable(path):
        hint = "start with: onnxpress recipe new" if is_absent(path) else ""
        raise RecipeError(f"the recipe {why}", hint=hint, place=place)
    if (kind := kind_of_file(path)) in (ONNX, DATA):
        raise RecipeError(f"the recipe is {kind.what}", hint=_ORDER, place=place)
    try:
        if path.stat().st_size > (_LARGEST_REPORT if path.suffix == ".json" else _LARGEST_RECIPE):
            raise RecipeError(_TOO_LARGE, place=place)
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        told = f"is {kind.what}" if kind is not None else f"cannot be read: {reason_of(error)}"
        raise RecipeError(f"the recipe {told}", hint=_ORDER, place=place) from error


def parse_recipe(text: str, file: str = "recipe", overrides: Sequence[str] = (), folder: Path = Path()) -> LoadedRecipe:
    """Check a recipe's text. All faults are raised together, each with its line and column."""
    loaded = _parsed(text, file, overrides, (), folder)
    raise_all(loaded.faults)
    return loaded


def recipe_of(
    sections: Mapping[str, Any], command: str, overrides: Sequence[str] = (), flags: Sequence[Flag] = ()
) -> LoadedRecipe:
    """The recipe that a command's flags stand for; a fault names the flag that gave the value, else the command."""
    loaded = _checked(Document(command, deepcopy(dict(sections))), overrides, flags)
    raise_all(loaded.faults)
    return loaded


def _parsed(text: str, file: str, overrides: Sequence[str], flags: Sequence[Flag], folder: Path) -> LoadedRecipe:
    report = _report(text)
    if not report and len(text) > _LARGEST_RECIPE:
        raise RecipeError(_TOO_LARGE, place=Place(file))
    document = Document(file, report["recipe"]) if report else read_document(text, file)
    return replace(_checked(document, overrides, flags), folder=folder, expected=_hashes(report))


def _checked(document: Document, overrides: Sequence[str], flags: Sequence[Flag]) -> LoadedRecipe:
    if isinstance(document.data, dict):
        for flag in flags:
            set_flag(document, flag)
    for assignment in overrides:
        set_value(document, assignment)
    recipe, faults = checked_document(document, PASSES)
    return LoadedRecipe(recipe, document=document, faults=faults)


def _hashes(report: dict[str, Any]) -> dict[str, str]:
    hashes = report.get("hashes")
    return {str(what): str(digest) for what, digest in hashes.items()} if isinstance(hashes, dict) else {}


def _report(text: str) -> dict[str, Any]:
    """The report that a JSON text is, or nothing when it is a recipe."""
    if not text.lstrip().startswith("{"):
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("recipe"), dict) else {}
