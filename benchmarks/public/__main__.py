"""One command, no other flag, on models that nothing here was tuned on; see docs/benchmarks.md for what came out.

    python -m benchmarks.public [--without-data] [--only NAME...] [--keep FOLDER]

Run from the root of the repository. ``kept`` is the task's own figure against the float model's answers on samples
that the command did not see (1 is all of them); time is processor time over the float model's, calls in turn, medians,
one thread; the last two columns are what the command cost. ``make bench-public`` installs the packages that bring the
models, in a folder of their own; espeak-ng is from the system's packages.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

from benchmarks.quantize.processes import run
from benchmarks.tables import put

from .cases import CASES, Case, Feeds

COLUMNS = ["model", "MB", "exit", "size", "time", "kept", "how", "seconds", "peak GB"]
ROUNDS = 9


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="onnxpress quantize on models of public packages.")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--without-data", action="store_true")
    parser.add_argument("--keep", type=Path, help="where data, results and reports stay")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as passing:
        for name in arguments.only:
            folder = (arguments.keep or Path(passing)) / name
            folder.mkdir(parents=True, exist_ok=True)
            rows.append([name, *row(CASES[name], folder, not arguments.without_data)])
            print(rows[-1], file=sys.stderr, flush=True)
    put(COLUMNS, rows)


def row(case: Case, folder: Path, with_data: bool) -> list[str]:
    """The command on one model, and what it made."""
    feeds, made, told = case.feeds(), folder / "made.onnx", folder / "told.json"
    command = ["onnxpress", "quantize", str(case.model), "-o", str(made), "--threads", "1", "--force"]
    if with_data:
        command += ["--data", str(store(feeds[: case.calibrate], folder))]
    ran = run([*command, "--report", str(told)], (0, 1), 1200)
    cost = [f"{ran.cpu:.0f}", f"{ran.gigabytes:.2f}"]
    size = case.model.stat().st_size + sum(f.stat().st_size for f in case.model.parent.glob(case.model.name + ".data"))
    if not made.exists():
        return [f"{size / 1e6:.2f}", str(ran.status), "", "", "", ran.fault, *cost]
    figures = judged(case, made, feeds[case.calibrate :])
    report = json.loads(told.read_text())
    share = f"{report['bytes_after'] / size:.3f}"
    return [f"{size / 1e6:.2f}", str(ran.status), share, *figures, _how(report), *cost]


def _how(report: dict) -> str:  # type: ignore[type-arg]
    """The candidate taken, and what was missed."""
    taken = [trial["name"] for trial in report["trials"] if trial["chosen"]]
    missed = [f"{v['limit']}: {v['measured']}" for v in report["verdicts"] if v["verdict"] != "met"]
    return "; ".join(taken + missed)


def store(feeds: Feeds, folder: Path) -> Path:
    """A folder of one file a feed."""
    place = folder / "data"
    place.mkdir(exist_ok=True)
    for number, feed in enumerate(feeds):
        np.savez(place / f"{number:04}.npz", **feed)  # type: ignore[arg-type]
    return place


def judged(case: Case, made: Path, feeds: Feeds) -> list[str]:
    """Time over the float model's, and what is kept of its answers."""
    sessions = [_session(path) for path in (case.model, made)]
    expected, found = ([session.run(None, feed) for feed in feeds] for session in sessions)
    return [f"{_ratio(sessions, feeds):.2f}", f"{case.judge(expected, found):.3f}"]


def _session(path: Path) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _ratio(sessions: Sequence[InferenceSession], feeds: Feeds) -> float:
    """Median of the ratios of processor time, feed by feed, each called enough times for 20 ms."""
    ratios = []
    for feed in (feeds * ROUNDS)[:: max(1, len(feeds) * ROUNDS // 60)]:
        first = _seconds(sessions[0], feed, 1)
        calls = max(1, min(100, round(0.02 / max(first, 1e-6))))
        times = [_seconds(session, feed, calls) for session in sessions]
        ratios.append(times[1] / times[0])
    return float(np.median(ratios))


def _seconds(session: InferenceSession, feed: dict[str, np.ndarray], calls: int) -> float:
    session.run(None, feed)  # what ran before has the caches
    start = time.process_time()
    for _ in range(calls):
        session.run(None, feed)
    return time.process_time() - start


if __name__ == "__main__":
    main()
