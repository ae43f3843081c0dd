"""Data from the user's own function."""

from __future__ import annotations

import sys
import textwrap

import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import DataError
from compress_ops.runtime import Port

from .form_case import fault_of

X = Port("x", "float32", ("n", 2))
GOOD = """
import numpy as np
def feeds():
    for number in range(3):
        yield {"x": np.full((1, 2), number, np.float32)}
def pairs():
    return [({"x": np.ones((2, 2), np.float32)}, np.array([4, 5])), ({"x": np.ones((1, 2), np.float32)}, np.array(6))]
"""


def opened(folder, source, code, allow_code=True, **settings):
    (folder / "random.py").write_text(textwrap.dedent(code))  # a name that the standard library has too
    return open_data(source, [X], DataSettings(base=folder, allow_code=allow_code, **settings))


def fault(folder, code, source="user:random:feeds") -> str:
    return fault_of(opened, folder, source, "import numpy as np\n" + textwrap.dedent(code))


def test_feeds_can_be_gone_through_again(tmp_path):
    data = opened(tmp_path, "user:random:feeds", GOOD)
    for _ in range(2):
        assert [batch.feeds["x"].tolist() for batch in data.batches()] == [[[0, 0]], [[1, 1]], [[2, 2]]]
    assert (len(data), len(list(data.batches(limit=2))), list(data.batches(limit=0))) == (3, 2, [])
    assert (data.name, data.synthetic) == ("user:random:feeds", False)


def test_pairs_carry_labels(tmp_path):
    data = opened(tmp_path, "user:random:pairs", GOOD)
    assert [(batch.size, batch.labels.tolist()) for batch in data.batches()] == [(2, [4, 5]), (1, [6])]
    assert len(data) == 3


def test_a_module_in_a_package_beside_the_recipe(tmp_path):
    (tmp_path / "my_package_of_data").mkdir()
    (tmp_path / "my_package_of_data" / "speech.py").write_text(GOOD)
    settings = DataSettings(base=tmp_path, allow_code=True)
    assert len(open_data("user:my_package_of_data.speech:feeds", [X], settings)) == 3


def test_the_users_folder_is_left_as_it_was(tmp_path, monkeypatch):
    """Neither the module, nor what it imports when loaded and when called, leaves a __pycache__."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("neighbour_at_load", "neighbour_at_call"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("one = 1\n")
    code = """
    import numpy as np
    import neighbour_at_load
    def feeds():
        from neighbour_at_call import one
        yield {"x": np.full((1, 2), one, np.float32)}
    """
    data = opened(tmp_path, "user:random:feeds", code)
    assert (len(data), sys.dont_write_bytecode) == (1, False)
    assert not list(tmp_path.rglob("__pycache__"))


def test_code_needs_the_flag_and_is_not_run_without(tmp_path):
    with pytest.raises(DataError, match="--allow-code"):
        opened(tmp_path, "user:random:feeds", "raise SystemExit", allow_code=False)


@pytest.mark.parametrize("source", ["user:", "user:random", "user::feeds", "user:random:", "user:random:a-b"])
def test_sources_of_another_form(tmp_path, source):
    assert "user:module:function" in fault(tmp_path, GOOD, source)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def feedz(): pass", ["no function 'feeds'", "did you mean 'feedz'"]),
        ("feeds = 3", ["no function 'feeds'"]),
        ("1 / 0", ["ZeroDivisionError", "random.py:2"]),
        ("import no_such_module_here", ["no_such_module_here"]),
        ("def feeds(: pass", ["SyntaxError"]),
        ("def feeds(): return 3", ["TypeError", "not iterable"]),
        ("def feeds(more): return []", ["TypeError", "more"]),
        ("def feeds(): return []", ["no samples"]),
        ("def feeds(): return [3]", ["sample 0 is of type int"]),
        ("def feeds(): return [{'x': [1, 2]}]", ["'x' is of type list, not a NumPy array"]),
        ("def feeds(): return [{'x': np.ones((1, 2))}]", ["'x' is float64"]),
        ("def feeds(): return [{'y': np.ones((1, 2), np.float32)}]", ["'x'", "missing", "'y'", "neither"]),
        ("def feeds(): return [{'x': np.full((1, 2), np.nan, np.float32)}]", ["'x' holds nan in sample 0"]),
        ("def feeds(): return [({'x': np.ones((1, 2), np.float32)}, np.arange(7))]", ["7 entries"]),
        ("def feeds(): yield {'x': np.ones((1, 2), np.float32)}; raise KeyError('k')", ["KeyError: 'k'"]),
        ("once = iter([{'x': np.ones((1, 2), np.float32)}])\ndef feeds(): return once", ["no samples", "a new one"]),
    ],
)
def test_faults(tmp_path, code, words):
    text = fault(tmp_path, code)
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("prefix", ["", "def feeds():\n    "])
def test_a_fault_is_told_at_the_users_line_and_not_inside_what_it_calls(tmp_path, prefix):
    text = fault(tmp_path, f"{prefix}np.stack([np.ones(2), np.ones(3)])")
    assert text.splitlines()[-1].strip() == f"raised at {tmp_path / 'random.py'}:{2 + bool(prefix)}"


def test_a_syntax_error_is_told_at_its_line(tmp_path):
    assert f"raised at {tmp_path / 'random.py'}:3" in fault(tmp_path, "x = 1\ndef feeds(: pass")


def test_a_fault_in_a_package_is_told_at_its_line(tmp_path):
    (tmp_path / "failing_package").mkdir()
    (tmp_path / "failing_package" / "speech.py").write_text("import numpy\nnumpy.zeros(-1).reshape(2)\n")
    with pytest.raises(DataError, match=r"speech\.py:2$"):
        open_data("user:failing_package.speech:feeds", [X], DataSettings(base=tmp_path, allow_code=True))


def test_a_module_may_define_dataclasses(tmp_path):
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
    assert len(opened(tmp_path, "user:random:feeds", code + GOOD)) == 3


def test_no_such_module(tmp_path):
    assert "no_module_of_mine" in fault(tmp_path, GOOD, "user:no_module_of_mine:feeds")


def test_the_digest_is_of_the_code(tmp_path):
    before = opened(tmp_path, "user:random:feeds", GOOD).digest()
    assert before == opened(tmp_path, "user:random:feeds", GOOD).digest()
    assert before != opened(tmp_path, "user:random:feeds", GOOD + "# more").digest()
