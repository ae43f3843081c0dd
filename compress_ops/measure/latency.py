"""How long one inference takes, all models side by side.

In round i each model is timed twice, all forwards and then all backwards (A B B A): with t_i the smaller of a model's
two timings and r_i that of the first, the ratio is the median of t_i / r_i, with the distribution-free interval of a
median; speed-up = 1 / ratio. Pairing within a round cancels what slows the whole machine for a while, going back
cancels drift and what it means to run after another model. A round is two pairs of timings. Rounds go on until every
ratio's interval is within 2 % of the ratio (half its width; 0.5 % where it is not clear yet whether a model is slower
than noise makes it) or the time is spent, but for 30 pairs at least.

Where a model's weights happen to lie in memory changes its time by up to a percent, that of very small models more,
from one start to the next (Mytkowicz et al. 2009; the same file opened twice shows it). Intervals are that much wider
on both sides. One that leaves out 1 is a difference; else there is no measurable difference.

Processor time is taken beside wall time. A model that runs on one thread takes as much of one as of the other, unless
something else runs; then processor time is disturbed less. Where the ratios by the two agree, the one that is known
better is told. Where they disagree the machine is busy: then twice the time is spent, and if they still disagree the
ratio is that of processor time, and its interval covers both.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np

from ..progress import Progress, silent
from ..providers import facts_of
from ..runtime import Feeds, Session
from .device_calls import Call, bound_call, host_call
from .intervals import FEWEST_FOR_MEDIAN, NOISE, Interval, median_interval

T = TypeVar("T")

PRECISION = 0.02  # half-width of a ratio's interval, as a share of the ratio
RESOLUTION = 0.01  # what two sessions of one file differ in: intervals of ratios are so much wider
NO_DIFFERENCE = "no measurable difference"
MIN_PAIRS = 30
_SHORTEST_TIMING = 1e-3  # seconds; shorter calls are grouped
_MOST_CALLS = 2**20  # in one timing, should a clock stand still
_WARM_UP_CALLS = 3
_WARM_UP_SECONDS = 1.0  # once they are spent, fewer calls do
_ROUNDS_BETWEEN_LOOKS = 5  # looking sorts all timings, which disturbs caches
_ONE_THREAD = 1.05  # processor time over wall time up to which a model runs on one thread
_BUSY_SECONDS = 2  # how many times the time may be taken where the machine is busy


@dataclass(frozen=True)
class ModelLatency:
    """One model's times in seconds per inference.

    A timing is the mean over ``calls_per_timing`` calls. ``cpu_seconds`` is the processor time of all threads, on
    average. On a device ``median_seconds`` and all that follows from it are without copies of inputs and outputs;
    ``with_copies_seconds`` is the median with them (None on the CPU, where there is nothing to copy).
    ``ratio`` is this model's time over the first model's.
    """

    median_seconds: float
    p90_seconds: float
    p99_seconds: float
    cpu_seconds: float
    with_copies_seconds: float | None
    calls_per_timing: int
    ratio: float
    ratio_interval: Interval
    speedup: float
    speedup_interval: Interval
    verdict: str


@dataclass(frozen=True)
class LatencyResult:
    """Times of all models, by name; the first one is the reference. ``settled``: the intervals are within 2 %.

    In each of the ``rounds`` every model was timed twice. ``busy``: something else ran meanwhile.
    """

    rounds: int
    settled: bool
    models: dict[str, ModelLatency]
    busy: bool = False


@dataclass
class _Stopwatch:
    """A model's call and its timings so far, in seconds per call."""

    call: Call
    copying: Call | None
    calls: int = 1
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    copying_seconds: list[float] = field(default_factory=list)

    def time_once(self) -> None:
        seconds, cpu_seconds = _timed(self.call, self.calls)
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        if self.copying is not None:
            self.copying_seconds.append(_timed(self.copying, self.calls)[0])

    def rounds(self) -> list[float]:
        """Of each round the smaller of its two timings."""
        return _smaller(self.seconds)

    def cpu_rounds(self) -> list[float]:
        """The same of processor time."""
        return _smaller(self.cpu_seconds)

    def on_one_thread(self) -> bool:
        """Whether processor time and wall time can be compared."""
        return self.copying is None and statistics.median(self.cpu_seconds) <= _ONE_THREAD * statistics.median(
            self.seconds
        )


def _smaller(timings: Sequence[float]) -> list[float]:
    """What disturbs a timing only ever makes it longer."""
    return [min(forth, back) for forth, back in zip(timings[::2], timings[1::2], strict=True)]


def compare_latency(
    sessions: Mapping[str, Session],
    feeds: Feeds,
    *,
    seconds: float = 10,
    min_pairs: int = MIN_PAIRS,
    progress: Progress = silent,
) -> LatencyResult:
    """Time all models on the same feeds, interleaved; at least ``min_pairs`` times each, however long they take."""
    watches = {name: _stopwatch(session, feeds) for name, session in sessions.items()}
    racing = list(watches.values())
    for number in progress(_rounds(racing, seconds, max(ceil(min_pairs / 2), FEWEST_FOR_MEDIAN)), "timing"):
        for watch in in_turn(racing, number):
            watch.time_once()
    models = {name: _model_latency(watch, racing[0]) for name, watch in watches.items()}
    return LatencyResult(len(racing[0].rounds()), _settled(racing), models, _busy(racing))


def in_turn(items: Sequence[T], number: int) -> list[T]:
    """The order of round ``number``: forwards and backwards, beginning with another item from round to round."""
    start = number % len(items)
    order = [*items[start:], *items[:start]]
    return [*order, *order[::-1]]


def _stopwatch(session: Session, feeds: Feeds) -> _Stopwatch:
    """A warm model with its number of calls per timing; the first run turns a refused feed into a ModelError."""
    session.run(feeds)
    device = facts_of(session.provider).device
    on_host = host_call(session, feeds)
    watch = _Stopwatch(on_host, None) if device is None else _Stopwatch(bound_call(session, feeds, device), on_host)
    _warm_up(watch.call)
    while watch.calls < _MOST_CALLS and _timed(watch.call, watch.calls)[0] * watch.calls < _SHORTEST_TIMING:
        watch.calls *= 2
    return watch


def _warm_up(call: Call) -> None:
    end = perf_counter() + _WARM_UP_SECONDS
    for _ in range(_WARM_UP_CALLS):
        call()
        if perf_counter() >= end:
            return


def _timed(call: Call, calls: int) -> tuple[float, float]:
    """Seconds and processor seconds of one call, on average over ``calls``."""
    cpu_start, start = process_time(), perf_counter()
    for _ in range(calls):
        call()
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    return seconds / calls, cpu_seconds / calls


def _rounds(watches: Sequence[_Stopwatch], seconds: float, min_rounds: int) -> Iterator[int]:
    start, number, busy = perf_counter(), 0, False
    while number < min_rounds or perf_counter() < start + seconds * (_BUSY_SECONDS if busy else 1):
        if number >= min_rounds and number % _ROUNDS_BETWEEN_LOOKS == 0:
            busy = _busy(watches)
            if _settled(watches) and not busy:
                return
        yield number
        number += 1


def _settled(watches: Sequence[_Stopwatch]) -> bool:
    """Whether every ratio to the first model (or the time itself, of a single model) is known within 2 %."""
    first, *others = watches
    if not others:
        return _is_known(statistics.median(first.rounds()), median_interval(first.rounds()).scaled(1 + RESOLUTION))
    known = (_ratio(other, first) for other in others)
    return all(_is_known(ratio, interval) and _tells(interval) for ratio, interval, _ in known)


def _is_known(value: float, interval: Interval) -> bool:
    return interval.half_width() <= (PRECISION + RESOLUTION) * value


def _tells(interval: Interval) -> bool:
    """Whether it is within the noise or outside: it takes less than 2 % to tell models apart that are about as fast."""
    return not interval.contains(NOISE) or interval.half_width() <= PRECISION / 4 + RESOLUTION


def _ratios(watch: _Stopwatch, first: _Stopwatch) -> list[float]:
    return [mine / reference for mine, reference in zip(watch.rounds(), first.rounds(), strict=True)]


def _cpu_ratios(watch: _Stopwatch, first: _Stopwatch) -> list[float] | None:
    """The same by processor time; None where models run on several threads, or elsewhere."""
    pairs = [*zip(watch.cpu_rounds(), first.cpu_rounds(), strict=True)]
    if not (watch.on_one_thread() and first.on_one_thread() and all(min(pair) > 0 for pair in pairs)):
        return None
    return [mine / reference for mine, reference in pairs]


def _busy(watches: Sequence[_Stopwatch]) -> bool:
    """Whether the ratio of some model differs by wall time and by processor time."""
    first, *others = watches
    return any(_ratio(other, first)[2] for other in others)


def _ratio(watch: _Stopwatch, first: _Stopwatch) -> tuple[float, Interval, bool]:
    """The ratio of a model's time to the first's, its interval, and whether something else ran."""
    by_wall = _ratios(watch, first)
    by_cpu = _cpu_ratios(watch, first)
    wall = median_interval(by_wall).scaled(1 + RESOLUTION)
    if by_cpu is None or watch is first:
        return statistics.median(by_wall), wall, False
    cpu = median_interval(by_cpu).scaled(1 + RESOLUTION)
    if wall.low <= cpu.high and cpu.low <= wall.high:
        known = [(wall, by_wall), (cpu, by_cpu)]
        interval, ratios = min(known, key=lambda pair: pair[0].high / pair[0].low)
        return statistics.median(ratios), interval, False
    return statistics.median(by_cpu), Interval(min(cpu.low, wall.low), max(cpu.high, wall.high)), True


def _model_latency(watch: _Stopwatch, first: _Stopwatch) -> ModelLatency:
    median, p90, p99 = np.percentile(watch.seconds, [50, 90, 99]).tolist()
    ratio, interval, _ = _ratio(watch, first)
    return ModelLatency(
        median_seconds=median,
        p90_seconds=p90,
        p99_seconds=p99,
        cpu_seconds=statistics.fmean(watch.cpu_seconds),
        with_copies_seconds=statistics.median(watch.copying_seconds) if watch.copying_seconds else None,
        calls_per_timing=watch.calls,
        ratio=ratio,
        ratio_interval=interval,
        speedup=1 / ratio,
        speedup_interval=interval.inverse(),
        verdict="reference" if watch is first else _verdict(interval),
    )


def _verdict(ratio: Interval) -> str:
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else NO_DIFFERENCE
