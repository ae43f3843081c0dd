"""Learning rates: lr(t) = lr s(t), with t in [0, 1) the share of all steps that are done.

constant:  s = 1        cosine:  s = (1 + cos(pi t)) / 2    (Loshchilov and Hutter, 2017)
step:      s = 1, from t = 1/2 on 1/10, from t = 3/4 on 1/100    (He et al., 2016)

Warm-up over the first share w multiplies by (k + 1) / (w n) in step k of n, while that is below 1 (Goyal et al., 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "step": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
}


def factor(schedule: str, warmup: float, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in a step (from 0) of so many."""
    ramp = (step + 1) / (warmup * steps) if warmup else 1.0
    return SCHEDULES[schedule](min(step / steps, 1.0)) * min(ramp, 1.0)
