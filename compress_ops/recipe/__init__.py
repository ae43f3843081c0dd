"""YAML <-> recipe: what to do to a model, checked in full before any work starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..catalogue import PASSES
from ..errors import Place, RecipeError
from .check import check_document, step_from
from .text import Document, read_document, set_value
from .types import Budget, Data, Evaluation, Images, Measure, Recipe, Step

__all__ = [
    "Budget",
    "Data",
    "Evaluation",
    "Images",
    "LoadedRecipe",
    "Measure",
    "Recipe",
    "Step",
    "load_recipe",
    "parse_recipe",
    "step_from",
]


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the folder that its paths are relative to, and, when it is replayed from a report, what must hold.

    ``expected`` maps what the report hashed (``model``, ``calibration`` ...) to its SHA-256.
    """

    recipe: Recipe
    folder: Path = field(default_factory=Path)
    expected: dict[str, str] = field(default_factory=dict)
    document: Document = field(default_factory=lambda: Document("recipe"))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe (.yaml), or the resolved recipe inside a report (.json); ``overrides`` are ``--set`` values."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(
            "the recipe does not exist", hint="start with: onnxpress recipe new", place=Place(str(path))
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe cannot be read: {error}", place=Place(str(path))) from error
    return parse_recipe(text, str(path), overrides, path.parent)


def parse_recipe(text: str, file: str = "recipe", overrides: Sequence[str] = (), folder: Path = Path()) -> LoadedRecipe:
    """Check a recipe's text. All faults are raised together, each with its line and column."""
    report = _report(text)
    document = Document(file, report["recipe"]) if report else read_document(text, file)
    for assignment in overrides:
        set_value(document, assignment)
    recipe = check_document(document, PASSES)
    return LoadedRecipe(recipe, folder, _hashes(report), document)


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
