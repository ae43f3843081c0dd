"""What the choice of `onnxpress quantize --data` costs, beside one quantize_static of onnxruntime on the same data.

Both run in processes of their own, in turn; processor seconds are those of the whole process. onnxruntime's is what its
guide tells: quant_pre_process, then QDQ, one scale a channel, minimum and maximum; its seconds are told with the
preparation and without. Closeness is that of `measure/closeness/` on data that neither saw, the speed-up is measured
side by side, both by one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.tables import Goal, put
from compress_ops.data import Batch
from compress_ops.measure.closeness.fidelity import compare_fidelity
from compress_ops.measure.latency import compare_latency
from compress_ops.runtime import open_session

from .cases import TIMING_SECONDS, split
from .scores import Feeds
from .tools import Made, Task, ours, peer, task_of

PREPARED, BARE = "onnxruntime static, prepared", "onnxruntime static, QDQ"
ROUNDS = 2


def choosing(model: Path, feeds: Feeds, number: int, batch: int, most: float, folder: Path, homes: Path) -> list[Goal]:
    """``number`` samples calibrate, the others judge; ``most`` is how often onnxruntime's seconds may be taken."""
    calibration, test = split(feeds, number)
    task = task_of(model, calibration, batch, folder, homes)
    rounds = [_made(task) for _ in range(ROUNDS)]
    cpu = {name: min(made[name].ran.cpu for made in rounds) for name in rounds[0]}
    shown = {name: made for name, made in rounds[-1].items() if name != BARE}
    judged = {name: ["", ""] if made.fault else _judged(model, made.path, test, batch) for name, made in shown.items()}
    rows = [_row(name, made, cpu, judged[name]) for name, made in shown.items()]
    heads = ["tool", "CPU s", "over onnxruntime", "over it without preparation", "MB", "closeness", "speed-up"]
    put(heads, rows, f"{model.stem}: what choosing costs")
    first, *_ = shown
    return [Goal(f"{model.stem}: CPU seconds over {PREPARED}", cpu[first] / cpu[PREPARED], most, at_most=True)]


def _made(task: Task) -> dict[str, Made]:
    found = [ours(task), *(peer(task, name, "") for name in (PREPARED, BARE))]
    return {made.name: made for made in found}


def _row(name: str, made: Made, cpu: dict[str, float], judged: Sequence[str]) -> list[str]:
    ratios = [f"{cpu[name] / cpu[other]:.1f}" for other in (PREPARED, BARE)]
    size = f"{made.megabytes:.2f}" if not made.fault else made.fault
    return [name, f"{cpu[name]:.1f}", *ratios, size, *judged]


def _judged(model: Path, result: Path, test: Feeds, batch: int) -> list[str]:
    """Closeness on unseen samples, and the speed-up on the first of them."""
    sessions = {"float": open_session(model), "result": open_session(result)}
    count = len(next(iter(test.values())))
    cuts = [slice(start, min(start + batch, count)) for start in range(0, count, batch)]
    batches = [Batch({name: array[cut] for name, array in test.items()}, None, cut.stop - cut.start) for cut in cuts]
    closeness, _ = compare_fidelity(sessions, batches, figures=False).closeness("result")
    one = {name: np.ascontiguousarray(array[:1]) for name, array in test.items()}
    speed = compare_latency(sessions, one, seconds=TIMING_SECONDS).models["result"].speedup
    return ["" if closeness is None else f"{closeness:.5f}", f"{speed:.2f}x"]
