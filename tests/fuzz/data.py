"""Data files for a model: mostly right, now and then of wrong types, shapes, names or bytes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx

from .bases import feeds


def write_data(rng: random.Random, proto: onnx.ModelProto, folder: Path) -> str:
    """The name of a folder of complete feeds, or of a file that stacks samples."""
    arrays = feeds(proto)
    if rng.random() < 0.15:
        arrays = _wrong(rng, arrays)
    if rng.random() < 0.5:
        name = "data.npz"
        np.savez(folder / name, **arrays)
    else:
        name = "data"
        (folder / name).mkdir()
        for sample in range(3):
            np.savez(folder / name / f"{sample}.npz", **_complete(proto, arrays, sample))
    if rng.random() < 0.05:
        _damage(rng, folder / name)
    return name


def _complete(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], sample: int) -> dict[str, np.ndarray]:
    ranks = {port.name: len(port.type.tensor_type.shape.dim) for port in proto.graph.input}
    return {
        n: a[sample : sample + 1] if ranks.get(n) else a[sample].reshape(-1)[0] for n, a in arrays.items() if a.ndim
    }


def _wrong(rng: random.Random, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = rng.choice(list(arrays)) if arrays else "x"
    array = arrays.pop(name, np.zeros(1))
    odd = [
        *(array.astype(kind) for kind in ("float64", "int8", "complex64", "U4", "bool")),
        *(array * np.nan, array[:0], array[..., None], np.zeros(0), np.array(3), array.reshape(-1)),
    ]
    return {**arrays, rng.choice([name, name, "other"]): rng.choice(odd)}


def _damage(rng: random.Random, path: Path) -> None:
    file = rng.choice(sorted(path.iterdir())) if path.is_dir() else path
    raw = bytearray(file.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 + rng.randrange(255)
    file.write_bytes(raw)
