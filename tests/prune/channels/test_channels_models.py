"""The proof on whole models: the samples always; architectures of the onnx wheel and real models as slow tests.

ONNXPRESS_BENCH_MODELS names a folder of further models (``make bench-models`` fills one). The wheel's architectures
come with constant weights, under which a wrong coupling would not show, so they get seeded random ones.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.model import Model, load
from compress_ops.prune.channels import Grouping, cut, find_groups, prepare
from tests.helpers import SAMPLES
from tests.prune.channels.channel_proof import (
    Feeds,
    difference,
    parameters,
    run,
    some_units,
    strip_softmax,
    with_random_weights,
    zeroed,
)

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
BENCH = Path(os.environ.get("ONNXPRESS_BENCH_MODELS", "/nowhere"))
ROUNDING = 5e-6  # relative to the largest output: some 100 layers of float32 sums, taken in another order
VISIBLE = 1e-3  # what zeroing must change at least, else the proof would prove nothing
RNG = np.random.default_rng(1)


def image(height: int, width: int) -> np.ndarray:
    return RNG.normal(size=(1, 3, height, width)).astype(np.float32)


def sentences() -> Feeds:
    mask = np.array([[1] * 12, [1] * 9 + [0] * 3])
    return {"input_ids": RNG.integers(0, 30000, (2, 12)), "attention_mask": mask, "token_type_ids": 0 * mask}


FEEDS: dict[str, Feeds] = {
    "digits-cnn": {"image": RNG.normal(size=(4, 1, 8, 8)).astype(np.float32)},
    "digits-mlp": {"image": RNG.normal(size=(4, 1, 8, 8)).astype(np.float32)},
    "recommender": {"user": np.array([1, 2]), "items": RNG.integers(0, 50, (2, 7))},
    "textlm": {"tokens": RNG.integers(0, 256, (2, 16))},
    "ppocr-rec": {"x": image(48, 160)},
    "ppocr-det": {"x": image(96, 96)},
    "ppocr-cls": {"x": image(48, 192)},
    "minilm-classic": sentences(),
    "minilm-dynamo": sentences(),
    "silero-vad": {
        "input": 0.1 * RNG.normal(size=(1, 512)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    },
}


def prove(model: Model, feeds: Feeds, heads: bool = False) -> tuple[Grouping, float]:
    """Assert the proof at half of the channels; returns the grouping and the share of parameters gone."""
    prepare(model)
    strip_softmax(model)
    before, original = parameters(model), run(model, feeds)
    grouping = find_groups(model, heads=heads)
    units = some_units(grouping, 0.5)
    expected = run(zeroed(grouping, units), feeds)
    assert difference(original, expected) > VISIBLE
    cut(grouping, units)
    model.drop_unused()
    model.check()
    assert difference(expected, run(model, feeds)) < ROUNDING
    return grouping, 1 - parameters(model) / before


@pytest.mark.parametrize("heads", [False, True], ids=["channels", "heads"])
@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "recommender", "textlm"])
def test_samples(name: str, heads: bool) -> None:
    _, gone = prove(load(SAMPLES / f"{name}.onnx"), FEEDS[name], heads)
    assert gone > 0.45


def prunable(grouping: Grouping) -> int:
    """Parameters of the weights of which at least one index may be cut."""
    weights = {member.weight for group in grouping.groups if len(group) > 1 for member in group.members}
    return sum(weight.const_value.size for weight in weights)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(LIGHT.glob("light_*.onnx")), ids=lambda path: path.stem)
def test_architectures_of_the_onnx_wheel(path: Path) -> None:
    model = with_random_weights(load(path))
    grouping = find_groups(model)
    share = prunable(grouping) / parameters(model)
    _, gone = prove(model, {model.graph.inputs[0].name: image(224, 224)})
    assert gone >= 0.45 * share


@pytest.mark.slow
@pytest.mark.parametrize("heads", [False, True], ids=["channels", "heads"])
@pytest.mark.parametrize(
    "name", ["ppocr-rec", "ppocr-det", "ppocr-cls", "minilm-classic", "minilm-dynamo", "silero-vad"]
)
def test_real_models(name: str, heads: bool) -> None:
    path = BENCH / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there; ONNXPRESS_BENCH_MODELS names its folder")
    _, gone = prove(load(path), FEEDS[name], heads)
    assert gone > 0.2


@pytest.mark.slow
def test_grouping_takes_little_time() -> None:
    model = load(LIGHT / "light_densenet121.onnx")
    prepare(model)
    start = time.process_time()
    find_groups(model)
    assert time.process_time() - start < 2


def test_grouping_grows_linearly() -> None:
    """Four times the layers take no more than about four times as long (8 allows for caches)."""
    assert _seconds(400) < 8 * _seconds(100)


def _seconds(layers: int) -> float:
    """Of processor time."""
    from tests.helpers import model_of, noise

    lines = [f"h{i + 1} = Gemm(h{i}, w{i}, b{i})" for i in range(layers)]
    text = "agraph (float[N,16] h0) => (float[N,16] y) {\n" + "\n".join(lines) + f"\n y = Identity(h{layers})\n}}"
    weights = {f"w{i}": noise(16, 16) for i in range(layers)} | {f"b{i}": noise(16) for i in range(layers)}
    model = model_of(text, **weights)
    times = []
    for _ in range(3):
        start = time.process_time()
        assert len(find_groups(model).groups) == layers - 1
        times.append(time.process_time() - start)
    return min(times)
