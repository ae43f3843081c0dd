"""The passes prune_channels and prune_heads: how much goes, what is told, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import PassError
from compress_ops.model import Model, load
from compress_ops.passes import Change
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.prune_heads import prune_heads
from compress_ops.prune.units.multiples import block_of
from compress_ops.prune.units.selection import Widths
from compress_ops.quantize import quantize_static
from compress_ops.runtime import Provider, open_session
from tests.helpers import SAMPLES, Given, array_of, context, model_of, noise, outputs, reloaded
from tests.prune.channels.channel_case import SEPARATE
from tests.prune.channels.channel_proof import parameters
from tests.prune.mlp_case import mlp
from tests.prune.scores.score_case import FEEDS, TEXT, WEIGHTS


def pruned(model: Model, **options: object) -> Change:
    return prune_channels(model, context(), **options)


def widths(model: Model) -> list[tuple[int, ...]]:
    shapes = {weight.name: tuple(weight.const_value.shape) for weight in model.weights()}
    return [shapes[name] for name in ("w1", "w2", "w3")]


def test_what_is_cut_is_told() -> None:
    model = mlp()
    change = pruned(model, ratio=0.5)
    assert change.touched == {
        "w1": "32 -> 16 channels",
        "b1": "32 -> 16 channels",
        "w2": "reads 32 -> 16, 16 -> 8 channels",
        "w3": "reads 16 -> 8",
    }
    assert [(d.name, d.reason) for d in change.declined] == [("Gemm_y", "they are the output 'y'")]
    assert change.notes["parameters"] == "784 -> 264"
    assert change.notes["groups"] == "2 of 3 cut"


def test_groups_that_patterns_leave_out_are_not_counted_as_cut() -> None:
    model = mlp()
    first = next(node.name for node in model.graph if any(value.name == "w1" for value in node.inputs))
    change = prune_channels(model, context(), only=[first], round_to=1)
    assert change.notes["groups"] == "1 of 3 cut"


def test_the_channels_with_the_lowest_scores_go() -> None:
    weight = noise(6, 32)
    weight[:, 5:21] *= 0.01
    model = mlp(w1=weight)
    pruned(model, ratio=0.5)
    left = array_of(model, "w1")
    assert np.array_equal(left, np.delete(weight, np.arange(5, 21), axis=1))


def test_widths_are_rounded() -> None:
    model = mlp()
    pruned(model, ratio=0.3, round_to=8)
    assert widths(model) == [(6, 24), (24, 8), (8, 3)]


def test_a_group_too_narrow_to_be_rounded_is_cut_as_asked() -> None:
    group = model_group(6)
    assert Widths(round_to=8).removed(group, 2) == 2
    assert Widths(round_to=8).removed(model_group(32), 10) == 8
    assert Widths(channels=4).removed(group, 5.7) == 2
    assert Widths().removed(group, 6) == 5


def model_group(units: int):
    from compress_ops.prune.channels import Group

    return Group(np.arange(1, units + 1))


def test_the_ratio_can_be_of_parameters() -> None:
    model = mlp()
    before = parameters(model)
    pruned(model, ratio=0.5, by="parameters", round_to=1)
    assert 0.5 <= 1 - parameters(model) / before < 0.55
    with pytest.raises(PassError, match=r"at most .* belong to channels that may be cut"):
        pruned(mlp(), ratio=0.99, by="parameters", minimum=8)


def test_global_scope_takes_the_lowest_of_all_groups() -> None:
    weak, strong = noise(32, 16, seed=1) * 0.01, noise(6, 32)
    model = mlp(w1=strong, w2=weak)
    pruned(model, ratio=0.29, scope="global", normalize="none", round_to=1, minimum=2)
    assert widths(model) == [(6, 32), (32, 2), (2, 3)]
    model = mlp(w1=strong, w2=weak)
    pruned(model, ratio=0.3, scope="global", round_to=1)
    assert widths(model)[0][1] < 32


def test_patterns_name_the_nodes_that_make_channels() -> None:
    model = mlp()
    change = pruned(model, ratio=0.5, skip=["Gemm_a"])
    assert widths(model) == [(6, 32), (32, 8), (8, 3)]
    assert set(change.touched) == {"w2", "w3"}
    assert not pruned(mlp(), ratio=0.5, only=["Conv"]).touched


def test_ratios_by_pattern() -> None:
    model = mlp()
    pruned(model, ratio=0.5, ratios={"Gemm_a": 0.25, "*": 0.75}, round_to=1)
    assert widths(model) == [(6, 24), (24, 4), (4, 3)]
    model = mlp()
    pruned(model, ratio=0.5, ratios={"Gemm_a": 0.25}, round_to=1)
    assert widths(model) == [(6, 24), (24, 8), (8, 3)]


def test_the_groups_of_one_ratio_share_one_threshold() -> None:
    weak = noise(32, 16, seed=1) * 0.01
    model = mlp(w2=weak)
    pruned(model, ratio=0.25, scope="global", normalize="none", round_to=1, minimum=2)
    assert widths(model) == [(6, 32), (32, 4), (4, 3)]
    model = mlp(w2=weak)
    pruned(model, ratio=0.25, scope="global", normalize="none", round_to=1, minimum=2, ratios={"Gemm_a": 0.5})
    assert widths(model) == [(6, 16), (16, 12), (12, 3)]


def summed() -> Model:
    text = "agraph (float[N,6] x) => (float[N,3] y) { a = Gemm(x, w1) b = Gemm(x, w2) s = Add(a, b) y = Gemm(s, w3) }"
    return model_of(text, w1=noise(6, 16), w2=noise(6, 16), w3=noise(16, 3))


def test_a_group_of_several_nodes_takes_the_least_of_their_ratios() -> None:
    model = summed()
    pruned(model, ratio=0.5, ratios={"Gemm_b": 0.25}, round_to=1)
    assert widths(model) == [(6, 12), (6, 12), (12, 3)]


@pytest.mark.parametrize(("provider", "block"), [("cpu", 8), ("cuda", 8), ("tensorrt", 8), ("openvino", 8)])
def test_widths_suit_the_provider_and_it_is_told(provider: str, block: int) -> None:
    change = prune_channels(mlp(), context(providers=[Provider(provider)]), ratio=0.5)
    assert change.chosen == {"round_to": block}
    assert pruned(mlp(), ratio=0.5, round_to=4).chosen == {"round_to": 4}


def test_int8_on_tensor_cores_asks_for_wider_blocks() -> None:
    quantized = model_of("agraph (float[N,6] x) => (float[N,6] y) { y = Identity(x) }")
    quantized.add_weight("q", ir.tensor(np.zeros(4, np.int8)))
    assert [block_of(name, quantized) for name in ("cpu", "cuda", "tensorrt")] == [8, 16, 16]


def test_a_residual_sum_goes_only_with_all_its_nodes() -> None:
    model = summed()
    change = pruned(model, ratio=0.5, only=["Gemm_a"])
    assert not change.touched
    assert ("Gemm_a", "its channels are those of Gemm_b, which the patterns leave out") in [
        (declined.name, declined.reason) for declined in change.declined
    ]


def test_a_score_without_its_data_or_its_operator() -> None:
    with pytest.raises(PassError, match="needs calibration data"):
        pruned(mlp(), ratio=0.5, score="activation_weight")
    change = pruned(mlp(), ratio=0.5, score="batchnorm_scale")
    assert not change.touched
    assert any("no normalization" in declined.reason for declined in change.declined)


def test_activations_decide_with_data() -> None:
    dead = WEIGHTS["shift"].copy()
    dead[[1, 4]] = -100
    model = model_of(TEXT, **{**WEIGHTS, "shift": dead})
    before = outputs(model, x=noise(2, 3, 4, 4))
    prune_channels(model, context(calibration=Given(*FEEDS)), ratio=0.3, score="activation_weight", round_to=1)
    assert np.allclose(outputs(model, x=noise(2, 3, 4, 4)), before, atol=1e-5)


def test_memory_stays_at_one_weight() -> None:
    model = mlp()
    pruned(model, ratio=0.5)
    assert all(isinstance(w.const_value, ir.LazyTensor) for w in model.weights() if w.name in ("w1", "w2", "w3"))


def test_heads() -> None:
    model = SEPARATE.model()
    change = prune_heads(model, context(), ratio=0.34)
    assert change.touched == {
        "wq": "12 -> 8 channels",
        "wk": "12 -> 8 channels",
        "wv": "12 -> 8 channels",
        "wo": "reads 12 -> 8",
    }
    assert outputs(reloaded(model), x=noise(2, 5, 6))[0].shape == (2, 5, 5)


def test_a_model_without_heads_says_so() -> None:
    change = prune_heads(mlp(), context(), ratio=0.5)
    assert not change.touched
    assert change.declined[-1].name == "attention"


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "recommender", "textlm"])
@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"ratio": 0.3, "scope": "global"}], ids=str)
def test_samples_shrink_load_and_keep_their_ports(name: str, options: dict, tmp_path: Path) -> None:
    path = SAMPLES / f"{name}.onnx"
    model = load(path)
    contract = model.contract()
    with model.keeping_ports():
        pruned(model, **options)
    model.check()
    assert model.contract() == contract
    model.save(tmp_path / "pruned.onnx")
    assert (tmp_path / "pruned.onnx").stat().st_size < 0.85 * path.stat().st_size
    open_session(tmp_path / "pruned.onnx")


def test_a_quantized_model_is_cut_with_its_scales(tmp_path: Path) -> None:
    path = SAMPLES / "digits-cnn.onnx"
    ports = open_session(path).inputs
    data = open_data(str(SAMPLES / "digits-calibration.npz"), ports, DataSettings())
    model = load(path)
    quantize_static(model, context(calibration=data))
    before = model.weight_bytes()
    change = pruned(model, ratio=0.5)
    assert model.weight_bytes() < 0.4 * before
    assert any("scale" in name for name in change.touched)
    model.save(tmp_path / "pruned.onnx")
    open_session(tmp_path / "pruned.onnx")
