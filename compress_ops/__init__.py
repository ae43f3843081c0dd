"""Compress ONNX models by recipe, and prove the result.

    from compress_ops import Job, load_recipe, run
    report = run(Job(load_recipe(Path("recipe.yaml")), model=Path("model.onnx"), out=Path("small.onnx")))

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import OnnxpressError
    from .model import Model, load
    from .passes import Change, Context, Need, Promise, register
    from .pipeline import Job, plan, run
    from .recipe import load_recipe, parse_recipe

_HOMES = {
    "errors": ("OnnxpressError",),
    "model": ("Model", "load"),
    "passes": ("Change", "Context", "Need", "Promise", "register"),
    "pipeline": ("Job", "plan", "run"),
    "recipe": ("load_recipe", "parse_recipe"),
}
__all__ = [
    "Change",
    "Context",
    "Job",
    "Model",
    "Need",
    "OnnxpressError",
    "Promise",
    "load",
    "load_recipe",
    "parse_recipe",
    "plan",
    "register",
    "run",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module 'compress_ops' has no attribute '{name}'")
