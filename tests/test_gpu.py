"""The main job on an NVIDIA GPU (`make test-gpu`); skipped, with the reason printed, where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import ProviderError
from compress_ops.measure.comparison import compare_models
from compress_ops.measure.feeds import Measure
from compress_ops.runtime import Provider, open_session
from tests.helpers import SAMPLES

CUDA = (Provider("cuda"), Provider("cpu"))


def missing() -> str:
    """Why nothing can run on a GPU here; empty where it can."""
    try:
        open_session(SAMPLES / "digits-cnn.onnx", CUDA)
    except ProviderError as error:
        return " ".join(str(error).split())
    return ""


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    if reason := missing():
        pytest.skip(reason)


pytestmark = pytest.mark.gpu


def test_outputs_agree_with_the_cpu() -> None:
    image = np.load(SAMPLES / "digits-test.npz")["image"][:32]
    outputs = [
        open_session(SAMPLES / "digits-cnn.onnx", providers).run({"image": image})["logits"]
        for providers in (CUDA[1:], (Provider("cuda", {"use_tf32": "0"}), CUDA[1]))
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-4)  # two orders of float32 sums over 576 products


def test_latency_is_told_with_and_without_copies() -> None:
    models = {"a": SAMPLES / "digits-cnn.onnx", "b": SAMPLES / "digits-mlp.onnx"}
    found = compare_models(models, providers=CUDA, settings=Measure(seconds=1), parts={"latency", "cost"})
    assert not isinstance(found.latency, str)
    assert not isinstance(found.cost, str)
    times = found.latency.models["a"]
    assert times.with_copies_seconds is not None
    assert times.with_copies_seconds >= 0.9 * times.median_seconds
    assert found.cost["a"].nodes_by_provider.get("cuda", 0) > 0
