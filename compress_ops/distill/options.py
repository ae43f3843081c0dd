"""The options that passes of this family share, each with its limits and its sentence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..passes import ALL, IsFile, Patterns
from ..settings import Settings
from .losses import LossName, Preset
from .training.train_settings import Epochs, LearningRate

LossWeights = Annotated[dict[LossName, Annotated[float, Field(ge=0)]], Field(min_length=1)]
Teacher = Annotated[
    str | None,
    IsFile(),
    Field(description="ONNX file that teaches, relative to the recipe; null: the model as it was given to this run."),
]
Temperature = Annotated[
    float, Field(gt=0, description="What logits are divided by before kl: above 1 small probabilities count more.")
]


class Taught(Settings):
    """Who teaches, what is learned of it, and on what."""

    teacher: Teacher = None
    epochs: Epochs = 5
    batch: int | None = Field(
        None, ge=1, description="Samples in each step; null: as many as data.batch_size feeds at once."
    )
    learning_rate: LearningRate = None
    loss: LossWeights | Preset | None = Field(
        None, description="Weights of losses by name, or a preset; null: what suits the outputs."
    )
    blend: float = Field(
        0.9, ge=0, le=1, description="Share of kl in a preset; the rest goes to labels, or to squares of logits."
    )
    temperature: Temperature = 2.0
    match: dict[str, str] = Field({}, description="Outputs of student: teacher, where their names differ.")
    train: Patterns = Field(ALL, description="Glob patterns of weight names: no other weights are trained.")
    hold_out: float = Field(0.1, gt=0, lt=1, description="Share of the training data that only measures.")
