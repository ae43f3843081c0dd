"""Checkpoints: the whole state of a training in one .npz, written beside the old one and put in its place by a rename.

Arrays are stored as they are and everything else as JSON text, so that nothing is unpickled and a training that is
taken up again goes on bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import DataError
from ...files.reading import unreadable
from ...files.writing import write

_STATE = "state"


def write_checkpoint(path: Path, arrays: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """The old checkpoint stays whole until the new one is complete."""
    everything: dict[str, Any] = {**arrays, _STATE: np.array(json.dumps(state))}

    def save(file: Path) -> None:
        with file.open("wb") as stream:  # a path would get another ending
            np.savez(stream, **everything)

    write(path, save, force=True, what="the checkpoint ")


def read_checkpoint(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and state."""
    with _opened(path) as file:
        return {name: file[name] for name in file.files if name != _STATE}, json.loads(str(file[_STATE]))


def read_state(path: Path) -> dict[str, Any]:
    """The state alone."""
    with _opened(path) as file:
        return dict(json.loads(str(file[_STATE])))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if why := unreadable(path):
        raise DataError(f"there is no checkpoint to go on from: {path} {why}", hint="train without resume first")
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except Exception as error:  # zipfile, numpy and json raise a dozen unrelated classes on damage
        raise DataError(f"{path} is not a whole checkpoint: {error}", hint="train without resume") from error


def refuse_other_training(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """A checkpoint continues the training that wrote it, and no other."""
    different = [name for name in current if saved.get(name) != current[name]]
    if different:
        shown = "; ".join(f"{name} was {_short(saved.get(name))}, is {_short(current[name])}" for name in different)
        raise DataError(f"{path} belongs to another training: {shown}", hint="train without resume")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
