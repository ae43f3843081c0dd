"""The report of a run: what was asked, what each step did, what was measured; as plain data it can be replayed."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.forms.table import is_path
from ..measure.budget import Verdict
from ..measure.comparison import Comparison
from ..measure.environment import Environment, tool_version
from ..passes import Declined
from .choices import SearchReport


@dataclass(frozen=True)
class StepReport:
    """What one step did. ``options`` are resolved; sizes are bytes of weights and nodes as they would be stored.

    ``files`` are those options that name files, relative to the recipe.
    """

    name: str
    promise: str
    options: Mapping[str, Any]
    touched: Mapping[str, str]
    declined: list[Declined]
    notes: Mapping[str, Any]
    bytes_before: int
    bytes_after: int
    seconds: float
    cpu_seconds: float
    files: Sequence[str] = ()


@dataclass(frozen=True)
class TrialReport:
    """A candidate recipe that was tried: bytes of its file, closeness of its worst output, median speed-up."""

    name: str
    bytes: int
    closeness: float | None
    speedup: float | None
    chosen: bool


@dataclass(frozen=True)
class Report:
    """A finished run. ``comparison`` is None where nothing was measured; sizes count generated constants as stored.

    ``search`` tells what was tried where ``auto`` chose the steps. ``notes`` tell what became of the model beside its
    steps: inputs with a default, exporters' leftovers. ``without_data`` says what data, or a looser limit, would have
    added to the choice of a recipe.
    """

    recipe: Mapping[str, Any]
    folder: Path
    model: Path
    out: Path
    hashes: Mapping[str, str]
    steps: list[StepReport]
    bytes_before: int
    bytes_after: int
    comparison: Comparison | None
    verdicts: list[Verdict]
    environment: Environment
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int | None = None
    trials: list[TrialReport] = field(default_factory=list)
    search: SearchReport | None = None
    notes: Sequence[str] = ()
    without_data: str = ""

    def plain(self, beside: Path) -> dict[str, Any]:
        """The report as JSON types. Paths are written relative to the folder ``beside``, where the report will lie."""
        body = {name: getattr(self, name) for name in _PLAIN}
        return {
            "onnxpress": tool_version(),
            "recipe": {
                **_relative(self.recipe, self.steps, self.folder, beside),
                "model": _from(self.model.resolve(), beside),
            },
            "model": _from(self.model.resolve(), beside),
            "out": _from(self.out.resolve(), beside),
            **{name: plain(value) for name, value in body.items()},
        }


_PLAIN = (
    "hashes", "steps", "bytes_before", "bytes_after", "comparison", "verdicts", "environment", "seconds", "cpu_seconds",
    "peak_memory_bytes", "trials", "search", "notes", "without_data",
)  # fmt: skip


def plain(value: Any) -> Any:
    """Dataclasses, tuples and NumPy's numbers as JSON types; NaN and infinity, which JSON lacks, as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _relative(recipe: Mapping[str, Any], steps: Sequence[StepReport], folder: Path, beside: Path) -> dict[str, Any]:
    """The recipe with its paths, which were relative to ``folder``, made relative to ``beside``."""
    data = dict(recipe.get("data", {}))
    if "calibration" in data:
        data["calibration"] = _moved(data["calibration"], folder, beside)
    for role in ("training", "evaluation"):
        if role in data:
            data[role] = {**data[role], "path": _moved(data[role]["path"], folder, beside)}
    passes = [{step.name: {**step.options, **_moved_files(step, folder, beside)}} for step in steps]
    budget = dict(recipe.get("budget", {}))
    if budget.get("against"):
        budget["against"] = _from((folder / budget["against"]).resolve(), beside)
    return {**recipe, "data": data, "passes": passes, "budget": budget}


def _moved_files(step: StepReport, folder: Path, beside: Path) -> dict[str, str]:
    return {name: _from((folder / step.options[name]).resolve(), beside) for name in step.files}


def _moved(source: str, folder: Path, beside: Path) -> str:
    """A source that is no path, such as ``random``, stays as it is."""
    return _from((folder / source).resolve(), beside) if is_path(source) else source


def _from(path: Path, beside: Path) -> str:
    return Path(os.path.relpath(path, beside.resolve())).as_posix()
