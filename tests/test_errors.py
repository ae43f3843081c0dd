"""Errors: each tells what, where and how to mend it; several are told together, each once."""

from __future__ import annotations

import pytest

from compress_ops.errors import Faults, ModelError, OnnxpressError, Place, RecipeError, did_you_mean, raise_all


def test_an_error_tells_place_message_and_hint():
    error = RecipeError("unknown pass 'prun'", hint="see onnxpress passes", place=Place("r.yaml", 8, 10))
    assert str(error) == "r.yaml:8:10: unknown pass 'prun'\n  see onnxpress passes"
    assert str(RecipeError("no", place=Place("--set"))) == "--set: no"
    assert str(RecipeError("no")) == "no"


def test_no_fault_is_no_error():
    assert raise_all([]) is None


def test_one_fault_is_raised_as_it_is():
    fault = ModelError("bad")
    with pytest.raises(ModelError) as caught:
        raise_all([fault, ModelError("bad")])
    assert str(caught.value) == "bad"


def test_several_faults_come_together_each_once_in_order():
    with pytest.raises(Faults) as caught:
        raise_all(iter([ModelError("b"), RecipeError("a"), ModelError("b")]))
    assert [str(fault) for fault in caught.value.faults] == ["b", "a"]
    assert str(caught.value) == "b\na"
    assert isinstance(caught.value, OnnxpressError)


@pytest.mark.parametrize(
    ("word", "suffix"), [("prun_weights", "; did you mean 'prune_weights'?"), ("zzz", ""), ("", "")]
)
def test_did_you_mean(word, suffix):
    assert did_you_mean(word, iter(["prune_weights", "simplify"])) == suffix
