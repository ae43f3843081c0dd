"""What training minimises, written as nodes behind the student: ``terms`` has the losses, ``kinds`` tells what an
output holds, ``choice`` which losses suit it, ``graph`` writes nodes, ``build`` puts an ``Objective`` together.
"""

from __future__ import annotations

from .build import TEMPERATURE, Wanted, build_objective
from .choice import Preset, Weights, asks_for_classes, chosen_weights
from .kinds import Kind, Nature, as_yes_or_no, may_be_logits, nature_of
from .pairs import Inputs, Target
from .terms import LOSSES, Loss, LossName

__all__ = [
    "LOSSES",
    "TEMPERATURE",
    "Inputs",
    "Kind",
    "Loss",
    "LossName",
    "Nature",
    "Preset",
    "Target",
    "Wanted",
    "Weights",
    "as_yes_or_no",
    "asks_for_classes",
    "build_objective",
    "chosen_weights",
    "may_be_logits",
    "nature_of",
]
