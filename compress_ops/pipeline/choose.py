"""Choose an int8 recipe for a model by trying candidates: the fastest that stays close to the float model.

Which candidates make sense follows from the operators that hold the weights. Each is applied, compared with the float
model on the calibration data and timed against it. Where none is close enough, outliers are clipped and rounding
and biases refined; where that does not do, the layers whose quantization costs most go back to float, if they are few.
Where nothing is as fast as float (int8 is slower for small depthwise convolutions), weights alone are stored in 8 bits.
For execution providers other than the CPU there is one candidate: what they compute fast (``providers.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import OnnxpressError
from ..measure.comparison import Comparison, compare_models
from ..measure.feeds import MeasureSettings
from ..measure.report import Report, StepReport, TrialReport
from ..model import Model
from ..passes import Promise
from ..quantize.eligible import RECURRENT, is_left, why_not, why_not_left
from ..recipe import Step, step_from
from .defaults import defaults_note
from .execute import run
from .job import Job, Prepared, model_of, with_passes
from .preflight import prepare
from .preparing import preparing, steps_of
from .providers import Passes, default_of
from .steps import apply_steps

if TYPE_CHECKING:
    import onnx_ir as ir

CLOSE_ENOUGH = 0.995
"""Mean cosine of every output with the float model's, by default."""
_TRIAL_SECONDS = 2.0
_AS_FAST = 0.9  # of the fastest candidate's speed: among those the closest to the float model wins
_FEW = 1 / 3  # of the quantized layers may go back to float: with more, little of what int8 gains is left
_PERCENTILES = (99.99, 99.9)


@dataclass(frozen=True)
class Trial:
    """A candidate and how it did. ``cosine`` is the worst output's, ``speedup`` the median over the float model."""

    name: str
    passes: list[Step]
    steps: list[StepReport]
    bytes: int
    cosine: float | None
    speedup: float | None

    def is_close(self, least: float) -> bool:
        return self.cosine is not None and self.cosine >= least


def run_chosen(job: Job, least_cosine: float = CLOSE_ENOUGH) -> Report:
    """Choose passes for the job, run it with them, and report the trials beside the result.

    Raises OnnxpressError when no candidate can be applied to the model, and where run() does.
    """
    best, trials = choose_int8(job, least_cosine)
    told = [TrialReport(t.name, t.bytes, t.cosine, t.speedup, chosen=t is best) for t in trials]
    return replace(run(with_passes(job, best.passes)), trials=told)


def choose_int8(job: Job, least_cosine: float = CLOSE_ENOUGH) -> tuple[Trial, list[Trial]]:
    """The best candidate, and all trials in the order in which they were made.

    Where the job measures nothing, the likeliest candidate that can be applied is taken as it is.
    """
    prepared = prepare(job)
    with_data = "calibration" in prepared.data
    default = default_of(job.recipe.provider[0].name, with_data=with_data)
    candidates = {default.name: default.passes} if default else _candidates(prepared, with_data=with_data)
    trials = [*_try_all(prepared, candidates)]
    if not job.measure:
        return trials[0], trials
    for more in (_clip, _refine, _repair):
        if with_data and not any(trial.is_close(least_cosine) for trial in trials):
            trials += more(prepared, max(trials, key=_closeness), least_cosine)
    if default is None and not any(_speed(trial) >= 1 for trial in trials):
        with suppress(OnnxpressError):  # no weight may gain from it; the other trials stand
            trials += _try_all(prepared, _WEIGHTS_ALONE)
    return _best(trials, least_cosine), trials


def _best(trials: Sequence[Trial], least_cosine: float) -> Trial:
    """The closest of those that are about as fast as the fastest that is close enough; else the closest of all."""
    close = [trial for trial in trials if trial.is_close(least_cosine)]
    fastest = max(map(_speed, close), default=0.0)
    return max([trial for trial in close if _speed(trial) >= _AS_FAST * fastest] or trials, key=_closeness)


def _closeness(trial: Trial) -> float:
    return trial.cosine if trial.cosine is not None else -1.0


def _speed(trial: Trial) -> float:
    return trial.speedup if trial.speedup is not None else 0.0


def _candidates(prepared: Prepared, *, with_data: bool) -> dict[str, Passes]:
    """Passes by the name of the candidate, for the operators whose weights can be quantized here; the likeliest first.

    That is static for convolutions, and smoothed and dynamic for models of matrices alone.
    """
    model = _as_prepared(prepared)
    present = {node.op_type for node in model.nodes() if node.op_type in _KINDS and _can_be_int8(node)}
    matrices = sorted(present & {"MatMul", "Gemm"})
    if not with_data:
        every, cheap = sorted(present), sorted(present - {"Conv"})
        return {f"dynamic {', '.join(kinds)}": [_dynamic(kinds)] for kinds in (every, cheap) if kinds}
    static, dynamic = _static_first(sorted(present & _STATIC)), sorted(present - _STATIC)
    found = {"static": [*static, *_rest(dynamic)]}
    if matrices:
        convolutions = _static_first(sorted(present & {"Conv"}))
        found["static convolutions, dynamic matrices"] = [*convolutions, *_rest(sorted([*matrices, *dynamic]))]
        smoothed = {f"smooth, {name}": [{"smooth": _MAY_FAIL}, *passes] for name, passes in found.items()}
        found = {**found, **smoothed} if "Conv" in present else {**dict(reversed(smoothed.items())), **found}
    return {name: passes for name, passes in found.items() if passes}


def _as_prepared(prepared: Prepared) -> Model:
    """A copy of the model as the first steps leave it: what can be quantized is judged on that."""
    model = prepared.model.copy()
    list(apply_steps(replace(prepared, job=with_passes(prepared.job, preparing(model)), model=model)))
    model.infer_shapes()
    return model


def _can_be_int8(node: ir.Node) -> bool:
    return not (why_not_left(node) if is_left(node) else why_not(node))


_STATIC = {"Conv", "Gemm", "MatMul"}
_KINDS = (*_STATIC, "Gather", *RECURRENT)
_WEIGHTS_ALONE: dict[str, Passes] = {
    "8-bit weights, float arithmetic": [{"quantize_weights": {"bits": 8, "storage": "decoded"}}]
}
_MAY_FAIL = {"allow_unchanged": True}


def _dynamic(kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {"quantize_dynamic": {"operators": list(kinds)}}


def _rest(kinds: Sequence[str]) -> Passes:
    return [_dynamic(kinds)] if kinds else []


def _static_first(kinds: Sequence[str]) -> Passes:
    return [{"quantize_static": {"operators": list(kinds)}}] if kinds else []


def _try_all(prepared: Prepared, candidates: dict[str, Passes]) -> Iterator[Trial]:
    """Try each candidate; one that cannot be applied is left out, unless none can."""
    fault: OnnxpressError | None = None
    made = 0
    for name, passes in prepared.job.progress(list(candidates.items()), "choosing"):
        try:
            yield _try(prepared, name, [*preparing(prepared.model), *steps_of(passes), *_finishing(prepared)])
            made += 1
            if not prepared.job.measure:
                return
        except OnnxpressError as error:
            fault = error
    if not made:
        raise fault or OnnxpressError(
            "no operator of the model has weights that can become int8",
            hint=defaults_note(prepared.model) or "see: onnxpress inspect MODEL",
        )


def _finishing(prepared: Prepared) -> list[Step]:
    """Normalizations in the operators that the CPU runs fastest, where there are some."""
    normalizes = any(node.op_type in ("LayerNormalization", "ReduceMean") for node in prepared.model.nodes())
    return steps_of([{"unfuse_norms": {}}]) if normalizes and prepared.job.recipe.provider[0].name == "cpu" else []


def _try(prepared: Prepared, name: str, passes: list[Step]) -> Trial:
    job = with_passes(prepared.job, passes)
    trial = replace(prepared, job=job, model=model_of(job))
    steps = list(apply_steps(trial))
    size = trial.model.stored_bytes()
    if not job.measure:
        return Trial(name, passes, steps, size, None, None)
    with trial.model.exported() as path:
        found = compare_models(
            {"original": job.model, name: path},
            providers=job.recipe.provider,
            threads=job.recipe.threads,
            settings=MeasureSettings(**{**job.recipe.measure.model_dump(), "seconds": _TRIAL_SECONDS}),
            fidelity_data=prepared.data.get("calibration"),
            seed=job.recipe.seed,
            parts={"latency", "fidelity"},
        )
    return Trial(name, passes, steps, size, _worst_cosine(found, name), _speedup(found, name))


def _worst_cosine(found: Comparison, name: str) -> float | None:
    if isinstance(found.fidelity, str):
        return None
    outputs = found.fidelity.models[name].values()
    cosines = [1.0 if output.identical else output.cosine for output in outputs]
    return min((cosine for cosine in cosines if cosine is not None), default=None)


def _speedup(found: Comparison, name: str) -> float | None:
    return None if isinstance(found.latency, str) else found.latency.models[name].speedup


def _clip(prepared: Prepared, trial: Trial, least_cosine: float) -> Iterator[Trial]:
    """The trial again with rare outliers of the activations left out of their ranges."""
    if not any(step.operation.name == "quantize_static" for step in trial.passes):
        return
    for percentile in _PERCENTILES:
        passes = [_clipping(step, percentile) for step in trial.passes]
        clipped = _try(prepared, f"{trial.name}, percentile {percentile}", passes)
        yield clipped
        if clipped.is_close(least_cosine) or _closeness(clipped) < _closeness(trial):
            return


def _clipping(step: Step, percentile: float) -> Step:
    if step.operation.name != "quantize_static":
        return step
    return step_from(
        step.operation, {**step.options.model_dump(), "calibrator": "percentile", "percentile": percentile}
    )


def _refine(prepared: Prepared, trial: Trial, least_cosine: float) -> Iterator[Trial]:
    """The trial again with weights rounded for the data and biases corrected: the same kernels, closer outputs."""
    refining = steps_of([{"learn_rounding": _MAY_FAIL}, {"correct_bias": {**_MAY_FAIL, "add_missing": False}}])
    with suppress(OnnxpressError):  # a refinement that a model does not allow is no reason to fail
        yield _try(prepared, f"{trial.name}, refined", [*trial.passes, *refining])


def _repair(prepared: Prepared, trial: Trial, least_cosine: float) -> Iterator[Trial]:
    """The trial again with so many of its layers back in float that it is close enough, if few of them do."""
    shrinking = [i for i, step in enumerate(trial.passes) if step.operation.promises is Promise.SHRINKS]
    last, quantized = shrinking[-1], sum(len(trial.steps[i].touched) for i in shrinking if i < len(trial.steps))
    keep = steps_of([{"keep_float": {"min_cosine": least_cosine, "most": max(1, round(_FEW * quantized))}}])
    with suppress(OnnxpressError):  # where that is not enough either, or layers are in a form that is not known
        passes = [*trial.passes[: last + 1], *keep, *trial.passes[last + 1 :]]
        yield _try(prepared, f"{trial.name}, layers in float", passes)
