"""Every tool on one case: a row each, with what it took and what came out, or why nothing did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from compress_ops.runtime import open_session

from . import peers
from .processes import Ran, python_of, run

OURS, PORTABLE = "onnxpress quantize --data", "the same, portable: true"
ORT_DYNAMIC = "onnxruntime dynamic, per-channel"
PEERS = {
    ORT_DYNAMIC: "",
    "onnxruntime static, defaults": "",
    "onnxruntime static, u8, per-channel": "",
    "onnxsim dynamic": "onnxsim",
    "onnxsim static": "onnxsim",
    "NNCF, defaults": "nncf",
    "NNCF, transformer mode": "nncf",
    "Quark U8S8_AAWS": "quark",
    "Quark INT8_TRANSFORMER_DEFAULT": "quark",
    "Olive static": "olive",
}
"""Programs of peers.py, and the environment that each runs in; none is ours."""


@dataclass(frozen=True)
class Made:
    """What a tool left: a model that loads, or a fault."""

    name: str
    path: Path
    ran: Ran
    fault: str

    @property
    def megabytes(self) -> float:
        return self.path.stat().st_size / 1e6


@dataclass(frozen=True)
class Task:
    """A model to make int8, with data; ``folder`` takes what is made and ``homes`` holds the peers' environments."""

    model: Path
    data: Path
    batch: int
    folder: Path
    homes: Path


def task_of(model: Path, feeds: dict[str, np.ndarray], batch: int, folder: Path, homes: Path) -> Task:
    """Write the data where all tools find it."""
    data = folder / f"{model.stem}.npz"
    np.savez(data, **feeds)
    return Task(model, data, batch, folder, homes)


def make_all(task: Task, names: Sequence[str]) -> list[Made]:
    """Ours, its portable twin, and the peers."""
    return [ours(task), portable(task), *(peer(task, name, PEERS[name]) for name in names)]


def ours(task: Task) -> Made:
    """One command; status 1 says that the result is not proven faster, and it is written."""
    flags = ["--batch-size", str(task.batch), "--recipe-out", str(_recipe(task)), "--force", "-q"]
    command = [_onnxpress(), "quantize", str(task.model), "--data", str(task.data), *flags]
    return _made(task, OURS, lambda out: run([*command, "-o", str(out)], fine=(0, 1)))


def portable(task: Task) -> Made:
    """The recipe that was chosen, with weights that saturate nowhere."""
    import yaml

    def make(out: Path) -> Ran:
        recipe = yaml.safe_load(_recipe(task).read_text())
        recipe["passes"] = [_portable(step) for step in recipe["passes"]]
        _recipe(task).write_text(yaml.safe_dump(recipe, sort_keys=False))
        flags = ["--force", "--no-measure", "-q", "-o", str(out)]
        return run([_onnxpress(), "run", str(_recipe(task)), str(task.model), *flags])

    return _made(task, PORTABLE, make)


def recipe(task: Task, name: str, passes: str) -> Made:
    """Passes written as YAML, on the task's data."""
    text = f"version: 1\ndata: {{calibration: {task.data}, batch_size: {task.batch}}}\npasses: {passes}\n"
    file = task.folder / "recipe.yaml"
    file.write_text(text)
    command = [_onnxpress(), "run", str(file), str(task.model), "--force", "--no-measure", "-q"]
    return _made(task, name, lambda out: run([*command, "-o", str(out)]))


def peer(task: Task, name: str, environment: str) -> Made:
    """One program of peers.py, by the Python of its environment."""

    def make(out: Path) -> Ran:
        python = python_of(environment, task.homes) if environment else sys.executable
        arguments = [name, str(task.model), str(task.data), str(task.batch), str(out)]
        return run([str(python), str(Path(peers.__file__)), *arguments])

    return _made(task, name, make)


def _made(task: Task, name: str, make: Callable[[Path], Ran]) -> Made:
    out = task.folder / f"{task.model.stem}-{''.join(c if c.isalnum() else '-' for c in name)}.onnx"
    print(f"{task.model.stem}: {name}", file=sys.stderr, flush=True)
    fault, ran = "", Ran(0, 0, 0)
    try:
        ran = make(out)
        fault = ran.fault or _load_fault(out)
    except Exception as error:  # whatever goes wrong is the tool's result
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return Made(name, out, ran, fault)


def _load_fault(path: Path) -> str:
    if not path.exists():
        return "exit status 0, and no file"
    try:
        open_session(path)
    except Exception as error:  # so does what onnxruntime says
        return f"does not load: {' '.join(str(error).split())[-160:]}"
    return ""


def _recipe(task: Task) -> Path:
    return task.folder / f"{task.model.stem}.yaml"


def _onnxpress() -> str:
    return str(Path(sys.executable).with_name("onnxpress"))


def _portable(step: object) -> object:
    name, options = (step, {}) if isinstance(step, str) else next(iter(step.items()))  # type: ignore[attr-defined]
    return {name: {**options, "portable": True}} if name in ("quantize_static", "quantize_dynamic") else step


int8_tools = partial(make_all, names=list(PEERS))
