"""What would help where a limit was missed: one sentence for each, from what was done and what was given."""

from __future__ import annotations

from collections.abc import Iterator

from .report import Report

_CUTS = ("prune_", "drop_layers", "low_rank", "separable_conv", "shrink_student")


def advice(report: Report) -> list[str]:
    """One sentence for each limit that the result missed or that was not proven, the same one once."""
    failed = [verdict.limit for verdict in report.verdicts if verdict.verdict != "met"]
    return list(dict.fromkeys(sentence for limit in failed for sentence in _for(limit, report)))


def _for(limit: str, report: Report) -> Iterator[str]:
    names = [step.name for step in report.steps]
    cuts, taught = any(name.startswith(_CUTS) for name in names), "distill" in names
    calibrated = "calibration" in report.recipe.get("data", {})
    if limit in ("min_closeness", "max_drop") and (cuts or taught):
        yield from _after_a_cut(calibrated) if cuts else ()
        yield from _after_training() if taught else [_DISTILL]
    elif limit in ("min_closeness", "max_drop") and not calibrated:
        yield "--data FILE gives more to try: ranges fixed ahead of time, smoothing, layers that stay float"
    elif limit == "min_closeness":
        yield "more varied --data, or --evaluation with --labels, which tells what the distance costs; see keep_float"
    elif limit == "min_speedup":
        yield "a longer measurement on a quiet machine (--set measure.seconds=60), with --threads as in deployment"


_DISTILL = "onnxpress distill trains the result to give what the original gave"


def _after_a_cut(calibrated: bool) -> Iterator[str]:
    if not calibrated:
        yield "--data FILE lets refit make up for what was cut"
    yield "a lower --ratio cuts less"


def _after_training() -> Iterator[str]:
    yield "more --epochs, or a larger --learning-rate, brings it closer to its teacher"
    yield "more varied --data shows it more of what the teacher does"
    yield "a student that was cut less, or was solved anew on data first (onnxpress prune --data), starts closer"
