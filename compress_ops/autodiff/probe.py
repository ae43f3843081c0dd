"""Random directions at the outputs: what J^T v is the gradient of, for |J e|^2 without J (Hutchinson 1990)."""

from __future__ import annotations

import numpy as np

from ..runtime import Arrays, Feeds
from .sweep import GradientModel


def drawn_signs(values: Feeds, built: GradientModel, rng: np.random.Generator) -> Arrays:
    """For each differentiated output of ``values`` its dL/dy: random signs over its norm, [its shape]."""
    signs = {}
    for name, given in built.upstream.items():
        value = values[name]
        drawn = rng.choice(np.array([-1, 1], np.float32), value.shape)
        signs[given] = (drawn / (np.linalg.norm(value.astype(np.float64)) or 1)).astype(value.dtype)
    return signs
