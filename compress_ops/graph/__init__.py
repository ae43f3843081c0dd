"""Clean-ups that every family stands on."""

from __future__ import annotations

from .clean.norms import unfuse_norms
from .clean.simplify import simplify
from .opset import upgrade_opset

PASSES = (upgrade_opset, simplify, unfuse_norms)
