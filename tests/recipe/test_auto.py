"""``passes: auto``: what stands beside it, what it is held to, and that it is never taken for an empty list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress_ops.errors import Faults, OnnxpressError
from compress_ops.recipe import Auto, Recipe, dump_recipe, parse_recipe
from compress_ops.runtime import Provider

SCORED = "data: {evaluation: {path: test.npz, labels: label, metrics: [top1]}}\n"


def parsed(more: str = "") -> Recipe:
    return parse_recipe(f"version: 1\npasses: auto\n{more}").recipe


def told(text: str) -> list[str]:
    with pytest.raises(OnnxpressError) as caught:
        parse_recipe(text, "r.yaml")
    faults = caught.value.faults if isinstance(caught.value, Faults) else [caught.value]
    return [str(fault).partition("\n")[0] for fault in faults]


@pytest.mark.parametrize("section", ["", "auto:\n", "auto: {}\n"])
def test_the_word_alone_is_enough(section: str) -> None:
    recipe = parsed(section)
    assert recipe.passes == []
    assert recipe.auto == Auto()
    assert (recipe.auto.minutes, recipe.auto.trials, recipe.auto.aim) == (10, None, None)


def test_a_list_of_passes_has_no_auto() -> None:
    assert parse_recipe("version: 1\npasses: [simplify]\n").recipe.auto is None


@pytest.mark.parametrize(
    ("section", "aim"),
    [
        ("{objective: closest}", "closest"),
        ("{purpose: transfer}", "smallest"),
        ("{purpose: memory}", "smallest"),
        ("{purpose: latency}", "fastest"),
        ("{purpose: energy, objective: fastest}", "fastest"),
        ("{purpose: energy, objective: closest}", "closest"),
    ],
)
def test_a_purpose_means_an_objective(section: str, aim: str) -> None:
    found = parsed(f"auto: {section}\n").auto
    assert found is not None and found.aim == aim


@pytest.mark.parametrize(
    ("more", "limits"),
    [
        ("", {"min_closeness": 0.99}),
        (SCORED, {"max_drop": "1%"}),
        ("budget: {max_size: 25%}\n", {"max_size": "25%", "min_closeness": 0.99}),
        ("budget: {min_closeness: 0.9}\n" + SCORED, {"min_closeness": 0.9}),
        ("budget: {max_drop: 0.02}\n" + SCORED, {"max_drop": 0.02}),
    ],
)
def test_what_is_lost_is_always_limited(more: str, limits: dict[str, Any]) -> None:
    assert parsed(more).budget.model_dump(exclude_none=True) == limits


@pytest.mark.parametrize(
    ("more", "provider"),
    [
        ("auto: {device: browser-wasm}\n", "cpu"),
        ("auto: {device: cuda}\n", "cuda"),
        ("auto: {device: openvino}\nprovider: cpu\n", "cpu"),
        ("", "cpu"),
    ],
)
def test_the_device_names_the_provider_unless_one_is_written(more: str, provider: str) -> None:
    assert parsed(more).provider == [Provider(provider)]


@pytest.mark.parametrize(
    "more", ["", SCORED, "auto: {objective: fastest, device: tensorrt, trials: 3, retrain: true}\nseed: 4\n"]
)
def test_it_reads_again_what_it_resolves_to(more: str) -> None:
    recipe = parsed(more)
    plain = recipe.resolved()
    assert plain["passes"] == "auto"
    for text in (json.dumps(plain), dump_recipe(plain), json.dumps({"recipe": plain})):
        assert parse_recipe(text).recipe == recipe


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("passes: [simplify]\nauto: {minutes: 3}", ["3:1: auto says how to find passes, and they are told"]),
        ("passes: [auto]", ["2:10: auto stands in the place of the whole list: passes: auto"]),
        ("passes:\n  - auto: {minutes: 3}", ["3:11: auto stands in the place of the whole list: passes: auto"]),
        ("passes: autom", ["2:9: passes must be a list with at least one step"]),
        ("auto: {}", ["1:1: 'passes' is required"]),
        ("passes: auto\nauto: 5", ["3:7: auto: should be a mapping of options"]),
        ("passes: auto\nauto: {minutess: 3}", ["3:8: unknown option 'minutess'; did you mean 'minutes'?"]),
        ("passes: auto\nauto: {minutes: 0}", ["3:17: minutes: should be greater than 0 (found 0)"]),
        ("passes: auto\nauto: {trials: 0}", ["3:16: trials: should be greater than or equal to 1 (found 0)"]),
        (
            "passes: auto\nauto: {objective: fast}",
            ["3:19: objective: should be 'smallest', 'fastest' or 'closest' (found 'fast')"],
        ),
        (
            "passes: auto\nauto: {objective: fastest, purpose: memory}",
            ["3:37: purpose: memory wants the smallest, and objective is fastest (found 'memory')"],
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, faults: list[str]) -> None:
    found = told(f"version: 1\n{text}\n")
    assert len(found) == len(faults)
    assert all(one.startswith(f"r.yaml:{fault}") for one, fault in zip(found, faults, strict=True)), found


def test_an_unknown_device_is_told_with_those_that_there_are() -> None:
    (fault,) = told("version: 1\npasses: auto\nauto: {device: browser-wsm}\n")
    assert fault.startswith("r.yaml:3:16: device: should be one of server-avx512, laptop-avx2")
    assert "; did you mean 'browser-wasm'?" in fault


def test_overrides_reach_it(tmp_path: Path) -> None:
    text = "version: 1\npasses: [simplify]\n"
    recipe = parse_recipe(text, overrides=["passes=auto", "auto.trials=2"]).recipe
    assert recipe.auto is not None and recipe.auto.trials == 2
    with pytest.raises(OnnxpressError, match="'passes' holds no options"):
        parse_recipe("version: 1\npasses: auto\n", overrides=["passes.0.simplify=true"])
