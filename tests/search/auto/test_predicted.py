"""What is expected of choices: against sums done by hand, and against models whose costs are planted."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from compress_ops.search.auto.predicted import Predictions
from compress_ops.search.costs.apart import Layer
from compress_ops.search.costs.cost_table import Costs

FORMS = ["float", "integers", "codes"]


def costs(layers: int = 2, forms: int = 3, seed: int = 0) -> Costs:
    """Of every layer the second form is in integers, and pays for conversions."""
    rng = np.random.default_rng(seed)
    edges = np.zeros((layers, forms))
    edges[:, 1] = rng.uniform(0.1, 0.3, layers)
    loss = 10 ** rng.uniform(-4, -2, (layers, forms))
    loss[:, 0] = 0
    size, seconds = rng.integers(100, 1000, (layers, forms)), rng.uniform(0.5, 2, (layers, forms))
    named = [f"form {number}" for number in range(forms)]
    return Costs(
        [Layer((f"layer {i}",), "MatMul", 1) for i in range(layers)], named, size, 0 * size, seconds, edges, loss,
        np.zeros((layers, layers)),
    )  # fmt: skip


BYTES = np.array([[400, 100, 50], [800, 200, 900]])
SECONDS = np.array([[2.0, 1.0, 2.5], [4.0, 3.0, 4.5]])
EDGES = np.array([[0.0, 0.25, 0.0], [0.0, 0.5, 0.0]])
LOSS = np.array([[0.0, 0.01, 0.03], [0.0, 0.02, np.inf]])
APART, SIDE_BY_SIDE = np.zeros((2, 2)), np.array([[0.0, 1.0], [1.0, 0.0]])
SMALL = Costs([Layer((name,), "MatMul", 1) for name in "ab"], FORMS, BYTES, 0 * BYTES, SECONDS, EDGES, LOSS, APART)


def small(**given: float) -> Predictions:
    """Two layers in a model of 1500 bytes and 10 seconds: 300 bytes and 4 seconds are no layer's."""
    return Predictions(SMALL, 1500, 10.0, 3000, 20.0, **given)


def chosen(*forms: int) -> np.ndarray:
    return np.array(forms)


def test_the_float_model_is_expected_as_it_was_measured() -> None:
    found = small().of(chosen(0, 0))
    assert found == {"loss": 0, "bytes": 1500, "seconds": 10, "size and time": 0.5 + 0.5}


def test_of_a_choice_each_layer_is_exchanged() -> None:
    """Integers among floats pay for conversions."""
    found = small(kept=0.1).of(chosen(1, 0))
    assert found["bytes"] == 1500 - 400 + 100
    assert found["seconds"] == 10 - 2 + 1 + 0.25
    assert found["loss"] == pytest.approx(0.1 + 0.01)
    assert found["size and time"] == pytest.approx(1200 / 3000 + 9.25 / 20)
    assert small().of(chosen(2, 0))["seconds"] == 10 - 2 + 2.5


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_was_measured_is_expected_as_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, table = Predictions(costs(6, 4, seed), 9000, 20.0, 9000, 20.0), {}
    for _ in range(8):
        choice = rng.integers(0, 4, 6)
        if tuple(choice) not in table and choice.any():
            table[tuple(choice)] = float(rng.uniform(3, 30))
            predictions.learn(choice, None, table[tuple(choice)])
    for taken, seconds in table.items():
        assert predictions.of(np.array(taken))["seconds"] == pytest.approx(seconds, rel=1e-12)
    assert predictions.of(np.zeros(6, np.int64))["seconds"] == 20


def test_so_is_one_whose_layers_take_by_themselves_what_others_take() -> None:
    """Equal times alone do not make it the other choice."""
    same = Costs(SMALL.layers, FORMS, BYTES, 0 * BYTES, np.full((2, 3), 2.0), np.zeros((2, 3)), LOSS, APART)
    predictions = Predictions(same, 1500, 10.0, 1500, 10.0)
    predictions.learn(chosen(2, 0), None, 13.0)
    assert predictions.of(chosen(2, 0))["seconds"] == 13
    assert predictions.of(chosen(0, 0))["seconds"] == 10
    assert predictions.of(chosen(2, 1))["seconds"] == 13  # one layer away from it, two from the float model


def test_beside_a_model_in_integers_a_layer_in_floats_pays_and_one_in_integers_does_not() -> None:
    """Two layers side by side: what one of them in floats costs the other is that one's conversions."""
    predictions = Predictions(replace(SMALL, links=SIDE_BY_SIDE), 1500, 10.0, 3000, 20.0)
    assert predictions.of(chosen(1, 1))["seconds"] == 10 - 2 + 1 - 4 + 3
    predictions.learn(chosen(1, 1), None, 5.0)
    assert predictions.of(chosen(1, 1))["seconds"] == 5
    first, second = (list(problem.costs["seconds"][1]) for problem in predictions.problems())
    assert first == [4.0, 3.0 + 0.5, 4.5]
    assert second == [4.0 + 0.25, 3.0, 4.5 + 0.25]
    assert predictions.of(chosen(1, 0))["seconds"] == 5 - 3 + 4 + 0.25  # nearer to it: 0.5 s away, of 0.75
    assert predictions.of(chosen(0, 1))["seconds"] == 10 - 4 + 3 + 0.5 == 9.5


def test_the_nearest_anchor_counts() -> None:
    """By the seconds that lie between."""
    predictions = small()
    predictions.learn(chosen(2, 0), None, 30.0)
    assert predictions.of(chosen(2, 1))["seconds"] == 30 - 4 + 3 + 0.5
    assert predictions.of(chosen(0, 1))["seconds"] == 10 - 4 + 3 + 0.5


def test_nothing_is_expected_to_take_no_time() -> None:
    fast = Costs(SMALL.layers, FORMS, BYTES, 0 * BYTES, SECONDS * 10, EDGES, LOSS, APART)
    assert 0 < Predictions(fast, 1500, 10.0, 1500, 10.0).of(chosen(1, 1))["seconds"] < 1


def test_problems_tell_the_same_as_the_predictions() -> None:
    """What the solver adds up, for every choice there is, is what is expected from that anchor."""
    predictions = small(kept=0.05)
    (problem,) = predictions.problems()
    for choice in itertools.product(range(3), repeat=2):
        found = predictions.of(np.array(choice))
        for kind, expected in found.items():
            assert problem.total(kind, np.array([choice]))[0] == pytest.approx(expected)


def test_before_anything_is_measured_losses_are_those_of_the_table() -> None:
    assert (small().losses() == LOSS).all()


def test_one_form_that_loses_more_than_expected_is_corrected_by_what_it_lost() -> None:
    predictions = small(kept=0.1)
    predictions.learn(chosen(1, 1), 0.1 + 3 * 0.03, None)
    np.testing.assert_allclose(predictions.losses()[:, 1], 3 * LOSS[:, 1])
    assert predictions.of(chosen(1, 1))["loss"] == pytest.approx(0.1 + 0.09)
    assert np.isinf(predictions.losses()[1, 2])


@pytest.mark.parametrize("seed", range(10))
def test_factors_of_forms_are_found_again(seed: int) -> None:
    """Models of random choices lose k of each form times what was expected, k planted between a third and three."""
    rng = np.random.default_rng(seed)
    table = costs(12, 4, seed)
    k = np.array([1, *np.exp(rng.uniform(-np.log(3), np.log(3), 3))])
    predictions = Predictions(table, 9000, 20.0, 9000, 20.0)
    for _ in range(24):
        choice = rng.integers(0, 4, 12)
        predictions.learn(choice, float((table.loss * k)[np.arange(12), choice].sum()), None)
    found = predictions.losses()[:, 1:] / table.loss[:, 1:]
    np.testing.assert_allclose(found, np.broadcast_to(k[1:], found.shape), rtol=0.3)  # held back by the ridge
    uncorrected = Predictions(table, 9000, 20.0, 9000, 20.0)
    assert _off(predictions, table, k, rng) < 1.15 < _off(uncorrected, table, k, rng)


def _off(predictions: Predictions, table: Costs, k: np.ndarray, rng: np.random.Generator) -> float:
    """The largest ratio of expected and planted losses, of other choices."""
    ratios = []
    for choice in rng.integers(0, 4, (20, 12)):
        planted = (table.loss * k)[np.arange(12), choice].sum()
        ratios.append(abs(np.log(predictions.of(choice)["loss"] / planted)))
    return float(np.exp(max(ratios)))


def test_a_form_of_which_nothing_was_measured_is_corrected_like_the_others() -> None:
    predictions = small()
    predictions.learn(chosen(1, 1), 4 * 0.03, None)
    assert predictions.losses()[0, 2] == pytest.approx(4 * LOSS[0, 2])


@pytest.mark.parametrize("loss", [None, 0.0, 0.1])
def test_what_says_nothing_of_losses_corrects_nothing(loss: float | None) -> None:
    """A closeness that is not known, or no worse than what the model comes with."""
    predictions = small(kept=0.1)
    predictions.learn(chosen(1, 1), loss, None)
    assert (predictions.losses() == LOSS).all()


def test_corrections_stay_within_reason() -> None:
    predictions = small()
    predictions.learn(chosen(1, 1), 1e9, None)
    assert np.isfinite(predictions.losses()[0]).all()
    assert predictions.losses()[0, 1] <= 100 * LOSS[0, 1]


def test_a_model_without_layers_is_what_it_is() -> None:
    nothing = np.zeros((0, 1))
    predictions = Predictions(Costs([], ["float"], *[nothing] * 5, links=np.zeros((0, 0))), 700, 2.0, 1400, 4.0)
    assert predictions.of(np.zeros(0, np.int64)) == {"loss": 0, "bytes": 700, "seconds": 2, "size and time": 1.0}
