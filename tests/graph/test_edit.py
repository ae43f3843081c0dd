"""Editor: nodes come before the one they replace, under names of their own, in its graph; ports keep their names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compress_ops.graph.edit import (
    MICROSOFT,
    Constants,
    Editor,
    Formulas,
    Writer,
    attribute,
    constant_of,
    put_behind,
    stand_in,
)
from tests.helpers import model_of, noise, op_types, outputs

EPS = np.finfo(np.float32).eps

CHAIN = "g (float[2] x) => (float[2] y) { h = Neg(x)  y = Exp(h) }"
X = np.array([1.0, -2.0], np.float32)


def first(model, op_type):
    return next(node for node in model.nodes() if node.op_type == op_type)


def test_a_node_is_replaced_by_others():
    model = model_of(CHAIN)
    edit = Editor(model, first(model, "Neg"))
    two = edit.constant("two", np.array(2, np.float32))
    edit.replace(edit.op("Mul", edit.node.inputs[0], two))
    assert [node.op_type for node in model.graph] == ["Mul", "Exp"]
    np.testing.assert_allclose(outputs(model, x=X)[0], np.exp(2 * X), rtol=4 * EPS)  # two libraries' exp


def test_the_output_of_the_model_keeps_name_type_and_shape():
    model = model_of(CHAIN)
    contract = model.contract()
    edit = Editor(model, first(model, "Exp"))
    edit.replace(edit.op("Abs", edit.node.inputs[0]))
    assert model.contract() == contract
    assert str(model.graph.outputs[0].shape) == "[2]"
    np.testing.assert_array_equal(outputs(model, x=X)[0], np.abs(X))


def test_several_outputs_have_names_of_their_own():
    model = model_of("g (float[2] x) => (uint8[2] y) { y, s, z = DynamicQuantizeLinear(x) }")
    edit = Editor(model, first(model, "DynamicQuantizeLinear"))
    made = [*edit.ops("DynamicQuantizeLinear", edit.node.inputs[0], outputs=3, label="int8"), edit.op("Neg", None)]
    names = [value.name for value in made]
    assert len(set(names)) == 4 and names[0] == "DynamicQuantizeLinear_y/int8"


def test_a_foreign_domain_is_imported_once_it_is_used():
    model = model_of(CHAIN)
    edit = Editor(model, first(model, "Exp"))
    edit.replace(edit.op("Gelu", edit.node.inputs[0], domain=MICROSOFT))
    assert model.ir.opset_imports == {"": 17, MICROSOFT: 1}
    assert op_types(model)["Gelu"] == 1 and np.isfinite(outputs(model, x=X)[0]).all()


def test_edits_in_a_branch_stay_in_the_branch():
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) },
                    else_branch = e () => (float[2] b) { b = Abs(x) }> }"""
    model = model_of(text)
    edit = Editor(model, first(model, "Neg"))
    edit.replace(edit.op("Mul", edit.node.inputs[0], edit.constant("three", np.array(3, np.float32))))
    (branch,) = (graph for graph in model.ir.graphs() if graph.initializers)
    assert branch is not model.graph and len(branch) == 1
    assert outputs(model, c=np.array(True), x=X)[0].tolist() == [3.0, -6.0]


def test_constants_and_attributes_are_looked_up():
    model = model_of(
        "g (float[2,3] x) => (float[3,2] y) { h = MatMul(x, w)  y = Transpose<perm=[1,0]>(h) }", w=noise(3, 3)
    )
    matmul, transpose = model.nodes()
    assert constant_of(matmul.inputs[1]).shape == ir.Shape((3, 3))
    assert constant_of(matmul.inputs[0]) is None and constant_of(None) is None
    assert list(attribute(transpose, "perm", None)) == [1, 0]
    assert attribute(matmul, "perm", "default") == "default"


TWO = """g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x)  z = Abs(x)  i = Exp(z) }"""


def test_an_output_does_not_stand_in_for_another():
    model = model_of(TWO)
    y, z = model.graph.outputs
    assert not stand_in(y, z) and [v.name for v in model.graph.outputs] == ["y", "z"]


def test_an_input_and_a_weight_do_not_stand_in_for_an_output():
    model = model_of("g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }")
    (y,) = model.graph.outputs
    assert not stand_in(model.graph.inputs[0], y) and not stand_in(next(model.weights()), y)


def test_an_inner_value_stands_in_for_an_output_under_its_name():
    model = model_of(TWO)
    inner = first(model, "Exp").outputs[0]
    assert stand_in(inner, model.graph.outputs[0])
    assert [v.name for v in model.graph.outputs] == ["y", "z"]
    model.drop_unused()
    np.testing.assert_allclose(outputs(model, x=X)[0], np.exp(np.abs(X)), rtol=4 * EPS)


BRANCH = """g (float[2] x, bool c) => (float[2] y) { h = Neg(x)  y = If(c) <
  then_branch = a () => (float[2] s_Neg) { s_Neg = Exp(h) }, else_branch = b () => (float[2] t) { t = Abs(h) }> }"""


def test_names_are_new_to_branches_too_and_as_wished():
    model = model_of(BRANCH)
    made = [Writer(model, "s").op("Neg", model.graph.inputs[0], called=wish) for wish in ("", "s_Neg", "s_Neg")]
    assert [value.name for value in made] == ["s/Neg", "s_Neg_1", "s_Neg_2"]
    assert [node.name for node in model.graph][-3:] == ["s/Neg", "s/Neg_1", "s/Neg_2"]


def test_a_node_goes_where_it_is_put_and_is_read_instead():
    model = model_of(CHAIN)
    neg = first(model, "Neg")
    writer = Writer(model, "s", lambda made: model.graph.insert_after(neg, made))
    put_behind(writer.op("Abs", neg.outputs[0]), neg.outputs[0])
    assert [node.op_type for node in model.graph] == ["Neg", "Abs", "Exp"]
    np.testing.assert_allclose(outputs(model, x=X)[0], np.exp(np.abs(X)), rtol=4 * EPS)


def test_constants_are_stored_once_and_have_the_type_of_the_formula():
    model = model_of(CHAIN)
    shared = Constants(model)
    one, again = (Formulas(model, label, shared).number(1) for label in "ab")
    assert one is again and one.dtype == ir.DataType.FLOAT
    assert Formulas(model, "a", shared).integers([1]) is not one and len(model.graph.initializers) == 2
