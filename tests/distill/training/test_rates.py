"""A learning rate that is found: by what rule, that looking for it changes nothing else, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress_ops.distill import distill, sparsify
from compress_ops.distill.training.rates import FEWEST, GRIDS, chosen, limit, trial_steps, untried
from compress_ops.distill.training.train import History, TrainSettings, find_rate, train
from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Change
from tests.distill.student_case import mlp
from tests.helpers import Table, array_of, arrays_of, context, model_of, noise, outputs, proto, put

from .train_case import FIT_ONLY, Batches, objective, progress_into, student

ADAM = TrainSettings(epochs=20)  # of three batches each
INF = float("inf")


def run(settings: TrainSettings = ADAM, **more: Any) -> tuple[Model, History]:
    """A training whose held-out loss is the mean square over all samples."""
    model = more.pop("model", None) or student()
    more = {"measure": lambda: loss_of(model), "ctx": context(), **FIT_ONLY, **more}
    return model, train(more.pop("objective", objective()), model, Batches(), settings, more.pop("ctx"), **more)


def loss_of(model: Model) -> float:
    found, whole = arrays_of(model), Batches().whole
    return float(((whole["x"] @ found["w"] + found["b"] - whole["t"]) ** 2).mean())


@pytest.mark.parametrize(
    ("trials", "most", "expected"),
    [
        ({1e-4: 1.01, 3e-4: 1.2, 1e-3: 1.5}, 1.5, 1e-3),  # nothing is gained: half more is allowed
        ({1e-4: 1.01, 3e-4: 1.4, 1e-3: 2.1}, 1.5, 4e-4),  # a sixth of the way up in logarithms: 3.7e-4
        ({1e-4: 1.01, 3e-4: 1.0, 1e-3: 2.25}, 1.5, 5e-4),  # half of the way: 5.5e-4
        ({1e-4: 0.5, 3e-4: 0.51, 1e-3: 2.0}, 0.5 * (1 + 1 / 32), 3e-4),  # half is gained: a 32nd is allowed
        ({1e-4: 0.02, 3e-4: 0.01, 1e-3: 0.011}, 0.01, 3e-4),
        ({1e-4: 3.0, 3e-5: 1.0}, 1.5, 5e-5),
        ({1e-4: INF, 3e-5: 1.2}, 1.5, 3e-5),
        ({1e-4: INF, 3e-5: 40.0, 1e-5: 3.0}, 1.5, 1e-5),
    ],
)
def test_the_rule(trials: dict[float, float], most: float, expected: float) -> None:
    assert limit([*trials.items()], 1.0) == pytest.approx(most, rel=1e-4)
    assert chosen([*trials.items()], 1.0) == expected


def test_a_student_that_is_its_teacher_passes_nothing() -> None:
    assert chosen([(1e-4, 1e-3), (3e-5, 1e-4)], 0.0) == 3e-5


@pytest.mark.parametrize(("steps", "each"), [(1000, 62), (400, 25), (200, 12), (90, 9), (20, 4)])
def test_trials_take_a_small_share(steps: int, each: int) -> None:
    assert trial_steps(steps, len(GRIDS["adamw"])) == each
    assert 4 * each <= max(0.25 * steps, 48)


def test_it_is_found_and_told() -> None:
    model, history = run()
    assert history.rate == 1e-2 == max(rate for rate, _ in history.trials)
    assert [rate for rate, _ in history.trials] == [
        3e-4,
        1e-3,
        3e-3,
        1e-2,
    ]  # far from its goal: up, and each gains more
    losses = [loss for _, loss in history.trials]
    assert losses == sorted(losses, reverse=True) and losses[0] < loss_of(student())
    assert loss_of(model) < losses[-1]


def test_looking_for_it_changes_nothing_else() -> None:
    """The same bits as of a training that was given the rate, hooks and random numbers included."""

    def on_step(training: Any) -> None:
        training.memory["count"] = training.memory.get("count", 0) + 1
        training.weights["size"] += 0.01

    found, history = run(on_step=on_step)
    given, same = run(ADAM.but(learning_rate=history.rate), on_step=on_step)
    assert arrays_of(found)["w"].tobytes() == arrays_of(given)["w"].tobytes()
    assert [epoch.loss for epoch in history.epochs] == [epoch.loss for epoch in same.epochs]
    assert not same.trials


def test_it_can_be_asked_for_alone() -> None:
    model, ctx = student(), context()
    before, state = arrays_of(model)["w"].tobytes(), ctx.rng.bit_generator.state
    rate = find_rate(objective(), model, Batches(), ADAM, ctx, lambda: loss_of(model), **FIT_ONLY)
    assert rate == run()[1].rate
    assert arrays_of(model)["w"].tobytes() == before and ctx.rng.bit_generator.state == state


def test_a_training_taken_up_again_keeps_it_bit_for_bit(tmp_path: Path) -> None:
    straight, whole = run(evaluate=lambda: 0.0)
    file, count = tmp_path / "state.npz", iter(range(100))

    def evaluate() -> float:
        if next(count) == 2:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        run(evaluate=evaluate, checkpoint=file)
    again: dict[str, Any] = {"evaluate": lambda: 0.0, "measure": lambda: pytest.fail("looked again")}
    resumed, history = run(ctx=context(99), checkpoint=file, resume=True, **again)
    assert arrays_of(resumed)["w"].tobytes() == arrays_of(straight)["w"].tobytes()
    assert history.rate == whole.rate
    assert [epoch.learning_rate for epoch in history.epochs] == [epoch.learning_rate for epoch in whole.epochs]


@pytest.mark.parametrize("why", ["short", "unmeasured", "dry"])
def test_where_nothing_can_be_tried_it_is_the_middle(why: str) -> None:
    settings = ADAM.but(steps=FEWEST - 1) if why == "short" else ADAM
    cases: dict[str, dict[str, Any]] = {"unmeasured": {"measure": None}, "dry": {"ctx": context(dry_run=True)}}
    _, history = run(settings, **cases.get(why, {}))
    assert (history.rate, history.trials) == (3e-4, []) == (untried("adamw"), [])


def test_rates_that_break_it_are_left_for_smaller_ones() -> None:
    """With s = 0.01 the slope of (x w + b) / s has 10,000 times the size: all rates but the smallest overshoot."""
    steep: dict[str, Any] = {"weights": {"size": 0.0}, "scalars": {"temperature": 1e-2}}
    sgd = ADAM.but(optimizer="sgd")
    model = student()
    before = arrays_of(model)["w"].copy()

    def measure() -> float:
        return float(abs(arrays_of(model)["w"] - before).max()) + 1  # a student that should stay where it is

    _, history = run(sgd, model=model, measure=measure, **steep)
    assert [rate for rate, _ in history.trials] == [3e-3, 1e-3, 3e-4, 1e-4]
    assert history.rate == 1e-4 == GRIDS["sgd"][0]


def test_a_trial_that_is_no_longer_finite_counts_as_endless_loss() -> None:
    hot: dict[str, Any] = {"weights": {"size": 0.0}, "scalars": {"temperature": 1e-6}}
    with pytest.raises(PassError, match=r"give a learning_rate below 0\.0001"):
        run(ADAM.but(optimizer="sgd"), **hot)


def test_progress_tells_what_was_tried() -> None:
    told: list[str] = []
    run(ctx=context(progress=progress_into(told)))
    trying = [label for label in told if label.startswith("trying learning rates, held-out loss")]
    assert len(trying) == 4 * trial_steps(60, 7) and ", 0.003 " in trying[-1]
    assert told[len(trying)].startswith("training, epoch 1/20")


LARGE = 300  # of inputs: every step of a weight counts so many times


def sensitive() -> Model:
    model = mlp()
    put(model, "w1", array_of(model, "w1") / LARGE)
    return model


def near(teacher: Model) -> Model:
    """A student whose weights are those of the teacher but for 2 %."""
    copy = teacher.copy()
    for number, (name, array) in enumerate(arrays_of(copy).items()):
        put(copy, name, array * (1 + noise(*array.shape, seed=number, scale=0.02)))
    return copy


def taught(model: Model, teacher: Model, **options: Any) -> Change:
    data = Table(LARGE * noise(400, 6, seed=9))
    return distill(model, context(training=data, earlier=teacher), **{"epochs": 4, **options})


def test_a_model_that_the_usual_rate_breaks_learns_with_the_one_found() -> None:
    teacher = sensitive()
    harmed = taught(near(teacher), teacher, learning_rate=1e-3)
    assert "try a smaller learning_rate, such as 0.0001" in harmed.declined[0].reason
    model = near(teacher)
    change = taught(model, teacher)
    assert change.touched and change.chosen["learning_rate"] < 1e-3
    before, _, after = str(change.notes["held-out loss"]).split()
    assert float(after) < 0.8 * float(before)
    assert str(change.notes["learning rate"]).startswith(f"{change.chosen['learning_rate']:g} (found; ")
    again = near(teacher)
    taught(again, teacher, **change.chosen)  # what the report replays
    assert proto(again).SerializeToString() == proto(model).SerializeToString()


def test_a_rate_that_was_not_tried_is_told_as_a_guess() -> None:
    change = taught(near(sensitive()), sensitive(), epochs=1, batch=64)
    assert change.notes["learning rate"] == "0.0003 (a guess: too few steps for trials)"


def test_that_no_rate_helps_is_told() -> None:
    """Behind a Relu that nothing passes there is no gradient."""
    text = "agraph (float[N,6] x) => (float[N,3] y) { h = Gemm(x, w, b) y = Relu(h) }"
    dead = model_of(text, w=noise(6, 3, seed=1), b=np.full(3, -100, np.float32))
    teacher = model_of(text, w=noise(6, 3), b=np.ones(3, np.float32))
    ctx = context(training=Table(noise(400, 6, seed=9)), earlier=teacher)
    change = distill(dead, ctx, loss={"mse": 1.0})
    told = "none of the learning rates that were tried lowered it (0.0003, 0.001, 0.003, 0.01)"
    assert told in change.declined[0].reason


def test_sparsify_finds_one_for_both_its_trainings() -> None:
    """Before the cut the model is its own teacher: what is judged is the model that is cut."""
    models = [mlp(), mlp()]
    ctx = [context(training=Table(noise(400, 6, seed=9)), earlier=mlp()) for _ in models]
    change = sparsify(models[0], ctx[0], ratio=0.6)
    assert 1e-5 <= change.chosen["learning_rate"] <= 1e-2
    assert change.notes["learning rate"] == f"{change.chosen['learning_rate']:g}"
    sparsify(models[1], ctx[1], ratio=0.6, learning_rate=change.chosen["learning_rate"])
    assert proto(models[0]).SerializeToString() == proto(models[1]).SerializeToString()
    assert np.isfinite(outputs(models[0], x=noise(4, 6))[0]).all()
