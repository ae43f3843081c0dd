"""Options in words."""

from __future__ import annotations

from typing import Any

import pytest

from compress_ops.catalogue import PASSES
from compress_ops.recipe.reference import kind, option_facts


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "boolean"}, "true or false"),
        ({"type": "integer", "minimum": 7, "maximum": 21}, "whole number >= 7, <= 21"),
        (
            {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "null"}]},
            "number > 0, < 1",
        ),
        ({"enum": ["minmax", "percentile"], "type": "string"}, "minmax or percentile"),
        ({"type": "array", "items": {"enum": ["Conv", "Gemm"]}}, "list of Conv or Gemm"),
        ({"const": 1}, "1"),
    ],
)
def test_kinds(schema: dict[str, Any], words: str) -> None:
    assert kind(schema) == words


def test_own_options_come_first() -> None:
    names = [fact.name for fact in option_facts(PASSES["quantize_static"])]
    assert names[0] == "operators"
    assert names[-3:] == ["allow_unchanged", "allow_larger", "allow_undone"]


def test_defaults_are_written_as_in_a_recipe() -> None:
    defaults = {fact.name: fact.default for fact in option_facts(PASSES["quantize_static"])}
    assert defaults["operators"] == "[Conv, Gemm, MatMul]"
    assert defaults["per_channel"] == "true"
    assert defaults["activation_type"] == "uint8"
    assert {fact.default for fact in option_facts(PASSES["prune_weights"]) if fact.name == "ratio"} == {"none"}
