"""Which parts stand out: the fewest that carry half of the noise, if they are few."""

from __future__ import annotations

from compress_ops.measure.sensitivity import Effect, Part, most_sensitive_first, standing_out


def effects(*noises: float | None) -> list[Effect]:
    return [Effect(Part([str(i)], "", 1, 1), noise, 1.0, None, None) for i, noise in enumerate(noises)]


def names(found: list[Effect]) -> list[str]:
    return [effect.part.name for effect in found]


def test_the_fewest_that_carry_half() -> None:
    assert names(standing_out(effects(1, 5, 1, 1, 4, 1, 1, 1))) == ["1", "4"]  # 9 of 15, 5 alone are not half


def test_noise_that_is_spread_evenly_stands_out_nowhere() -> None:
    assert standing_out(effects(1, 1, 1, 1, 1, 1, 1, 1)) == []


def test_more_than_a_quarter_is_not_few() -> None:
    assert standing_out(effects(10, 1, 1)) == []
    assert names(standing_out(effects(10, 1, 1, 1))) == ["0"]


def test_what_makes_outputs_infinite_comes_first_and_always_stands_out() -> None:
    assert names(most_sensitive_first(effects(1, None, 3))) == ["1", "2", "0"]
    assert names(standing_out(effects(1, None, 1))) == ["1"]


def test_no_noise_at_all() -> None:
    assert standing_out(effects(0.0, 0.0, 0.0, 0.0)) == []
