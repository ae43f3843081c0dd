"""What a run is asked to do, and everything it works with once all of it has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data import Dataset
from ..files import file_digest
from ..model import Model, load
from ..progress import Progress, silent
from ..recipe import LoadedRecipe, Recipe, Step
from ..recipe.text import Document
from ..runtime import Port


@dataclass(frozen=True)
class Job:
    """One run: a recipe, a model, where the result goes (None: nowhere, a dry run), and how careful to be.

    ``measure`` False times and scores nothing; ``check_steps`` loads the model in onnxruntime after every step;
    ``allow_code`` lets data come from a user's function; ``force`` lets an existing output be replaced; ``resume``
    continues trainings that were interrupted from the checkpoints beside the output.
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

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    @property
    def dry_run(self) -> bool:
        return self.out is None


@dataclass(frozen=True)
class Prepared:
    """A job whose model and data have been opened and found to fit; ``outputs`` are the original's.

    ``dropped_inputs`` is how many of its inputs had a default and are weights now.
    """

    job: Job
    model: Model
    data: Mapping[str, Dataset]
    original_bytes: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Port, ...] = ()
    dropped_inputs: int = 0


def with_passes(job: Job, passes: list[Step]) -> Job:
    """The job with other passes in its recipe."""
    recipe = job.recipe.model_copy(update={"passes": passes})
    document = Document(job.loaded.document.file)
    return replace(job, loaded=LoadedRecipe(recipe, job.loaded.folder, document=document))


def model_of(job: Job) -> Model:
    """The model that the job begins with, read anew."""
    return load(job.model, drop_default_inputs=job.recipe.drop_default_inputs)


def checkpoint_of(out: Path, step: int) -> Path:
    """Where a step that trains keeps its state until the run is done."""
    return out.with_name(f"{out.name}.step{step}.checkpoint.npz")


def model_digest(model: Model) -> str:
    """SHA-256 over the .onnx file, or over the digests of all its files where weights live outside."""
    import hashlib

    digests = [file_digest(file) for file in model.files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def counted_bytes(model: Model, file_bytes: int) -> int:
    """Bytes on disk, plus the constants that the graph generates, which count as if they were stored."""
    return file_bytes + model.generated_bytes()
