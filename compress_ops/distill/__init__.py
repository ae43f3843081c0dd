"""Train ONNX models with onnxruntime alone: gradients as graph nodes, losses, optimizers, the trainer."""
