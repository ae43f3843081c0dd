"""The race of candidates: who is measured, and how far, with closeness and speed told by a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress_ops.measure.intervals import Interval
from compress_ops.search.candidates import Candidate
from compress_ops.search.choose import best_of
from compress_ops.search.race import race
from compress_ops.search.trials import Trial

Told = Mapping[str, tuple[float, float]]


class Workshop:
    """Stands for ``Trials``: closeness and speed-up of each by name; a glance sees the speed-up within 10 %."""

    def __init__(self, told: Told, sizes: Mapping[str, int]) -> None:
        self.told, self.sizes, self.compared, self.timed = told, sizes, list[str](), list[str]()

    def applied(self, wanted: Sequence[Candidate]) -> list[Trial]:
        return [Trial(one.name, one.passes, [], Path(one.name), self.sizes.get(one.name, 100)) for one in wanted]

    def measured(self, trials: Sequence[Trial], parts: Collection[str], *glance: float) -> list[Trial]:
        return [self._measured(trial, parts, wide=1.1 if glance else 1.01) for trial in trials]

    def _measured(self, trial: Trial, parts: Collection[str], wide: float) -> Trial:
        closeness, speed = self.told[trial.name]
        if "fidelity" in parts:
            self.compared.append(trial.name)
            return replace(trial, closeness=closeness)
        self.timed.append(trial.name)
        return replace(trial, speedup=speed, interval=Interval(speed / wide, speed * wide))


def raced(told: Told, least: float = 0.995, **sizes: int) -> tuple[Workshop, list[Trial]]:
    workshop: Any = Workshop(told, sizes)
    return workshop, race(workshop, [Candidate(name, []) for name in told], least)


def test_what_is_sure_to_gain_less_is_not_compared() -> None:
    workshop, found = raced({"slow": (0.9999, 0.5), "fast": (0.999, 2.0), "faster": (0.9, 2.5), "float": (1.0, 1.0)})
    assert workshop.compared == ["faster", "fast"]
    assert [trial.name for trial in found] == ["slow", "fast", "faster", "float"]
    assert [trial.closeness for trial in found] == [None, 0.999, 0.9, None]
    assert len(workshop.timed) == 4  # one that is close is left: it need not be timed again
    assert best_of(found, 0.995).name == "fast"


def test_those_within_reach_of_one_another_are_timed_again() -> None:
    workshop, found = raced({"a": (0.999, 2.0), "b": (0.9995, 1.97), "c": (0.9999, 1.2)})
    assert workshop.timed == ["a", "b", "c", "a", "b"] and workshop.compared == ["a", "b"]
    assert best_of(found, 0.995).name == "b"


def test_a_smaller_file_counts() -> None:
    workshop, found = raced({"fast": (0.999, 2.0), "small": (0.999, 1.8)}, small=40)
    assert {*workshop.compared} == {"fast", "small"} and best_of(found, 0.995).name == "small"


def test_where_nothing_is_close_all_are_compared() -> None:
    workshop, _ = raced({"a": (0.9, 2.0), "b": (0.8, 1.95), "c": (0.7, 0.2)})
    assert {*workshop.compared} == {"a", "b", "c"} and len(workshop.timed) == 3


@pytest.mark.parametrize(("plain", "tried"), [(1.0, False), (1.9, True)])
def test_weights_alone_are_rounded_only_where_the_float_model_is_not_left_behind(plain: float, tried: bool) -> None:
    told = {"static": (0.999, 2.0), "8 bits": (0.9999, plain), "float": (1.0, plain)}
    workshop: Any = Workshop(told, {"8 bits": 26, "static": 26})
    wanted = [Candidate("static", []), Candidate("8 bits", [], float_arithmetic=True)]
    found = race(workshop, wanted, 0.995)
    assert [trial.name for trial in found] == (["static", "8 bits"] if tried else ["static"])
    assert ("float" in workshop.timed) and ("8 bits" in workshop.timed) is tried


@pytest.mark.parametrize(("closeness", "speed", "tried"), [(0.98, 2.0, True), (0.9, 2.0, False), (0.98, 0.5, False)])
def test_smoothing_is_tried_before_what_is_near_enough_and_in_the_race(
    closeness: float, speed: float, tried: bool
) -> None:
    told = {"smooth, static": (0.999, 2.0), "static": (closeness, speed), "8 bits": (0.999, 1.0)}
    workshop: Any = Workshop(told, {})
    wanted = [Candidate("smooth, static", [], smooths="static"), Candidate("static", []), Candidate("8 bits", [])]
    found = race(workshop, wanted, 0.995)
    assert [trial.name for trial in found] == list(told)[0 if tried else 1 :]
    assert best_of(found, 0.995).name == ("smooth, static" if tried else "8 bits")


@pytest.mark.parametrize("seed", range(20))
def test_the_race_chooses_what_measuring_all_of_them_would(seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    names = "abcdefgh"
    told = {name: (float(rng.uniform(0.98, 1)), float(rng.uniform(0.2, 3))) for name in names}
    sizes = {name: int(rng.integers(20, 100)) for name in names}
    workshop, found = raced(told, **sizes)
    every = [
        replace(trial, closeness=told[trial.name][0])
        for trial in workshop.measured(workshop.applied([Candidate(name, []) for name in names]), {"latency"})
    ]
    assert best_of(found, 0.995).name == best_of(every, 0.995).name
