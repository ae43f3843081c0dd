"""Recipes and reports from files: what is read, what is remembered, what cannot be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from compress_ops.errors import Faults, OnnxpressError, RecipeError
from compress_ops.recipe import load_recipe, parse_recipe
from tests.helpers import SAMPLES

RECIPE = "version: 1\nseed: 7\npasses: [simplify]\n"


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _told(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as raised:
        load_recipe(path, overrides)
    return str(raised.value)


def test_a_recipe_remembers_its_folder_and_its_places(tmp_path: Path) -> None:
    loaded = load_recipe(_write(tmp_path / "r.yaml", RECIPE))
    assert (loaded.folder, loaded.recipe.seed, loaded.expected) == (tmp_path, 7, {})
    assert str(loaded.document.place(("seed",))) == f"{tmp_path / 'r.yaml'}:2:7"


def test_overrides_are_applied_in_order(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.yaml", RECIPE)
    assert load_recipe(path, ["seed=1", "seed=2", "threads=3"]).recipe.seed == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_as_editors_write_them(tmp_path: Path, encoding: str, newline: str) -> None:
    text = f"# é\n{RECIPE}".replace("\n", newline)
    path = _write(tmp_path / "r.yaml", text.encode(encoding))
    assert load_recipe(path).recipe.seed == 7


def test_a_missing_recipe(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert _told(path) == f"{path}: the recipe does not exist\n  start with: onnxpress recipe new"


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    assert _told(tmp_path).startswith(f"{tmp_path}: the recipe is a folder")


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00v", b"\x08\x09\x12\x07\xe9pytorch", bytes(range(128, 256))])
def test_binary_junk_is_no_recipe(tmp_path: Path, junk: bytes) -> None:
    path = _write(tmp_path / "r.yaml", junk)
    assert _told(path).startswith(f"{path}: the recipe cannot be read")


def test_a_model_given_for_a_recipe_is_a_fault(tmp_path: Path) -> None:
    samples = SAMPLES
    assert "the recipe is an ONNX model" in _told(samples / "digits-cnn.onnx")


def test_a_json_recipe_has_places_too(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.json", '{"version": 1,\n "passes": ["simplify"],\n "seed": "x"}')
    assert _told(path) == f"{path}:3:10: seed: should be a valid integer (found 'x')"
    assert load_recipe(path, ["seed=3"]).recipe.seed == 3


def _report(**parts: Any) -> str:
    recipe = {"version": 1, "seed": 7, "passes": [{"prune_weights": {"ratio": 0.25, "threshold": None}}]}
    return json.dumps({"onnxpress": "0.1.0", "recipe": recipe, "hashes": {"model": "abc"}, "steps": [], **parts})


@pytest.mark.parametrize("before", ["", "\n \t", "\ufeff"])
def test_a_report_is_replayed_by_its_recipe_and_hashes(tmp_path: Path, before: str) -> None:
    loaded = load_recipe(_write(tmp_path / "report.json", before + _report()))
    assert (loaded.recipe.seed, loaded.folder, loaded.expected) == (7, tmp_path, {"model": "abc"})
    assert loaded.recipe.passes[0].arguments()["ratio"] == 0.25


def test_set_reaches_into_a_report(tmp_path: Path) -> None:
    path = _write(tmp_path / "report.json", _report())
    loaded = load_recipe(path, ["passes.0.prune_weights.ratio=0.75", "data.batch_size=2"])
    assert (loaded.recipe.passes[0].arguments()["ratio"], loaded.recipe.data.batch_size) == (0.75, 2)


@pytest.mark.parametrize("hashes", [None, [1], "x", 5])
def test_a_mangled_report_is_no_crash(hashes: Any) -> None:
    assert parse_recipe(_report(hashes=hashes)).expected == {}


def test_a_report_without_hashes_expects_nothing() -> None:
    assert parse_recipe(json.dumps({"recipe": {"version": 1, "passes": ["simplify"]}})).expected == {}


def test_faults_in_a_report_name_file_and_option() -> None:
    recipe = {"version": 1, "passes": [{"prune_weights": {"ratoi": 1}}], "data": {"evaluation": {"metrics": [5]}}}
    with pytest.raises(OnnxpressError) as raised:
        parse_recipe(json.dumps({"recipe": recipe}), "report.json")
    assert str(raised.value).split("\n") == [
        "report.json: 'path' of evaluation is required",
        "report.json: metrics[0]: should be a valid string (found 5)",
        "report.json: unknown option 'ratoi'; did you mean 'ratio'?",
    ]


@pytest.mark.parametrize("text", ['{"recipe": 5}', '{"recipe": []}', '{"recipe": null}'])
def test_json_whose_recipe_is_none_is_told_as_a_recipe(text: str) -> None:
    with pytest.raises(OnnxpressError, match="unknown option 'recipe'"):
        parse_recipe(text)


def test_a_report_with_an_empty_recipe_is_told() -> None:
    with pytest.raises(OnnxpressError, match="'version' is required"):
        parse_recipe('{"recipe": {}}')


# Limits: what nobody writes is not worked on


def test_a_recipe_of_more_than_a_megabyte(tmp_path: Path) -> None:
    said = "the recipe is larger than 1 MB (a report than 64 MB), which nobody has written"
    for name, text in (("r.yaml", "#" * 1_000_001), ("r.json", "{" + " " * 1_000_001 + "}")):
        path = _write(tmp_path / name, text.encode())
        assert _told(path) == f"{path}: {said}"


def test_a_large_report_is_replayed(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.json", _report(touched=["x" * 1000] * 1100).encode())
    assert load_recipe(path).recipe.seed == 7


def test_a_thousand_steps_are_enough(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.yaml", b"version: 1\npasses:\n" + b"- simplify\n" * 1000)
    assert len(load_recipe(path).recipe.passes) == 1000
    path = _write(tmp_path / "r.yaml", b"version: 1\npasses:\n" + b"- simplify\n" * 1001)
    assert _told(path) == f"{path}:3:1: there are 1,001 steps; a recipe holds at most 1,000"
    gradually = b"- gradually: {steps: 100, passes: [prune_weights: {ratio: 0.5}, simplify]}\n"
    path = _write(tmp_path / "r.yaml", b"version: 1\npasses:\n" + gradually * 6)
    assert "there are 1,200 steps" in _told(path)


def test_of_a_mapping_a_hundred_faults_are_told(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.yaml", "".join(f"k{number}: 1\n" for number in range(150)).encode())
    with pytest.raises(Faults, match="and 52 more faults of this mapping"):
        load_recipe(path)
