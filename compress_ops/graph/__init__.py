"""Clean-ups that every family stands on."""

from __future__ import annotations

from .norms import unfuse_norms
from .opset import upgrade_opset
from .simplify import simplify

PASSES = (upgrade_opset, simplify, unfuse_norms)
