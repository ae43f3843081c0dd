"""Trials: candidate recipes applied to the model, and measured beside it on the calibration data, models in turn.

A trial's file stays in a temporary folder until all are done, so that what is timed again is not made again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..data import Dataset, Part
from ..errors import ModelError, OnnxpressError
from ..files.temporary import temporary_folder
from ..measure.comparison import Comparison, Measured, compare_models
from ..measure.intervals import Interval
from ..measure.latency import MIN_PAIRS
from ..measure.remembering import Remembering
from ..passes import Need
from ..pipeline.execute import Applied, finished, run
from ..pipeline.job import Job, Prepared, counted_bytes, with_passes
from ..pipeline.steps import apply_steps
from ..pipeline.undone import Gains
from ..recipe import Step
from ..report.report import Report, StepReport
from ..runtime import Session, open_session
from .candidates import Candidate
from .isolated import Feeds, Isolated, isolation

SECONDS = 2.0  # of timing for each candidate
_TOGETHER = 8  # trials that are open at once beside the original: each session holds its weights and its activations
_MOST_KEPT = 2**30  # bytes of trials whose models stay in memory until one is chosen
_LARGE = 32_000_000  # bytes of a model of which one trial at a time is open


@dataclass(frozen=True)
class Trial:
    """A candidate and how it did against the original.

    ``bytes`` are those of its file. ``closeness`` is that of the worst output (``measure/closeness/``), ``why`` says
    which output and what of it decided; ``speedup`` is the median over the original, with its interval. ``work`` is the
    model itself, for a run to go on with; None where trials together would take too much memory.
    """

    name: str
    passes: list[Step]
    steps: list[StepReport]
    path: Path
    bytes: int
    float_arithmetic: bool = False
    closeness: float | None = None
    why: str = ""
    speedup: float | None = None
    interval: Interval | None = None
    work: Applied | None = field(default=None, repr=False, compare=False)

    def is_close(self, least: float) -> bool:
        return self.closeness is not None and self.closeness >= least


@dataclass
class Trials:
    """Where trials are made: a checked job, and a folder for their files; ``refused`` are the faults of what failed.

    With ``isolated`` a model is opened in a process of its own before it is in this one. ``kept`` counts the bytes of
    trials whose models may be gone on with.
    """

    prepared: Prepared
    folder: Path
    refused: list[OnnxpressError]
    isolated: Isolated | None = None
    kept: int = 0

    def make(self, wanted: Iterable[Candidate]) -> list[Trial]:
        """Apply the candidates, and measure those that can be applied on the calibration data."""
        return self.measured(self.applied(wanted), {"latency", "fidelity"})

    def applied(self, wanted: Iterable[Candidate]) -> list[Trial]:
        """The candidates that can be applied, with nothing measured yet."""
        return self._applied(wanted, self.prepared.data)

    def measured(
        self,
        trials: Sequence[Trial],
        parts: Collection[Measured],
        seconds: float = SECONDS,
        pairs: int = MIN_PAIRS,
    ) -> list[Trial]:
        """Trials with what was measured of them beside the original; those that do not run are left out.

        Each is timed for so many seconds, and in so many pairs at the least.
        """
        groups = self._groups(trials)
        return [trial for group in groups for trial in self._measured(group, parts, seconds, pairs)]

    def helps(self, refined: Candidate, plain: Candidate, made: Trial) -> bool:
        """Whether a recipe brings the model closer than another on samples that it did not see.

        Both are fitted on one half of the calibration data and judged on the other. The other's trial, which was
        ``made`` on all of it, serves where no step looks at data.
        """
        seen, unseen = Part.halves(self.prepared.data["calibration"])
        fits = any(Need.CALIBRATION in step.operation.needs_with(step.options) for step in plain.passes)
        half = {**self.prepared.data, "calibration": seen}
        pair = [*self._applied([refined], half), *(self._applied([plain], half) if fits else [made])]
        if len(pair) < 2 or not len(unseen):
            return False
        found = self._compared(pair, unseen, {"fidelity"})
        closer, other = (_with(trial, found).closeness or -1.0 for trial in pair)
        return closer > other

    def _applied(self, wanted: Iterable[Candidate], data: Mapping[str, Dataset]) -> list[Trial]:
        shown = self.prepared.job.progress([*wanted], "choosing")
        return [trial for candidate in shown if (trial := self._apply(candidate, data)) is not None]

    def _apply(self, candidate: Candidate, data: Mapping[str, Dataset]) -> Trial | None:
        job = with_passes(self.prepared.job, candidate.passes)
        prepared, gains = replace(self.prepared, job=job, model=self.prepared.model.copy(), data=data), Gains()
        path = self.folder / f"{len([*self.folder.iterdir()])}.onnx"
        try:
            work = Applied(prepared, list(apply_steps(prepared, gains=gains)), gains, self.original)
            with prepared.model.staged(path) as staged:
                size = counted_bytes(prepared.model, staged.size)
                staged.commit()
            self._hold_to_run(path)
        except OnnxpressError as fault:
            self.refused.append(fault)
            return None
        self.kept += size
        kept = work if self.kept <= _MOST_KEPT and data is self.prepared.data else None
        return Trial(candidate.name, candidate.passes, work.steps, path, size, candidate.float_arithmetic, work=kept)

    def _hold_to_run(self, path: Path) -> None:
        """Raise ModelError for a model that does not run in a process of its own."""
        data, recipe = self.prepared.data.get("calibration"), self.prepared.job.recipe
        if self.isolated is None or data is None:
            return
        feeds = Feeds.stored(data, path.with_suffix(".npz"))
        try:
            if why := self.isolated.why_not(path, feeds, recipe.provider, recipe.threads):
                raise ModelError(f"the model that was made does not run: {why}")
        finally:
            feeds.path.unlink()

    def _groups(self, trials: Sequence[Trial]) -> Iterator[list[Trial]]:
        """A few at a time, so that memory does not grow with the number of candidates."""
        size = 1 if self.prepared.original_bytes > _LARGE else _TOGETHER
        yield from ([*trials[start : start + size]] for start in range(0, len(trials), size))

    def _measured(
        self, trials: list[Trial], parts: Collection[Measured], seconds: float, pairs: int
    ) -> Iterator[Trial]:
        """What was measured of each; where one does not run with the others, each alone."""
        try:
            found = self._compared(trials, self.prepared.data.get("calibration"), parts, seconds, pairs)
            yield from (_with(trial, found) for trial in trials)
        except OnnxpressError as fault:
            if len(trials) == 1:
                self.refused.append(fault)
                return
            for trial in trials:
                yield from self._measured([trial], parts, seconds, pairs)

    def _compared(
        self,
        trials: Sequence[Trial],
        data: Dataset | None,
        parts: Collection[Measured],
        seconds: float = SECONDS,
        pairs: int = MIN_PAIRS,
    ) -> Comparison:
        """Some trials beside the original, in turn."""
        recipe = self.prepared.job.recipe
        return compare_models(
            {"original": self.prepared.job.model, **{trial.path.name: trial.path for trial in trials}},
            providers=recipe.provider,
            threads=recipe.threads,
            settings=recipe.measure.but(seconds=seconds * len(trials)),
            fidelity_data=data,
            seed=recipe.seed,
            parts=parts,
            opened={"original": self.original},
            min_pairs=pairs,
            figures=False,
        )

    def going_on(self, prepared: Prepared) -> Trials:
        """The same on a model with more steps behind it; the session of the original is shared."""
        further = replace(self, prepared=prepared, kept=0)
        further.__dict__["original"] = self.original
        return further

    @cached_property
    def original(self) -> Session:
        """Opened once; what it gave for the data is kept."""
        recipe = self.prepared.job.recipe
        return Remembering(open_session(self.prepared.job.model, recipe.provider, threads=recipe.threads))


def _with(trial: Trial, found: Comparison) -> Trial:
    """The trial with what was measured of it."""
    key = trial.path.name
    if not isinstance(found.fidelity, str):
        closeness, why = found.fidelity.closeness(key)
        trial = replace(trial, closeness=closeness, why=why)
    if not isinstance(found.latency, str):
        speed = found.latency.models[key]
        trial = replace(trial, speedup=speed.speedup, interval=speed.speedup_interval)
    return trial


@contextmanager
def trials_of(prepared: Prepared, *, isolated: bool = False) -> Iterator[Trials]:
    """Trials in a folder that is gone afterwards; ``isolated``: models are opened in a process of its own first."""
    with temporary_folder() as folder, isolation() if isolated else nullcontext() as child:
        yield Trials(prepared, folder, [], child)


def finished_trial(job: Job, trial: Trial | None) -> Report:
    """The trial's own model, written and proven as the job says; made once more where it was not kept."""
    if trial is None or trial.work is None or job.out is None:
        return run(job)
    return finished(replace(trial.work, prepared=replace(trial.work.prepared, job=job)), job.out)
