"""Types and shapes of inner values: what ONNX infers, and what onnxruntime tells of operators unknown to ONNX."""

from __future__ import annotations

from ..lazy import ir
from .foreign import infer_foreign
from .generated import generated_faults
from .outline import outline
from .standard import infer_standard

__all__ = ["generated_faults", "infer", "outline"]

_ROUNDS = 8  # each carries shapes over one more operator that has to be run to tell its own


def infer(model: ir.Model) -> None:
    """Fill in types and shapes in place; what neither can tell stays unknown."""
    infer_standard(model)
    for _ in range(_ROUNDS):
        if not infer_foreign(model):
            return
        infer_standard(model)
