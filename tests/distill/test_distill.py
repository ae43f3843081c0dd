"""distill on small graphs: what it learns, what it leaves alone, what it refuses, and that it repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill import distill
from compress_ops.distill.lesson.evaluation import Scores, start_anew, verdict
from compress_ops.errors import DataError, OnnxpressError, PassError
from compress_ops.measure.metrics.table import parse_metric
from tests.distill.student_case import breaking_off, distance, mlp, taught
from tests.helpers import Given, Table, array_of, arrays_of, context, model_of, noise, outputs, proto

TAILS = {
    "scores": "y = Gemm(r, w2, b2)",
    "softmax": "z = Gemm(r, w2, b2) y = Softmax(z)",
    "tanh": "z = Gemm(r, w2, b2) y = Tanh(z)",
}
OPTIONS = {
    "usual": {},
    "named": {"loss": {"kl": 1.0, "similarity": 0.5}},
    "preset": {"loss": "kl+l2", "blend": 0.5},
    "pairs": {"loss": {"mse": 1.0, "hidden": 1.0}, "pairs": {"h": "h"}},
    "by sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "by groups": {"accumulate": 3, "batch": 4, "patience": 3, "clip_norm": 1.0, "weight_decay": 1e-4, "warmup": 0.1},
}


@pytest.mark.parametrize("tail", TAILS)
def test_the_student_comes_near(tail: str) -> None:
    student, teacher = mlp(seed=50, hidden=24, tail=TAILS[tail]), mlp(tail=TAILS[tail])
    far = distance(student, teacher)
    change = taught(student, teacher)
    assert set(change.touched) == {"w1", "b1", "w2", "b2"} and not change.declined
    assert distance(student, teacher) < 0.35 * far
    course = change.notes["held-out loss by epoch"]
    assert len(course) == 20 and course[-1] < 0.3 * course[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_way_brings_it_nearer(name: str) -> None:
    student, teacher = mlp(seed=50, hidden=24), mlp()
    far = distance(student, teacher)
    taught(student, teacher, **OPTIONS[name])
    assert distance(student, teacher) < 0.8 * far


def test_the_losses_chosen_are_told_and_give_the_same_again() -> None:
    first, second = mlp(seed=50), mlp(seed=50)
    chosen = taught(first, mlp()).chosen["loss"]
    assert chosen == {"kl": 1.0, "mse": 1.0}
    taught(second, mlp(), loss=chosen)
    assert proto(first).SerializeToString() == proto(second).SerializeToString()


def test_only_weights_change() -> None:
    student = mlp(seed=50)
    before = proto(student)
    taught(student, mlp())
    after = proto(student)
    assert list(after.graph.node) == list(before.graph.node)
    assert [w.name for w in after.graph.initializer] == [w.name for w in before.graph.initializer]
    del after.graph.initializer[:], before.graph.initializer[:]
    assert after == before


def test_only_the_weights_asked_for_change() -> None:
    student = mlp(seed=50)
    old = arrays_of(student)
    assert set(taught(student, mlp(), train=["*2"]).touched) == {"w2", "b2"}
    assert sorted(n for n, array in arrays_of(student).items() if np.array_equal(old[n], array)) == ["b1", "w1"]
    with pytest.raises(PassError, match="'conv' matches no weight") as refused:
        taught(student, mlp(), train=["conv"])
    assert "w1" in refused.value.hint


def test_adapters_are_merged_and_of_low_rank() -> None:
    """Of every large weight only a product of rank 2 moves; small ones and biases move as they like."""
    student, teacher = mlp(seed=50, hidden=24), mlp(hidden=24)
    before, far = proto(student), distance(student, teacher)
    old = arrays_of(student)
    change = taught(student, teacher, adapters=2)
    assert set(change.touched) == {"w1", "b1", "w2", "b2"}
    assert list(proto(student).graph.node) == list(before.graph.node)
    moved = array_of(student, "w1") - old["w1"]
    sizes = np.linalg.svd(moved.astype(float), compute_uv=False)
    assert sizes[1] > 1e-3 and sizes[2] < 1e-5 * sizes[0]  # two singular values, the rest is rounding
    assert distance(student, teacher) < 0.7 * far


def test_weights_that_are_shared_stay_shared() -> None:
    text = "agraph (float[N,6] x) => (float[N,6] y) { h = MatMul(x, w) r = Tanh(h) y = MatMul(r, w) }"
    student, teacher = model_of(text, w=noise(6, 6, seed=5)), model_of(text, w=noise(6, 6))
    assert set(taught(student, teacher).touched) == {"w"}
    assert len(student.graph.initializers) == 1


def test_several_outputs_of_different_kinds() -> None:
    text = """agraph (float[N,6] x) => (float[N,3] classes, float[N,4] embedding, int64[N,1] best) {
        z = MatMul(x, a) classes = Softmax(z) e = MatMul(x, b) embedding = Tanh(e) best = ArgMax<axis = 1>(z) }"""
    student, teacher = (model_of(text, a=noise(6, 3, seed=s), b=noise(6, 4, seed=s + 1)) for s in (0, 7))
    x = noise(20, 6, seed=3)
    far = [np.abs(a - b).mean() for a, b in zip(outputs(student, x=x), outputs(teacher, x=x), strict=True)]
    change = taught(student, teacher)
    assert change.chosen["loss"] == {"kl": 1.0, "mse": 1.0, "cosine": 1.0}
    near = [np.abs(a - b).mean() for a, b in zip(outputs(student, x=x), outputs(teacher, x=x), strict=True)]
    assert all(after < 0.5 * before for before, after in zip(far[:2], near[:2], strict=True))


def test_feeds_of_any_length_are_used_as_they_are() -> None:
    text = "agraph (float[N,S,4] x) => (float[N,S,3] y) { h = MatMul(x, w) y = Tanh(h) }"
    student, teacher = model_of(text, w=noise(4, 3, seed=5)), model_of(text, w=noise(4, 3))
    data = Given(*({"x": noise(1, 2 + i % 3, 4, seed=i)} for i in range(40)))
    taught(student, teacher, data)
    left = array_of(student, "w") - noise(4, 3)
    assert np.linalg.norm(left) < 0.1 * np.linalg.norm(noise(4, 3, seed=5) - noise(4, 3))


def test_labels_are_learned() -> None:
    """The teacher is wrong about every sample; the labels are right."""
    x = noise(240, 6, seed=9)
    labels = outputs(mlp(), x=x)[0].argmax(1)
    student = mlp(seed=50)
    taught(student, mlp(seed=200), Table(x, labels), loss="soft+hard", blend=0.01, epochs=30)
    assert (outputs(student, x=x)[0].argmax(1) == labels).mean() > 0.85


@pytest.mark.parametrize("labels", [None, np.full(200, 7)])
def test_labels_that_are_missing_or_out_of_range_are_refused(labels: np.ndarray | None) -> None:
    with pytest.raises(DataError, match="needs labels" if labels is None else "label 7 is out of range"):
        taught(mlp(seed=50), mlp(), Table(noise(200, 6), labels), loss={"cross_entropy": 1.0})


def test_a_training_that_does_harm_is_undone_and_told() -> None:
    student = mlp(seed=50)
    teacher = student.copy()
    taught(student, mlp(), epochs=1, learning_rate=1e-4)
    before = proto(student).SerializeToString()
    change = taught(student, teacher, learning_rate=3.0, epochs=1)
    assert not change.touched and "the weights stay as they were" in change.declined[0].reason
    assert proto(student).SerializeToString() == before


def test_it_repeats() -> None:
    first, second = mlp(seed=50), mlp(seed=50)
    for student in (first, second):
        taught(student, mlp(), epochs=3)
    assert proto(first).SerializeToString() == proto(second).SerializeToString()


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    checkpoint, data, through = tmp_path / "state.npz", Table(noise(200, 6, seed=9)), mlp(seed=50)
    options = {"epochs": 6, "learning_rate": 0.02}
    distill(through, context(training=data, earlier=mlp()), **options)

    student = mlp(seed=50)
    with breaking_off(4, Stopped), pytest.raises(Stopped):
        distill(student, context(training=data, earlier=mlp(), checkpoint=checkpoint), **options)
    assert checkpoint.exists()
    again = mlp(seed=50)
    change = distill(again, context(training=data, earlier=mlp(), checkpoint=checkpoint, resume=True), **options)
    assert change.touched
    for name, array in arrays_of(through).items():
        assert np.array_equal(array, array_of(again, name)), name


def test_a_dry_run_tries_one_step_and_keeps_nothing() -> None:
    data = Table(noise(200, 6))
    change = distill(mlp(seed=50), context(training=data, earlier=mlp(), dry_run=True))
    assert set(change.touched) == {"w1", "b1", "w2", "b2"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch": 150}, "need 300"),
        ({"loss": {"hidden": 1.0}}, "'hidden' has nothing to compare"),
        ({"loss": {"kl": 0.0}}, "weight 0"),
        ({"match": {"q": "y"}}, "no output 'q'"),
        ({"pairs": {"nowhere": "h"}}, "'nowhere'"),
    ],
)
def test_what_does_not_go(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OnnxpressError, match=told):
        taught(mlp(seed=50), mlp(), **options)


_OUT_OF_RANGE = [
    {"learning_rate": 0.0},
    {"learning_rate": -1.0},
    {"loss": {"kll": 1.0}},
    {"temperature": 0.0},
    {"epochs": 0},
]


@pytest.mark.parametrize("options", _OUT_OF_RANGE)
def test_options_out_of_range_never_reach_it(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        distill.options.model_validate(options)


def test_operators_without_a_gradient_are_listed() -> None:
    """And what lies behind them: that can be trained."""
    text = """agraph (float[N,6] x) => (float[N,6] y) {
        h = MatMul(x, w) [first] s = Compress<axis=1>(h, all) [last] q = Compress<axis=1>(s, all) y = MatMul(q, v) }"""
    every = np.ones(6, bool)
    student = model_of(text, w=noise(6, 6), v=noise(6, 6, seed=1), all=every)
    with pytest.raises(PassError, match="no gradient is known for Compress 'first', Compress 'last'") as refused:
        taught(student, student.copy())
    assert 'train: ["v"]' in refused.value.hint
    taught(student, model_of(text, w=noise(6, 6), v=noise(6, 6, seed=2), all=every), train=["v"])


def test_a_loss_that_is_no_longer_finite_stops_it() -> None:
    """The step and the term are told."""
    with pytest.raises(PassError, match=r"step \d+") as stopped:
        taught(mlp(seed=50), mlp(), learning_rate=1e30, optimizer="sgd", loss={"mse": 1.0})
    assert "mse" in str(stopped.value)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("size", "'size' holds INT64"),
        ("ha*", "'half' is a constant of the formula, or not read"),
        ("no", "'no' matches no weight"),
    ],
)
def test_what_cannot_be_trained_is_told(pattern: str, told: str) -> None:
    text = "agraph (float[N,6] x) => (float[N,6] y) { h = MatMul(x, w) g = Mul(h, half) y = Reshape(g, size) }"
    student = model_of(text, w=noise(6, 6), half=np.array(0.5, np.float32), size=np.array([-1, 6]))
    with pytest.raises(PassError, match=told):
        taught(student, student.copy(), train=[pattern])


def test_a_quantized_model_has_no_weights_to_train() -> None:
    text = "agraph (float[N,6] x) => (float[N,6] y) { w = DequantizeLinear(codes, s) y = MatMul(x, w) }"
    codes = np.random.default_rng(0).integers(-9, 9, (6, 6)).astype(np.int8)
    student = model_of(text, codes=codes, s=np.array(0.1, np.float32))
    with pytest.raises(PassError, match="no float weight"):
        taught(student, student.copy())


def test_a_baseline_says_what_the_teacher_adds() -> None:
    x = noise(240, 6, seed=9)
    labels = outputs(mlp(), x=x)[0].argmax(1)
    data = Table(x, labels)
    ctx = context(training=data, evaluation=Table(x, labels), metrics=["top1"], earlier=mlp())
    change = distill(mlp(seed=50), ctx, epochs=3, learning_rate=0.01, baseline="scratch", seeds=2)
    assert "training without the teacher" in change.notes["baseline"] and "2 seeds" in change.notes["baseline"]
    assert change.notes["top1"].endswith("1 the teacher")
    with pytest.raises(PassError, match="evaluation data and a metric"):
        taught(mlp(seed=50), mlp(), data, baseline="scratch")


def test_overlapping_intervals_are_no_gain() -> None:
    top1, loss = parse_metric("top1"), parse_metric("perplexity")
    near = verdict(top1, Scores([0.97, 0.98, 0.96]), Scores([0.965, 0.975, 0.96]))
    assert near.startswith("no gain over training without the teacher")
    assert verdict(top1, Scores([0.97, 0.971]), Scores([0.9, 0.901])).startswith("a gain over")
    assert verdict(top1, Scores([0.9, 0.901]), Scores([0.97, 0.971])).startswith("worse than")
    assert verdict(loss, Scores([3.0, 3.001]), Scores([4.0, 4.001])).startswith("a gain over")
    assert Scores([1.0, 2.0, 3.0]).half_width == pytest.approx(4.303 / np.sqrt(3))


def test_fresh_weights() -> None:
    text = "agraph (float[N,64] x) => (float[N,32] y) { h = Gemm(x, w, b) y = LayerNormalization(h, scale, shift) }"
    ones = np.full(32, 7, np.float32)
    model = model_of(text, w=noise(64, 32), b=ones, scale=ones, shift=ones)
    start_anew(model, ["w", "b", "scale", "shift"], np.random.default_rng(0))
    found = arrays_of(model)
    assert found["w"].std() == pytest.approx(np.sqrt(2 / 64), rel=0.1) and found["w"].dtype == np.float32
    assert (found["scale"] == 1).all() and not found["b"].any() and not found["shift"].any()
    assert isinstance(model.graph.initializers["w"].const_value, ir.TensorProtocol)
