"""Train ONNX models with onnxruntime alone: gradients as graph nodes, losses, optimizers, the trainer."""

from __future__ import annotations

from ..passes import Pass
from .distill import distill
from .fine_tuning.finetune_quantized import finetune_quantized
from .sparsify import sparsify

PASSES: tuple[Pass, ...] = (distill, finetune_quantized, sparsify)
"""The passes of this family."""
