"""Recipe text: YAML 1.2 scalars, where everything stands, and what is refused."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compress_ops.errors import Place, RecipeError
from compress_ops.recipe.text import Document, dump_recipe, read_document, set_value


def _read(text: str) -> Document:
    return read_document(text, "r.yaml")


def _fault(text: str) -> str:
    with pytest.raises(RecipeError) as raised:
        _read(text)
    assert "\n" not in str(raised.value), "a fault is one line"
    return str(raised.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5e1", -5.0),
        ("+1", 1),
        ("-0", 0),
        ("010", 10),  # YAML 1.1 reads eight
        ("0x10", 16),
        ("0xFf", 255),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("Null", None),
        ("~", None),
        ("", None),
        ("no", "no"),  # YAML 1.1 reads False
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("y", "y"),
        ("nO", "nO"),
        ("tRue", "tRue"),
        ("2024-01-31", "2024-01-31"),  # YAML 1.1 reads a date
        ("12:30:45", "12:30:45"),  # YAML 1.1 reads 45045
        ("1_000", "1_000"),
        ("0b101", "0b101"),
        ("0o8", "0o8"),
        ("-0x1", "-0x1"),
        ("1e", "1e"),
        (".", "."),
        ("30%", "30%"),
        ("<<", "<<"),
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\u00e9"', "é"),
        ("1 # one", 1),
        ("/conv/*", "/conv/*"),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, meant: Any) -> None:
    document = _read(f"value: {written}")
    assert document.data == {"value": meant} and not document.faults
    assert type(document.data["value"]) is type(meant)


def test_not_a_number_is_one() -> None:
    assert math.isnan(_read("value: .NaN").data["value"])


def test_json_is_yaml() -> None:
    document = _read('{"a": [1, 2.5e-3, null, true, "no"],\n  "b": {"c": "\\ud7ff"}}')
    assert document.data == {"a": [1, 0.0025, None, True, "no"], "b": {"c": "\ud7ff"}}
    assert document.values[("b", "c")] == Place("r.yaml", 2, 14)


def test_every_key_and_value_has_its_place() -> None:
    document = _read("# a comment\none: 1\ntwo:\n  - x\n  - three: {four: 4}\n")
    assert {path: (p.line, p.column) for path, p in document.keys.items()} == {
        ("one",): (2, 1),
        ("two",): (3, 1),
        ("two", 1, "three"): (5, 5),
        ("two", 1, "three", "four"): (5, 13),
    }
    assert {path: (p.line, p.column) for path, p in document.values.items()} == {
        (): (2, 1),
        ("one",): (2, 6),
        ("two",): (4, 3),
        ("two", 0): (4, 5),
        ("two", 1): (5, 5),
        ("two", 1, "three"): (5, 12),
        ("two", 1, "three", "four"): (5, 19),
    }


@pytest.mark.parametrize(("before", "column"), [("\ufeff", 4), ("", 4)])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_do_not_shift_lines(before: str, column: int, newline: str) -> None:
    document = _read(before + newline.join(["a: 1", "b: 2", ""]))
    assert document.data == {"a": 1, "b": 2}
    assert document.values[("b",)] == Place("r.yaml", 2, column)


def test_a_place_that_is_not_written_is_that_of_its_parent() -> None:
    document = _read("a:\n  b: 1\n")
    assert document.place(("a", "x", "y")) == Place("r.yaml", 2, 3)
    assert document.place(("x",)) == Place("r.yaml", 1, 1)
    assert document.place(("a",), of_key=True) == Place("r.yaml", 1, 1)
    assert Document("empty").place(("a",)) == Place("empty")


def test_duplicate_keys_are_told_each_at_its_place_at_any_depth() -> None:
    document = _read("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n")
    assert [str(fault) for fault in document.faults] == [
        "r.yaml:2:11: duplicate key 'c'",
        "r.yaml:3:1: duplicate key 'a'",
        "r.yaml:4:1: duplicate key 'a'",
    ]


def test_keys_that_differ_only_in_spelling_of_a_number_are_two() -> None:
    assert _read("{1: a, 01: b}").data == {"1": "a", "01": "b"}


@pytest.mark.parametrize("key", ["[a]", "{a: b}"])
def test_a_key_that_is_no_scalar_is_a_fault(key: str) -> None:
    document = _read(f"? {key}\n: 1\nb: 2\n")
    assert [str(fault) for fault in document.faults] == ["r.yaml:1:3: a key must be a plain word"]
    assert document.data == {"b": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x 1\n", "r.yaml:1:4: not valid YAML: anchors and aliases are not supported"),
        ("a: &x [1]\nb: *x\n", "r.yaml:1:4: not valid YAML: anchors and aliases are not supported"),
        ("b: *x\n", "r.yaml:1:4: not valid YAML: anchors and aliases are not supported"),
        ("a: !!bool yes\n", "r.yaml:1:4: not valid YAML: tag 'tag:yaml.org,2002:bool' is not supported"),
        ("- !mine {a: 1}\n", "r.yaml:1:3: not valid YAML: tag '!mine' is not supported"),
        ("? !mine a\n: 1\n", "r.yaml:1:3: not valid YAML: tag '!mine' is not supported"),
        ("a:\n\t- 1\n", "r.yaml:2:1: not valid YAML: there is a tab; lines are indented with spaces"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1: not valid YAML: expected a single document in the stream"),
        ("a: b: c\n", "r.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: [1,\n", "r.yaml:2:1: not valid YAML: while parsing a flow"),
        ("a: 'x\n", "r.yaml:2:1: not valid YAML: while scanning a quoted scalar"),
        ("a: 1\n  b: 2\n", "r.yaml:2:4: not valid YAML: mapping values are not allowed here"),
        ("a: @b\n", "r.yaml:1:4: not valid YAML: while scanning for the next token, found character '@'"),
        ("%YAML 2.0\n---\na: 1\n", "r.yaml:1:1: not valid YAML: found incompatible YAML document"),
        ("a: 1\nb\0: 2\n", "r.yaml:2:2: not valid YAML: character U+0000 is not allowed"),
        ("\x80\xff", "r.yaml:1:1: not valid YAML: character U+0080 is not allowed"),
        ("a: \ud800\n", "r.yaml:1:4: not valid YAML: character U+D800 is not allowed"),
    ],
)
def test_what_is_refused_is_told_in_one_line_with_its_place(text: str, told: str) -> None:
    assert _fault(text).startswith(told)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_a_fault_not_a_crash(opening: str) -> None:
    assert _fault(opening * 5000) == "r.yaml: not valid YAML: nested too deeply"


@pytest.mark.parametrize("depth", [50, 150, 200, 250, 300, 320, 340])
def test_what_can_be_parsed_can_be_converted(depth: int) -> None:
    text = "[" * depth + "]" * depth
    try:
        read = str(_read(text).data)
    except RecipeError as fault:
        read = fault.message
    assert read in (text, "not valid YAML: nested too deeply")


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "-" + "9" * 30, "9223372036854775808"])
def test_numbers_that_nothing_can_hold_are_faults(digits: str) -> None:
    document = _read(f"a: {digits}")
    assert [str(fault) for fault in document.faults] == ["r.yaml:1:4: the number is too large"]


def test_the_largest_number_is_read() -> None:
    assert _read("a: 9223372036854775807\n").data == {"a": 2**63 - 1}


@pytest.mark.parametrize("escaped", ["\\0", "\\ud800", "x\\udfffy", "\\udc00\\ud800"])
def test_text_that_no_file_name_can_hold_is_a_fault(escaped: str) -> None:
    (value,) = _read(f'a: "{escaped}"').faults
    assert str(value) == "r.yaml:1:4: the text holds characters that no name can hold"
    (key,) = _read(f'{{"{escaped}": 1}}').faults
    assert str(key) == "r.yaml:1:2: the text holds characters that no name can hold"


def test_pairs_of_surrogates_are_one_character_as_in_json() -> None:
    assert _read('{"\\ud83d\\ude00": "\\ud83d\\ude00x"}').data == {"\U0001f600": "\U0001f600x"}
    assert _read('a: "\\ufffd\\ud83d\\ude00"').data == {"a": "\ufffd\U0001f600"}


@pytest.mark.parametrize("text", ['"\\UFFFFFFFF"', "%YAML " + "1" * 5000 + ".1\n---\na: 1\n"])
def test_what_makes_the_parser_itself_stumble_is_a_fault(text: str) -> None:
    assert _fault(text).startswith("r.yaml: not valid YAML: ")


def test_empty_texts_hold_nothing() -> None:
    assert [_read(text).data for text in ("", "\n\n", "# only a comment", "---", "--- ~")] == [None] * 5


# --set


def _set(text: str, *assignments: str) -> Document:
    document = _read(text)
    for assignment in assignments:
        set_value(document, assignment)
    return document


@pytest.mark.parametrize(
    ("assignment", "result"),
    [
        ("seed=3", {"passes": ["a", {"b": {"c": 1}}], "seed": 3, "empty": None}),
        ("seed=1e-3", {"passes": ["a", {"b": {"c": 1}}], "seed": 0.001, "empty": None}),
        ("seed=no", {"passes": ["a", {"b": {"c": 1}}], "seed": "no", "empty": None}),
        ("seed=", {"passes": ["a", {"b": {"c": 1}}], "seed": None, "empty": None}),
        ("seed='=1'", {"passes": ["a", {"b": {"c": 1}}], "seed": "=1", "empty": None}),
        ("empty.x=[1, y]", {"passes": ["a", {"b": {"c": 1}}], "seed": 0, "empty": {"x": [1, "y"]}}),
        ("new.x.y=1", {"passes": ["a", {"b": {"c": 1}}], "seed": 0, "empty": None, "new": {"x": {"y": 1}}}),
        ("new.0=1", {"passes": ["a", {"b": {"c": 1}}], "seed": 0, "empty": None, "new": {"0": 1}}),
        ("passes.1.b.c=2", {"passes": ["a", {"b": {"c": 2}}], "seed": 0, "empty": None}),
        ("passes.1.b.d=2", {"passes": ["a", {"b": {"c": 1, "d": 2}}], "seed": 0, "empty": None}),
        ("passes.0.a.c=2", {"passes": [{"a": {"c": 2}}, {"b": {"c": 1}}], "seed": 0, "empty": None}),
        ("passes.0=z", {"passes": ["z", {"b": {"c": 1}}], "seed": 0, "empty": None}),
        ("passes=[z]", {"passes": ["z"], "seed": 0, "empty": None}),
    ],
)
def test_set_replaces_and_adds(assignment: str, result: Any) -> None:
    document = _set("passes: [a, {b: {c: 1}}]\nseed: 0\nempty:\n", assignment)
    assert document.data == result and not document.faults


def test_the_last_set_wins() -> None:
    assert _set("a: 1", "a=2", "a=3").data == {"a": 3}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("seed", "write it as path.to.option=value"),
        ("=1", "write it as path.to.option=value"),
        ("passes.2=z", "'passes.2': the list has entries 0 to 1"),
        ("passes.2.z.x=1", "'passes.2': the list has entries 0 to 1"),
        ("passes.-1=z", "'passes.-1': the list has entries 0 to 1"),
        ("passes.b.c=1", "'passes.b': the list has entries 0 to 1\n  write passes.1.b.c"),
        ("passes.a=1", "'passes.a': the list has entries 0 to 1\n  write passes.0.a"),
        (f"passes.{'9' * 5000}=z", f"'passes.{'9' * 5000}': the list has entries 0 to 1"),
        ("none.0=z", "'none.0': the list is empty"),
        ("passes.0.b.c=1", "'passes.0' is a, not b"),
        ("passes.1.a.c=1", "'passes.1' is b, not a"),
        ("seed.x=1", "'seed' holds no options"),
        ("seed.x.y=1", "'seed' holds no options"),
    ],
)
def test_set_that_leads_nowhere_names_itself(assignment: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        _set("passes: [a, {b: {c: 1}}]\nseed: 0\nnone: []\n", assignment)
    assert str(raised.value) == f"--set {assignment}: {told}"


def test_set_offers_every_step_of_the_name() -> None:
    with pytest.raises(RecipeError) as raised:
        _set("passes: [a, b, {a: {c: 1}}]", "passes.a.c.d=1")
    assert raised.value.hint == "write passes.0.a.c.d or passes.2.a.c.d"


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("a=[1", "--set a=[1:1:3: not valid YAML"),
        ("a=*b", "--set a=*b:1:1: not valid YAML: anchors and aliases"),
        ("a=!b 1", "--set a=!b 1:1:1: not valid YAML: tag"),
        ("a=1\n---\n2", "--set a=1 --- 2:2:1: not valid YAML"),
    ],
)
def test_set_to_what_is_no_yaml_is_told_in_one_line(assignment: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        _set("a: 1", assignment)
    assert str(raised.value).startswith(told) and "\n" not in str(raised.value)


def test_faults_inside_the_value_of_set_are_kept() -> None:
    document = _set("a: 1", "a={b: 1, b: 2}")
    assert [str(fault) for fault in document.faults] == ["--set a={b: 1, b: 2}:1:8: duplicate key 'b'"]


def test_what_set_gave_stands_at_set() -> None:
    document = _set("a:\n  b: 1\n  x: 2\n", "a={b: {c: 2}}", "new.deep=1")
    for path in [("a",), ("a", "b"), ("a", "b", "c")]:
        assert document.place(path) == Place("--set a={b: {c: 2}}")
        assert document.place(path, of_key=True) == Place("--set a={b: {c: 2}}")
    assert document.place(("new",)) == document.place(("new", "deep")) == Place("--set new.deep=1")


def test_set_beside_other_values_leaves_their_places() -> None:
    document = _set("a:\n  b: 1\n  x: 2\n", "a.b=5")
    assert document.place(("a", "x")) == Place("r.yaml", 3, 6)
    assert document.place(("a",)) == Place("r.yaml", 2, 3)


def test_set_cannot_mend_a_recipe_that_is_no_mapping() -> None:
    assert _set("- a", "b=1").data == ["a"]
    assert _set("", "b=1").data is None


# Writing


def _plain(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(leaves, max_size=3) | st.dictionaries(TEXT, leaves, max_size=3)


NAMEABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd")
LIKE_VALUES = [
    "1e5",
    "1e-3",
    "010",
    "0o17",
    "0x1f",
    "0b1",
    "1_000",
    "12:30:45",
    "2024-01-31",
    "no",
    "null",
    "~",
    ".inf",
]
LIKE_SIGNS = [
    "-",
    "?",
    ":",
    "#a",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "=",
    "<<",
    "...",
    "---",
    "{a",
    "]",
    ",",
    "'a",
    '"a',
    "|a",
]
LIKE_OTHERS = ["", "a: b", "a #b", ". 5", " a", "a\n", "True", "on", ".inf", "|a"]
TEXT = st.text(NAMEABLE, max_size=20) | st.sampled_from([*LIKE_VALUES, *LIKE_SIGNS, *LIKE_OTHERS])
NUMBERS = st.integers(1 - 2**63, 2**63 - 1) | st.floats(allow_nan=False)
SECTIONS = st.dictionaries(TEXT, st.recursive(TEXT | NUMBERS | st.booleans() | st.none(), _plain, max_leaves=10))


@given(SECTIONS)
def test_what_is_written_is_read_back_the_same(sections: dict[str, Any]) -> None:
    """By our loader, and by one of YAML 1.1."""
    text = dump_recipe(sections)
    document = _read(text)
    assert (document.data or {}, document.faults) == (sections, [])
    assert repr(document.data or {}) == repr(sections), "of the same types"
    assert yaml.safe_load(text) == sections


def test_what_is_written_is_plain_where_it_can_be() -> None:
    shared = ["Conv", "é"]
    text = dump_recipe({"version": 1, "data": {"calibration": "1e5"}, "passes": [{"a": shared}, {"b": shared}]})
    assert text == ("version: 1\ndata:\n  calibration: '1e5'\npasses:\n- a:\n  - Conv\n  - é\n- b:\n  - Conv\n  - é\n")
