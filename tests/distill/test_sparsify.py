"""sparsify: what is cut, that zeros stay zero while the rest learns, what the penalty is good for, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.distill import sparsify
from compress_ops.errors import OnnxpressError
from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.prune import pack_sparse, prune_weights
from tests.distill.student_case import distance, mlp
from tests.helpers import Table, arrays_of, context, model_of, noise, outputs

MATRICES = ("w1", "w2")


def made_sparse(model: Model, **options: Any) -> Change:
    ctx = context(training=Table(noise(200, 6, seed=9)), earlier=model.copy())
    change = sparsify(model, ctx, **{"epochs": 10, "recover": 10, "learning_rate": 0.02, **options})
    model.check()
    return change


def test_the_share_asked_for_is_zero_and_nothing_else() -> None:
    model = mlp()
    change = made_sparse(model, ratio=0.7)
    now = arrays_of(model)
    size = 6 * 16 + 16 * 3
    assert sum(np.count_nonzero(now[name] == 0) for name in MATRICES) == round(0.7 * size)
    assert np.all(now["b1"]) and np.all(now["b2"])
    assert change.notes["sparsity"] == pytest.approx(0.7, abs=0.5 / size) and not change.declined
    assert change.touched["w1"] == f"{np.count_nonzero(now['w1'] == 0)} of 96 are zero"


def test_it_is_nearer_than_the_cut_alone_and_repeats() -> None:
    teacher, first, second, cut = mlp(), mlp(), mlp(), mlp()
    for model in (first, second):
        made_sparse(model, ratio=0.6)
    prune_weights(cut, context(), ratio=0.6, scope="global", normalize=False)
    assert distance(first, teacher) < 0.7 * distance(cut, teacher)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(first).values(), arrays_of(second).values(), strict=True))


def test_the_penalty_leaves_less_for_the_cut_to_break() -> None:
    """``h -> then cut: c -> r``: c, the loss right after the cut, falls with the penalty before it."""

    def after_the_cut(l1: float) -> float:
        told = str(made_sparse(mlp(hidden=32), ratio=0.6, l1=l1).notes["held-out loss"])
        return float(told.partition("then cut: ")[2].split()[0])

    assert after_the_cut(0.01) < 0.8 * after_the_cut(0.0)


def test_a_higher_ratio_can_follow() -> None:
    model = mlp()
    made_sparse(model, ratio=0.3)
    assert made_sparse(model, ratio=0.6).notes["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_only_weights_that_are_trained_are_cut() -> None:
    model, before = mlp(), arrays_of(mlp())
    made_sparse(model, ratio=0.5, train=["w2"])
    now = arrays_of(model)
    assert np.count_nonzero(now["w2"] == 0) == 24
    assert all(np.array_equal(now[name], before[name]) for name in ("w1", "b1", "b2"))


def test_packed_it_is_smaller_and_gives_the_same() -> None:
    model = model_of(
        "agraph (float[N,6] x) => (float[N,3] y) { h = Gemm(x, w1) r = Relu(h) y = Gemm(r, w2) }",
        w1=noise(6, 512, seed=1),
        w2=noise(512, 3, seed=2),
    )
    made_sparse(model, ratio=0.9, epochs=1, recover=1, learning_rate=0.001)
    x, size = noise(5, 6), model.weight_bytes()
    expected = outputs(model, x=x)[0]
    pack_sparse(model, context())
    assert model.weight_bytes() < 0.5 * size
    rounding = 512 * np.finfo(np.float32).eps * np.abs(expected).max()  # sums of 512 products, in another order
    assert np.abs(outputs(model, x=x)[0] - expected).max() < rounding


def test_a_dry_run_tries_a_step_and_cuts_nothing() -> None:
    model = mlp()
    ctx = context(training=Table(noise(40, 6)), earlier=mlp(), dry_run=True)
    assert set(sparsify(model, ctx).touched) == {"w1", "b1", "w2", "b2"}
    assert all(map(np.all, arrays_of(model).values()))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"train": ["b*"]}, "no weight of two dimensions or more is trained"),
        ({"train": ["missing"]}, "matches no weight"),
        ({"learning_rate": 1e30}, "stopped in step|no longer finite"),
        ({"loss": {"cross_entropy": 1.0}}, "needs labels"),
    ],
)
def test_what_cannot_be_done_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OnnxpressError, match=told):
        made_sparse(mlp(), **options)


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"ratio": 0.0}, {"l1": -1.0}, {"recover": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        sparsify.options(**options)
