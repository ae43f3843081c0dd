"""The bootstrap: a statistic's spread over samples drawn again, n out of n with replacement (Efron 1979).

All statistics see the same draws, so that the difference of two of them is a paired one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from ...arrays import Array

Statistic = Callable[[Array], Array]

Key = TypeVar("Key")

RESAMPLES = 1000
_WEIGHTS_AT_ONCE = 2**22  # numbers held in memory, 32 MiB


def replicates(statistics: Mapping[Key, Statistic], samples: int, seed: int) -> dict[Key, Array]:
    """Each statistic's values over 1000 seeded resamples; a statistic maps weights [r, samples] to values [r]."""
    parts: dict[Key, list[Array]] = {key: [] for key in statistics}
    for weights in _draws(samples, seed) if statistics else ():
        for key, statistic in statistics.items():
            parts[key].append(statistic(weights))
    return {key: np.concatenate(values) for key, values in parts.items()}


def _draws(samples: int, seed: int) -> Iterator[Array]:
    """Blocks of rows that say how often each sample was drawn."""
    rng = np.random.default_rng(seed)
    block = max(1, _WEIGHTS_AT_ONCE // samples)
    for start in range(0, RESAMPLES, block):
        rows = range(min(block, RESAMPLES - start))
        drawn = [np.bincount(rng.integers(0, samples, samples), minlength=samples) for _ in rows]
        yield np.stack(drawn).astype(np.float64)
