"""What finding groups and refitting cost: seconds by the size of a graph, and memory by the number of samples."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.tables import Goal, put
from compress_ops.model import load
from compress_ops.prune.channels import find_groups, prepare
from tests.helpers import model_of, noise

from .architectures import LIGHT

SAMPLES = Path("sample_models")
LAYERS = (250, 500, 1000)
TIMES = 3
FEW = 128  # samples of the small run; the large one has four times as many


def grouping(models: Path) -> list[Goal]:
    """Seconds of find_groups, on real graphs and on chains of layers."""
    largest = max(models.glob("*.onnx"), key=lambda path: sum(1 for _ in load(path).nodes()))
    rows = [_timed(LIGHT / "light_densenet121.onnx"), _timed(largest)]
    chains = [_chain(layers) for layers in LAYERS]
    table = [[name, str(nodes), f"{seconds:.2f} s"] for name, nodes, seconds in (*rows, *chains)]
    put(["graph", "nodes", "grouping"], table, "Finding groups")
    growth = (chains[-1][2] / chains[0][2]) / (LAYERS[-1] / LAYERS[0])
    return [
        Goal("grouping: densenet121, seconds", rows[0][2], 2, at_most=True),
        Goal(f"grouping: {rows[1][0]} (most nodes), seconds", rows[1][2], 5, at_most=True),
        Goal("grouping: growth of time by growth of nodes", growth, 1.5, at_most=True),
    ]


def _timed(path: Path) -> tuple[str, int, float]:
    model = load(path)
    prepare(model)
    times = []
    for _ in range(TIMES):
        start = time.process_time()
        find_groups(model)
        times.append(time.process_time() - start)
    return path.stem, sum(1 for _ in model.nodes()), min(times)


def _chain(layers: int) -> tuple[str, int, float]:
    lines = [f"h{i + 1} = Gemm(h{i}, w{i}, b{i})" for i in range(layers)]
    text = "agraph (float[N,16] h0) => (float[N,16] y) {\n" + "\n".join(lines) + f"\n y = Identity(h{layers})\n}}"
    weights = {f"w{i}": noise(16, 16) for i in range(layers)} | {f"b{i}": noise(16) for i in range(layers)}
    with tempfile.TemporaryDirectory() as folder:
        model_of(text, **weights).save(Path(folder) / "chain.onnx")
        return f"{layers} layers in a row", *_timed(Path(folder) / "chain.onnx")[1:]


_REFIT = """
import re, sys
from pathlib import Path
from benchmarks.prune.tools import context
from compress_ops.model import load
from compress_ops.prune import prune_channels, refit
path = Path(sys.argv[1])
model, ctx = load(path), context(path, Path(sys.argv[2]))
prune_channels(model, ctx, ratio=0.5)
refit(model, ctx)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1000)
"""


def memory() -> list[Goal]:
    """Peak memory of a process that refits the digits CNN, on few samples and on four times as many.

    Not by getrusage: there a process begins with the peak of the one that started it.
    """
    images = np.load(SAMPLES / "digits-train.npz")["image"]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in (FEW, 4 * FEW):
            data = Path(folder) / f"{number}.npz"
            np.savez(data, image=images[:number])
            command = [sys.executable, "-c", _REFIT, str(SAMPLES / "digits-cnn.onnx"), str(data)]
            peaks[number] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    put(["samples", "peak memory"], [[str(n), f"{peak:.0f} MB"] for n, peak in peaks.items()], "Memory of refit")
    return [Goal("refit: memory, four times the samples", peaks[4 * FEW] / peaks[FEW], 1.05, at_most=True)]
