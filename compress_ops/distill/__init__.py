"""Train ONNX models with onnxruntime alone: gradients as graph nodes, losses, optimizers, the trainer."""

from ..passes import Pass
from .distill import distill

PASSES: tuple[Pass, ...] = (distill,)
"""The passes of this family."""
