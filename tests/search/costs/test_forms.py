"""The forms of layers: each is a step of a recipe, and a device names those that are worth it there."""

from __future__ import annotations

from typing import get_args

import pytest

from compress_ops.catalogue import PASSES
from compress_ops.devices import TARGETS
from compress_ops.devices import Form as Name
from compress_ops.passes import StepOptions
from compress_ops.recipe import step_from
from compress_ops.search.costs.forms import FLOAT, FORMS, Form, forms_for


def test_devices_name_every_form_and_no_other() -> None:
    assert sorted(form.name for form in FORMS) == sorted(get_args(Name))
    assert FLOAT not in get_args(Name)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_is_a_step_that_recipes_take(form: Form) -> None:
    ((name, options),) = form.step(["some", "node*"]).items()
    step = step_from(PASSES[name], options)
    found = step.arguments()
    told = found.get("options", found)
    told = told if isinstance(told, dict) else told.model_dump()
    assert told["only"] == ["some", "node*"]
    given = {key: value for key, value in form.options.items() if key not in StepOptions.model_fields}
    assert {key: told[key] for key in given} == given


def test_without_a_device_there_is_what_any_processor_runs() -> None:
    assert [form for form in FORMS if form not in forms_for(None)] == [FORMS[-1]]
    assert FORMS[-1].name == "float16"


@pytest.mark.parametrize("device", TARGETS)
def test_a_device_allows_its_forms_with_what_steps_must_carry_there(device: str) -> None:
    target, found = TARGETS[device], forms_for(TARGETS[device])
    assert {form.name for form in found} == set(target.forms)
    assert [form.name for form in found] == [form.name for form in FORMS if form.name in target.forms]
    for form in found:
        (plain,) = (each for each in FORMS if each.name == form.name)
        assert form.options == {**plain.options, **target.options.get(form.operation, {})}
        ((name, options),) = form.step(["a"]).items()
        step_from(PASSES[name], options)
