"""recipe + model -> passes -> a proven result: nothing is written unless everything held."""

from __future__ import annotations

from .execute import plan, run
from .job import Job, with_passes

__all__ = ["Job", "plan", "run", "with_passes"]
