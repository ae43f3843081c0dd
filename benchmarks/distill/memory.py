"""The most memory that a process holds in training steps, beyond what it held before the net was built.

python -m benchmarks.distill.memory NET ours|torch        prints MB
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from .nets import NETS, tiny
from .steps import our_step, torch_step

STEPS = 4


def held(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def main(key: str, side: str) -> None:
    small = tiny()
    step = our_step(small) if side == "ours" else torch_step("tiny", small, fused=True)
    step()  # what the libraries themselves take
    net = NETS[key]()
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free must not hide what is taken
    before = held("VmRSS")
    step = our_step(net) if side == "ours" else torch_step(key, net, fused=True)
    step()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here: a step, not the building of it
    for _ in range(STEPS):
        step()
    print(held("VmHWM") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
