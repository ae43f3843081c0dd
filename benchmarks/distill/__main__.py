"""Training steps beside PyTorch's: time, memory and the error of gradients; and what training brings back.

    python -m benchmarks.distill FOLDER [--only NAME...]

FOLDER as made by benchmarks/models.py; names are those of nets (steps.py) and of cases (cases.py).

Both sides run with one thread, in turn and in both orders; a ratio is the median over rounds of processor times.
PyTorch runs with its fused Adam, its fastest, and, for comparison, with the Adam that one gets without asking. Errors
are the norm of the difference to gradients in float64 over their norm.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tables import put_goals

from .cases import CASES, recover
from .nets import NETS, Net
from .steps import our_session, our_step, torch_step

ROUNDS, SECONDS = 15, 0.3  # of each side in each round, about

Step = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Processor seconds of a step, by round."""

    ours: list[float]
    plain: list[float]
    fused: list[float]

    def ratio(self, peer: Sequence[float]) -> float:
        return statistics.median(a / b for a, b in zip(self.ours, peer, strict=True))


def seconds(step: Step, count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count


def measure_times(key: str, net: Net) -> Times:
    sides = [our_step(net), torch_step(key, net, fused=False), torch_step(key, net, fused=True)]
    first = [[seconds(side, 1) for _ in range(3)][-1] for side in sides]
    counts = [max(1, round(SECONDS / each)) for each in first]
    rounds = []
    for number in range(ROUNDS):
        order = [0, 1, 2] if number % 2 else [2, 1, 0]
        told = {side: seconds(sides[side], counts[side]) for side in order}
        rounds.append([told[side] for side in range(3)])
    return Times(*map(list, zip(*rounds, strict=True)))


def measure_errors(key: str, net: Net) -> tuple[float, float]:
    """Ours and PyTorch's own in float32."""
    import torch

    from . import peers

    session = our_session(net)
    session.run(net.feeds, {})
    exact = peers.gradients(key, net, torch.float64)
    return (
        distance(session.buffers.views(session.buffers.gradients), exact),
        distance(peers.gradients(key, net, torch.float32), exact),
    )


def distance(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    missed = sum(float(((found[name] - array) ** 2).sum()) for name, array in exact.items())
    return float(np.sqrt(missed / sum(float((array**2).sum()) for array in exact.values())))


def measure_memory(key: str, side: str) -> float:
    command = [sys.executable, "-m", "benchmarks.distill.memory", key, side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def row(key: str) -> str:
    net = NETS[key]()
    error, own_error = measure_errors(key, net)
    times = measure_times(key, net)
    ours, theirs = measure_memory(key, "ours"), measure_memory(key, "torch")
    milliseconds = " / ".join(f"{statistics.median(side) * 1e3:.3g}" for side in (times.ours, times.plain, times.fused))
    cells = [
        net.name,
        milliseconds,
        f"{times.ratio(times.plain):.2f}x",
        f"{times.ratio(times.fused):.2f}x",
        f"<= {net.asked}x",
        f"{ours:.3g} / {theirs:.3g} MB, {ours / theirs:.2f}x",
        f"{error:.1e} / {own_error:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def steps(keys: Sequence[str]) -> None:
    """The table of nets."""
    heads = ["net", "ms a step: ours / torch / torch, fused Adam", "of torch", "of torch, fused Adam", "asked"]
    heads += ["memory: ours / torch", "error of gradients: ours / torch"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for key in keys:
        print(row(key), flush=True)


def main() -> None:
    """Print all tables as Markdown."""
    parser = argparse.ArgumentParser(description="Training beside PyTorch, and what it brings back.")
    parser.add_argument("models", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*NETS, *CASES], default=[*NETS, *CASES], metavar="NAME")
    arguments = parser.parse_args()
    if nets := [name for name in arguments.only if name in NETS]:
        steps(nets)
    cases = [name for name in arguments.only if name in CASES]
    put_goals([goal for name in cases for goal in recover(name, arguments.models)])


if __name__ == "__main__":
    main()
