"""gradually: the steps that it stands for, what is wrong with it and where, and that flags reach into it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compress_ops.errors import Faults, OnnxpressError
from compress_ops.pipeline import Job, run
from compress_ops.recipe import load_recipe, parse_recipe
from compress_ops.recipe.schema import recipe_schema
from tests.helpers import SAMPLES

VALIDATOR = Draft202012Validator(recipe_schema())


def steps(inner: str, *overrides: str) -> list[tuple[str, dict[str, Any]]]:
    """The steps that ``gradually: {inner}`` stands for."""
    recipe = parse_recipe(
        f"version: 1\npasses:\n  - simplify\n  - gradually: {{{inner}}}\n", overrides=overrides
    ).recipe
    return [(step.operation.name, step.options.model_dump()) for step in recipe.passes[1:]]


def faults(inner: str) -> list[str]:
    """The first line of each fault of a gradually whose options begin at 3:17."""
    with pytest.raises(OnnxpressError) as raised:
        parse_recipe(f"version: 1\npasses:\n  - gradually: {{{inner}}}\n", "r.yaml")
    found = raised.value.faults if isinstance(raised.value, Faults) else [raised.value]
    return [str(fault).partition("\n")[0] for fault in found]


def test_it_stands_for_steps_that_take_more_and_more() -> None:
    listed = steps("steps: 4, initial: 0.1, passes: [{prune_channels: {ratio: 0.5}}, {refit: {positions: 9}}]")
    assert [name for name, _ in listed] == ["prune_channels", "refit"] * 4
    assert all(options["positions"] == 9 for name, options in listed if name == "refit")
    ratios = [options["ratio"] for name, options in listed if name == "prune_channels"]
    gone = [1 - math.prod(1 - ratio for ratio in ratios[: i + 1]) for i in range(4)]
    expected = [0.5 + (0.1 - 0.5) * (1 - i / 3) ** 3 for i in range(4)]  # Zhu and Gupta 2017, equation 1
    assert gone == pytest.approx(expected, abs=1e-5)
    assert ratios[0] == 0.1


def test_zeros_stay_so_their_ratio_counts_from_the_beginning() -> None:
    ratios = [
        options["ratio"] for _, options in steps("steps: 3, initial: 0.2, passes: [{prune_weights: {ratio: 0.6}}]")
    ]
    assert ratios == pytest.approx([0.2, 0.6 - 0.4 * 0.125, 0.6])


def test_without_an_initial_share_the_first_step_takes_an_even_part() -> None:
    ratios = [options["ratio"] for _, options in steps("steps: 2, passes: [prune_channels]")]
    assert ratios == pytest.approx([0.25, 1 - 0.5 / 0.75], abs=1e-6)


def test_final_is_the_ratio_of_passes_that_have_none() -> None:
    listed = steps("steps: 2, initial: 0.1, final: 0.8, passes: [prune_heads, prune_weights]")
    assert [options["ratio"] for name, options in listed if name == "prune_weights"] == [0.1, 0.8]
    assert [options["ratio"] for name, options in listed if name == "prune_heads"][1] == pytest.approx(
        1 - 0.2 / 0.9, abs=1e-6
    )


def test_ratios_by_pattern_rise_too() -> None:
    listed = steps("steps: 2, initial: 0.1, passes: [{prune_channels: {ratio: 0.5, ratios: {'/a/*': 0.2}}}]")
    assert [options["ratios"]["/a/*"] for _, options in listed] == pytest.approx([0.1, 1 - 0.8 / 0.9], abs=1e-6)


def test_widths_are_rounded_at_the_end_and_later_steps_may_find_nothing_to_do() -> None:
    listed = steps("steps: 3, passes: [{prune_channels: {round_to: 16}}, refit]")
    assert [options["round_to"] for name, options in listed if name == "prune_channels"] == [1, 1, 16]
    assert [options["allow_unchanged"] for _, options in listed] == [False, False, True, True, True, True]


def test_dynamic_cuts_in_the_last_step_only() -> None:
    listed = steps("steps: 3, initial: 0.1, dynamic: true, passes: [{prune_channels: {ratio: 0.5}}]")
    assert [options["soft"] for _, options in listed] == [True, True, False]
    assert [options["ratio"] for _, options in listed] == pytest.approx([0.1, 0.45, 0.5])


def test_flags_reach_inside() -> None:
    inner = "steps: 2, initial: 0.1, passes: [{prune_weights: {ratio: 0.5}}]"
    listed = steps(inner, "passes.1.gradually.passes.0.prune_weights.ratio=0.9", "passes.1.gradually.steps=3")
    assert [options["ratio"] for _, options in listed] == pytest.approx([0.1, 0.8, 0.9])


def test_flags_open_a_pass_that_is_a_bare_name() -> None:
    listed = steps("steps: 2, passes: [prune_channels]", "passes.1.gradually.passes.0.prune_channels.ratio=0.8")
    assert listed[0][1]["ratio"] == 0.4


PASSES = "passes: [{prune_channels: {ratio: 0.5}}]"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        ("steps: 3", "3:16: gradually: passes must be a list with at least one step"),
        ("passes: []", "3:25: gradually: passes must be a list with at least one step"),
        ("passes: [refit]", "3:25: gradually needs a pass that takes a share, such as prune_channels: {ratio: 0.5}"),
        ("passes: [prune_chanels]", "3:26: unknown pass 'prune_chanels'; did you mean 'prune_channels'?"),
        (
            "passes: [{prune_channels: {ratio: 1.5}}]",
            "3:51: ratio: should be less than 1 (found 1.5)",
        ),
        ("passes: [{prune_channels: {ratoi: 0.5}}]", "3:44: unknown option 'ratoi'; did you mean 'ratio'?"),
        ("passes: [prune_weights]", "3:26: prune_weights has no ratio to reach: give its ratio, or gradually's final"),
        (f"step: 3, {PASSES}", "3:17: unknown option 'step'; did you mean 'steps'?"),
        (f"steps: 1, {PASSES}", "3:24: steps: should be greater than or equal to 2 (found 1)"),
        (f"initial: 0.5, {PASSES}", "3:26: initial: 0.5 is not below the share to reach, 0.5"),
        (f"final: 0.7, {PASSES}", "3:38: prune_channels: give ratio or gradually's final, not both"),
        (
            "dynamic: true, passes: [{prune_weights: {ratio: 0.5}}]",
            "3:41: prune_weights cannot give back what it took, as dynamic asks",
        ),
        (
            f"passes: [{{gradually: {{{PASSES}}}}}]",
            "3:38: write gradually among the recipe's passes, as gradually: {steps: 4, passes: [...]}",
        ),
    ],
)
def test_faults_have_a_place(inner: str, told: str) -> None:
    assert f"r.yaml:{told}" in faults(inner)


def test_a_fault_in_a_pass_is_told_once() -> None:
    assert len(faults("steps: 9, passes: [{prune_channels: {ratio: 2}}]")) == 1


@pytest.mark.parametrize("written", ["gradually", "{gradually: }", "{gradually: 3}", "{gradually: [refit]}"])
def test_it_needs_options(written: str) -> None:
    with pytest.raises(OnnxpressError, match="write gradually among the recipe's passes"):
        parse_recipe(f"version: 1\npasses: [{written}]\n")


def test_a_misspelt_gradually_is_recognized() -> None:
    with pytest.raises(OnnxpressError, match="did you mean 'gradually'"):
        parse_recipe("version: 1\npasses: [{graduallly: {passes: [refit]}}]\n")


@pytest.mark.parametrize(
    ("entry", "valid"),
    [
        ({"gradually": {"steps": 3, "dynamic": True, "passes": [{"prune_channels": {"ratio": 0.5}}, "refit"]}}, True),
        ({"gradually": {"initial": None, "passes": ["prune_heads"]}}, True),
        ({"gradually": {"passes": []}}, False),
        ({"gradually": {"steps": 3}}, False),
        ({"gradually": {"stepz": 3, "passes": ["prune_heads"]}}, False),
        ({"gradually": {"passes": [{"prune_channels": {"ratoi": 0.5}}]}}, False),
        ({"gradually": {"passes": [{"gradually": {"passes": ["prune_heads"]}}]}}, False),
    ],
)
def test_the_schema_is_of_one_mind_with_the_loader(entry: dict[str, Any], valid: bool) -> None:
    recipe = {"version": 1, "passes": [entry]}
    assert VALIDATOR.is_valid(recipe) == valid
    try:
        parse_recipe(str(recipe).replace("True", "true").replace("None", "null"))
        assert valid
    except OnnxpressError:
        assert not valid


@pytest.mark.parametrize("dynamic", ["true", "false"])
def test_a_report_shows_every_step_and_replays_to_the_same_bytes(dynamic: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"version: 1\ndata: {{calibration: {SAMPLES}/digits-calibration.npz}}\npasses:\n"
        f"  - gradually: {{steps: 2, dynamic: {dynamic}, passes: [{{prune_channels: {{ratio: 0.5}}}}, refit]}}\n"
    )
    first = run(Job(load_recipe(recipe), SAMPLES / "digits-mlp.onnx", tmp_path / "first.onnx", measure=False))
    assert [step.name for step in first.steps] == ["prune_channels", "refit"] * 2
    assert (first.steps[0].bytes_after == first.steps[0].bytes_before) == (dynamic == "true")
    (tmp_path / "report.json").write_text(json.dumps(first.plain(tmp_path)))
    run(
        Job(load_recipe(tmp_path / "report.json"), SAMPLES / "digits-mlp.onnx", tmp_path / "second.onnx", measure=False)
    )
    assert (tmp_path / "second.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()


def test_a_pattern_that_matches_nothing_is_told_once_at_its_place(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\npasses:\n  - gradually:\n      passes:\n        - prune_channels: {ratios: {'/nowhere/*': 0.2}}\n"
    )
    with pytest.raises(OnnxpressError) as raised:
        run(Job(load_recipe(recipe), SAMPLES / "digits-mlp.onnx", tmp_path / "out.onnx", measure=False))
    assert not isinstance(raised.value, Faults)
    assert str(raised.value).startswith(f"{recipe}:5:37: ratios pattern '/nowhere/*' matches no node of ")
