"""Quantization beside every peer, in one run; see docs/benchmarks.md for what came out.

    python -m benchmarks.quantize FOLDER [--only NAME...] [--peers FOLDER]

FOLDER as made by benchmarks/models.py; run from the root of the repository. NNCF, onnxsim, Quark and Olive run in
environments of their own, which the first run makes with pip (some gigabytes), beside the models or where --peers
says. A tool that fails, does not finish in ten minutes or takes more than 12 GB is a row that says so. Times are ratios
to the float model, one thread, models in turn; below 1 is faster. The last table holds what was asked beside what was
reached.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.tables import Goal, put_goals

from .calibration import costs
from .cases import CASES, judge
from .few_bits import encoder_int4, samples

Part = Callable[[Path, Path, Path], list[Goal]]


def _judge_all(name: str, models: Path, folder: Path, homes: Path) -> list[Goal]:
    return [goal for case in CASES[name](models) for goal in judge(case, folder, homes)]


PARTS: dict[str, Part] = {
    **{name: partial(_judge_all, name) for name in CASES},
    "int4": encoder_int4,
    "samples": lambda models, folder, homes: samples(folder, homes),
    "calibration": costs,
}


def main() -> None:
    """Print all tables as Markdown."""
    parser = argparse.ArgumentParser(description="Quantization beside every peer.")
    parser.add_argument("models", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--peers", type=Path, help="where the peers' environments are; default: beside the models")
    arguments = parser.parse_args()
    homes, models = (arguments.peers or arguments.models).resolve(), arguments.models.resolve()
    start, goals = time.perf_counter(), []
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            goals += PARTS[name](models, Path(folder), homes)
    put_goals(goals)
    print(f"\nThe whole run took {(time.perf_counter() - start) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
