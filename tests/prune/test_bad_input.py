"""What prune_channels and prune_heads are given that they cannot do: each ends in a clear fault, or in a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from compress_ops.errors import BrokenPromise, OnnxpressError, PassError
from compress_ops.model import Model, load
from compress_ops.pipeline import Job, run
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.prune_heads import prune_heads
from compress_ops.recipe import parse_recipe
from tests.helpers import Given, context, model_of, noise, outputs, proto, proto_of
from tests.prune.channels.channel_case import BRANCHES, INNER, LOOP, arrays
from tests.prune.mlp_case import MLP, mlp

LINEAR = "agraph (float[N,6] x) => (float[N,8] y) { y = Gemm(x, w) }"


def weights(model: Model) -> dict[str, tuple[int, ...]]:
    return {weight.name: tuple(weight.const_value.shape) for weight in model.weights()}


def job(model: Model, step: str, folder: Path) -> Job:
    onnx.save(proto(model), folder / "model.onnx")
    recipe = parse_recipe(f"version: 1\npasses:\n  - {step}\n", "r.yaml")
    return Job(recipe, folder / "model.onnx", folder / "out.onnx", measure=False)


@pytest.mark.parametrize("operation", [prune_channels, prune_heads], ids=lambda operation: operation.name)
@pytest.mark.parametrize("ratio", [0, 1, 1.5, -0.1, float("nan"), float("inf"), "half", None])
def test_ratios_out_of_range(operation: Any, ratio: object) -> None:
    with pytest.raises(ValidationError, match="ratio"):
        operation.options(ratio=ratio)


@pytest.mark.parametrize("ratio", [0, 1, -0.1])
def test_ratios_by_pattern_out_of_range(ratio: float) -> None:
    with pytest.raises(OnnxpressError, match=r"r\.yaml:3:44: /layer1/.: should be (less|greater) than"):
        parse_recipe(f"version: 1\npasses:\n  - prune_channels: {{ratios: {{'/layer1/*': {ratio}}}}}\n", "r.yaml")


@pytest.mark.parametrize("score", ["activation_weight", "hessian", "gradient"])
@pytest.mark.parametrize("name", ["prune_channels", "prune_heads"])
def test_a_score_without_its_data_is_told_before_any_work(name: str, score: str, tmp_path: Path) -> None:
    with pytest.raises(OnnxpressError) as raised:
        run(job(mlp(), f"{name}: {{score: {score}}}", tmp_path))
    assert str(raised.value).startswith(f"r.yaml:3:5: {name} needs calibration data\n")
    for operation in (prune_channels, prune_heads):
        with pytest.raises(PassError, match="needs calibration data"):
            operation(mlp(), context(), score=score)


@pytest.mark.parametrize("by", ["channels", "parameters", "flops", "latency"])
def test_everything_protected_is_a_fault_with_the_reasons(by: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenPromise) as raised:
        run(job(model_of(LINEAR, w=noise(6, 8)), f"prune_channels: {{by: {by}}}", tmp_path))
    assert str(raised.value).split("\n  ") == [
        "r.yaml:3:5: step 1, prune_channels changed nothing",
        "Gemm_y: they are the output 'y'",
        "allow_unchanged: true on the step permits this",
    ]
    assert not (tmp_path / "out.onnx").exists()


def test_no_layer_falls_to_nothing() -> None:
    model = mlp()
    prune_channels(model, context(), ratio=0.999, round_to=1)
    assert weights(model) == {"w1": (6, 1), "b1": (1,), "w2": (1, 1), "w3": (1, 3)}
    assert outputs(model, x=noise(2, 6))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("where", "options", "touched"),
    [
        ("branches", {"by": "parameters"}, {"w1", "w2", "w3", "w4"}),
        ("branches", {"score": "hessian"}, {"w1", "w2", "w3", "w4"}),
        ("branches", {"soft": True}, {"w2", "w3", "w4"}),
        ("loop", {"by": "parameters"}, {"w3", "w4"}),
        ("loop", {"score": "hessian"}, set()),
        ("loop", {"soft": True}, {"w4"}),
    ],
)
def test_subgraphs(where: str, options: dict[str, Any], touched: set[str]) -> None:
    text, more, fed = {
        "branches": (BRANCHES, {}, {"c": np.array(True)}),
        "loop": (LOOP, {"four": np.array(4), "go": np.array(True)}, {}),
    }[where]
    model, feeds = model_of(text, **arrays(INNER), **more), {"x": noise(4, 6), **fed}
    change = prune_channels(model, context(calibration=Given(feeds)), **{"ratio": 0.4, "round_to": 1, **options})
    assert set(change.touched) == touched
    assert touched or "no layer" in {declined.name: declined.reason for declined in change.declined}["Gemm_a"]
    assert outputs(model, **feeds)[0].shape == (4, 3)


def test_arithmetic_inside_loops_is_not_counted() -> None:
    model = model_of(LOOP, **arrays(INNER), four=np.array(4), go=np.array(True))
    with pytest.raises(PassError, match=r"10% of the multiply-adds cannot go: at most 0\.0%"):
        prune_channels(model, context(), ratio=0.1, by="flops")


def test_a_weight_that_two_layers_share_is_cut_for_both() -> None:
    text = """agraph (float[N,16] x) => (float[N,3] y) {
        a = MatMul(x, w)  b = MatMul(a, w)  y = MatMul(b, out) }"""
    model = model_of(text, w=noise(16, 16), out=noise(16, 3))
    change = prune_channels(model, context(), ratio=0.5)
    assert not change.touched  # its inputs are those of the model, and its outputs are its inputs
    assert [declined.name for declined in change.declined][:2] == ["MatMul_a", "MatMul_b"]
    shared = text.replace("a = MatMul(x, w)", "e = MatMul(x, first) a = MatMul(e, w)")
    model = model_of(shared, first=noise(16, 16), w=noise(16, 16), out=noise(16, 3))
    assert set(prune_channels(model, context(), ratio=0.5).touched) == {"first", "w", "out"}
    assert outputs(model, x=noise(2, 16))[0].shape == (2, 3)


def test_weights_that_are_listed_as_inputs(tmp_path: Path) -> None:
    """As IR version 3 asks of all of them."""
    old = proto_of(MLP, w1=noise(6, 32), b1=noise(32), w2=noise(32, 16), w3=noise(16, 3))
    old.ir_version = 3
    old.graph.input.extend(
        onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in old.graph.initializer
    )
    onnx.save(old, tmp_path / "old.onnx")
    model = load(tmp_path / "old.onnx")
    assert set(prune_channels(model, context(), ratio=0.5, by="flops").touched) == {"w1", "b1", "w2", "w3"}
    assert [value.name for value in model.graph.inputs] == ["x"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "score", ["l1", "l2", "geometric_median", "correlation", "activation_weight", "hessian", "gradient"]
)
def test_weights_that_are_not_finite_keep_their_group(score: str, bad: float) -> None:
    weight = noise(6, 32)
    weight[2, 3] = bad
    data = context(calibration=Given({"x": noise(8, 6)}))
    change = prune_channels(mlp(w1=weight), data, ratio=0.5, score=score)
    assert "w1" not in change.touched
    assert any("NaN" in declined.reason for declined in change.declined)


def test_ratios_go_with_channels_only() -> None:
    with pytest.raises(PassError, match="ratios are of channels, not of flops"):
        prune_channels(mlp(), context(), ratio=0.5, by="flops", ratios={"Gemm_a": 0.2})
