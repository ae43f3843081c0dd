"""Modules that take a second to import (onnx_ir brings SymPy), imported when something of them is first used."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["ir", "ir_passes", "onnx"]


class _Module:
    """Stands for a module that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _module(self) -> ModuleType:
        return import_module(self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import onnx_ir.passes.common as ir_passes
else:
    ir, ir_passes, onnx = _Module("onnx_ir"), _Module("onnx_ir.passes.common"), _Module("onnx")
