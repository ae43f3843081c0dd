"""Gradients of an ONNX graph as ONNX nodes: one onnxruntime session computes the model and its derivative.

For a graph of nodes y = f(x) and a scalar L, with dy = dL/dy, the reverse sweep visits the nodes from the last
to the first, and for each input x_i of each node adds

    dx_i += (df/dx_i)^T dy.

``rules`` says what a rule is, ``table`` lists the families of rules, ``reach`` finds the nodes that matter,
``probe`` draws directions,
``step`` writes nodes, ``sweep`` is the engine and ``differentiable`` brings a model into the form that it works on.
"""

from __future__ import annotations

from .differentiable import DIFFERENTIABLE_OPSET
from .probe import drawn_signs
from .sweep import GradientModel, build_gradients
from .table import operators
from .trainable import trainable

__all__ = ["DIFFERENTIABLE_OPSET", "GradientModel", "build_gradients", "drawn_signs", "operators", "trainable"]
