"""onnxpress passes: the reference."""

from __future__ import annotations

import json

import pytest

from compress_ops.catalogue import PASSES
from compress_ops.passes import Change, Context, Model, Promise, register

from .conftest import Call


def test_every_pass_is_listed(call: Call) -> None:
    result = call("passes")
    assert result.exit_code == 0
    assert all(f"\n{name} " in result.stdout for name in PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_every_option_is_shown_with_its_description(call: Call, name: str) -> None:
    text = call("passes", name).stdout
    shown = " ".join(text.split())
    assert text.startswith(f"{name}: ")
    for option, field in PASSES[name].options.model_fields.items():
        assert f"\n{option} " in text
        assert field.description
        assert field.description.split()[0] in shown


def test_as_json(call: Call) -> None:
    listed = json.loads(call("passes", "--json").stdout)["passes"]
    assert [entry["name"] for entry in listed] == list(PASSES)
    told = json.loads(call("passes", "simplify", "--json").stdout)
    assert told.pop("exit_status") == 0
    assert told in listed


def test_an_unknown_pass(call: Call) -> None:
    result = call("passes", "quantise_static")
    assert result.exit_code == 2
    assert "did you mean 'quantize_static'?" in result.stderr


def test_a_pass_without_more_to_say_has_no_heading_for_it(call: Call) -> None:
    for name, operation in PASSES.items():
        assert ("\nAbout\n" in call("passes", name).stdout) == ("\n\n" in operation.doc)


def test_a_pass_that_says_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(model: Model, ctx: Context) -> Change:
        """Say one line."""
        return Change()

    monkeypatch.setitem(PASSES, "short", register("short", promises=Promise.PREPARES)(short))
    shown = call("passes", "short").stdout
    assert shown.startswith("short: Say one line.\n")
    assert "About" not in shown
