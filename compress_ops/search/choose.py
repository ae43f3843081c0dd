"""Choose an int8 recipe for a model by trying candidates: of those that stay close the one that gains most.

What a candidate gains is its speed-up and its size, as one number: a file half as large is worth 15 % of the time.

Each candidate (``candidates.py``) is applied and measured beside the float model (``trials.py``), as far as it takes
to know that it cannot be chosen (``race.py``). Where one that is not close would gain more than all that are, it is
mended: outliers are clipped, rounding and biases refined, and the layers whose quantization costs most go back to
float, if they are few. Where nothing is close, the closest is written and the run ends as one whose limit is missed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..errors import OnnxpressError
from ..measure.budget import Verdict, judge_closeness, judge_speedup
from ..model import Model
from ..passes import Promise
from ..pipeline.defaults import defaults_note
from ..pipeline.execute import run
from ..pipeline.job import Job, with_passes
from ..pipeline.preflight import prepare
from ..recipe import Budget, Step, step_from
from ..report.report import Report, StepReport, TrialReport
from .candidates import MAY_FAIL, Candidate, candidates, would_bring
from .gains import AS_GOOD, WITHIN_NOISE, gain, looser, not_slower
from .preparing import begun, raised_first, steps_of
from .race import race
from .trials import Trial, Trials, finished_trial, trials_of

CLOSE_ENOUGH = 0.995
"""Closeness of the worst output to the float model's, by default."""
_HALF_AS_CLOSE = 2  # times the distance of the closest
_MENDED = 0.9  # of what a candidate gains is left, at most, once it is mended
_FEW = 1 / 3  # of the quantized layers may go back to float: with more, little of what int8 gains is left
_MENDABLE = 10  # times the distance that is allowed: what is farther off loses what it gains on the way
_REFINABLE = 5  # times the distance that is allowed: from there rounding and biases do not bring a model
_MARGIN = 0.7  # of the distance that is allowed
_PERCENTILES = (99.99, 99.9)
_BITS = 8  # of a code


def run_chosen(job: Job, least: float | None = CLOSE_ENOUGH) -> Report:
    """Choose passes for the job, run it with them, and report the trials beside the result.

    The result is held to ``least`` closeness and to being no slower than noise makes it, besides the recipe's budget;
    where the job measures nothing, by what its trial found. Where ``least`` is None the job has its passes already: it
    is run as it is, the model raised first. Raises OnnxpressError when no candidate can be applied to the model, and
    where run() does.
    """
    if least is None:
        return run(raised_first(job))
    started, cpu_started = time.perf_counter(), time.process_time()
    best, trials = choose_int8(job, least)
    told = [TrialReport(t.name, t.bytes, t.closeness, t.speedup, chosen=t is best) for t in trials]
    report = finished_trial(_held(with_passes(job, best.passes), least), best)
    report = replace(
        report,
        trials=told,
        without_data=" ".join(filter(None, [would_bring(job), looser(best, trials, least, report.bytes_before)])),
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )
    return report if job.measure else replace(report, verdicts=[*report.verdicts, *_by_trial(best, least)])


def _held(job: Job, least: float) -> Job:
    """The job with the default limits, where its recipe has none of its own."""
    if not job.measure:
        return job
    limits = {"min_speedup": WITHIN_NOISE, "min_closeness": least}
    own = job.recipe.budget.model_dump(exclude_none=True)
    recipe = job.recipe.model_copy(update={"budget": Budget(**{**limits, **own})})
    return replace(job, loaded=replace(job.loaded, recipe=recipe))


def _by_trial(best: Trial, least: float) -> list[Verdict]:
    """Short trials prove how close it is, and what is slower for sure; about speed no more than that is said."""
    speed = judge_speedup(WITHIN_NOISE, best.interval)
    return [judge_closeness(least, best.closeness, best.why), *([speed] if speed.verdict != "not proven" else [])]


def choose_int8(job: Job, least: float = CLOSE_ENOUGH) -> tuple[Trial, list[Trial]]:
    """The best candidate, and all trials in the order in which they were made."""
    prepared = begun(prepare(replace(job, measure=True)))
    data = prepared.data.get("calibration")
    wanted = candidates(prepared, job.recipe.provider[0].name)
    with trials_of(prepared) as workshop:
        trials = race(workshop, wanted, least)
        if not trials:
            raise _nothing_can_be_applied(workshop)
        for mend in (_clip, _refine, _repair) if data is not None else ():
            if (worth := _worth_mending(trials, least)) is not None:
                trials += mend(workshop, worth, least)
        return _settled(workshop, trials, least)


def _settled(workshop: Trials, trials: list[Trial], least: float) -> tuple[Trial, list[Trial]]:
    """The best, and all trials: what a glance does not show to be no slower is timed in full before it is taken."""
    timed: set[str] = set()
    while True:
        best = best_of(trials, least)
        sure = best.interval is None or best.interval.low >= WITHIN_NOISE
        if sure or best.name in timed:
            return best, trials
        timed.add(best.name)
        again = next(iter(workshop.measured([best], {"latency"})), best)
        trials = [again if trial is best else trial for trial in trials]


def _nothing_can_be_applied(workshop: Trials) -> OnnxpressError:
    if _is_quantized(workshop.prepared.model):
        return OnnxpressError(
            "most of the model's weights are integers of 8 bits or fewer already",
            hint="quantize the float model that it was made from",
        )
    reasons = [fault.message for fault in workshop.refused] or ["it has none"]
    return OnnxpressError(
        "no operator of the model has weights that can become int8",
        hint=defaults_note(workshop.prepared.model) or f"the last try: {reasons[-1]}; see: onnxpress inspect MODEL",
    )


def _is_quantized(model: Model) -> bool:
    weights = [value.const_value for graph in model.ir.graphs() for value in graph.initializers.values()]
    stored = [(weight.nbytes, weight.dtype) for weight in weights if weight is not None]
    codes = sum(size for size, dtype in stored if dtype.is_integer() and dtype.bitwidth <= _BITS)
    return 2 * codes > sum(size for size, _ in stored)


def best_of(trials: Sequence[Trial], least: float) -> Trial:
    """Of those that are close enough, and no slower if any is not, and gain about as much as any, the closest.

    Where none is close enough the closest of all is taken, or one half as close that is not slower.
    """
    close = [trial for trial in trials if trial.is_close(least)]
    if not close:
        reached = 1 - _HALF_AS_CLOSE * (1 - max(map(_closeness, trials)))
        return max(not_slower([trial for trial in trials if _closeness(trial) >= reached]), key=_closeness)
    most = max(map(gain, not_slower(close)))
    return max([trial for trial in not_slower(close) if gain(trial) >= AS_GOOD * most], key=_closeness)


def _worth_mending(trials: Sequence[Trial], least: float) -> Trial | None:
    """The closest of those that would be chosen if only they were close; not what is far off where something is."""
    reached = max((gain(trial) for trial in trials if trial.is_close(least)), default=0.0)
    farthest = _MENDABLE * (1 - least) if reached else 2.0
    far = [t for t in trials if not t.is_close(least) and not t.float_arithmetic and 1 - _closeness(t) <= farthest]
    return max([trial for trial in far if _MENDED * gain(trial) > reached], key=_closeness, default=None)


def _closeness(trial: Trial) -> float:
    return trial.closeness if trial.closeness is not None else -1.0


def _clip(workshop: Trials, trial: Trial, least: float) -> Iterator[Trial]:
    """The trial again with rare outliers of the activations left out of their ranges."""
    if not any(step.operation.name == "quantize_static" for step in trial.passes):
        return
    for percentile in _PERCENTILES:
        passes = [_clipping(step, percentile) for step in trial.passes]
        clipped = workshop.make([Candidate(f"{trial.name}, percentile {percentile}", passes)])
        yield from clipped
        if not clipped or clipped[0].is_close(least) or _closeness(clipped[0]) < _closeness(trial):
            return


def _clipping(step: Step, percentile: float) -> Step:
    if step.operation.name != "quantize_static":
        return step
    return step_from(
        step.operation, {**step.options.model_dump(), "calibrator": "percentile", "percentile": percentile}
    )


def _refine(workshop: Trials, trial: Trial, least: float) -> Iterator[Trial]:
    """The trial again with weights rounded for the data and biases corrected: the same kernels, closer outputs.

    Only where it is near enough for that, and where it helps on samples that they have not seen.
    """
    if 1 - _closeness(trial) > _REFINABLE * (1 - least):
        return
    refining = steps_of([{"learn_rounding": MAY_FAIL}, {"correct_bias": {**MAY_FAIL, "add_missing": False}}])
    refined = Candidate(f"{trial.name}, refined", [*trial.passes, *refining])
    if workshop.helps(refined, Candidate(trial.name, trial.passes), trial):
        yield from workshop.make([refined])


def _repair(workshop: Trials, trial: Trial, least: float) -> Iterator[Trial]:
    """The trial again with so many of its layers back in float that it is close enough, if few of them do.

    With a margin: layers picked on some samples serve others a little less.
    """
    shrinking = [i for i, step in enumerate(trial.passes) if step.operation.promises is Promise.SHRINKS]
    last, quantized = shrinking[-1], sum(_changed(trial.steps, i) for i in shrinking)
    nearer = 1 - _MARGIN * (1 - least)
    keep = steps_of([{"keep_float": {"min_cosine": nearer, "most": max(1, round(_FEW * quantized))}}])
    passes = [*trial.passes[: last + 1], *keep, *trial.passes[last + 1 :]]
    yield from workshop.make([Candidate(f"{trial.name}, layers in float", passes)])


def _changed(steps: Sequence[StepReport], index: int) -> int:
    return len(steps[index].touched) if index < len(steps) else 0
