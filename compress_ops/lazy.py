"""Modules that take a second to import (onnx_ir brings SymPy), imported when something of them is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["ir", "ir_passes", "onnx"]


class _Module:
    """Stands for a module; what is asked of it once lies in it afterwards."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found


if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import onnx_ir.passes.common as ir_passes
else:
    ir, ir_passes, onnx = _Module("onnx_ir"), _Module("onnx_ir.passes.common"), _Module("onnx")
