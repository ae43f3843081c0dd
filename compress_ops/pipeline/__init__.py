"""recipe + model -> passes -> a proven result: nothing is written unless everything held."""

from __future__ import annotations

from .choose import CLOSE_ENOUGH, choose_int8, run_chosen
from .execute import plan, run
from .job import Job, with_passes
from .preparing import raised_first, raising
from .providers import reason_of
from .suggestion import suggestion

__all__ = [
    "CLOSE_ENOUGH",
    "Job",
    "choose_int8",
    "plan",
    "raised_first",
    "raising",
    "reason_of",
    "run",
    "run_chosen",
    "suggestion",
    "with_passes",
]
