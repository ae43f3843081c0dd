"""Zeros that pruning made are there after every kind of training, and nothing else is held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.distill import distill, finetune_quantized
from compress_ops.distill.lesson.masks import zeros_of
from compress_ops.model import Model
from compress_ops.prune import prune_weights
from compress_ops.quantize import cluster_weights
from tests.distill.fine_tuning.tuning_case import HIDDEN, X, quantized
from tests.distill.student_case import mlp
from tests.helpers import Table, array_of, context, noise, put

MATRICES = ("w1", "w2")


def data() -> Table:
    return Table(noise(200, 6, seed=9))


def pruned() -> Model:
    model = mlp()
    prune_weights(model, context(), ratio=0.75)
    return model


@pytest.mark.parametrize("options", [{}, {"adapters": 2}, {"optimizer": "sgd"}])
def test_distill_keeps_zeros_and_trains_the_rest(options: dict[str, Any]) -> None:
    model = pruned()
    before = {name: array_of(model, name) for name in MATRICES}
    ctx = context(training=data(), earlier=mlp())
    change = distill(model, ctx, **{"epochs": 10, "learning_rate": 0.02, **options})
    assert change.touched
    for name in MATRICES:
        after = array_of(model, name)
        np.testing.assert_array_equal(after == 0, before[name] == 0)
        assert not np.array_equal(after, before[name])
    assert (before["w1"] == 0).mean() == 0.75
    assert change.notes["zeros that stay"] == "72 in 1 weight"  # the other one is too small to be pruned


def test_codebooks_keep_their_zero() -> None:
    model = mlp(hidden=256)
    prune_weights(model, context(), ratio=0.75)
    cluster_weights(model, context(), clusters=4)
    books = [name for name in model.graph.initializers if name.endswith("_values")]
    assert books
    before = {name: array_of(model, name) for name in books}
    distill(model, context(training=data(), earlier=mlp(hidden=256)), epochs=5, learning_rate=0.02)
    for name in books:
        np.testing.assert_array_equal(array_of(model, name) == 0, before[name] == 0)


@pytest.mark.parametrize("blocks", [None, "layer"])
def test_integers_of_pruned_weights_stay_zero(blocks: str | None) -> None:
    """Other codes of zero, of small weights, may move."""
    model, float_model = quantized("channels")
    gone = np.random.default_rng(0).random((6, HIDDEN)) < 0.5
    for each, name in ((model, "q"), (float_model, "w1")):
        array = np.array(array_of(each, name))
        array[gone] = 0
        put(each, name, array)
    next(node for node in model.nodes() if node.op_type == "MatMul").name = float_model.graph[0].name
    before = array_of(model, "q").astype(np.int8)
    options = {"loss": {"mse": 1.0}} if blocks is None else {}
    ctx = context(training=Table(X, batch=16), earlier=float_model)
    finetune_quantized(model, ctx, epochs=10, blocks=blocks, **options)
    assert blocks is not None or (array_of(model, "q").astype(np.int8) != before).any()
    assert not array_of(model, "q").astype(np.int8)[gone].any()


def test_what_was_not_pruned_is_not_held() -> None:
    model = mlp()
    put(model, "w2", np.zeros((16, 3), np.float32))
    put(model, "b1", np.zeros(16, np.float32))
    assert zeros_of(model, ["w1", "b1", "w2", "b2"]).kept == {}  # begun at zero, not pruned


def test_a_weight_that_was_pruned_away_whole_is_held() -> None:
    model = mlp()
    model.keep_reference()
    put(model, "w2", np.zeros((16, 3), np.float32))
    assert set(zeros_of(model, ["w1", "w2"]).kept) == {"w2"}
