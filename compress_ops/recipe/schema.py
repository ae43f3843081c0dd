"""The recipe format as JSON Schema (draft 2020-12), for editors: completion, hover texts, and red lines.

It is made from the recipe's models and from every pass's options, so it cannot fall behind the code.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, create_model
from pydantic.json_schema import models_json_schema

from ..catalogue import PASSES
from ..passes import Pass
from .gradually import NAME as GRADUALLY
from .gradually import Gradually
from .types import AUTO, Auto, Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_WHERE_AUTO: Schema = {
    "if": {"required": ["auto"], "properties": {"auto": {"type": "object"}}},
    "then": {"properties": {"passes": {"const": AUTO}}},
}
_MAY_BE_EMPTY = ("data", "measure", "budget")  # ``budget:`` with nothing under it is the same as no budget


def recipe_schema() -> Schema:
    """The schema of a whole recipe."""
    models: list[type[BaseModel]] = [_without_steps(), Gradually, *(operation.options for operation in PASSES.values())]
    definitions = models_json_schema([(model, "validation") for model in models])[1]["$defs"]
    recipe = definitions.pop("Recipe")
    for operation in PASSES.values():
        definitions[operation.name]["description"] = operation.summary
    definitions[GRADUALLY] = _gradually(definitions.pop("Gradually"))
    head = {"$schema": DIALECT, "title": "onnxpress recipe", "description": "What to do to an ONNX model."}
    return {**recipe, **head, "properties": _properties(recipe["properties"]), **_WHERE_AUTO, "$defs": definitions}


def _without_steps() -> type[Recipe]:
    """A step holds a function, which has no schema: what is written in its place is told by ``_passes``."""
    return create_model("Recipe", __base__=Recipe, passes=(list[Any], ...))


def _properties(plain: Schema) -> Schema:
    sections = {name: {"anyOf": [{"$ref": plain[name]["$ref"]}, {"type": "null"}]} for name in _MAY_BE_EMPTY}
    return {**plain, **sections, "provider": {**plain["provider"], "default": "cpu"}, "passes": _passes()}


def _passes() -> Schema:
    gradually = _entry(GRADUALLY, {"$ref": f"#/$defs/{GRADUALLY}"}, Gradually.__doc__ or "")
    listed = _list([*_steps(), gradually], Recipe.model_fields["passes"].description)
    return {"anyOf": [listed, {"const": AUTO, "description": Auto.__doc__}]}


def _gradually(plain: Schema) -> Schema:
    """Its steps are those of a recipe, but it does not nest."""
    steps = _list(_steps(), Gradually.model_fields["passes"].description)
    return {**plain, "properties": {**plain["properties"], "passes": steps}}


def _list(entries: list[Schema], description: str | None) -> Schema:
    return {"description": description, "type": "array", "minItems": 1, "items": {"anyOf": entries}}


def _steps() -> list[Schema]:
    names = [{"const": operation.name, "description": operation.summary} for operation in PASSES.values()]
    return [*names, *(_with_options(operation) for operation in PASSES.values())]


def _with_options(operation: Pass) -> Schema:
    options = {"anyOf": [{"$ref": f"#/$defs/{operation.name}"}, {"type": "null"}]}
    return _entry(operation.name, options, operation.summary)


def _entry(name: str, options: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": {name: options},
        "required": [name],
        "additionalProperties": False,
    }
