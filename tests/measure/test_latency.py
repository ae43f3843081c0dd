"""Timing logic under a clock that only the fake models advance; then one real pair of models."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx.parser
import pytest

from compress_ops.measure import latency
from compress_ops.measure.budget import Budget, judge
from compress_ops.measure.device_calls import bound_call, host_call
from compress_ops.measure.intervals import NOISE, Interval
from compress_ops.measure.latency import NO_DIFFERENCE, compare_latency, in_turn
from compress_ops.runtime import Port, open_session

MILLISECOND = 1e-3


class Clock:
    """Time passes only when somebody lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.cpu = 0.0
        monkeypatch.setattr(latency, "perf_counter", lambda: self.now)
        monkeypatch.setattr(latency, "process_time", lambda: self.cpu)


class FakeSession:
    """A session whose n-th call takes what ``duration(n)`` says, on ``threads`` busy threads."""

    provider = "cpu"
    source = "fake.onnx"
    outputs = (Port("y", "float32", (1,)),)

    def __init__(
        self, clock: Clock, duration: Any, log: list[str] | None = None, name: str = "", threads: float = 2
    ) -> None:
        self.raw = self
        self.calls = 0
        self._clock, self._duration, self._log, self._name = clock, duration, log, name
        self._threads = threads

    def run(self, *_: Any) -> dict[str, Any]:
        seconds = self._duration(self.calls) if callable(self._duration) else self._duration
        self.calls += 1
        self._clock.now += seconds
        self._clock.cpu += (self._threads(self.calls - 1) if callable(self._threads) else self._threads) * seconds
        if self._log is not None:
            self._log.append(self._name)
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_steady_models_take_thirty_pairs(clock: Clock) -> None:
    sessions = {"before": FakeSession(clock, 3 * MILLISECOND), "after": FakeSession(clock, 2 * MILLISECOND)}
    result = compare_latency(sessions, {})
    after = result.models["after"]
    assert (result.rounds, result.settled) == (15, True)
    assert after.median_seconds == pytest.approx(2 * MILLISECOND)
    assert after.cpu_seconds == pytest.approx(4 * MILLISECOND)
    assert after.ratio == pytest.approx(2 / 3)
    assert after.speedup == pytest.approx(1.5)
    assert (after.speedup_interval.low, after.speedup_interval.high) == pytest.approx((1.5 / 1.01, 1.5 * 1.01))
    assert (after.verdict, result.models["before"].verdict) == ("faster", "reference")
    assert after.with_copies_seconds is None


def test_of_two_clocks_that_agree_the_surer_one_is_told(clock: Clock) -> None:
    waits = np.exp(np.random.default_rng(0).normal(0, 0.3, 100_000))  # a busy machine: wall time alone

    def session(cpu: float, first: int) -> FakeSession:
        return FakeSession(clock, lambda n: cpu * waits[2 * n + first], threads=lambda n: 1 / waits[2 * n + first])

    result = compare_latency({"before": session(2e-3, 0), "after": session(1e-3, 1)}, {}, seconds=2)
    interval = result.models["after"].speedup_interval
    assert result.settled
    assert (interval.low, interval.high) == pytest.approx((2 / 1.01, 2 * 1.01))


def test_models_that_are_about_as_fast_are_timed_until_that_is_clear(clock: Clock) -> None:
    noise = np.random.default_rng(0).normal(1, 0.05, 200_000)
    sessions = {
        "before": FakeSession(clock, lambda n: 2 * MILLISECOND * noise[2 * n]),
        "other": FakeSession(clock, lambda n: 2 * MILLISECOND * noise[2 * n + 1]),
        "faster": FakeSession(clock, lambda n: MILLISECOND * noise[2 * n + 1]),
    }
    same, fast = (
        compare_latency({"before": sessions["before"], name: sessions[name]}, {}, seconds=30)
        for name in ("other", "faster")
    )
    assert same.models["other"].ratio_interval.high < NOISE
    assert fast.rounds < same.rounds / 2


def test_slower_and_equal_are_told(clock: Clock) -> None:
    noise = np.random.default_rng(0).normal(1, 0.01, 100_000)
    sessions = {
        "before": FakeSession(clock, lambda n: 2 * MILLISECOND * noise[2 * n]),
        "slow": FakeSession(clock, 3 * MILLISECOND),
        "same": FakeSession(clock, lambda n: 2 * MILLISECOND * noise[2 * n + 1]),
    }
    models = compare_latency(sessions, {}).models
    assert models["slow"].verdict == "slower"
    assert models["same"].verdict == NO_DIFFERENCE
    assert models["same"].ratio_interval.contains(1)


@pytest.mark.parametrize(
    ("low", "high", "told", "judged"),
    [
        (0.97, 0.985, "faster", "met"),
        (0.97, 0.999, "faster", "met"),
        (0.97, 1.0, NO_DIFFERENCE, "met"),
        (0.97, 1.005, NO_DIFFERENCE, "met"),
        (0.995, 1.019, NO_DIFFERENCE, "met"),
        (0.97, 1.03, NO_DIFFERENCE, "not proven"),
        (1.0, 1.03, NO_DIFFERENCE, "not proven"),
        (1.001, 1.03, "slower", "missed"),
    ],
)
def test_an_interval_that_leaves_out_1_is_a_difference(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, low: float, high: float, told: str, judged: str
) -> None:
    """No slower is missed by what the report calls slower; what it cannot tell from equal within 2 % is met."""
    monkeypatch.setattr(latency, "RESOLUTION", 0.0)
    monkeypatch.setattr(latency, "median_interval", lambda ratios: Interval(low, high))
    found = compare_latency({name: FakeSession(clock, MILLISECOND) for name in "ab"}, {}, seconds=0).models["b"]
    assert found.verdict == told
    (verdict,) = judge(Budget(min_speedup=1), original_size=1, size=1, speedup=found.speedup_interval)
    assert verdict.verdict == judged


def test_short_calls_are_grouped_to_a_millisecond(clock: Clock) -> None:
    result = compare_latency({"a": FakeSession(clock, 10e-6), "b": FakeSession(clock, 2.5 * MILLISECOND)}, {})
    short = result.models["a"]
    assert (short.calls_per_timing, result.models["b"].calls_per_timing) == (128, 1)
    assert short.median_seconds == pytest.approx(10e-6)


def test_percentiles(clock: Clock) -> None:
    """Every tenth call is ten times as slow: the median does not see it, p99 does."""
    result = compare_latency({"a": FakeSession(clock, lambda n: (20 if n % 10 == 0 else 2) * MILLISECOND)}, {})
    times = result.models["a"]
    assert times.median_seconds == pytest.approx(2 * MILLISECOND)
    assert times.p99_seconds == pytest.approx(20 * MILLISECOND)


def test_noisy_models_take_the_time_they_are_given(clock: Clock) -> None:
    noise = np.random.default_rng(0).uniform(0.2, 2, 100_000)
    sessions = {
        "a": FakeSession(clock, lambda n: 5 * MILLISECOND * noise[2 * n]),
        "b": FakeSession(clock, lambda n: 5 * MILLISECOND * noise[2 * n + 1]),
    }
    result = compare_latency(sessions, {}, seconds=2)
    assert not result.settled
    assert 2 <= clock.now < 2.1
    assert result.rounds > 30


def test_at_least_thirty_pairs_however_long_they_take(clock: Clock) -> None:
    slow = FakeSession(clock, 3.0)
    result = compare_latency({"a": slow, "b": FakeSession(clock, 3.0)}, {}, seconds=1)
    assert result.rounds == 15  # of two pairs each
    assert slow.calls == 30 + 3  # the first run, one to warm up, one to count calls per timing


@pytest.mark.parametrize(("pairs", "rounds"), [(2, 6), (31, 16), (40, 20)])
def test_the_number_of_pairs_is_the_callers(clock: Clock, pairs: int, rounds: int) -> None:
    result = compare_latency({"a": FakeSession(clock, 0.1)}, {}, seconds=0, min_pairs=pairs)
    assert result.rounds == rounds  # a median has an interval from six rounds on


def test_more_rounds_until_the_ratio_is_known_within_two_percent(clock: Clock) -> None:
    noise = np.random.default_rng(0).normal(1, 0.1, 100_000)
    sessions = {"a": FakeSession(clock, lambda n: 2 * MILLISECOND * noise[n]), "b": FakeSession(clock, 2 * MILLISECOND)}
    result = compare_latency(sessions, {}, seconds=60)
    after = result.models["b"]
    assert 30 < result.rounds < 1000
    assert result.settled
    assert after.ratio_interval.half_width() <= (0.02 + latency.RESOLUTION) * 1.01 * after.ratio


def test_a_machine_that_slows_down_does_not_move_the_ratio(clock: Clock) -> None:
    def drifting(base: float) -> Any:
        return lambda n: base * (1 + clock.now)

    sessions = {"a": FakeSession(clock, drifting(2 * MILLISECOND)), "b": FakeSession(clock, drifting(3 * MILLISECOND))}
    models = compare_latency(sessions, {}).models
    # Of two timings the smaller counts: in the median round those of A and B begin 2 ms apart, at a drift of 1 a second
    assert models["b"].ratio == pytest.approx(1.5, rel=2.1e-3)
    assert models["a"].p90_seconds > 1.1 * 2 * MILLISECOND


def test_on_a_busy_machine_the_interval_covers_processor_time_too(clock: Clock) -> None:
    """Whenever the second model runs something else takes the processor for half of the time."""
    sessions = {
        "a": FakeSession(clock, 2 * MILLISECOND, threads=1),
        "b": FakeSession(clock, 2 * MILLISECOND, threads=0.5),
    }
    result = compare_latency(sessions, {}, seconds=1)
    assert result.busy and 2 <= clock.now < 2.1  # twice the time that was given
    found = result.models["b"]
    assert found.speedup == pytest.approx(2)
    assert (found.speedup_interval.low, found.speedup_interval.high) == pytest.approx((1 / 1.01, 2 * 1.01))
    assert found.verdict == NO_DIFFERENCE


def test_load_that_comes_and_goes_is_seen_as_long_as_it_matters(clock: Clock) -> None:
    """It slows one call in ten of both: of two timings the smaller counts, so that nothing of it is left."""
    load = lambda n: 4 if n % 10 == 0 else 2  # noqa: E731
    share = lambda n: 2 / load(n)  # noqa: E731
    sessions = {name: FakeSession(clock, lambda n: load(n) * MILLISECOND, threads=share) for name in "ab"}
    result = compare_latency(sessions, {}, seconds=1)
    assert not result.busy and result.models["b"].ratio == pytest.approx(1)


def test_going_second_costs_nobody(clock: Clock) -> None:
    """Whoever runs after the other finds a cold cache and takes 30 % longer: a plain alternation has two modes."""
    last: list[str] = []

    def duration(name: str) -> Any:
        return lambda n: 2 * MILLISECOND * (1.3 if last and last[-1] != name else 1.0)

    sessions = {name: FakeSession(clock, duration(name), last, name) for name in "ab"}
    assert compare_latency(sessions, {}).models["b"].verdict == NO_DIFFERENCE


def test_order_goes_forth_and_back_and_everybody_begins() -> None:
    assert [in_turn("abc", n) for n in range(3)] == [list("abccba"), list("bcaacb"), list("cabbac")]


def test_progress_sees_every_round(clock: Clock) -> None:
    seen = []

    def watch(items: Any, label: str, total: int | None = None) -> Any:
        for item in items:
            seen.append(label)
            yield item

    compare_latency({"a": FakeSession(clock, MILLISECOND)}, {}, progress=watch)
    assert seen == ["timing"] * 15


def test_on_a_device_both_times_are_given(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(clock, 5 * MILLISECOND)  # with copies
    session.provider = "cuda"

    def without_copies(*_: Any) -> Any:
        def call() -> None:
            clock.now += 3 * MILLISECOND

        return call

    monkeypatch.setattr(latency, "bound_call", without_copies)
    times = compare_latency({"a": session}, {}).models["a"]
    assert times.median_seconds == pytest.approx(3 * MILLISECOND)
    assert times.with_copies_seconds == pytest.approx(5 * MILLISECOND)


def _matmul(width: int) -> bytes:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,{width}] x) => (float[1,{width}] y) {{ y = MatMul(x, w) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(width, dtype=np.float32), "w"))
    return model.SerializeToString()


def test_bound_outputs_are_those_of_a_plain_run() -> None:
    """I/O binding on the CPU takes the road that a GPU takes."""
    session, feeds = open_session(_matmul(8)), {"x": np.arange(8, dtype=np.float32)[None]}
    assert np.array_equal(host_call(session, feeds)()[0], feeds["x"])
    binding = session.raw.io_binding()
    session.raw = SimpleNamespace(
        io_binding=lambda: binding,
        run_with_iobinding=session.raw.run_with_iobinding,
        get_provider_options=session.raw.get_provider_options,
    )
    bound_call(session, feeds, "cpu")()
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], feeds["x"])


def test_real_models() -> None:
    """Reading 400 times the weights takes longer, whatever the machine."""
    small, large = open_session(_matmul(32)), open_session(_matmul(640))
    feeds = {"x": np.ones((1, 640), np.float32)}
    large_alone = compare_latency({"large": large}, feeds, seconds=0.5).models["large"]
    small_alone = compare_latency({"small": small}, {"x": feeds["x"][:, :32]}, seconds=0.5).models["small"]
    assert 0 < small_alone.median_seconds < large_alone.median_seconds
    assert small_alone.calls_per_timing > 1
