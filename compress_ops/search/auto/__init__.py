"""Say what is needed, and get the smallest and fastest model that provably keeps it: see docs/how-auto-works.md."""

from __future__ import annotations

from .run import run_auto
from .storage import told_where

__all__ = ["run_auto", "told_where"]
