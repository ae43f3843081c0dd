"""``onnxpress quantize`` without data on the architectures of the onnx wheel, their weights drawn at random.

    python -m benchmarks.public.architectures [NAME...]

Size and processor time over the float model's; nothing can be said of accuracy.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.prune.architectures import LIGHT
from benchmarks.quantize.processes import run
from benchmarks.tables import put
from compress_ops.model import load
from tests.prune.channels.channel_proof import with_random_weights

from .__main__ import _how, _ratio, _session


def main() -> None:
    """Print the table as Markdown."""
    rows = []
    for path in sorted(LIGHT.glob("light_*.onnx")):
        name = path.stem.removeprefix("light_")
        if name in sys.argv[1:] or not sys.argv[1:]:
            with tempfile.TemporaryDirectory() as folder:
                rows.append([name, *row(path, Path(folder))])
            print(rows[-1], file=sys.stderr, flush=True)
    put(["architecture", "MB", "exit", "size", "time", "how", "seconds", "peak GB"], rows)


def row(light: Path, folder: Path) -> list[str]:
    """The command on one architecture, and what it made."""
    float_, made, told = folder / "float.onnx", folder / "made.onnx", folder / "told.json"
    with_random_weights(load(light)).save(float_)
    ran = run(["onnxpress", "quantize", str(float_), "-o", str(made), "--report", str(told)], (0, 1), 1200)
    size = float_.stat().st_size
    if not made.exists():
        return [f"{size / 1e6:.1f}", str(ran.status), "", "", ran.fault, f"{ran.cpu:.0f}", f"{ran.gigabytes:.2f}"]
    sessions = [_session(path) for path in (float_, made)]
    given = sessions[0].get_inputs()[0]
    feed = {given.name: np.random.default_rng(0).normal(size=given.shape).astype(np.float32)}
    report = json.loads(told.read_text())
    share, ratio = report["bytes_after"] / size, _ratio(sessions, [feed])
    return [
        f"{size / 1e6:.1f}", str(ran.status), f"{share:.3f}", f"{ratio:.2f}", _how(report), f"{ran.cpu:.0f}",
        f"{ran.gigabytes:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
