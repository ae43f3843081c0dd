"""finetune_quantized block by block: what counts as a block, that each comes nearer, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill import finetune_quantized
from compress_ops.distill.fine_tuning.trained_blocks import Block, find_blocks
from compress_ops.distill.fine_tuning.unrounded import Steps, unrounded
from compress_ops.errors import PassError
from compress_ops.graph.part import part
from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.quantize import quantize_static, quantize_weights
from tests.distill.fine_tuning import tuning_case
from tests.helpers import Table, array_of, context, model_of, noise, outputs, proto

MIXED = noise(64, 64, seed=11, scale=0.125)  # of inputs without any correlation rounding to nearest is best
X = noise(300, 64, seed=9) @ MIXED
FACTOR = 2  # the least that ten epochs gain here; 5.8 and 6.1 were measured
RESIDUAL = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> agraph (float[N,64] x) => (float[N,64] y) {
  a = MatMul(x, w1) b = Add(a, b1) c = Relu(b)
  d = MatMul(c, w2) e = Relu(d) f = MatMul(e, w3) g = Add(f, c)
  h = BETWEEN(g) y = MatMul(h, w4) }"""


def float_model(between: str = "Sigmoid") -> Model:
    weights = {f"w{i}": noise(64, 64, seed=i, scale=0.15) for i in range(1, 5)}
    return model_of(RESIDUAL.replace("BETWEEN", between), b1=noise(64, seed=7), **weights)


def quantized(**options: Any) -> tuple[Model, Model]:
    model = float_model(**options)
    quantize_weights(model, context(), storage="qdq", method="rtn", block_size=64)
    model.check()  # which puts weights in another order
    return model, float_model(**options)


def tuned(model: Model, teacher: Model, kind: str, **options: Any) -> Change:
    return tuning_case.tuned(model, teacher, X, **{"loss": None, "blocks": kind, **options})


def error(model: Model, teacher: Model) -> float:
    return tuning_case.error(model, teacher, noise(200, 64, seed=99) @ MIXED)


def found(model: Model, teacher: Model, kind: Any) -> list[Block]:
    student = unrounded(model, ["*"], Steps(), Change())
    student.model.infer_shapes()
    return find_blocks(student.model, teacher, [weight.name for weight in student.codes], kind)


def test_a_layer_is_a_weight_with_its_bias() -> None:
    model, teacher = quantized()
    expected = [Block(("x",), "b", "b"), Block(("c",), "d", "d"), Block(("e",), "f", "f"), Block(("h",), "y", "y")]
    assert found(model, teacher, "layer") == expected


def test_residual_blocks_end_where_one_tensor_carries_everything() -> None:
    """Between c and g the sum keeps c alive: d, e and f end no block."""
    model, teacher = quantized()
    ends = {block.output: block.inputs for block in found(model, teacher, "residual")}
    assert list(ends) == ["a", "b", "c", "g", "h", "y"] and ends["g"] == ("c",)


def test_activations_are_quantized_inside_the_block() -> None:
    """Their step sizes belong to it, and its output is compared before it is quantized."""
    model = float_model()
    quantize_static(model, context(calibration=Table(X)))
    blocks = found(model, float_model(), "layer")
    assert [(block.inputs, block.target) for block in blocks][:2] == [(("x",), "b"), (("c",), "d")]


@pytest.mark.parametrize("kind", ["layer", "residual"])
def test_logits_come_nearer_in_the_same_graph(kind: str) -> None:
    model, teacher = quantized()
    before, far = proto(model), error(model, teacher)
    change = tuned(model, teacher, kind)
    assert error(model, teacher) < far / FACTOR
    assert change.notes["blocks"].startswith("4 of 4") and not change.declined
    assert {"w1_int4", "w2_int4", "w3_int4", "w4_int4", "b1"} <= set(change.touched)
    assert list(proto(model).graph.node) == list(before.graph.node)


def test_a_block_computes_what_the_whole_model_does() -> None:
    model, teacher = quantized()
    block = found(model, teacher, "residual")[3]
    c = noise(20, 64, seed=3)
    whole = model.copy()
    given = {"c": (ir.DataType.FLOAT, ir.Shape([None, None]))}
    alone = part(whole, given, [block.output])
    alone.check()
    assert [value.name for value in alone.graph.inputs] == ["c"] and len(alone.graph.initializers) < 8
    middle = outputs(part(whole, given, ["d"]), c=c)[0]
    w2 = array_of(teacher, "w2")
    assert np.linalg.norm(middle - c @ w2) < 0.2 * np.linalg.norm(c @ w2)  # rounding to 4 bits is between them


def test_what_has_no_gradient_may_stand_between_layers() -> None:
    """Of the whole model it is refused, with block by block as the way out."""
    model, teacher = quantized(between="com.microsoft.QuickGelu")
    ctx = context(training=Table(X, batch=16), earlier=teacher)
    with pytest.raises(PassError, match="no gradient is known for QuickGelu") as refused:
        finetune_quantized(model, ctx, epochs=1)
    assert "blocks: layer" in refused.value.hint
    assert tuned(model, teacher, "layer", epochs=2).notes["blocks"].startswith("4 of 4 nearer; their errors fell to")


def test_a_later_block_makes_up_for_earlier_ones() -> None:
    """The last layer is trained alone, on what the quantized ones before it give."""
    model, teacher = quantized()
    far = error(model, teacher)
    assert set(tuned(model, teacher, "layer", train=["w4*"]).touched) == {"w4_int4"}
    assert error(model, teacher) < far


def test_it_is_never_left_worse() -> None:
    model, teacher = quantized()
    before = proto(model)
    change = tuned(model, teacher, "layer", learning_rate=30.0, epochs=1)
    assert not change.touched and {held.name for held in change.declined} == {"b", "d", "f", "y"}
    assert proto(model) == before


def test_it_repeats_and_a_dry_run_changes_nothing() -> None:
    models = [quantized() for _ in range(3)]
    for model, teacher in models[:2]:
        tuned(model, teacher, "residual", epochs=1)
    assert proto(models[0][0]) == proto(models[1][0])
    before = proto(models[2][0])
    assert "w1_int4" in tuned(*models[2], "layer", dry_run=True).touched and proto(models[2][0]) == before


@pytest.mark.parametrize("option", [{"loss": {"kl": 1.0}}, {"batch": 4}, {"match": {"y": "y"}}])
def test_what_blocks_do_not_take_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(PassError, match=f"leave out {next(iter(option))}"):
        tuned(*quantized(), "layer", **option)


def test_a_teacher_of_other_names_is_refused() -> None:
    model, teacher = quantized()
    for node in teacher.graph:
        node.name = f"{node.name}/other"
        for value in node.outputs:
            value.name = f"{value.name}_other"
    with pytest.raises(PassError, match="no tensor to compare a block with"):
        tuned(model, teacher, "layer")
