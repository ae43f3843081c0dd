"""Every loss against a NumPy statement in double precision, and its gradient against central differences of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill.losses import LOSSES, Kind, Nature, Target, Wanted, build_objective
from compress_ops.distill.losses.choice import chosen_weights
from compress_ops.errors import PassError
from compress_ops.runtime import open_session
from tests.helpers import noise

from .loss_case import ROUNDING, SHAPES, TEMPERATURE, Array, Written, agree, differences, identity, mean, softmax


def kl(s: Array, t: Array, axis: int, mask: Array | None) -> float:
    p, q = softmax(t / TEMPERATURE, axis), softmax(s / TEMPERATURE, axis)
    return TEMPERATURE**2 * mean((p * np.log(p / q)).sum(axis=axis), mask)


def mse(s: Array, t: Array, axis: int, mask: Array | None) -> float:
    return mean(((s - t) ** 2).mean(axis=axis), mask) / mean((t**2).mean(axis=axis), mask)


def cosine(s: Array, t: Array, axis: int, mask: Array | None) -> float:
    lengths = np.linalg.norm(s, axis=axis) * np.linalg.norm(t, axis=axis)
    return mean(1 - (s * t).sum(axis=axis) / lengths, mask)


def similarity(s: Array, t: Array, axis: int, mask: Array | None) -> float:
    def products(x: Array) -> Array:
        kept = x if mask is None else x * mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
        rows = kept.reshape(len(x), -1)
        gram = rows @ rows.T
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    return float(((products(s) - products(t)) ** 2).sum() / len(s) ** 2)


def attention(s: Array, t: Array, axis: int, mask: Array | None) -> float:
    def energy(x: Array) -> Array:
        rows = (x**2).sum(axis=1).reshape(len(x), -1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return float(((energy(s) - energy(t)) ** 2).sum(axis=1).mean())


STATED: dict[str, Callable[..., float]] = {
    "kl": kl,
    "mse": mse,
    "cosine": cosine,
    "similarity": similarity,
    "attention": attention,
    "hidden": mse,
}


CASES = [(name, kind) for name in STATED for kind in SHAPES if not (name == "attention" and kind == "flat")]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name}-{kind}" for name, kind in CASES])
def test_value_and_gradient(name: str, kind: str) -> None:
    shape = SHAPES[kind]
    x, t = noise(*shape), noise(*shape, seed=1)
    agree(Written(name, shape), lambda s: STATED[name](s, t.astype(float), len(shape) - 1, None), x, t, None)


@pytest.mark.parametrize("name", ["kl", "mse", "cosine", "similarity"])
def test_padding_does_not_count(name: str) -> None:
    shape, mask = (3, 4, 6), np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], float)
    x, t = noise(*shape), noise(*shape, seed=1)
    written = Written(name, shape, mask=(3, 4))
    agree(written, lambda s: STATED[name](s, t.astype(float), 2, mask), x, t, mask)
    _, gradient = written(x, t, mask)
    assert not gradient[mask == 0].any()


def test_classes_may_lie_on_another_axis() -> None:
    shape = (2, 3, 4, 5)
    x, t = noise(*shape), noise(*shape, seed=1)
    agree(Written("kl", shape, axis=1), lambda s: kl(s, t.astype(float), 1, None), x, t, None)


@pytest.mark.parametrize("axis", [1, 2])
def test_labels_as_numbers(axis: int) -> None:
    """Those below 0 are padding."""
    shape = (3, 5, 5)
    x, labels = noise(*shape), np.array([[0, 1, 2, 3, 4], [4, 4, -1, -100, 0], [2, -1, -1, -1, -1]])

    def stated(s: Array) -> float:
        logarithms = np.moveaxis(np.log(softmax(s, axis)), axis, -1)
        kept = labels >= 0
        return float(-logarithms[kept][np.arange(kept.sum()), labels[kept]].mean())

    agree(Written("cross_entropy", shape, axis=axis, labels="numbers"), stated, x, labels, None)


def test_labels_as_shares() -> None:
    x, shares = noise(4, 5), softmax(noise(4, 5, seed=1), 1)
    stated = lambda s: float(-(shares * np.log(softmax(s, 1))).sum(axis=1).mean())  # noqa: E731
    agree(Written("cross_entropy", (4, 5), labels="shares"), stated, x, shares, None)


def test_probabilities_are_compared_by_their_logits() -> None:
    """Behind a Softmax: what goes in. Elsewhere: the logarithm."""
    x, t = noise(4, 5), noise(4, 5, seed=1)
    model = identity(2, "Softmax(x)")
    before = Nature(Kind.PROBABILITIES, 1, logits="x")
    stated = lambda s: kl(s, t.astype(float), 1, None)  # noqa: E731
    agree(Written("kl", (4, 5), model=model, nature=before), stated, x, t, None)
    logarithm = Nature(Kind.PROBABILITIES, 1, logarithm=True)
    agree(Written("kl", (4, 5), model=model, nature=logarithm), stated, x, t, None)


@pytest.mark.parametrize(("mine", "theirs", "axis"), [((3, 2, 4), (3, 2, 6), 2), ((2, 3, 4, 5), (2, 7, 4, 5), 1)])
def test_widths_that_differ_are_mapped(mine: tuple[int, ...], theirs: tuple[int, ...], axis: int) -> None:
    x, t = noise(*mine), noise(*theirs, seed=1)
    written = Written("hidden", mine, theirs)
    (helper,) = written.objective.helpers
    assert list(written.objective.parameters) == [helper]
    matrix = noise(mine[axis], theirs[axis], seed=2)

    def stated(s: Array) -> float:
        mapped = np.moveaxis(np.moveaxis(s, axis, -1) @ matrix.astype(float), -1, axis)
        return mse(mapped, t.astype(float), len(mine) - 1, None)

    value, gradient = written(x, t, **{helper: matrix})
    assert value == pytest.approx(stated(x.astype(float)), rel=ROUNDING)
    np.testing.assert_allclose(gradient, differences(stated, x), atol=ROUNDING)


def test_attention_of_other_numbers_of_heads_is_averaged() -> None:
    shape, theirs = (2, 2, 3, 4), (2, 3, 3, 4)
    x, t = noise(*shape), noise(*theirs, seed=1)

    def stated(s: Array) -> float:
        return mse(s.mean(axis=1), t.mean(axis=1).astype(float), 2, None)

    agree(Written("attention", shape, theirs, probabilities=True), stated, x, t, None)


def test_pairs_that_differ_in_more_than_a_width_are_refused() -> None:
    with pytest.raises(PassError, match=r"'y'.*\[2, 3, 4\] and \[2, 5, 6\]"):
        Written("hidden", (2, 3, 4), (2, 5, 6))


def test_losses_have_a_test() -> None:
    assert set(LOSSES) == {*STATED, "cross_entropy"}


def test_terms_and_weights_make_the_loss() -> None:
    """L = sum_k w_k L_k, and no input that nothing reads."""
    target = Target("y", (4, 5), (4, 5), Nature(Kind.SCORES, 1))
    objective, inputs = build_objective(
        identity(2), Wanted({"mse": 0.5, "cosine": 2.0}, [], {"y": target}), np.random.default_rng(0)
    )
    session = open_session(ir.to_proto(objective.model.ir).SerializeToString())
    assert set(objective.targets) == set(inputs.names) == {"teacher/y"} and not objective.settings
    assert {port.name for port in session.inputs} == {"x", *objective.targets, *objective.weights.values()}
    weights = {
        objective.weights["mse"]: np.asarray(3, np.float32),
        objective.weights["cosine"]: np.asarray(2, np.float32),
    }
    found = session.run({"x": noise(4, 5), "teacher/y": noise(4, 5, seed=1), **weights})
    parts = {name: found[objective.terms[name]] for name in objective.terms}
    assert found[objective.loss] == pytest.approx(3 * parts["mse"] + 2 * parts["cosine"], rel=ROUNDING)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("soft+hard", {"kl": 0.9, "cross_entropy": pytest.approx(0.1)}),
        ("kl+l2", {"kl": 0.9, "mse": pytest.approx(0.1)}),
        ({"mse": 2.0, "cosine": 0.0}, {"mse": 2.0}),
    ],
)
def test_presets_and_weights(loss: Any, expected: dict[str, float]) -> None:
    assert chosen_weights(loss, 0.9, {"y": Nature(Kind.SCORES, 1)}) == expected


def test_a_loss_of_nothing_is_refused() -> None:
    with pytest.raises(PassError, match="weight 0"):
        chosen_weights({"kl": 0.0}, 0.9, {})
    target = Target("y", (4, 5), (4, 5), Nature(Kind.NUMBERS, 1))
    for name, hint in {"hidden": "pairs", "cosine": "leave it out"}.items():
        with pytest.raises(PassError, match=rf"'{name}' has nothing") as refused:
            build_objective(identity(2), Wanted({name: 1.0}, [], {"y": target}), np.random.default_rng(0))
        assert hint in refused.value.hint


def test_rows_of_zeros_have_a_value_and_a_gradient() -> None:
    """As PyTorch's cosine_similarity: lengths are no less than 1e-8; where the target is zero nothing is asked."""
    x, t = noise(4, 5), noise(4, 5, seed=1)
    x[0] = t[1] = x[2] = t[2] = 0
    value, gradient = Written("cosine", (4, 5))(x, t)
    assert value == pytest.approx((1 + 0 + 0 + cosine(x[3:], t[3:], 1, None)) / 4, abs=ROUNDING)
    np.testing.assert_allclose(gradient[0], -t[0] / np.linalg.norm(t[0]) / 1e-8 / 4, rtol=ROUNDING)
    assert not gradient[1:3].any() and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["kl", "mse", "cosine", "similarity", "attention", "hidden"])
@pytest.mark.parametrize(("s", "t"), [(0, 0), (1, 0), (0, 1)])
def test_zeros_on_either_side_are_finite(name: str, s: int, t: int) -> None:
    shape = (3, 4, 6)
    value, gradient = Written(name, shape)(s * noise(*shape), t * noise(*shape, seed=1))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    if s == t == 0:
        assert value == 0 and not gradient.any()


def test_where_the_teacher_gives_zeros_the_mse_is_taken_as_it_is() -> None:
    x = noise(4, 5)
    value, _ = Written("mse", (4, 5))(x, 0 * x)
    assert value == pytest.approx(float((x**2).mean()), rel=ROUNDING)


def test_classes_that_are_ruled_out_do_not_count() -> None:
    """0 log 0 = 0: a teacher gives -infinity to what cannot be."""
    x, t = noise(3, 5), noise(3, 5, seed=1)
    x[:, 2] = t[:, 2] = -np.inf
    rest = [0, 1, 3, 4]
    value, gradient = Written("kl", (3, 5))(x, t)
    assert value == pytest.approx(kl(x[:, rest], t[:, rest], 1, None), rel=10 * ROUNDING)
    assert np.isfinite(gradient[:, rest]).all()
