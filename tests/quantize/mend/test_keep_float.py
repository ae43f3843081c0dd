"""keep_float: the layers that cost most are float again, bit for bit, and all others compute in integers as before."""

from __future__ import annotations

import importlib
import json
import re
from functools import partial

import numpy as np
import onnx
import pytest

from compress_ops.errors import OnnxpressError, PassError
from compress_ops.pipeline import Job, run
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.mend.correct_bias import correct_bias
from compress_ops.quantize.mend.keep_float import _fewest, keep_float
from compress_ops.quantize.mend.noise import noise_added
from compress_ops.recipe import load_recipe, parse_recipe
from tests.helpers import (
    SAMPLES,
    Table,
    arrays_of,
    context,
    model_of,
    noise,
    op_types,
    optimized,
    outputs,
    proto,
    proto_of,
)
from tests.quantize.mend.mend_case import rounded

MODULE = importlib.import_module("compress_ops.quantize.mend.keep_float")
X = noise(8, 40, seed=1)
IMAGES = noise(4, 6, 9, 9, seed=4)
MATRICES = proto_of(
    """g (float[N,40] x) => (float[N,40] y) {
        a = Gemm(x, w0, b0)  h = Relu(a)  c = MatMul(h, w1)  d = Add(c, b1)  g = Relu(d)  y = Gemm<transB=1>(g, w2)
    }""",
    w0=noise(40, 48, seed=2),
    b0=noise(48, seed=3),
    w1=noise(48, 48, seed=5),
    b1=noise(48, seed=6),
    w2=noise(40, 48, seed=7),
)
KERNELS = proto_of(
    """g (float[N,6,9,9] x) => (float[N,8] y) {
        a = Conv(x, k0, b0)  h = Relu(a)  c = Conv<pads=[1,1,1,1]>(h, k1)  s = Add(c, h)
        r = Relu(s)  e = Conv<pads=[1,1,1,1]>(r, k1)  p = GlobalAveragePool(e)  y = Flatten(p) }""",
    k0=noise(8, 6, 3, 3, seed=8),
    b0=noise(8, seed=9),
    k1=noise(8, 8, 3, 3, seed=10, scale=0.2),
)
FORMS = {
    "static": quantize_static,
    "operators": lambda model, ctx: quantize_static(model, ctx, form="qoperator"),
    "dynamic": quantize_dynamic,
    "corrected": lambda model, ctx: quantize_static(model, ctx).touched and correct_bias(model, ctx),
    "blocks": lambda model, ctx: quantize_weights(model, ctx, bits=4, method="rtn", operators=["MatMul", "Gemm"]),
}
NODES = {"matrices": ["Gemm_a", "MatMul_c", "Gemm_y"], "kernels": ["Conv_a", "Conv_c", "Conv_e"]}
SOURCES = {"matrices": (MATRICES, X), "kernels": (KERNELS, IMAGES)}
CASES = [("matrices", form) for form in FORMS] + [("kernels", form) for form in FORMS if form != "blocks"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(MODULE, "_SECONDS", 0.01)


def named(source, names):
    """The layers of a model under names of their own."""
    source = onnx.ModelProto.FromString(source.SerializeToString())
    layers = [node for node in source.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    for node, name in zip(layers, names, strict=True):
        node.name = name
    return source


def quantized(case, form):
    source, x = SOURCES[case]
    return *rounded(named(source, NODES[case]), FORMS[form], x), source, x


def distance(model, source, x):
    a, b = outputs(source, x=x)[0].astype(np.float64), outputs(model, x=x)[0]
    return float(np.square(a - b).sum() / np.square(a).sum())


# --- what is restored ---


@pytest.mark.parametrize(("case", "form"), CASES, ids=["-".join(case) for case in CASES])
def test_with_all_layers_returned_the_model_is_the_float_model(case, form):
    model, ctx, source, x = quantized(case, form)
    before = model.contract()
    change = keep_float(model, ctx, layers=NODES[case])
    assert list(change.touched) == NODES[case] and not change.declined
    assert model.contract() == before
    onnx.checker.check_model(proto(model), full_check=True)
    if form == "operators" and case == "kernels":  # operators between the layers stay in integers in this form
        assert op_types(model)["QLinearConv"] == 0 and distance(model, source, x) < 1e-3
        return
    assert set(op_types(model)) == {node.op_type for node in source.graph.node}
    if form == "corrected" and case == "matrices":
        # correct_bias has put the mean error of the MatMul into the addition behind it, which is no layer
        assert distance(model, source, x) < distance(quantized(case, "static")[0], source, x)
    else:
        assert distance(model, source, x) < 1e-12


@pytest.mark.parametrize(("case", "form"), CASES, ids=["-".join(case) for case in CASES])
def test_one_layer_is_float_and_the_others_are_as_they_were(case, form):
    """Its weight is that of the float model, bit for bit; the other weights are the codes from before."""
    for number, name in enumerate(NODES[case]):
        model, ctx, source, x = quantized(case, form)
        codes = {v.name: v.const_value.numpy() for v in model.weights() if v.const_value.dtype.name == "INT8"}
        was = distance(model, source, x)
        keep_float(model, ctx, layers=[name])
        (node,) = [node for node in model.nodes() if node.name == name]
        source_weight = named(source, NODES[case]).graph.node
        (exact,) = [n for n in source_weight if n.name == name]
        given = {t.name: onnx.numpy_helper.to_array(t) for t in source.graph.initializer}
        np.testing.assert_array_equal(node.inputs[1].const_value.numpy(), given[exact.input[1]])
        after = arrays_of(model)
        kept = [k for k in codes if k in after]
        assert (len(kept) >= 1 and all((codes[k] == after[k]).all() for k in kept)) or form == "blocks", number
        assert distance(model, source, x) < 1.2 * was  # one error less may happen to have cancelled another


def test_the_others_keep_their_integer_kernels():
    model, ctx, *_ = quantized("kernels", "static")
    assert optimized(model, "ORT_ENABLE_ALL")["QLinearConv"] == 3
    for name in NODES["kernels"]:
        model, ctx, *_ = quantized("kernels", "static")
        keep_float(model, ctx, layers=[name])
        run = optimized(model, "ORT_ENABLE_ALL")
        assert run["QLinearConv"] == 2
        assert run["Conv"] + run["FusedConv"] + run["NhwcFusedConv"] == 1


def test_no_codes_stay_that_nobody_computes_with():
    """In front of a float layer that float values reach, and behind one whose readers are float."""
    model, ctx, *_ = quantized("matrices", "static")
    assert op_types(model)["QuantizeLinear"] == 3
    keep_float(model, ctx, layers=["MatMul_c"])
    assert op_types(model)["QuantizeLinear"] == 2
    model, ctx, *_ = quantized("kernels", "static")
    keep_float(model, ctx, layers=["Conv_a", "Conv_c"])
    (conv,) = [node for node in model.graph if node.name == "Conv_a"]
    assert conv.inputs[0].name == "x"
    (add,) = [node for node in model.graph if node.op_type == "Add"]
    assert {value.producer().op_type for value in add.inputs} == {"Conv", "Relu"}


def test_an_operator_that_adds_floats_reads_floats_though_another_reader_needs_codes():
    text = """g (float[N,6,9,9] x) => (float[N,8,9,9] y, float[N,8,9,9] c) {
        a = Conv<pads=[1,1,1,1]>(x, k0)  h = Relu(a)  c = Conv<pads=[1,1,1,1]>(h, k1)
        p = Conv<pads=[1,1,1,1]>(x, k2)  q = Sin(p)  s = Add(h, q)  y = Conv<pads=[1,1,1,1]>(s, k1) }"""
    kernels = {"k0": noise(8, 6, 3, 3, seed=8), "k1": noise(8, 8, 3, 3, seed=9), "k2": noise(8, 6, 3, 3, seed=10)}
    model, ctx = rounded(named(proto_of(text, **kernels), "acpy"), quantize_static, IMAGES)
    keep_float(model, ctx, layers=["a"])
    (add,) = [node for node in model.graph if node.op_type == "Add"]
    (other,) = [node for node in model.graph if node.name == "c"]
    assert {value.producer().op_type for value in add.inputs} == {"Relu", "Sin"}
    assert other.inputs[0].producer().op_type == "DequantizeLinear"


def test_a_weight_of_two_layers_is_stored_once():
    model, ctx, *_ = quantized("kernels", "static")
    keep_float(model, ctx, layers=["Conv_c", "Conv_e"])
    assert sum(len(value.shape) == 4 and value.dtype.name == "FLOAT" for value in model.weights()) == 1


def test_codes_of_another_tool():
    """Signed, per tensor, on both sides of every layer, in names of its own; the float weights are given apart."""
    x, w, v = noise(8, 16, seed=1), noise(16, 16, seed=2), noise(16, 16, seed=3)
    text = "g (float[N,16] x) => (float[N,16] y) {{ {body} }}"
    plain = model_of(proto_of(text.format(body="[one] h = MatMul(x, w)  [two] y = MatMul(h, v)"), w=w, v=v))
    scales = {"sx": np.float32(0.03), "sh": np.float32(0.12), "sy": np.float32(0.5), "z": np.int8(0)}
    body = """
        xq = QuantizeLinear(x, sx, z)  xd = DequantizeLinear(xq, sx, z)  wd = DequantizeLinear(wq, sx, z)
        [one] h = MatMul(xd, wd)  hq = QuantizeLinear(h, sh, z)  hd = DequantizeLinear(hq, sh, z)
        vd = DequantizeLinear(vq, sx, z)  [two] o = MatMul(hd, vd)
        oq = QuantizeLinear(o, sy, z)  y = DequantizeLinear(oq, sy, z)
    """
    codes = {name: np.rint(weight / 0.03).clip(-127, 127).astype(np.int8) for name, weight in (("wq", w), ("vq", v))}
    model = model_of(proto_of(text.format(body=body), **scales, **codes))
    keep_float(model, context(earlier=plain), layers=["one"])
    assert op_types(model)["QuantizeLinear"] == 2  # hq, which the other still computes with, and oq
    keep_float(model, context(earlier=plain), layers=["two"])
    assert op_types(model) == {"MatMul": 2}
    np.testing.assert_array_equal(outputs(model, x=x)[0], outputs(plain, x=x)[0])


# --- which are returned ---


def spoiled(factor=300.0, **options):
    """Three layers of which the second has an outlier that its one scale must hold, quantized."""
    source = named(MATRICES, NODES["matrices"])
    (weight,) = [tensor for tensor in source.graph.initializer if tensor.name == "w1"]
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0] *= factor
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "w1"))
    coarse = partial(quantize_dynamic, per_channel=False, portable=False)
    return *rounded(source, coarse, X, **options), source


def test_the_layer_that_costs_most_is_returned_and_no_other():
    model, ctx, source = spoiled()
    alone = {}
    for name in NODES["matrices"]:
        tried, given, _ = spoiled()
        keep_float(tried, given, layers=[name])
        alone[name] = distance(tried, source, X)
    assert min(alone, key=alone.__getitem__) == "MatMul_c"
    change = keep_float(model, ctx, min_cosine=0.999)
    assert change.chosen == {"layers": ["MatMul_c"]}
    assert "MatMul in float, which alone mends " in change.touched["MatMul_c"]
    assert re.fullmatch(r"\d\.\d\dx \[\d\.\d\d, \d\.\d\d\]", change.notes["time"])


def test_layers_are_tried_one_at_a_time_only_where_the_noisiest_is_not_enough(monkeypatch):
    for least, only, tried in ((0.999, ["MatMul_c"], 0), (0.999, ["*"], 3)):
        model, ctx, _ = spoiled()
        shown: dict[str, list[str]] = {}
        ctx.progress = lambda items, label, total=None, shown=shown: shown.setdefault(label, [*items])
        change = keep_float(model, ctx, min_cosine=least, only=only)
        assert list(change.touched) == ["MatMul_c"]
        assert len(shown.get("keep_float: layers", [])) == tried
        assert all((", which alone mends " in what) == (tried > 0) for what in change.touched.values())


def test_more_layers_are_returned_the_more_is_asked_for():
    numbers = []
    for least in (0.999, 0.99999, 1 - 1e-7):
        model, ctx, source = spoiled()
        numbers.append(len(keep_float(model, ctx, min_cosine=least).chosen["layers"]))
        a, b = outputs(source, x=X)[0].astype(np.float64), outputs(model, x=X)[0]
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b.astype(np.float64), axis=1)
        assert cosines.mean() >= least
    assert numbers[0] == 1 and numbers == sorted(numbers) and numbers[-1] == 3


def test_noise_is_told_by_layer():
    """What a layer adds is noise over signal of its output less that of its input; an input of the model has none."""
    model, ctx, source = spoiled()
    layers = [node for node in ctx.earlier.graph if node.name in NODES["matrices"]]
    ratios = {"x": 0.0}
    for name in ("a", "h", "c", "g", "y"):
        graphs = [source, proto(model)]
        for each in graphs:
            each.graph.output[0].name = name
        exact, rounded = (outputs(each, x=X)[0].astype(np.float64) for each in graphs)
        ratios[name] = np.square(exact - rounded).sum() / np.square(exact).sum()
    expected = {name: ratios[y] - ratios[x] for name, x, y in zip(NODES["matrices"], "xhg", "acy", strict=True)}
    assert noise_added(ctx.earlier, model, ctx, layers) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("most", range(0, 20))
def test_the_fewest_by_bisection(most):
    for needed in range(1, most + 2):
        asked: list[int] = []

        def holds(n, needed=needed, asked=asked):
            asked.append(n)
            return n >= needed

        assert _fewest(holds, most) == (needed if needed <= most else None)
        assert len(asked) <= 2 * int(np.log2(max(most, 1))) + 3


def test_the_metric_decides_where_there_are_labels():
    """Labels are what the float model says: its accuracy is 1, and the drop is what the other disagrees on."""
    x = noise(200, 40, seed=11)
    model, ctx, source = spoiled(factor=2000.0)
    labels = outputs(source, x=x)[0].argmax(1)
    ctx.evaluation, ctx.metrics = Table(x, labels, batch=200), ["top1"]
    assert (outputs(model, x=x)[0].argmax(1) != labels).mean() > 0.02
    change = keep_float(model, ctx)
    assert 1 <= len(change.chosen["layers"]) < 3
    assert (outputs(model, x=x)[0].argmax(1) != labels).mean() <= 0.01


def test_what_holds_already_is_left_alone():
    model, ctx, _ = spoiled(factor=1.0)
    before = proto(model)
    change = keep_float(model, ctx, min_cosine=0.99)
    assert not change.touched and change.chosen == {"layers": []}
    assert [d.reason for d in change.declined] == ["the limit holds without any of them in float"]
    assert proto(model) == before


def test_a_limit_that_all_layers_do_not_reach_returns_none():
    """What is left is the embedding's error: no layer of the kinds that can be returned."""
    text = "g (int64[N] x) => (float[N,32] y) { e = Gather(t, x)  y = MatMul(e, w) }"
    source = proto_of(text, t=noise(64, 32, seed=1), w=noise(32, 32, seed=2))
    model, ctx = rounded(source, quantize_dynamic, np.arange(64))
    change = keep_float(model, ctx, min_cosine=1.0)
    assert not change.touched
    assert "in float they do not reach the limit either (the closeness is 0.99" in change.declined[-1].reason


def test_named_layers_give_the_same_model_without_measuring():
    model, ctx, _ = spoiled()
    chosen = keep_float(model, ctx, min_cosine=0.99999).chosen["layers"]
    again, given, _ = spoiled()
    given.calibration = None
    assert keep_float(again, given, min_cosine=0.99999, layers=chosen).chosen["layers"] == chosen
    assert proto(again).SerializeToString() == proto(model).SerializeToString()


def test_a_dry_run_names_the_noisiest_untried():
    model, ctx, _ = spoiled(dry_run=True)
    layers = [node for node in ctx.earlier.graph if node.name in NODES["matrices"]]
    noisy = noise_added(ctx.earlier, model, ctx, layers)
    change = keep_float(model, ctx)
    assert [*change.touched] == [max(noisy, key=noisy.__getitem__)] and ctx.calibration.served == 2  # one for each look


# --- what cannot be done ---


def test_a_layer_that_is_not_there():
    model, ctx, _ = spoiled()
    with pytest.raises(PassError, match="'MatMul_x' is no quantized layer") as caught:
        keep_float(model, ctx, layers=["MatMul_x"])
    assert "MatMul_c" in caught.value.hint


def test_a_drop_without_a_metric():
    model, ctx, _ = spoiled()
    with pytest.raises(PassError, match="max_drop needs evaluation data and a metric"):
        keep_float(model, ctx, max_drop="1%")


def test_a_drop_that_cannot_be_read():
    with pytest.raises(OnnxpressError, match="'many' is no drop"):
        parse_recipe("version: 1\npasses: [keep_float: {max_drop: many}]\n")


def test_patterns_say_which_may_go_back():
    model, ctx, _ = spoiled()
    change = keep_float(model, ctx, min_cosine=0.9999, skip=["MatMul"])
    assert "MatMul_c" not in change.chosen["layers"]


RECIPE = f"""version: 1
data: {{calibration: {SAMPLES / "digits-calibration.npz"}}}
measure: {{seconds: 0.05}}
passes: [simplify, quantize_static: {{per_channel: false}}, keep_float: {{min_cosine: 0.99997}}]
"""


def test_a_run_replays_to_the_same_bytes(tmp_path):
    out, again = tmp_path / "out.onnx", tmp_path / "again.onnx"
    report = run(Job(parse_recipe(RECIPE), SAMPLES / "digits-cnn.onnx", out))
    assert report.steps[-1].options["layers"] and report.comparison.fidelity.models["result"]["logits"].cosine > 0.9999
    kept = tmp_path / "report.json"
    kept.write_text(json.dumps(report.plain(tmp_path)))
    replayed = run(Job(load_recipe(kept), SAMPLES / "digits-cnn.onnx", again, measure=False))
    assert again.read_bytes() == out.read_bytes()
    assert replayed.steps[-1].touched == {
        name: f"{what.partition(',')[0]}" for name, what in report.steps[-1].touched.items()
    }
    assert "time" in report.steps[-1].notes and not replayed.steps[-1].notes  # a replay measures nothing
