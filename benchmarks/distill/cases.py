"""The cases by name: each gets the models and a folder of its own, prints its table and says what was asked of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import Goal

from .believing import believing
from .few_bits import int4
from .recovery import digits, encoder, recogniser
from .seeds import scratch, seeds

CASES: dict[str, Callable[[Path, Path], list[Goal]]] = {
    "digits": digits,
    "seeds": seeds,
    "scratch": scratch,
    "recogniser": recogniser,
    "encoder": encoder,
    "int4": int4,
    "adaptive": believing,
}


def recover(name: str, models: Path) -> list[Goal]:
    """Run one case; print its table, and give what it was asked to reach."""
    with tempfile.TemporaryDirectory() as folder:
        return CASES[name](models, Path(folder))
