"""What a run is asked to do, and everything it works with once all of it has been checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..errors import UsageError
from ..files.models import file_digest, model_files
from ..files.writing import Output
from ..model import Model, load
from ..progress import Progress, silent
from ..recipe import LoadedRecipe, Recipe, Step
from ..recipe.text import Document
from ..report.report import StepReport
from ..runtime import Port


@dataclass(frozen=True)
class Job:
    """One run: a recipe, a model, where the result goes (None: nowhere, a dry run), and how careful to be.

    ``measure`` False times and scores nothing; ``check_steps`` loads the model in onnxruntime after every step;
    ``allow_code`` lets data come from a user's function; ``force`` lets existing outputs be replaced; ``resume``
    continues trainings that were interrupted from the checkpoints beside the output. ``others`` are written besides by
    the caller, and checked with the rest; ``before_commit`` is called when the result is about to be put in place.
    """

    loaded: LoadedRecipe
    model: Path
    out: Path | None
    force: bool = False
    measure: bool = True
    check_steps: bool = False
    allow_code: bool = False
    resume: bool = False
    progress: Progress = silent
    others: Sequence[Output] = ()
    before_commit: Callable[[], None] = lambda: None

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    @property
    def dry_run(self) -> bool:
        return self.out is None

    @property
    def outputs(self) -> list[Output]:
        """Every file that will be written."""
        return [*([Output(self.out)] if self.out is not None else []), *self.others]

    @property
    def checkpoints(self) -> list[Path]:
        """Where its steps, if they train, keep their state until the run is done."""
        steps = range(1, len(self.recipe.passes) + 1)
        return [checkpoint_of(self.out, step) for step in steps] if self.out is not None else []


@dataclass(frozen=True)
class Prepared:
    """A job whose model and data have been opened and found to fit; ``outputs`` are the original's.

    ``dropped_inputs`` is how many of its inputs had a default and are weights now; ``behind`` are the reports of the
    recipe's first steps, if the model has some behind it already.
    """

    job: Job
    model: Model
    data: Mapping[str, Dataset]
    original_bytes: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Port, ...] = ()
    dropped_inputs: int = 0
    behind: Sequence[StepReport] = ()


def with_passes(job: Job, passes: list[Step]) -> Job:
    """The job with other passes in its recipe."""
    recipe = job.recipe.model_copy(update={"passes": passes, "auto": None})
    document = Document(job.loaded.document.file)
    return replace(job, loaded=LoadedRecipe(recipe, job.loaded.folder, document=document))


def refuse_auto(job: Job) -> None:
    """Raise UsageError for a job whose passes are to be found first: what follows from a list has none."""
    if job.recipe.auto is not None:
        raise UsageError("passes: auto has no steps yet", hint="they are found by onnxpress run, or search.run_auto()")


def model_of(job: Job) -> Model:
    """The model that the job begins with, read anew."""
    return load(job.model, drop_default_inputs=job.recipe.drop_default_inputs)


def checkpoint_of(out: Path, step: int) -> Path:
    """Where a step that trains keeps its state until the run is done."""
    return out.with_name(f"{out.name}.step{step}.checkpoint.npz")


_LENGTHS = {"epochs", "patience", "allow_unchanged", "allow_larger"}  # may differ when a training is gone on with


def training_identity(job: Job, hashes: Mapping[str, str], number: int) -> dict[str, Any]:
    """What must be the same for the training of a step to be gone on with: all that it follows from."""
    *before, last = [_written_out(step, job.loaded.folder) for step in job.recipe.passes[:number]]
    section, read = job.recipe.data, {role: hashes.get(role) for role in ("calibration", "training")}
    images = section.images.model_dump() if section.images is not None else None
    return {
        "model": hashes["model"][:16],
        "data": _digest([read, section.batch_size, section.training and section.training.labels, images]),
        "seed": job.recipe.seed,
        "passes": _digest([before, {name: value for name, value in last.items() if name not in _LENGTHS}]),
    }


def _written_out(step: Step, folder: Path) -> dict[str, Any]:
    """A step's options with what stands in files in the place of their names."""
    options = step.arguments()
    files = {name: _content(folder / options[name]) for name in step.operation.files if options[name] is not None}
    return {"pass": step.operation.name, **options, **files}


def _content(path: Path) -> list[str]:
    return [file_digest(file) for file in model_files(path)]


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def model_digest(model: Model) -> str:
    """SHA-256 over the .onnx file, or over the digests of all its files where weights live outside."""
    digests = [file_digest(file) for file in model.files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def counted_bytes(model: Model, file_bytes: int) -> int:
    """Bytes on disk, plus the constants that the graph generates, which count as if they were stored."""
    return file_bytes + model.generated_bytes()
