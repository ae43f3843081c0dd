"""Gradients of whole models against a directional derivative.

With g the gradient of L = sum of upstream * y, and a direction v in which every parameter contributes its share,
(L(p + h v) - L(p - h v)) / 2h must be g . v. In float32 the best h is not known beforehand: small ones drown in
rounding, large ones in curvature and kinks; the best of them must agree to ``TOLERANCE``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.autodiff import build_gradients, trainable
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import Model, load
from compress_ops.passes import Context
from compress_ops.runtime import open_session
from tests.helpers import SAMPLES

Array = np.ndarray[Any, Any]
DOWNLOADED = Path(os.environ.get("ONNXPRESS_BENCH_MODELS", ".bench"))
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)  # of each parameter's norm
TOLERANCE = 0.02
LARGE = 3_000_000  # embeddings stay frozen


def floats(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def integers(below: int, *shape: int) -> Array:
    return np.random.default_rng(0).integers(0, below, shape)


def before_last(model: Model) -> str:
    """What goes into the last operator, where that one saturates (softmax, sigmoid)."""
    node = model.graph.outputs[0].producer()
    assert node is not None
    value = node.inputs[0] if node.op_type in ("Softmax", "Sigmoid") else node.outputs[0]
    return str(value.name)  # type: ignore[union-attr]


def check(model: Model, of: str, feeds: dict[str, Array]) -> None:
    weights = {name: model.graph.initializers[name].const_value for name in trainable(model, [of])}
    parameters = {name: tensor.numpy() for name, tensor in weights.items() if tensor and tensor.size < LARGE}
    shapes = {name: array.shape for name, array in feeds.items()}
    built = build_gradients(model, of=[of], parameters=list(parameters), shapes=shapes)
    session = open_session(ir.to_proto(built.model.ir).SerializeToString())
    seed = next(port for port in session.inputs if port.name == built.upstream[of])
    upstream = floats(*(size if isinstance(size, int) else 1 for size in seed.shape))
    known = {port.name for port in session.inputs}
    fixed = {**{name: array for name, array in feeds.items() if name in known}, seed.name: upstream}
    gradients = session.run({**fixed, **parameters}, list(built.gradients.values()))
    directions, expected = {}, 0.0
    for name, values in parameters.items():
        gradient = gradients[built.gradients[name]].astype(np.float64)
        directions[name] = gradient * np.linalg.norm(values) / (np.linalg.norm(gradient) or 1)
        expected += float((gradient * directions[name]).sum())

    def moved(by: float) -> float:
        there = {name: np.asarray(values + by * directions[name], np.float32) for name, values in parameters.items()}
        return float((session.run({**fixed, **there}, [of])[of].astype(np.float64) * upstream).sum())

    ratios = [(moved(step) - moved(-step)) / (2 * step * expected) for step in STEPS]
    assert expected > 0
    assert min(abs(ratio - 1) for ratio in ratios) < TOLERANCE, f"{ratios} of {expected}"


SAMPLE_FEEDS = {
    "digits-cnn": {"image": floats(4, 1, 8, 8)},
    "digits-mlp": {"image": floats(4, 1, 8, 8)},
    "textlm": {"tokens": integers(256, 2, 7)},
    "recommender": {"user": integers(20, 3), "items": integers(20, 3, 4)},
}
TOKENS = {
    "input_ids": integers(1000, 2, 6),
    "attention_mask": np.array([[1] * 6, [1] * 4 + [0] * 2]),
    "token_type_ids": np.zeros((2, 6), np.int64),
}
DOWNLOADED_FEEDS = {
    "minilm-classic": TOKENS,
    "minilm-dynamo": TOKENS,
    "ppocr-cls": {"x": floats(1, 3, 48, 64)},
    "ppocr-det": {"x": floats(1, 3, 64, 64)},
    "ppocr-rec": {"x": floats(1, 3, 48, 64)},
}
LIGHT = ["squeezenet", "shufflenet", "inception-v1", "densenet121"]  # of the others, each weighs over 100 MB


def downloaded(name: str) -> Model:
    path = DOWNLOADED / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there: benchmarks download it")
    return load(path)


@pytest.mark.parametrize("name", SAMPLE_FEEDS)
def test_sample_models(name: str) -> None:
    model = load(SAMPLES / f"{name}.onnx")
    check(model, before_last(model), SAMPLE_FEEDS[name])


@pytest.mark.parametrize("name", SAMPLE_FEEDS)
def test_sizes_may_stay_free(name: str) -> None:
    model = load(SAMPLES / f"{name}.onnx")
    of, feeds = before_last(model), SAMPLE_FEEDS[name]
    names = trainable(model, [of])
    values = {each: model.graph.initializers[each].const_value.numpy() for each in names}  # type: ignore[union-attr]
    seed = np.ones_like(open_session(ir.to_proto(model.ir).SerializeToString()).run(feeds)[of])
    found = []
    for shapes in ({}, {each: array.shape for each, array in feeds.items()}):
        built = build_gradients(model, of=[of], parameters=names, shapes=shapes)
        session = open_session(ir.to_proto(built.model.ir).SerializeToString())
        run = session.run({**feeds, **values, built.upstream[of]: seed})
        found.append(np.concatenate([run[built.gradients[each]].ravel() for each in names]))
    assert np.linalg.norm(found[0] - found[1]) < 1e-6 * np.linalg.norm(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DOWNLOADED_FEEDS)
def test_downloaded_models(name: str) -> None:
    model = downloaded(name)
    check(model, before_last(model), DOWNLOADED_FEEDS[name])


@pytest.mark.parametrize("name", LIGHT)
def test_light_models(name: str) -> None:
    """Their weights are generated constants: they are stored, many as one (tied), and filled with random numbers."""
    model = downloaded(f"light-{name}")
    simplify(model, Context(np.random.default_rng(0)))
    rng = np.random.default_rng(0)
    for weight in trainable(model):
        value = model.graph.initializers[weight]
        shape = value.const_value.shape.numpy()  # type: ignore[union-attr]
        spread = (
            rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else rng.uniform(0.5, 1, shape)
        )
        value.const_value = ir.Tensor(spread.astype(np.float32), name=weight)
    port = model.graph.inputs[0]
    check(model, before_last(model), {str(port.name): floats(*port.shape.numpy())})  # type: ignore[union-attr]


def test_silero_before_its_recurrent_part() -> None:
    """Sampling rate and sizes fixed, its branches fold away; what comes after the encoder is an LSTM."""
    model = downloaded("silero-vad")
    rate = next(value for value in model.graph.inputs if value.name == "sr")
    model.graph.inputs.remove(rate)
    rate.const_value = ir.Tensor(np.array(16000, np.int64), name="sr")
    model.graph.register_initializer(rate)
    model.graph.inputs[0].shape = ir.Shape((1, 576))
    for _ in range(2):  # the inner branches fold once the outer one is gone
        simplify(model, Context(np.random.default_rng(0)))
    encoded = next(
        str(v.name) for node in model.graph for v in node.outputs if "encoder/3/activation/Relu" in str(v.name)
    )
    check(model, encoded, {"input": floats(1, 576)})
