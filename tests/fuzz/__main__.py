"""python -m tests.fuzz: mutants without end, or one case again.

python -m tests.fuzz --seconds 600 --seed 0 --jobs 2 --keep folder
python -m tests.fuzz --seed 0 --case 4711 --keep folder
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .cases import Outcome, preload, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--cases", type=int, help="end after so many cases, however long they take")
    parser.add_argument("--case", type=int, help="run this case alone, and show what it tells")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="where the files of faults go")
    parser.add_argument("--all", action="store_true", help="show how every case ended, and what it told")
    given = parser.parse_args()
    if given.case is not None:
        outcome = run(given.seed, given.case, given.keep)
        print(outcome)
        return int(outcome.fault)
    outcomes = list(_until(given))
    _tell(outcomes, given.seed)
    return int(any(outcome.fault for outcome in outcomes))


def _until(given: argparse.Namespace) -> Iterator[Outcome]:
    """Outcomes of the cases from the first on, in no order, until the time is up."""
    preload()
    fork, end = get_context("fork"), time.monotonic() + (math.inf if given.cases else given.seconds)
    outcomes = fork.SimpleQueue()
    workers = [fork.Process(target=_work, args=(given, index, end, outcomes)) for index in range(given.jobs)]
    for worker in workers:
        worker.start()
    for _ in workers:
        while (outcome := outcomes.get()) is not None:
            if outcome.fault or given.all:
                print(f"case {outcome.number} ({outcome.base}): {outcome.kind}", flush=True)
            if given.all:
                print(f"  {' '.join(outcome.words)}\n  {' '.join(outcome.told.split())}", flush=True)
            yield outcome


def _work(given: argparse.Namespace, index: int, end: float, outcomes: Any) -> None:
    last = given.first + (given.cases or sys.maxsize)
    for number in range(given.first + index, last, given.jobs):
        if time.monotonic() > end:
            break
        outcomes.put(run(given.seed, number, given.keep))
    outcomes.put(None)


def _tell(outcomes: list[Outcome], seed: int) -> None:
    commands = ("inspect", "quantize", "run")
    counts = {kind: Counter(o.number % 3 for o in outcomes if o.kind == kind) for kind in {o.kind for o in outcomes}}
    faults = [outcome for outcome in outcomes if outcome.fault]
    print(f"\n{'ending':60}" + "".join(f"{command:>10}" for command in commands))
    for kind in sorted(counts):
        print(f"{kind[:60]:60}" + "".join(f"{counts[kind][index]:10}" for index in range(3)))
    print(f"\n{len(outcomes)} cases of seed {seed}, {len(faults)} of them faults; {_most(outcomes)}")
    print(f"{sum(outcome.noisy for outcome in outcomes)} told a warning of NumPy or onnxruntime")


def _most(outcomes: list[Outcome]) -> str:
    memory, seconds = max(outcomes, key=lambda o: o.memory), max(outcomes, key=lambda o: o.seconds)
    megabytes = memory.memory / 1e6
    return f"at most {megabytes:.0f} MB (case {memory.number}) and {seconds.seconds:.1f} s (case {seconds.number})"


if __name__ == "__main__":
    sys.exit(main())
