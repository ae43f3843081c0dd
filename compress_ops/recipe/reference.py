"""What each pass takes, in words: for `onnxpress passes`, and for the reference page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..passes import Pass, StepOptions


@dataclass(frozen=True)
class OptionFacts:
    """An option as people read it; ``default`` is as a recipe would write it, or ``required``."""

    name: str
    kind: str
    default: str
    description: str


def option_facts(operation: Pass) -> list[OptionFacts]:
    """The pass's own options first, then those of every step."""
    return sorted(model_facts(operation.options), key=lambda fact: fact.name in StepOptions.model_fields)


def model_facts(model: type[BaseModel]) -> list[OptionFacts]:
    """What a section of a recipe takes."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [_facts(name, option, name in required) for name, option in schema["properties"].items()]


def _facts(name: str, option: dict[str, Any], required: bool) -> OptionFacts:
    default = "required" if required else _written(option.get("default"))
    return OptionFacts(name, kind(option), default, option.get("description", ""))


def _written(default: Any) -> str:
    return "none" if default is None else default if isinstance(default, str) else json.dumps(default).replace('"', "")


def kind(option: dict[str, Any]) -> str:
    """``number > 0, < 1``; ``minmax or percentile``; ``list of text``."""
    if "anyOf" in option:
        return " or ".join(kind(part) for part in option["anyOf"] if part.get("type") != "null")
    if "enum" in option or "const" in option:
        return " or ".join(map(str, option.get("enum", [option.get("const")])))
    if option.get("type") == "array":
        return f"list of {kind(option.get('items', {}))}"
    ranges = ", ".join(f"{sign} {option[key]}" for key, sign in _RANGES.items() if key in option)
    return f"{_NAMES.get(option.get('type', ''), 'value')} {ranges}".strip()


_NAMES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "object": "mapping",
}
_RANGES = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
