"""What training minimises: L = sum_k w_k L_k, a scalar that a copy of the student's graph computes.

``losses`` writes the terms L_k behind the student's outputs; ``train`` differentiates L and moves the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...model import Model


@dataclass(frozen=True)
class Objective:
    """A graph that ends in a loss, and the names of what matters in it.

    ``model`` is a copy of the student with the loss behind it; ``loss`` is the float32 scalar L, ``terms`` maps each
    term to its unweighted scalar L_k and ``weights`` to the scalar input that holds w_k. ``targets`` are the further
    inputs that every batch brings (the teacher's values, labels); ``settings`` maps names such as ``temperature`` to
    scalar inputs that the trainer feeds. ``parameters`` are the weights to train: those of the student, and
    ``helpers``, which exist only while training (maps between widths).
    """

    model: Model
    loss: str
    terms: Mapping[str, str]
    weights: Mapping[str, str]
    parameters: Sequence[str]
    targets: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    helpers: Sequence[str] = ()
