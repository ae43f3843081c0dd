"""Every pass in the table is finished: it says what it does, what its options mean, and is tested and used."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from compress_ops.catalogue import PASSES
from compress_ops.passes import Need, Pass, Promise, StepOptions, register
from tests.helpers import ROOT

FAMILIES = ("graph", "quantize", "prune", "factorize", "distill")
EVERY_PASS = pytest.mark.parametrize("operation", PASSES.values(), ids=list(PASSES))


def _own_options(operation: Pass) -> dict[str, FieldInfo]:
    fields = operation.options.model_fields
    return {name: field for name, field in fields.items() if name not in StepOptions.model_fields}


def _recipes() -> Iterator[tuple[str, Any]]:
    """Recipes for people: the configs, and those shown in pages that are written by hand."""
    for path in (ROOT / "configs").glob("*.yaml"):
        yield path.name, yaml.safe_load(path.read_text())
    pages = [ROOT / "README.md", *(path for path in (ROOT / "docs").glob("*.md") if path.name != "reference.md")]
    for page in filter(Path.is_file, pages):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            yield page.name, yaml.safe_load(block)


def _used() -> set[str]:
    recipes = [recipe for _, recipe in _recipes() if isinstance(recipe, dict)]
    return {name for recipe in recipes for name in _names(recipe.get("passes") or [])}


def _names(steps: list[Any]) -> Iterator[str]:
    """The passes that a list of steps names, those inside ``gradually`` included."""
    for step in steps:
        name, options = (step, None) if isinstance(step, str) else next(iter(step.items()))
        yield from _names(options["passes"]) if name == "gradually" else [name]


def _tests_naming(name: str) -> list[str]:
    """Test files of the pass families that call the pass by its name."""
    files = [path for family in FAMILIES for path in (ROOT / "tests" / family).rglob("test_*.py")]
    word = re.compile(rf"\b{re.escape(name)}\b")
    return [path.name for path in files if word.search(path.read_text())]


def test_there_are_passes_of_several_families_and_each_promise_is_made() -> None:
    modules = {operation.function.__module__.split(".")[1] for operation in PASSES.values()}
    assert {"graph", "quantize", "prune"} <= modules <= set(FAMILIES)
    assert {operation.promises for operation in PASSES.values()} == set(Promise)


@EVERY_PASS
def test_its_name_is_one_word_in_the_table_and_in_the_code(operation: Pass) -> None:
    assert PASSES[operation.name] is operation
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", operation.name)
    assert operation.function.__name__.strip("_") == operation.name


@EVERY_PASS
def test_it_says_what_it_does_in_one_sentence_and_then_how(operation: Pass) -> None:
    summary, _, rest = operation.doc.partition("\n")
    assert re.fullmatch(r"[A-Z].*[a-z0-9)]\.", summary) and len(summary) <= 120
    assert rest.startswith("\n") and len(rest.split()) >= 10


@EVERY_PASS
def test_every_option_has_a_description_that_is_a_sentence(operation: Pass) -> None:
    for name, field in operation.options.model_fields.items():
        assert re.fullmatch(r"\w+\b.* .*\.", field.description or ""), name


@EVERY_PASS
def test_its_options_do_not_hide_those_of_every_step(operation: Pass) -> None:
    assert len(_own_options(operation)) == len(operation.options.model_fields) - len(StepOptions.model_fields)
    for name, field in StepOptions.model_fields.items():
        own = operation.options.model_fields[name]
        assert (own.default, own.annotation, own.description) == (field.default, field.annotation, field.description)


@EVERY_PASS
def test_the_defaults_of_its_options_are_valid(operation: Pass) -> None:
    """pydantic does not look at defaults by itself, and a recipe spells them out when it is resolved."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in operation.options.model_fields.items()
        if not field.is_required()
    }
    required = {name: None for name in operation.options.model_fields if name not in defaults}
    assert not required, "give every option a default, so that the pass can be tried by its bare name"
    options = operation.options.model_validate(defaults)
    assert options.model_dump() == defaults
    assert operation.options.model_validate_json(options.model_dump_json()) == options


@EVERY_PASS
def test_needs_are_known(operation: Pass) -> None:
    assert operation.needs <= set(Need)


@EVERY_PASS
def test_a_test_of_its_family_names_it(operation: Pass) -> None:
    assert _tests_naming(operation.name), f"write tests/{operation.function.__module__.split('.')[1]}/test_*.py"


@EVERY_PASS
def test_a_recipe_uses_it(operation: Pass) -> None:
    assert operation.name in _used(), "use it in configs/*.yaml, or in a recipe shown in docs/ or the README"


@EVERY_PASS
def test_the_generated_reference_has_it(operation: Pass) -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    assert operation.summary in page
    assert all(f"`{name}`" in page for name in _own_options(operation))


def test_these_tests_fail_for_a_pass_that_is_not_finished() -> None:
    """The walkers above find nothing for a pass that nobody wrote about."""
    new = register("brand" + "_new", promises=Promise.SHRINKS)(lambda model, ctx: None)  # type: ignore[arg-type, return-value]
    assert new.name not in _used()
    assert not _tests_naming(new.name)
    assert new.summary == ""


def test_recipes_for_people_name_passes_that_exist() -> None:
    assert _used() <= set(PASSES)
