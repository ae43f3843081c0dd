"""Flags as parts of a recipe: what they give wins over the recipe, and whatever is wrong with it names the flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.flags import given, recipe_from
from compress_ops.errors import OnnxpressError
from compress_ops.pipeline import Job
from compress_ops.pipeline.preflight import prepare

from .conftest import Call

PASSES = ["quantize_static"]


def test_what_was_not_given_is_no_flag() -> None:
    sections = {"provider": None, "threads": None, "data": {"calibration": None}, "measure": {"dims": {}}, "seed": 0}
    assert [(flag.name, flag.path, flag.value) for flag in given(sections)] == [("--seed", ("seed",), 0)]


def _told(model: Path, overrides: tuple[str, ...] = (), **sections: Any) -> list[str]:
    """The first line of each fault of a recipe that a command's flags stand for."""
    loaded = recipe_from("quantize", overrides, {"passes": PASSES, **sections})
    with pytest.raises(OnnxpressError) as raised:
        prepare(Job(loaded, model, None))
    found = getattr(raised.value, "faults", [raised.value])
    return [str(fault).partition("\n")[0] for fault in found]


def test_faults_of_a_recipe_made_of_flags_name_the_flags(model: Path) -> None:
    told = _told(
        model,
        provider=["cudda"],
        data={"calibration": "no.npz", "evaluation": {"path": "none.npz", "metrics": ["topp1"], "labels": "y"}},
    )
    assert told == [
        "--provider: unknown execution provider 'cudda'; did you mean 'cuda'?",
        "--data: no.npz: the data does not exist",
        "--evaluation: none.npz: the data does not exist",
        "--metric: unknown metric 'topp1'; did you mean 'top1'?",
    ]


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        ({"dims": {"batsh": 2}}, "--dim: the model has no dimension named 'batsh'; did you mean 'batch'?"),
        ({"values": {"y": 2.0}}, "--value: the model has no input named 'y'"),
    ],
)
def test_faults_of_sizes_and_values_name_their_flags(model: Path, measure: dict[str, Any], told: str) -> None:
    assert _told(model, data={"calibration": "random"}, measure=measure) == [told]


def test_what_no_flag_gave_stands_at_the_command(model: Path) -> None:
    assert _told(model) == ["quantize: quantize_static needs calibration data"]


def test_set_wins_over_a_flag_and_names_itself(model: Path) -> None:
    told = _told(model, ("data.calibration=other.npz",), data={"calibration": "no.npz"})
    assert told == ["--set data.calibration=other.npz: other.npz: the data does not exist"]


def test_set_leaves_the_sections_as_they_are(model: Path) -> None:
    sections = {"measure": {"dims": {"batch": 2}}, "passes": ["simplify"]}
    assert recipe_from("quantize", ["measure.dims.batch=3"], sections).recipe.measure.dims == {"batch": 3}
    assert sections == {"measure": {"dims": {"batch": 2}}, "passes": ["simplify"]}


# Over a recipe


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data", "no.npz"], "--data: {folder}/no.npz: the data does not exist; did you mean 'data.npz'?"),
        (["--provider", "cudda"], "--provider: unknown execution provider 'cudda'; did you mean 'cuda'?"),
        (["--dim", "batsh=2"], "--dim: the model has no dimension named 'batsh'; did you mean 'batch'?"),
        (["--value", "y=2"], "--value: the model has no input named 'y'"),
        (["--threads", "100000"], "--threads: threads: should be less than or equal to 1024 (found 100000)"),
    ],
)
def test_faults_of_flags_of_run_name_them(
    call: Call, recipe: Path, model: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], told: str
) -> None:
    monkeypatch.chdir(model.parent)
    result = call("run", recipe, model, "--dry-run", *flags)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == told.format(folder=model.parent)


def test_a_flag_mends_the_recipe(call: Call, recipe: Path, model: Path) -> None:
    recipe.write_text(recipe.read_text() + "threads: many\nprovider: cudda\n")
    result = call("run", recipe, model, "--dry-run", "--threads", "2", "--provider", "cpu")
    assert result.exit_code == 0, result.stderr


def test_a_flag_stands_beside_what_the_recipe_says(call: Call, recipe: Path, model: Path) -> None:
    recipe.write_text(recipe.read_text().replace("measure: {", "measure: {dims: {batsh: 2}, "))
    told = call("run", recipe, model, "--dry-run", "--dim", "batch=2").stderr
    assert told.startswith(f"{recipe}:4:25: the model has no dimension named 'batsh'")
    assert "--dim" not in told


@pytest.mark.parametrize("section", ["measure: often", "measure: [1]", "measure:"])
def test_a_section_that_is_none_is_told_as_such(call: Call, recipe: Path, model: Path, section: str) -> None:
    recipe.write_text(recipe.read_text().replace("measure: {seconds: 0.05}", section))
    result = call("run", recipe, model, "--dry-run", "--dim", "batch=2")
    if section == "measure:":
        assert result.exit_code == 0, result.stderr
    else:
        assert result.stderr.startswith(f"{recipe}:4:10: measure: should be a mapping of options")
