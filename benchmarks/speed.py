"""What onnxpress itself costs: start-up, memory and processor time against onnxruntime's own quantizer.

    python benchmarks/speed.py FOLDER        FOLDER as made by benchmarks/models.py

Commands run in turn (A B A B ...), each as a process of its own; figures are medians of the operating system's account.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROUNDS = 7
RECIPE = "version: 1\npasses: [{quantize_dynamic: {per_channel: %s}}]\n"
STATIC = """version: 1
data: {calibration: %s, batch_size: 8}
passes: [simplify, {quantize_static: {calibrator: %s}}]
"""
ORT_DYNAMIC = "from onnxruntime.quantization import quantize_dynamic as q; q({!r}, {!r}, per_channel={})"


@dataclass(frozen=True)
class Cost:
    """One process: wall and processor seconds, and the most memory it held, in MB."""

    wall: float
    cpu: float
    memory: float


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command to its end; it must succeed."""
    import time

    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"status {process.returncode}: {' '.join(command)}")
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def in_turn(*commands: Sequence[str], rounds: int = ROUNDS) -> list[list[Cost]]:
    """Costs of each command over the rounds, after one that does not count."""
    runs = [[cost_of(command) for command in commands] for _ in range(rounds + 1)][1:]
    return [list(column) for column in zip(*runs, strict=True)]


def median(costs: Sequence[Cost], figure: str) -> float:
    return statistics.median(getattr(cost, figure) for cost in costs)


def start_up() -> None:
    ours, typer = in_turn(["onnxpress", "--help"], [sys.executable, "-c", "import typer"], rounds=21)
    ratio = statistics.median(a.wall / b.wall for a, b in zip(ours, typer, strict=True))
    row("`--help` against `import typer`, wall time", f"{ratio:.2f}x", "<= 2x", f"{median(ours, 'wall') * 1e3:.0f} ms")


def dynamic(model: Path, folder: Path) -> None:
    for per_channel in ("true", "false"):
        recipe, ours, theirs = folder / f"{per_channel}.yaml", folder / "ours.onnx", folder / "theirs.onnx"
        recipe.write_text(RECIPE % per_channel)
        run = ["onnxpress", "run", str(recipe), str(model), "-o", str(ours), "--force", "--no-measure"]
        ort = [sys.executable, "-c", ORT_DYNAMIC.format(str(model), str(theirs), per_channel.title())]
        mine, peer = in_turn(run, ort)
        ratio = statistics.median(a.cpu / b.cpu for a, b in zip(mine, peer, strict=True))
        name = f"quantize_dynamic, {model.stem}, per_channel {per_channel}"
        row(f"{name}: CPU time", f"{ratio:.2f}x", "<= 1.3x", f"{median(mine, 'cpu'):.2f} s")
        memory = median(mine, "memory") / median(peer, "memory")
        row(f"{name}: peak memory", f"{memory:.2f}x", "<= 1x", f"{median(mine, 'memory'):.0f} MB")
        size = ours.stat().st_size / theirs.stat().st_size
        row(f"{name}: output", f"{size:.4f}x", "<= 1x", f"{ours.stat().st_size:,} bytes")


def calibration(model: Path, feeds: dict[str, np.ndarray], folder: Path) -> None:
    data = folder / f"{model.stem}.npz"
    np.savez(data, **feeds)
    commands = []
    for calibrator in ("minmax", "percentile"):
        recipe = folder / f"{model.stem}-{calibrator}.yaml"
        recipe.write_text(STATIC % (data, calibrator))
        out = str(folder / "static.onnx")
        commands.append(["onnxpress", "run", str(recipe), str(model), "-o", out, "--force", "--no-measure"])
    minmax, percentile = in_turn(*commands, rounds=3)
    ratio = median(percentile, "memory") / median(minmax, "memory")
    figure = f"{median(percentile, 'memory'):.0f} MB"
    row(f"quantize_static, {model.stem}: peak memory, percentile against min-max", f"{ratio:.2f}x", "<= 1.5x", figure)


def row(what: str, reached: str, asked: str, absolute: str) -> None:
    print(f"| {what} | {reached} | {asked} | {absolute} |", flush=True)


def main() -> None:
    """Print the table as Markdown."""
    models = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    tokens = {"input_ids": rng.integers(0, 30000, (64, 64)), "attention_mask": np.ones((64, 64), np.int64)}
    tokens["token_type_ids"] = np.zeros((64, 64), np.int64)
    print("| what | reached | asked | ours |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        start_up()
        dynamic(models / "minilm-classic.onnx", Path(folder))
        calibration(models / "minilm-classic.onnx", tokens, Path(folder))
        pages = {"x": rng.standard_normal((8, 3, 640, 640), dtype=np.float32)}
        lines = {"x": rng.standard_normal((48, 3, 48, 320), dtype=np.float32)}
        calibration(models / "ppocr-det.onnx", pages, Path(folder))
        calibration(models / "ppocr-rec.onnx", lines, Path(folder))


if __name__ == "__main__":
    main()
