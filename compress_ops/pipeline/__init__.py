"""recipe + model -> passes -> a proven result: nothing is written unless everything held."""

from __future__ import annotations

from .execute import plan, run
from .job import Job

__all__ = ["Job", "plan", "run"]
