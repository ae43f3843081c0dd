"""The loop: what it reaches, what it repeats, when it stops, what it leaves in the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill.losses.objective import Objective
from compress_ops.distill.training import session as step_session
from compress_ops.distill.training.train import History, Training, TrainSettings, train
from compress_ops.errors import DataError, PassError, ProviderError
from compress_ops.model import Model
from compress_ops.runtime import Provider
from tests.helpers import arrays_of, context

from .train_case import EPS, FIT_ONLY, B, Batches, W, gradients, objective, parsed, progress_into, student

SGD = TrainSettings(epochs=3, optimizer="sgd", momentum=0.0, learning_rate=0.2, schedule="constant")
ADAM = TrainSettings(epochs=4, learning_rate=0.05)
ROUNDINGS = 32  # a few operations on numbers below 4 in each of at most nine steps, and sums of twelve


def run(settings: TrainSettings, model: Model | None = None, seed: int = 0, **more: Any) -> tuple[Model, History]:
    model = model or student()
    more = {"objective": objective(), "epoch": Batches(), "ctx": context(seed), **FIT_ONLY, **more}
    return model, train(more.pop("objective"), model, more.pop("epoch"), settings, more.pop("ctx"), **more)


def test_steps_follow_the_gradient() -> None:
    trained, history = run(SGD)
    batches, rng, (w, b) = Batches(), np.random.default_rng(0), (W, B)
    for feeds in [feeds for _ in range(3) for feeds in batches(rng)]:
        dw, db = gradients(w, b, feeds)
        w, b = w - 0.2 * dw, b - 0.2 * db
    np.testing.assert_allclose(arrays_of(trained)["w"], w, atol=ROUNDINGS * EPS, rtol=0)
    np.testing.assert_allclose(arrays_of(trained)["b"], b, atol=ROUNDINGS * EPS, rtol=0)
    assert (history.steps, [epoch.steps for epoch in history.epochs], history.best) == (9, [3, 3, 3], 3)


def test_weights_of_terms_and_settings_count() -> None:
    trained, history = run(SGD.but(epochs=1, steps=1), weights={"size": 0.5}, scalars={"temperature": 2.0})
    feeds = Batches()(np.random.default_rng(0))[0]
    dw, _ = gradients(W, B, feeds, size=0.5, scale=2)
    np.testing.assert_allclose(arrays_of(trained)["w"], W - 0.2 * dw, atol=ROUNDINGS * EPS, rtol=0)
    told = history.epochs[0]
    assert told.loss == pytest.approx(told.terms["fit"] + 0.5 * told.terms["size"], rel=4 * EPS)


def test_least_squares_is_reached() -> None:
    batches = Batches(size=12)
    trained, history = run(SGD.but(epochs=400, momentum=0.9), epoch=batches)
    rows = np.hstack([batches.x, np.ones((12, 1))]).astype(np.float64)
    best, *_ = np.linalg.lstsq(rows, batches.t.astype(np.float64), rcond=None)
    stalled = 64 * EPS / 0.2  # where a step is smaller than the rounding of what it changes
    np.testing.assert_allclose(arrays_of(trained)["w"], best[:3], atol=stalled, rtol=0)
    assert history.epochs[-1].loss < history.epochs[0].loss / 100


def test_accumulation_equals_one_large_batch() -> None:
    """Five samples: the last batch is shorter, and counts by its samples."""
    parts, _ = run(SGD.but(epochs=4, accumulate=2), epoch=Batches(samples=5, size=3))
    whole, _ = run(SGD.but(epochs=4), epoch=Batches(samples=5, size=5))
    np.testing.assert_allclose(arrays_of(parts)["w"], arrays_of(whole)["w"], atol=ROUNDINGS * EPS, rtol=0)


def test_nothing_but_weights_changes() -> None:
    model = student()
    model.ir.metadata_props["kept"] = "yes"
    before = ir.to_proto(model.ir)
    after = ir.to_proto(run(ADAM, model)[0].ir)
    for proto in (before, after):
        assert {tensor.name for tensor in proto.graph.initializer} == {"w", "b"}
        del proto.graph.initializer[:]
    assert after.SerializeToString() == before.SerializeToString()


def test_what_is_not_trained_stays() -> None:
    trained, _ = run(ADAM, objective=objective(parameters=["w"]))
    np.testing.assert_array_equal(arrays_of(trained)["b"], B.astype(np.float32))
    assert abs(arrays_of(trained)["w"] - W).max() > 0.01


def test_helpers_stay_out_of_the_student() -> None:
    given: dict[str, Any] = {}
    model = parsed("float[n,3] x", "float[n,2] y", "float[3,2] w = {0.5,-1,0.25,0.75,-0.5,1.5}", "y = MatMul(x, w)")
    run(ADAM, model, objective=objective(helpers=["b"]))
    assert list(arrays_of(model)) == ["w"]
    run(ADAM, model, objective=objective(helpers=["b"]), write=lambda _, values: given.update(values))
    assert set(given) == {"w", "b"}


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second, other = (arrays_of(run(ADAM, seed=seed)[0])["w"].tobytes() for seed in (1, 1, 2))
    assert first == second != other


def interrupted(after: int) -> Callable[[], float]:
    """A score that breaks the training off after some epochs, as Control-C would, before the next checkpoint."""
    count = iter(range(100))

    def evaluate() -> float:
        if next(count) == after:
            raise KeyboardInterrupt
        return 0.0

    return evaluate


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_training_that_was_interrupted_goes_on_bit_for_bit(tmp_path: Path, optimizer: Any) -> None:
    settings, file = ADAM.but(optimizer=optimizer, accumulate=2), tmp_path / "state.npz"
    straight, whole = run(settings, evaluate=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(settings, evaluate=interrupted(after=2), checkpoint=file)
    resumed, history = run(settings, seed=99, evaluate=lambda: 0.0, checkpoint=file, resume=True)
    for name, array in arrays_of(straight).items():
        assert arrays_of(resumed)[name].tobytes() == array.tobytes()
    assert [epoch.loss for epoch in history.epochs] == [epoch.loss for epoch in whole.epochs]
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_a_finished_training_taken_up_again_only_gives_its_weights(tmp_path: Path) -> None:
    first, _ = run(ADAM, checkpoint=tmp_path / "c")
    second, history = run(ADAM, checkpoint=tmp_path / "c", resume=True)
    assert arrays_of(first)["w"].tobytes() == arrays_of(second)["w"].tobytes()
    assert history.steps == 12


def test_what_hooks_remember_is_in_the_checkpoint(tmp_path: Path) -> None:
    seen = []

    def on_step(training: Training) -> None:
        training.memory["count"] = training.memory.get("count", 0) + 1
        training.weights["size"] += 0.25
        seen.append((training.memory["count"], training.weights["size"], training.step))

    run(ADAM.but(epochs=1), on_step=on_step, checkpoint=tmp_path / "c")
    run(ADAM.but(epochs=2), on_step=on_step, checkpoint=tmp_path / "c", resume=True)
    assert seen == [(n, n / 4, n - 1) for n in range(1, 7)]


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"PK no"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "c"
    run(ADAM, checkpoint=file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match="is not a whole checkpoint"):
        run(ADAM, checkpoint=file, resume=True)


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no checkpoint"):
        run(ADAM, checkpoint=tmp_path / "c", resume=True)
    run(ADAM, checkpoint=tmp_path / "c")
    with pytest.raises(DataError, match=r"another training: learning_rate was 0\.05, is 0\.1"):
        run(ADAM.but(learning_rate=0.1), checkpoint=tmp_path / "c", resume=True)
    with pytest.raises(DataError, match=r'another training: parameters was \{"w"'):
        run(ADAM, objective=objective(parameters=["w"]), checkpoint=tmp_path / "c", resume=True)


def test_patience_keeps_the_best_weights() -> None:
    model, scores, seen = student(), iter([0.1, 0.5, 0.4, np.nan, 0.9]), []

    def evaluate() -> float:
        seen.append(arrays_of(model)["w"].copy())
        return next(scores)

    _, history = run(ADAM.but(epochs=9, patience=2), model, evaluate=evaluate)
    assert (len(history.epochs), history.best, history.stopped) == (4, 2, "no better score in 2 epochs")
    np.testing.assert_array_equal(arrays_of(model)["w"], seen[1])
    assert abs(seen[3] - seen[1]).max() > 0


def test_patience_needs_a_score() -> None:
    with pytest.raises(PassError, match="nothing is evaluated"):
        run(ADAM.but(patience=1))


def poisoned(at: int, value: float = np.nan) -> Callable[[Any], Iterable[Any]]:
    count = iter(range(100))
    batches = Batches()

    def epoch(rng: np.random.Generator) -> list[Any]:
        return [
            {**feeds, "t": np.full_like(feeds["t"], value)} if next(count) == at else feeds for feeds in batches(rng)
        ]

    return epoch


def test_a_loss_that_is_not_finite_names_step_and_term(tmp_path: Path) -> None:
    model, file = student(), tmp_path / "c"
    with pytest.raises(PassError, match=r"in step 5: term 'fit' made the loss nan(?s:.*)the checkpoint holds epoch 1"):
        run(ADAM, model, epoch=poisoned(4), checkpoint=file)
    saved = np.load(file)["parameters"]
    np.testing.assert_array_equal(arrays_of(model)["w"].ravel(), saved[:6])
    assert np.isfinite(saved).all()


def test_a_gradient_or_weight_that_is_not_finite_is_told() -> None:
    """w^0.3 at 0 is finite, and its slope is not."""
    root = parsed(
        "float[n] x",
        "float loss",
        "float[1] w = {0}, float power = {0.3}",
        "a = Mul(x, w) r = Pow(a, power) loss = ReduceMean<keepdims=0>(r)",
    )
    case = {"objective": Objective(root, "loss", {}, {}, ["w"]), "epoch": lambda rng: [{"x": np.ones(2, np.float32)}]}
    case |= {"weights": {}, "scalars": {}}
    with pytest.raises(PassError, match="step 1: the norm of the gradient became inf"):
        run(ADAM.but(clip_norm=1.0), **case)
    with pytest.raises(PassError, match="a weight is no longer finite"):
        run(SGD.but(epochs=1), **case)
    twice = case | {"epoch": lambda rng: [{"x": np.ones(2, np.float32)}] * 2}
    with pytest.raises(PassError, match="step 2: the gradient of step 1 was not finite"):
        run(SGD.but(epochs=1), **twice)


def test_data_that_makes_no_batch() -> None:
    with pytest.raises(DataError, match="holds no batch"):
        run(ADAM, epoch=lambda rng: [])
    with pytest.raises(DataError, match="holds no batch"):
        run(ADAM, epoch=lambda rng: iter(()), batches=3)
    with pytest.raises(DataError, match=r"a batch lacks 't'(?s:.*)training reads x, t"):
        run(ADAM, epoch=lambda rng: [{"x": Batches().x}])


def test_terms_and_settings_are_checked() -> None:
    with pytest.raises(PassError, match="no term 'fits'; did you mean 'fit'"):
        run(ADAM, weights={"fits": 1.0})
    with pytest.raises(PassError, match="needs a value for 'temperature'"):
        run(ADAM, scalars={})


def test_a_dry_run_is_one_step(tmp_path: Path) -> None:
    _, history = run(ADAM, ctx=context(dry_run=True), checkpoint=tmp_path / "c")
    assert history.steps == 1
    assert not (tmp_path / "c").exists()


def test_progress_tells_loss_and_score() -> None:
    told: list[str] = []
    run(ADAM.but(epochs=2), ctx=context(progress=progress_into(told)), evaluate=lambda: 0.75)
    assert len(told) == 6
    assert told[0].startswith("training, epoch 1/2, loss ")
    assert told[-1].endswith(", score 0.75")


def test_batches_of_many_sizes_share_one_session() -> None:
    sizes = [1, 2, 3, 4, 5, 6, 7, 5, 1]
    x, t = np.ones((9, 3), np.float32), np.ones((9, 2), np.float32)
    trained, _ = run(SGD.but(epochs=1), epoch=lambda rng: [{"x": x[:n], "t": t[:n]} for n in sizes])
    w, b = W, B
    for n in sizes:
        dw, db = gradients(w, b, {"x": x[:n], "t": t[:n]})
        w, b = w - 0.2 * dw, b - 0.2 * db
    assert len(sizes) > step_session.BOUND
    np.testing.assert_allclose(arrays_of(trained)["w"], w, atol=ROUNDINGS * EPS, rtol=0)


def test_too_many_sizes_where_a_rule_needs_them() -> None:
    body = """c = Conv<auto_pad="SAME_UPPER", strides=[2]>(x, w) e = Mul(c, c) loss = ReduceMean<keepdims=0>(e)"""
    net = parsed("float[n,1,s] x", "float loss", "float[1,1,3] w = {1,2,3}", body)
    case = {"objective": Objective(net, "loss", {}, {}, ["w"]), "weights": {}, "scalars": {}}
    feeds = [{"x": np.ones((2, 1, size), np.float32)} for size in range(4, 20)]
    run(ADAM, epoch=lambda rng: feeds[: step_session.BOUND], **case)
    with pytest.raises(PassError, match=r"more than 4 different sizes: Conv(?s:.*)pad samples"):
        run(ADAM, epoch=lambda rng: feeds, **case)


def test_quantized_weights_are_trained_as_they_are_written() -> None:
    """Straight through: the loss is that of the rounded weights, which no fused kernel recomputes in integers."""
    body = """q = QuantizeLinear(w, scale, zero) d = DequantizeLinear(q, scale, zero) y = MatMul(x, d)
        e = Sub(y, t) f = Mul(e, e) loss = ReduceMean<keepdims=0>(f)"""
    weights = "float[3,2] w = {0.5,-1,0.25,0.75,-0.5,1.5}, float scale = {0.25}, int8 zero = {0}"
    net = parsed("float[n,3] x, float[n,2] t", "float loss", weights, body)
    case = {"objective": Objective(net, "loss", {}, {}, ["w"]), "weights": {}, "scalars": {}}
    batches = Batches(size=12)
    _, history = run(SGD.but(epochs=2), epoch=lambda rng: [batches.whole], **case)
    x, t = batches.x.astype(np.float64), batches.t.astype(np.float64)
    moved = W - 0.2 * (2 * x.T @ (x @ W - t) / t.size)  # W lies on the grid of the scale
    expected = [((x @ np.rint(w / 0.25) * 0.25 - t) ** 2).mean() for w in (W, moved)]
    assert [epoch.loss for epoch in history.epochs] == pytest.approx(expected, rel=ROUNDINGS * EPS)


@pytest.mark.gpu
def test_a_gpu_reaches_the_same_weights() -> None:
    providers = (Provider("cuda"), Provider("cpu"))
    try:
        device, _ = run(SGD, ctx=context(providers=providers))
    except ProviderError as error:
        pytest.skip(" ".join(str(error).split()))
    exact = 2**-10  # tensor cores multiply with ten bits of mantissa
    np.testing.assert_allclose(arrays_of(device)["w"], arrays_of(run(SGD)[0])["w"], atol=4 * exact, rtol=0)


def test_a_step_copies_no_parameters() -> None:
    """What NumPy allocates in a step, at its most, is less than one copy of the weights."""
    import tracemalloc

    body = "y = MatMul(x, w) e = Mul(y, y) loss = ReduceMean<keepdims=0>(e)"
    ones = "float[256,256] w = {" + ",".join(["1"] * 256**2) + "}"
    wide = parsed("float[n,256] x", "float loss", ones, body)
    peaks: list[int] = []

    def on_step(training: Training) -> None:
        now, peak = tracemalloc.get_traced_memory()
        peaks.append(peak - now)
        tracemalloc.reset_peak()

    tracemalloc.start()
    feeds = [{"x": np.full((2, 256), 1e-3, np.float32)}] * 20
    case = {"objective": Objective(wide, "loss", {}, {}, ["w"]), "epoch": lambda rng: feeds, "weights": {}}
    run(ADAM.but(epochs=1), on_step=on_step, scalars={}, **case)
    tracemalloc.stop()
    assert max(peaks[2:]) < 256 * 256 * 4
