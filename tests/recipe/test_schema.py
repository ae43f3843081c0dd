"""The JSON Schema: valid itself, complete, and of one mind with the recipe loader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compress_ops.catalogue import PASSES
from compress_ops.errors import OnnxpressError
from compress_ops.recipe import Recipe, parse_recipe
from compress_ops.recipe.schema import recipe_schema

SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
PLAIN = {"version": 1, "passes": ["simplify"]}

GOOD: list[dict[str, Any]] = [
    {},
    {"passes": [{"quantize_dynamic": {"skip": "/head/*"}}]},
    {"passes": [{"quantize_dynamic": {"skip": ["/head/*", "MatMul"], "per_channel": False}}, {"simplify": None}]},
    {"passes": [{"prune_weights": {"ratio": 0.5, "allow_unchanged": True}}]},
    {"provider": "cuda"},
    {"provider": ["cuda", "cpu"]},
    {"provider": [{"cuda": {"device_id": 0}}, "cpu"]},
    {"data": {"evaluation": "test.npz"}},
    {"data": {"evaluation": {"path": "test.npz", "labels": "y", "metrics": ["top1"]}}},
    {"data": None, "measure": None, "budget": None, "model": None},
    {"data": {"images": {"resize": [224, 224], "mean": [0.5]}}},
    {"measure": {"dims": {"seq": 64}, "values": {"sr": 16000}, "seconds": 1}},
    {"budget": {"max_size": "30%", "min_speedup": 1.5, "max_drop": 0.02}},
    {"passes": "auto"},
    {"passes": "auto", "auto": None},
    {"passes": "auto", "auto": {"objective": "smallest", "device": "cuda", "minutes": 2, "trials": 3}},
    {"auto": None},
]
BAD: list[dict[str, Any]] = [
    {"version": 2},
    {"passes": []},
    {"passes": ["prun"]},
    {"passes": [{"prun": {}}]},
    {"passes": [{"simplify": {}, "quantize_dynamic": {}}]},
    {"passes": [{"quantize_dynamic": {"skp": []}}]},
    {"passes": [{"quantize_dynamic": {"skip": [1]}}]},
    {"passes": [{"prune_weights": {"ratio": 1.5}}]},
    {"passes": [{"quantize_dynamic": {"operators": ["Conf"]}}]},
    {"threads": 0},
    {"seed": "one"},
    {"provider": 3},
    {"data": {"evaluation": {"labels": "y"}}},
    {"data": {"batch_size": 0}},
    {"data": {"images": {"layout": "NWCH"}}},
    {"measure": {"seconds": 0}},
    {"budget": {"min_speedup": "fast"}},
    {"budgett": {}},
    {"auto": {}},
    {"passes": "automatic"},
    {"passes": ["auto"]},
    {"passes": "auto", "auto": {"device": "toaster"}},
    {"passes": "auto", "auto": {"minutes": 0}},
    {"passes": "auto", "auto": {"trials": 0}},
]


def test_it_is_a_valid_schema_and_plain_json() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("part", GOOD, ids=json.dumps)
def test_schema_and_loader_accept(part: dict[str, Any]) -> None:
    recipe = {**PLAIN, **part}
    assert list(VALIDATOR.iter_errors(recipe)) == []
    parse_recipe(json.dumps(recipe))


@pytest.mark.parametrize("part", BAD, ids=json.dumps)
def test_schema_and_loader_refuse(part: dict[str, Any]) -> None:
    recipe = {**PLAIN, **part}
    assert list(VALIDATOR.iter_errors(recipe))
    with pytest.raises(OnnxpressError):
        parse_recipe(json.dumps(recipe))


@pytest.mark.parametrize("missing", ["version", "passes"])
def test_what_is_required(missing: str) -> None:
    assert list(VALIDATOR.iter_errors({name: value for name, value in PLAIN.items() if name != missing}))


def test_nothing_is_left_out_and_everything_is_described() -> None:
    assert set(SCHEMA["properties"]) == set(Recipe.model_fields)
    for name, operation in PASSES.items():
        options = SCHEMA["$defs"][name]
        assert options["description"] == operation.summary
        assert set(options["properties"]) == set(operation.options.model_fields)
        assert all(option["description"] for option in options["properties"].values())
