"""Types and shapes of inner values: what ONNX infers, and what onnxruntime tells of operators unknown to ONNX."""

from __future__ import annotations

from ..lazy import ir
from .foreign_operators import infer_foreign
from .growth import generated_faults
from .onnx_inference import infer_standard
from .outline import outline

__all__ = ["generated_faults", "infer", "outline"]

_ROUNDS = 8  # each carries shapes over one more operator that has to be run to tell its own


def infer(model: ir.Model) -> None:
    """Fill in types and shapes in place; what neither can tell stays unknown."""
    infer_standard(model)
    for _ in range(_ROUNDS):
        if not infer_foreign(model):
            return
        infer_standard(model)
