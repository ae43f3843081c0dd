"""Choices that are made by trial: what `quantize` chooses, and what a first recipe proposes."""

from __future__ import annotations

from .auto import run_auto, told_where
from .choose import CLOSE_ENOUGH, choose_int8, run_chosen
from .precisions import reason_of
from .preparing import raised_first, raising
from .suggestion import suggestion

__all__ = [
    "CLOSE_ENOUGH",
    "choose_int8",
    "raised_first",
    "raising",
    "reason_of",
    "run_auto",
    "run_chosen",
    "suggestion",
    "told_where",
]
