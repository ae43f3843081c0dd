"""Choices as steps of a recipe, whose patterns name exactly the nodes that were chosen."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.passes import selected
from compress_ops.recipe import Step
from compress_ops.search.auto.points import steps_for, told
from compress_ops.search.costs.apart import Layer
from compress_ops.search.costs.forms import FORMS
from tests.helpers import model_of, noise

ODD = ["a[0]*", "a0x", "a?", "ab", "[!a]", "b", "/body/*/MatMul", "/body/0/MatMul", "MatMul_1", "[[]]", "a\\*", "A[0]*"]


def patterns(step: Step) -> list[str]:
    (options,) = step.resolved().values()
    return options["only"]


def test_each_form_is_one_step_of_all_its_layers_in_the_order_of_forms() -> None:
    layers = [
        Layer(("a", "b"), "MatMul", 1),
        Layer(("c",), "Gemm", 1),
        Layer(("d",), "Conv", 1),
        Layer(("e",), "Conv", 1),
    ]
    forms = [FORMS[3], FORMS[10], FORMS[2]]
    steps = steps_for(np.array([3, 1, 0, 3]), layers, forms, ())
    assert [step.operation.name for step in steps] == ["quantize_dynamic", "quantize_static"]
    assert [patterns(step) for step in steps] == [["c"], ["a", "b", "e"]]
    assert all(step.resolved()[step.operation.name].items() >= dict(form.options).items()
               for step, form in zip(steps, (FORMS[3], FORMS[2]), strict=True))  # fmt: skip


def test_where_all_stays_there_are_no_steps() -> None:
    assert steps_for(np.array([0]), [Layer(("a",), "MatMul", 1)], FORMS, ()) == []


@pytest.mark.parametrize("name", ODD)
def test_a_pattern_selects_its_node_and_no_other(name: str) -> None:
    nodes = " ".join(f"v{i} = MatMul(x, w)" for i in range(len(ODD)))
    model = model_of(f"g (float[4,4] x) => (float[4,4] v0) {{ {nodes} }}", w=noise(4, 4))
    for node, odd in zip(model.graph, ODD, strict=True):
        node.name = odd
    (step,) = steps_for(np.array([1]), [Layer((name,), "MatMul", 16)], [FORMS[3]], ())
    found = [node.name for node in model.nodes() if selected(node, patterns(step), [])]
    assert found == [name]


def test_a_choice_in_words_begins_with_what_most_layers_became() -> None:
    forms = ["float", "int8 static", "codebook of 16"]
    assert told(np.array([1, 2, 1, 0, 1, 2]), forms) == "3 int8 static, 2 codebook of 16, 1 float"
    assert told(np.array([0, 0]), forms) == "2 float"
    assert told(np.zeros(0, np.int64), forms) == ""
