"""Speed-ups told while the second core is busy, against processor time on a quiet machine.

    python -m benchmarks.public.loaded KEPT [KEPT...]

KEPT are folders that ``python -m benchmarks.public --keep`` left. Each of their models is compared with the float one
by ``onnxpress compare`` beside a process that multiplies matrices without a pause; what is told should hold what the
processor times on the quiet machine are, of three openings of both files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.tables import put

from .__main__ import _ratio, _session, store
from .cases import CASES

LOAD = "import numpy as np\na = np.ones((900, 900), np.float32)\nwhile True: a @ a"


def main() -> None:
    """Print the table as Markdown, and how many intervals hold the truth."""
    rows = []
    for folder in (Path(kept) / name for kept in sys.argv[1:] for name in CASES):
        if (folder / "made.onnx").exists():
            rows.append(row(folder.name, folder))
            print(rows[-1], file=sys.stderr, flush=True)
    put(["model", "told", "truth", "within", "verdict"], rows)
    print(f"\n{sum(row[3] == 'yes' for row in rows)} of {len(rows)} within their interval.")


def row(name: str, folder: Path) -> list[str]:
    """What is told of one pair, and what is true."""
    before, after, feeds = CASES[name].model, folder / "made.onnx", CASES[name].feeds()
    data, feed = store(feeds[:4], folder), feeds[0]
    truth = 1 / median(_ratio([_session(before), _session(after)], [feed]) for _ in range(3))
    with busy():
        told = told_of(before, after, data)
    low, high = told["speedup_interval"]["low"], told["speedup_interval"]["high"]
    within = "yes" if low <= truth <= high else "no"
    return [name, f"{told['speedup']:.3f} [{low:.3f}, {high:.3f}]", f"{truth:.3f}", within, told["verdict"]]


def told_of(before: Path, after: Path, data: Path) -> dict:  # type: ignore[type-arg]
    command = ["onnxpress", "compare", str(before), str(after), "--data", str(data), "--threads", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return found["latency"]["models"][after.name]  # type: ignore[no-any-return]


@contextmanager
def busy() -> Iterator[None]:
    """A process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", LOAD], env={"OPENBLAS_NUM_THREADS": "1"})
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
