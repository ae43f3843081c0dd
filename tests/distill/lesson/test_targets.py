"""What outputs hold, and how those of student and teacher are matched."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.data.base import Batch
from compress_ops.distill.lesson.targets import Enricher, find_targets
from compress_ops.distill.lesson.teacher import Tensors, pairs_of, refuse_random
from compress_ops.distill.losses import Kind, build_objective, nature_of
from compress_ops.distill.losses.build import Wanted
from compress_ops.distill.losses.choice import chosen_weights
from compress_ops.errors import DataError, OnnxpressError, PassError
from compress_ops.model import Model
from tests.helpers import Given, context, model_of, noise, outputs

LINEAR = "agraph (float[N,4] x) => (float[N,3] y) {{ {} }}"
IMAGE = "agraph (float[N,4,5,5] x) => (float[N,3,?,?] y) {{ {} }}"
TOKENS = "agraph (float[N,S,4] x) => (float[N,S,3] y) {{ {} }}"


def made(text: str, *shape: int, **weights: np.ndarray) -> tuple[Model, np.ndarray]:
    model = model_of(text, **weights)
    return model, outputs(model, x=noise(*shape))[0]


NATURES = {
    "logits": (LINEAR.format("y = Gemm(x, w, b)"), (6, 4), Kind.SCORES, 1, None, False),
    "bias": (TOKENS.format("a = MatMul(x, w) y = Add(a, b)"), (2, 5, 4), Kind.SCORES, 2, None, False),
    "softmax": (LINEAR.format("z = MatMul(x, w) y = Softmax(z)"), (6, 4), Kind.PROBABILITIES, 1, "z", False),
    "log-softmax": (LINEAR.format("z = MatMul(x, w) y = LogSoftmax(z)"), (6, 4), Kind.PROBABILITIES, 1, "z", False),
    "reshaped softmax": (
        LINEAR.format("z = MatMul(x, w) p = Softmax(z) y = Reshape(p, s)"),
        (6, 4),
        Kind.PROBABILITIES,
        1,
        None,
        True,
    ),
    "map of classes": (IMAGE.format("y = Conv(x, k)"), (2, 4, 5, 5), Kind.SCORES, 1, None, False),
    "shares": (
        IMAGE.format("z = Conv(x, k) y = Softmax<axis = 1>(z)"),
        (2, 4, 5, 5),
        Kind.PROBABILITIES,
        1,
        "z",
        False,
    ),
    "sigmoid": (LINEAR.format("z = MatMul(x, w) y = Sigmoid(z)"), (6, 4), Kind.YES_OR_NO, 2, "z", False),
    "reshaped sigmoid": (
        LINEAR.format("z = MatMul(x, w) p = Sigmoid(z) y = Reshape(p, s)"),
        (6, 4),
        Kind.YES_OR_NO,
        2,
        None,
        True,
    ),
    "scores and boxes": (
        LINEAR.format("z = MatMul(x, w) p = Sigmoid(z) y = Concat<axis = 1>(z, p)").replace("N,3", "N,6"),
        (6, 4),
        Kind.NUMBERS,
        1,
        None,
        False,
    ),
    "start and end": (
        TOKENS.format("z = MatMul(x, w) a, e, f = Split<axis = 2>(z) y = Squeeze(a, t)").replace("N,S,3", "N,S"),
        (2, 5, 4),
        Kind.SCORES,
        1,
        None,
        False,
    ),
    "one number": (LINEAR.format("y = MatMul(x, v)").replace("N,3", "N,1"), (6, 4), Kind.NUMBERS, 1, None, False),
    "tanh": (LINEAR.format("z = MatMul(x, w) y = Tanh(z)"), (6, 4), Kind.EMBEDDING, 1, None, False),
    "norm": (TOKENS.format("z = MatMul(x, w) y = LayerNormalization(z, b)"), (2, 5, 4), Kind.EMBEDDING, 2, None, False),
}


@pytest.mark.parametrize("name", NATURES)
def test_what_an_output_holds(name: str) -> None:
    text, shape, kind, axis, logits, logarithm = NATURES[name]
    weights = {
        "w": noise(4, 3),
        "b": noise(3),
        "k": noise(3, 4, 2, 2),
        "v": noise(4, 1),
        "s": np.array([-1, 3]),
        "t": np.array([2]),
    }
    model, sample = made(text, *shape, **{n: a for n, a in weights.items() if f" {n})" in text or f" {n}," in text})
    nature = nature_of(model.graph.outputs[0], sample)
    assert (nature.kind, nature.axis, nature.logits, nature.logarithm) == (kind, axis, logits, logarithm)


USUAL = {
    "logits": {"kl", "mse"},
    "softmax": {"kl"},
    "sigmoid": {"kl"},
    "norm": {"mse", "cosine"},
}


@pytest.mark.parametrize("name", USUAL)
def test_the_usual_losses(name: str) -> None:
    text, shape, *_ = NATURES[name]
    model, sample = made(
        text, *shape, **{n: a for n, a in {"w": noise(4, 3), "b": noise(3)}.items() if f" {n}" in text}
    )
    natures = {"y": nature_of(model.graph.outputs[0], sample)}
    assert set(chosen_weights(None, 0.9, natures)) == USUAL[name]


def linear(output: str = "y", width: int = 3, seed: int = 0, tail: str = "") -> Model:
    last = "z" if tail else output
    text = f"agraph (float[N,4] x) => (float[N,{width}] {output}) {{ h = MatMul(x, w) {last} = Relu(h) {tail} }}"
    return model_of(text.replace("Relu(h)", "Add(h, b)"), w=noise(4, width, seed=seed), b=noise(width, seed=seed))


def found(student: Model, teacher: Model, match: dict[str, str] | None = None, **pairs: str) -> object:
    data = Given({"x": noise(6, 4)})
    return find_targets(student, teacher, context(), data, match or {}, pairs)


def test_other_names_are_told_and_mapped() -> None:
    with pytest.raises(PassError, match=r"no output 'y'") as refused:
        found(linear(), linear("scores"))
    assert "match: {y: scores}" in refused.value.hint
    targets = found(linear(), linear("scores"), {"y": "scores"})
    assert targets.output_fetches["y"].tensor == "scores"
    with pytest.raises(OnnxpressError, match=r"the student has no output 'yy'; did you mean 'y'\?"):
        found(linear(), linear(), {"yy": "y"})


def test_other_shapes_are_told() -> None:
    with pytest.raises(PassError, match=r"'y': the student gives \[6, 3\], the teacher \[6, 5\]"):
        found(linear(), linear(width=5))


def test_other_types_are_told() -> None:
    text = "agraph (float[N,4] x) => (int64[N,1] y) { y = ArgMax<axis = 1>(x) }"
    with pytest.raises(PassError, match="'y': the student gives float32, the teacher int64"):
        found(linear(), model_of(text))
    with pytest.raises(PassError, match="no output of the student is a tensor of floats"):
        found(model_of(text), model_of(text))


def test_a_teacher_that_reads_more_is_told() -> None:
    text = "agraph (float[N,4] x, float[N,4] extra) => (float[N,4] y) { y = Add(x, extra) }"
    with pytest.raises(PassError, match="teacher reads inputs that the data lacks: extra"):
        found(linear(width=4), model_of(text))


def test_logits_are_taken_before_the_softmax_on_either_side() -> None:
    """The student ends in a Softmax, the teacher in its logits; and the other way round."""
    plain, soft = linear(seed=1), linear(tail="y = Softmax(z)")
    targets = found(soft, plain)
    assert targets.outputs["y"].nature.logits == "z" and targets.output_fetches["y"].tensor == "y"
    targets = found(plain, soft)
    assert targets.outputs["y"].nature.logits is None and targets.output_fetches["y"].tensor == "z"
    assert {target.nature.kind for target in targets.outputs.values()} == {Kind.PROBABILITIES}


def test_pairs_by_pattern() -> None:
    text = "agraph (float[N,4] x) => (float[N,4] y) {{ {}0 = Relu(x) {}1 = Tanh({}0) y = Relu({}1) }}"
    student, teacher = (model_of(text.format(*[letter] * 4)) for letter in "ab")
    assert pairs_of({"a*": "b*"}, student, teacher) == [("a0", "b0"), ("a1", "b1")]
    with pytest.raises(PassError, match=r"'a\*' matches 2 tensors of the student, 'b0' 1 of the teacher"):
        pairs_of({"a*": "b0"}, student, teacher)
    with pytest.raises(PassError, match=r"no tensor of the teacher is called 'b7'; did you mean"):
        pairs_of({"a0": "b7"}, student, teacher)


def dropout(training: bool) -> Model:
    text = "agraph (float[N,4] x) => (float[N,4] y) { [drop] y = Dropout(x, ratio, mode) }"
    return model_of(text, ratio=np.array(0.5, np.float32), mode=np.array(training))


def test_randomness_is_refused() -> None:
    refuse_random(dropout(training=False), "teacher")
    with pytest.raises(PassError, match=r"the teacher draws random numbers: Dropout 'drop'"):
        refuse_random(dropout(training=True), "teacher")
    text = "agraph (float[N,4] x) => (float[N,4] y) { [dice] r = RandomNormalLike(x) y = Add(x, r) }"
    with pytest.raises(PassError, match="RandomNormalLike 'dice'"):
        refuse_random(model_of(text), "student")


def enricher(labels: np.ndarray) -> tuple[Enricher, Batch]:
    batch = Batch({"x": noise(4, 4)}, labels, 4)

    class Labelled(Given):
        def batches(self, limit=None):
            yield batch

    model = linear()
    targets = find_targets(model, model, context(), Labelled(), {}, {})
    wanted = Wanted({"cross_entropy": 1.0}, ["w"], targets.outputs, labels=targets.labels)
    _, inputs = build_objective(model, wanted, np.random.default_rng(0))
    names = Enricher.tensors(targets, inputs)
    assert not names  # labels alone need no teacher
    return Enricher(targets, inputs, None), batch


def test_labels() -> None:
    enrich, batch = enricher(np.array([0, 2, 1, 2]))
    assert np.array_equal(enrich(batch)["labels"], [0, 2, 1, 2])
    shares = np.full((4, 3), 1 / 3, np.float64)
    enrich, batch = enricher(shares)
    assert np.allclose(enrich(batch)["labels"], shares) and enrich(batch)["labels"].dtype == np.float32


def test_labels_out_of_range_are_told() -> None:
    enrich, batch = enricher(np.array([0, 3, 1, 2]))
    with pytest.raises(DataError, match="label 3 is out of range"):
        enrich(batch)


def test_a_mask_among_the_inputs_hides_padding() -> None:
    """Found in a later batch too; a batch without padding counts whole, also where an output has no positions."""
    text = """agraph (int64[N,S] ids, int64[N,S] mask) => (float[N,3] pooled, float[N,S,3] y) {
        e = Gather(table, ids) m = Cast<to = 1>(mask) u = Unsqueeze(m, a) y = Mul(e, u)
        pooled = ReduceMax<axes = [1], keepdims = 0>(y) }"""
    model = model_of(text, table=noise(9, 3), a=np.array([2]))
    full = {"ids": np.array([[1, 2], [3, 4]]), "mask": np.ones((2, 2), np.int64)}
    short = {"ids": np.array([[1, 2, 3], [4, 0, 0]]), "mask": np.array([[1, 1, 1], [1, 0, 0]])}
    targets = find_targets(model, model, context(), Given(full, short), {}, {})
    assert targets.mask == (2, 3)
    wanted = Wanted({"mse": 1.0}, ["table"], targets.outputs, mask=targets.mask)
    _, inputs = build_objective(model, wanted, np.random.default_rng(0))
    enrich = Enricher(targets, inputs, Tensors(model, ["pooled", "y"], context()))
    assert np.array_equal(enrich(Batch(short, None, 2))[inputs.mask], short["mask"])
    assert np.array_equal(enrich(Batch(full, None, 2))[inputs.mask], np.ones((2, 2)))


def test_maps_and_sequences_are_left_alone() -> None:
    text = """agraph (float[N,6] x) => (seq(float[N,1]) parts, float[N,3] y) {
        y = MatMul(x, w) parts = SplitToSequence<axis = 1>(y) }"""
    student, teacher = (model_of(text, w=noise(6, 3, seed=seed)) for seed in (1, 2))
    data = Given({"x": noise(8, 6)})
    found = find_targets(student, teacher, context(training=data), data, {}, {})
    assert list(found.outputs) == ["y"]
