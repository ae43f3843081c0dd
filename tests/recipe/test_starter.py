"""The starter recipe: valid as it is, valid with everything taken in, and nothing left out."""

from __future__ import annotations

import pytest

from compress_ops.catalogue import PASSES
from compress_ops.passes import StepOptions
from compress_ops.recipe import Budget, Data, Images, Measure, Recipe, parse_recipe
from compress_ops.recipe.starter import starter

TEXT = starter()


def test_it_is_a_recipe() -> None:
    recipe = parse_recipe(TEXT).recipe
    assert [step.operation.name for step in recipe.passes] == ["simplify", "quantize_dynamic"]


def test_with_every_comment_taken_in_it_still_is() -> None:
    lines = [line.removeprefix("# ") for line in TEXT.splitlines() if not line.lstrip().startswith("##")]
    recipe = parse_recipe("\n".join(lines)).recipe
    assert {step.operation.name for step in recipe.passes} == set(PASSES)
    assert recipe.data.evaluation is not None
    assert recipe.data.images is not None
    assert recipe.measure.dims
    assert recipe.budget.max_drop


def test_steps_stand_in_the_order_in_which_they_make_sense() -> None:
    lines = [line.removeprefix("# ").strip() for line in TEXT.splitlines()]
    steps = [line.removeprefix("- ").removesuffix(":") for line in lines if line.startswith("- ")]
    assert steps == list(PASSES)
    order = ["upgrade_opset", "simplify", "prune_weights", "smooth", "quantize_static"]
    assert [step for step in steps if step in order] == order


def test_examples_do_not_contradict_each_other() -> None:
    """prune_weights takes one of ratio and threshold."""
    part = TEXT.partition("- prune_weights:\n")[2].partition("- ")[0]
    assert " ratio: 0.5 " in part
    assert " threshold: null " in part


@pytest.mark.parametrize("section", [Recipe, Data, Images, Measure, Budget])
def test_every_field_is_there(section: type[Recipe]) -> None:
    assert all(f"{name}:" in TEXT for name in section.model_fields)


@pytest.mark.parametrize("name", PASSES)
def test_every_option_of_every_pass_is_there_with_its_default(name: str) -> None:
    part = TEXT.partition(f"- {name}:\n")[2].partition("- ")[0]
    for option, field in PASSES[name].options.model_fields.items():
        if option not in StepOptions.model_fields:
            assert f" {option}: " in part
            assert str(field.description)[:30] in part


def test_defaults_are_the_codes_own() -> None:
    lines = [line.removeprefix("# ") for line in TEXT.splitlines() if not line.lstrip().startswith("##")]
    for step in parse_recipe("\n".join(lines)).recipe.passes:
        for option, field in type(step.options).model_fields.items():
            if field.default is not None and not field.is_required():
                assert getattr(step.options, option) == field.default


def test_no_line_is_too_long_to_read() -> None:
    assert max(map(len, TEXT.splitlines())) <= 140
