"""Passes: the signature is the schema; patterns choose nodes; a Change remembers; a Context hands out data."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError

from compress_ops.errors import PassError
from compress_ops.passes import (
    ALL,
    NONE,
    Change,
    Context,
    Declined,
    Fraction,
    Need,
    Only,
    Promise,
    Skip,
    matches,
    register,
    selected,
    unmatched,
)
from tests.helpers import Given, context, model_of


@register("halve", promises=Promise.SHRINKS, needs=[Need.CALIBRATION])
def halve(
    model,
    ctx: Context,
    *,
    ratio: Fraction,
    score: Annotated[Literal["l1", "l2"], Field(description="How to score.")] = "l2",
    steps: int | None = None,
    only: Only = ALL,
    skip: Skip = NONE,
) -> Change:
    """Halve everything.

    More words.
    """
    change = Change()
    change.touch("a", f"{ratio} {score}")
    return change


def test_a_registered_pass_is_called_like_its_function():
    change = halve(None, context(), ratio=0.5, score="l1")
    assert change.touched == {"a": "0.5 l1"}
    assert (halve.name, halve.promises, halve.needs) == ("halve", Promise.SHRINKS, {Need.CALIBRATION})
    assert halve.summary == "Halve everything." and halve.doc.endswith("More words.")


def test_options_hold_the_defaults_of_the_signature():
    options = halve.options.model_validate({"ratio": 0.25})
    assert options.model_dump() == {
        "allow_unchanged": False,
        "allow_larger": False,
        "allow_undone": False,
        "ratio": 0.25,
        "score": "l2",
        "steps": None,
        "only": ["*"],
        "skip": [],
    }
    assert halve.options.model_json_schema()["properties"]["score"]["description"] == "How to score."


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ratio": 0},
        {"ratio": 1},
        {"ratio": -0.1},
        {"ratio": float("nan")},
        {"ratio": "0.5"},
        {"ratio": True},
        {"ratio": 0.5, "score": "l3"},
        {"ratio": 0.5, "steps": 1.5},
        {"ratio": 0.5, "rate": 1},
        {"ratio": 0.5, "only": [1]},
        {"ratio": 0.5, "allow_larger": "no"},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        halve.options(**wrong)


def test_one_pattern_needs_no_list():
    assert halve.options.model_validate({"ratio": 0.5, "only": "/head/*"}).only == ["/head/*"]


def test_defaults_are_not_shared_between_uses():
    halve.options.model_validate({"ratio": 0.5}).only.append("mutated")
    assert halve.options.model_validate({"ratio": 0.5}).only == ["*"] and ALL == ["*"]


def named_model():
    source = "g (float[2] x) => (float[2] z) { y = Neg(x)  z = Abs(y) }"
    model = model_of(source)
    for node, name in zip(model.nodes(), ("/head/neg[0]", "/tail/abs"), strict=True):
        node.name = name
    return model


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [
        ("*", [True, True]),
        ("Neg", [True, False]),
        ("neg", [False, False]),
        ("/head/*", [True, False]),
        ("*/abs", [False, True]),
        ("/tail/ab?", [False, True]),
        ("N*", [True, False]),
        ("/head/neg[[]0]", [True, False]),
        ("", [False, False]),
    ],
)
def test_patterns_are_globs_over_names_and_types(pattern, hits):
    assert [matches(pattern, node) for node in named_model().nodes()] == hits


def test_skip_wins_over_only():
    neg, absolute = named_model().nodes()
    assert selected(neg, ["Neg", "Abs"], ["/tail/*"]) and not selected(absolute, ["Neg", "Abs"], ["/tail/*"])
    assert not selected(neg, [], [])


def test_patterns_that_name_nothing_are_found():
    assert unmatched(named_model(), ["*", "Conv", "/tail/*", "/nowhere/*"]) == ["Conv", "/nowhere/*"]


def test_a_change_remembers_what_was_done_and_what_not():
    change = Change()
    change.touch(None, "unnamed")
    change.decline("b", "too small")
    change.decline(None, "unnamed")
    assert change.touched == {"?": "unnamed"}
    assert change.declined == [Declined("b", "too small"), Declined("?", "unnamed")]


def counting() -> Given:
    return Given(*({"x": np.full(1, i)} for i in range(5)))


@pytest.mark.parametrize(("dry_run", "expected"), [(False, [0, 1, 2, 3, 4]), (True, [0])])
def test_a_dry_run_sees_one_batch(dry_run, expected):
    data = counting()
    ctx = context(calibration=data, dry_run=dry_run)
    assert [int(feeds["x"][0]) for feeds in ctx.calibration_batches("")] == expected
    assert data.served == len(expected)


def test_batches_go_through_progress_as_they_come():
    data, labels = counting(), []

    def progress(items, label, total=None):
        labels.append(label)
        yield from items

    batches = iter(context(calibration=data, progress=progress).calibration_batches("ranges"))
    next(batches)
    assert labels == ["ranges"] and data.served == 1  # streamed, not listed


def test_calibration_without_data_is_a_clear_error():
    with pytest.raises(PassError, match="calibration data is needed"):
        list(context().calibration_batches(""))
